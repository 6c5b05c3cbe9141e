"""What a name of an adapter's state means: a Version or a Draft, with what the Hub's protocol needs to know of it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from adapter_registry.checkpoints.front_matter import MAX_BYTES, front_matter
from adapter_registry.checkpoints.git_objects import blob_id, pointer_id
from adapter_registry.domain.adapter import File, Version
from adapter_registry.domain.digest import hex_of
from adapter_registry.domain.draft import MAIN, Branch, Draft, commit_of, empty_commit
from adapter_registry.domain.errors import InvalidInput, InvalidReference, NotFound, RegistryError
from adapter_registry.domain.names import DEFAULT_NAMESPACE
from adapter_registry.domain.ports import Backend, BlobStore, Transaction
from adapter_registry.domain.reference import parse, split_adapter
from adapter_registry.domain.stored_base import StoredBase
from adapter_registry.services.draft import head_of
from adapter_registry.services.pull import served
from adapter_registry.services.references import no_adapter, version_of

LARGE = 1_000_000
"""Files above this size, and weights of any size, are what the Hub calls LFS files."""
MOST_DOTS = 8
"""Dots of an id that are looked at for where its name ends."""
MAX_CARD = MAX_BYTES + 1024


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of an adapter.

    Attributes:
        adapter: `namespace/name`.
        commit: 40 hex digits.
        files: sorted by path.
        version: the Version it is; None for a draft.
        created_at: of the adapter.
        at: of this state.
        base: the stored base it is instead; None for an adapter's.
    """

    adapter: str
    commit: str
    files: tuple[File, ...]
    version: Version | None
    created_at: str
    at: str
    base: StoredBase | None = None

    @property
    def title(self) -> str:
        """Of the commit."""
        if self.base is not None:
            return "stored base"
        return (self.version.message or "push") if self.version else "draft"


@dataclass(frozen=True, slots=True)
class Repository:
    """What an id of the Hub's protocol means.

    Attributes:
        name: the adapter, `namespace/name`; of a stored base the id itself.
        main: what `main` means where the id says it; None when it does not.
        bases: stored bases, the newest first; empty for an adapter.
    """

    name: str
    main: str | None = None
    bases: tuple[StoredBase, ...] = ()


@dataclass(frozen=True, slots=True)
class Names:
    """Every name that means a state of an adapter: (name, commit) each, by kind."""

    branches: tuple[tuple[str, str], ...]
    tags: tuple[tuple[str, str], ...]


def locate(backend: Backend, *, written: str) -> Repository:
    """What an id means: an adapter, else a stored base, else `ns/name.prod` for clients that cannot name a revision.

    Raises:
        NotFound: nothing here, or whoever asks may not see it.
    """
    with backend.catalog.reading() as tx:
        return located(tx, backend, written)


def located(tx: Transaction, backend: Backend, written: str) -> Repository:
    """As `locate`, within a transaction."""
    adapter = _adapter(written)
    if adapter and backend.asks.sees(adapter) and tx.versions.spelled(adapter) == adapter:
        return Repository(adapter)
    bases = tx.stored_bases.named(written)
    if bases:
        return Repository(written, bases=bases)
    for stem, selector in _carried(adapter or ""):
        if backend.asks.sees(stem) and tx.versions.spelled(stem) == stem:
            try:
                version_of(tx, parse(f"{stem}@{selector}"))
            except RegistryError:
                continue
            return Repository(stem, main=selector)
    raise NotFound(f"there is no repository {written[:200]!r}.")


def _adapter(written: str) -> str | None:
    """The adapter an id names; a name alone is in the default namespace. None when it cannot be one's."""
    try:
        return "/".join(split_adapter(written, namespace=DEFAULT_NAMESPACE))
    except InvalidReference:
        return None


def base_snapshot(repository: Repository, *, name: str) -> Snapshot:
    """The state of a stored base that `main` or a 40-hex commit means.

    Raises:
        NotFound: no such state.
    """
    wanted = name.removeprefix("refs/heads/")
    newest = repository.bases[0]
    found = next((each for each in repository.bases if wanted in (each.commit, MAIN) or not wanted), None)
    if found is None:
        raise NotFound(f"{repository.name} is a base that is stored here at commit {newest.commit} (main) only.")
    first = repository.bases[-1].stored_at
    return Snapshot(repository.name, found.commit, found.files, None, first, found.stored_at, found)


def _carried(written: str) -> Iterator[tuple[str, str]]:
    """(adapter, selector) that an id may mean, the longest name first: names and selectors may both have dots."""
    space, _, name = written.partition("/")
    parts = name.split(".")
    for count in range(1, min(len(parts), MOST_DOTS)):
        yield f"{space}/{'.'.join(parts[:-count])}", ".".join(parts[-count:])


def snapshot(backend: Backend, *, adapter: str, name: str) -> Snapshot:
    """The state that `name` means: `main`, a branch, stage, tag, `v3`, semantic version, range or 40-hex commit.

    `main` is the newest Version on it; only before there is one, the draft.

    Raises:
        NotFound: no such adapter or state.
        Revoked: the version was withdrawn.
    """
    with backend.catalog.reading() as tx:
        return state(tx, adapter, name)


def state(tx: Transaction, adapter: str, name: str) -> Snapshot:
    """As `snapshot`, within a transaction."""
    created = tx.branches.created_at(adapter)
    if created is None:
        raise no_adapter(tx, adapter)
    found = _found(tx, adapter, name.removeprefix("refs/heads/").removeprefix("refs/tags/"))
    if isinstance(found, Version):
        return of_version(found, created_at=created)
    if isinstance(found, Draft):
        return Snapshot(adapter, found.commit, found.files, None, created, found.at)
    return Snapshot(adapter, empty_commit(adapter, created), (), None, created, created)


def of_version(version: Version, *, created_at: str) -> Snapshot:
    """The state that a Version of an adapter made at `created_at` is; raises Revoked when it was withdrawn."""
    served(version)
    commit = commit_of(version.digest)
    return Snapshot(version.adapter, commit, version.files, version, created_at, version.created_at)


def _found(tx: Transaction, adapter: str, name: str) -> Version | Draft | None:
    if name == MAIN:
        return _main(tx, adapter)
    branches = tx.branches.of(adapter)
    for branch in branches:
        if branch.name == name or (branch.draft and branch.draft.commit == name):
            return _end(tx, adapter, branch)
    try:
        return version_of(tx, parse(f"{adapter}@{name}"))
    except InvalidReference as error:
        raise NotFound(f"{adapter} has nothing named {name[:100]!r}.") from error


def _main(tx: Transaction, adapter: str) -> Version | Draft | None:
    branch = tx.branches.get(adapter, MAIN)
    version = tx.versions.numbered(adapter, branch.number) if branch and branch.number else None
    version = version or tx.versions.latest(adapter)
    if version is not None:
        return version
    return branch.draft if branch else None


def _end(tx: Transaction, adapter: str, branch: Branch) -> Version | Draft | None:
    head = head_of(tx, adapter, branch.name)
    return (head.version or head.draft) if head else None


def names(backend: Backend, *, adapter: str) -> Names:
    """Every branch, and every stage, tag and version number as a tag."""
    with backend.catalog.reading() as tx:
        branches = []
        for branch in tx.branches.of(adapter):
            if branch.name != MAIN and (end := _end(tx, adapter, branch)) is not None:
                branches.append((branch.name, _commit(end)))
        main = _main(tx, adapter)
        if main is not None:
            branches.insert(0, (MAIN, _commit(main)))
        versions = [v for v in tx.versions.all_of(adapter) if v.revoked_because is None]
    tags = [(name, commit_of(v.digest)) for v in versions for name in (*v.stages, *v.tags, f"v{v.number}")]
    return Names(tuple(branches), tuple(tags))


def _commit(state: Version | Draft) -> str:
    return state.commit if isinstance(state, Draft) else commit_of(state.digest)


def is_large(file: File) -> bool:
    """Whether the Hub's protocol carries a file as an LFS file."""
    return file.size > LARGE or (file.size > 0 and file.path.lower().endswith(".safetensors"))


def git_id(blobs: BlobStore, file: File) -> str:
    """The id that git would give a file: of its bytes, or of the pointer that stands for a large one."""
    if is_large(file):
        return pointer_id(hex_of(file.digest), file.size)
    return _read_id(cast("Hashable", blobs), file.digest)


def entity_tag(blobs: BlobStore, file: File) -> str:
    """What the Hub's protocol names a file's bytes by: sha256 for a large file, git's id for others."""
    return hex_of(file.digest) if is_large(file) else _read_id(cast("Hashable", blobs), file.digest)


@lru_cache(maxsize=50_000)
def _read_id(blobs: Any, digest: Any) -> str:
    with blobs.open(digest) as stream:
        return blob_id(stream.read())


def card(blobs: BlobStore, files: tuple[File, ...]) -> dict[str, Any]:
    """The front matter of README.md; empty when there is none that can be read."""
    readme = next((file for file in files if file.path == "README.md"), None)
    return _read_card(cast("Hashable", blobs), readme.digest) if readme else {}


@lru_cache(maxsize=5_000)
def _read_card(blobs: Any, digest: Any) -> dict[str, Any]:
    with blobs.open(digest) as stream:
        text = stream.read(MAX_CARD).decode("utf-8", "replace")
    try:
        return front_matter(text)
    except InvalidInput:
        return {}
