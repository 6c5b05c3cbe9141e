"""Pushes that arrive commit by commit: whole adapters become Versions, the rest waits as a draft on its branch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from adapter_registry.checkpoints.file_rules import left_out, name_problem
from adapter_registry.domain.adapter import File, Version
from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.draft import MAIN, Branch, Draft, commit_of, drafted, empty_commit
from adapter_registry.domain.errors import Ambiguous, Conflict, InvalidInput, NotFound, PushRefused, RegistryError
from adapter_registry.domain.names import check_namespace, check_tag
from adapter_registry.domain.peft.fields import CONFIG, WEIGHTS
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.services.push import StoredFile, Wish, store
from adapter_registry.services.references import base_of, no_adapter, refuse_base_name

ATTEMPTS = 20
"""How often a commit is tried on a branch that others move meanwhile."""
MAX_CONFIG = 1 << 20

Edit = Callable[[tuple[File, ...]], tuple[File, ...]]


@dataclass(frozen=True, slots=True)
class Head:
    """Where a branch ends.

    Attributes:
        commit: 40 hex digits.
        files: of that commit.
        version: the Version it is; None for a draft, and where nothing was pushed yet.
        draft: the Draft it is; None for a Version.
        row: the branch as it is stored; None for a `main` that nothing was stored of yet.
    """

    commit: str
    files: tuple[File, ...]
    version: Version | None
    draft: Draft | None
    row: Branch | None


@dataclass(frozen=True, slots=True)
class Committed:
    """The answer to a commit: where the branch ends now, and what is worth saying."""

    commit: str
    version: Version | None
    told: str


def create(backend: Backend, *, adapter: str) -> bool:
    """Make an adapter that has no versions yet; False when it exists."""
    with backend.catalog.writing() as tx:
        spelled = tx.versions.spelled(adapter)
        if spelled not in (None, adapter):
            raise Conflict(f"{adapter} differs only in upper and lower case from {spelled}, which exists.")
        if spelled is None:
            refuse_base_name(tx, adapter)
        fresh = tx.branches.create_adapter(adapter, by=backend.actor, at=backend.clock())
        if fresh:
            tx.events.append(Entry("adapter.create", adapter, Outcome.DONE, backend.actor, backend.clock()))
    return fresh


def head_of(tx: Transaction, adapter: str, branch: str) -> Head | None:
    """Where a branch ends; None when there is no such branch. `main` always is."""
    row = tx.branches.get(adapter, branch)
    if row is None and branch != MAIN:
        return None
    if row is not None and row.draft is not None:
        return Head(row.draft.commit, row.draft.files, None, row.draft, row)
    version = tx.versions.numbered(adapter, row.number) if row and row.number else None
    if version is None and branch == MAIN:
        version = tx.versions.latest(adapter)
    if version is None:
        return Head(empty_commit(adapter, tx.branches.created_at(adapter) or ""), (), None, None, row)
    return Head(commit_of(version.digest), version.files, version, None, row)


def change(backend: Backend, *, adapter: str, branch: str, edit: Edit, parent: str | None, title: str) -> Committed:
    """Make a commit on a branch: `edit` turns the files at its head into the new ones.

    What leaves a whole adapter becomes a Version; what does not becomes the branch's draft.

    Args:
        backend: the registry.
        adapter: `namespace/name`; must exist.
        branch: must exist, or be `main`.
        edit: from the files at the head to the files of the commit.
        parent: the commit, or 5 or more hex digits of it, that the head has to be; None for any.
        title: the commit's first line; becomes the Version's message.

    Raises:
        NotFound: no such adapter or branch.
        Conflict: the head is not `parent`.
        PushRefused: a whole adapter that fails intake; the branch stays as it was.
    """
    for _ in range(ATTEMPTS):
        head = _head(backend, adapter, branch)
        _require_parent(head, parent, branch)
        files = tuple(sorted(edit(head.files), key=lambda file: file.path))
        if files == tuple(sorted(head.files, key=lambda file: file.path)):
            return Committed(head.commit, head.version, "nothing changed")
        try:
            return _made(backend, adapter, branch, head, files, title)
        except _Moved:
            continue
    raise Conflict(f"{adapter}: others keep moving {branch}; nothing was changed. Try again.")


class _Moved(Exception):
    """The branch moved between reading and writing."""


def _made(backend: Backend, adapter: str, branch: str, head: Head, files: tuple[File, ...], title: str) -> Committed:
    missing = _missing(files)
    if missing:
        return _kept(backend, adapter, branch, head, files, title, missing)
    stored = [file for file in files if left_out(file.path.rpartition("/")[2]) is None]
    base = _base(backend, adapter, stored)

    def advance(tx: Transaction, version: Version) -> None:
        _require_unmoved(tx, adapter, branch, head)
        tx.branches.put(adapter, Branch(branch, version.number, None))

    wish = Wish(message=title)
    pushed = store(backend, adapter=adapter, base=base, files=stored, wish=wish, after=advance)
    told = f"{pushed.version.reference} ({pushed.version.semver}, {pushed.because})"
    dropped = sorted({file.path for file in files} - {file.path for file in stored})
    if dropped:
        told += f"; left out: {', '.join(dropped[:5])}"
    return Committed(commit_of(pushed.version.digest), pushed.version, told)


def _kept(
    backend: Backend, adapter: str, branch: str, head: Head, files: tuple[File, ...], title: str, missing: str
) -> Committed:
    _refuse_bad_names(files)
    draft = drafted(
        parent=head.commit, files=files, title=title, author=backend.actor, at=backend.clock(), missing=missing
    )
    with backend.catalog.writing() as tx:
        _require_unmoved(tx, adapter, branch, head)
        before = tx.branches.get(adapter, branch)
        tx.branches.put(adapter, Branch(branch, before.number if before else None, draft))
        detail = {"branch": branch, "commit": draft.commit, "missing": missing, "files": len(files)}
        tx.events.append(Entry("draft", adapter, Outcome.DONE, backend.actor, draft.at, detail))
    return Committed(draft.commit, None, missing)


def _head(backend: Backend, adapter: str, branch: str) -> Head:
    with backend.catalog.reading() as tx:
        if tx.versions.spelled(adapter) != adapter:
            raise no_adapter(tx, adapter)
        head = head_of(tx, adapter, branch)
    if head is None:
        raise NotFound(f"{adapter} has no branch {branch!r}.")
    return head


def _require_unmoved(tx: Transaction, adapter: str, branch: str, head: Head) -> None:
    if tx.branches.get(adapter, branch) != head.row:
        raise _Moved


def _require_parent(head: Head, parent: str | None, branch: str) -> None:
    if parent is None or head.commit.startswith(parent):
        return
    raise Conflict(
        f"{branch} is at {head.commit}, not at {parent}: somebody else committed meanwhile; "
        "nothing was changed. Fetch it and try again."
    )


def _missing(files: Sequence[File]) -> str:
    """What the files lack to be an adapter; empty when nothing."""
    paths = {file.path for file in files}
    absent = [name for name in (CONFIG, WEIGHTS) if name not in paths]
    if not absent:
        return ""
    return f"this is a draft until {' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} there too"


def _refuse_bad_names(files: Sequence[File]) -> None:
    problems = [problem for file in files if (problem := name_problem(file.path))]
    if problems:
        raise PushRefused(f"{len(problems)} files have names that no version may hold.", problems=problems)


def _base(backend: Backend, adapter: str, files: Sequence[File]) -> str:
    """The registered Base that the pushed config means, or the namespace's default; as `name@digest`."""
    config = _config(backend, files)
    named, revision = config.get("base_model_name_or_path"), config.get("revision")
    with backend.catalog.reading() as tx:
        wanted = f"{named}@{revision}" if revision else str(named)
        try:
            found = base_of(tx, wanted)
        except RegistryError as error:
            default = tx.branches.default_base(adapter.partition("/")[0])
            if default is None:
                raise _no_base(tx, wanted, error) from error
            found = base_of(tx, default)
        return f"{found.name}@{found.base.digest}"


def _no_base(tx: Transaction, wanted: str, error: RegistryError) -> RegistryError:
    if isinstance(error, Ambiguous):
        return Ambiguous(f"{CONFIG} names its base {wanted!r}, which is not exact enough: {error.text}")
    there = ", ".join(sorted({each.name for each in tx.bases.names()})[:10]) or "none yet"
    return NotFound(
        f"{CONFIG} names its base {wanted!r}, which is no registered base (registered: {there}). "
        "Set base_model_name_or_path to one of them, or have `adapters namespace default-base` name one for all that "
        "is pushed here. Nothing was stored as a version."
    )


def _config(backend: Backend, files: Sequence[File]) -> dict[str, Any]:
    """The pushed config, as far as it is one: what is wrong with it is told by the intake."""
    file = next(file for file in files if file.path == CONFIG)
    with StoredFile(file, backend.blobs).open() as stream:
        data = stream.read(MAX_CONFIG)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def create_branch(backend: Backend, *, adapter: str, name: str, start: Version | None) -> bool:
    """Make a branch that begins at a Version, or at nothing; False when it exists.

    Raises:
        InvalidReference: a name that a branch may not have: a stage's, a version's, a digest's.
        Conflict: a tag has that name.
    """
    with backend.catalog.writing() as tx:
        check_tag(name, tx.stages.ladder().names)
        if tx.branches.get(adapter, name) is not None:
            return False
        if tx.versions.tagged(adapter, name) is not None:
            raise Conflict(f"{adapter} has a tag {name!r}; a branch cannot have the same name.")
        tx.branches.put(adapter, Branch(name, start.number if start else None, None))
        detail = {"branch": name, "from": start.reference if start else None}
        tx.events.append(Entry("branch.create", adapter, Outcome.DONE, backend.actor, backend.clock(), detail))
    return True


def remove_branch(backend: Backend, *, adapter: str, name: str) -> None:
    """Remove a branch and its draft; versions made on it stay.

    Raises:
        InvalidInput: `main`.
        NotFound: there is none.
    """
    if name == MAIN:
        raise InvalidInput("main cannot be removed.")
    with backend.catalog.writing() as tx:
        if not tx.branches.remove(adapter, name):
            raise NotFound(f"{adapter} has no branch {name!r}.")
        entry = Entry("branch.remove", adapter, Outcome.DONE, backend.actor, backend.clock(), {"branch": name})
        tx.events.append(entry)


def default_base(backend: Backend, *, namespace: str) -> Digest | None:
    """Which Base pushes to a namespace mean when their config names none that is registered."""
    with backend.catalog.reading() as tx:
        return tx.branches.default_base(check_namespace(namespace))


def set_default_base(backend: Backend, *, namespace: str, base: str | None = None) -> Digest | None:
    """Which Base pushes to a namespace mean when their config names none that is registered; None forgets it."""
    with backend.catalog.writing() as tx:
        found = base_of(tx, base).base.digest if base else None
        tx.branches.set_default_base(namespace, found, by=backend.actor, at=backend.clock())
        detail = {"default_base": found}
        tx.events.append(Entry("namespace.set", namespace, Outcome.DONE, backend.actor, backend.clock(), detail))
    return found
