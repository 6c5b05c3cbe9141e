"""Store the bytes of a Base, so that it is served under a repository's id, and stop serving it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from adapter_registry.checkpoints.base_config import read_config
from adapter_registry.checkpoints.base_files import Read, choose
from adapter_registry.checkpoints.file_rules import file_problems
from adapter_registry.checkpoints.tokenizer import tokenizer_digest
from adapter_registry.domain.adapter import File
from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.base import Base
from adapter_registry.domain.digest import hex_of
from adapter_registry.domain.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    InvalidReference,
    NotFound,
    Problem,
    PushRefused,
    RegistryError,
)
from adapter_registry.domain.names import DEFAULT_NAMESPACE, check_base_name
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.reference import parse, split_adapter
from adapter_registry.domain.stored_base import StoredBase, check_served, derived_commit, receiver
from adapter_registry.services.push import ATTEMPTS, StoredFile, claims_to, require_there
from adapter_registry.services.references import base_of, version_of

LARGEST_TEXT = 256_000_000
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Storing:
    """The answer to storing a Base's bytes.

    Attributes:
        stored: what is stored now, under each id that was asked for.
        created: False when the same files were stored under all of them before.
    """

    stored: tuple[StoredBase, ...]
    created: bool


def store(
    backend: Backend, *, base: str, files: tuple[File, ...], names: tuple[str, ...], commit: str | None = None
) -> Storing:
    """Serve received files as the repository of a registered Base, which gets every name that it is served under.

    That they are this Base is checked on the stored bytes: the weights by their digests, or by their tensors when these
    are spread over other files; config and tokenizer by what they say.

    Args:
        backend: the registry.
        base: the Base, as `base_of` reads it.
        files: received before, for the first of `names`, as files of a version are.
        names: ids to serve it under; each takes the right to push to it.
        commit: 40 hex digits of the Hub's commit that the files are of; None where that is not known.

    Raises:
        Forbidden: a name that whoever asks may not push to.
        PushRefused: files that no repository here may hold.
        InvalidInput: the files are not the Base.
        Conflict: files that were not received, a name that an adapter has, or other files stored before.
    """
    with backend.catalog.reading() as tx:
        _require_names(backend, names, tx.stages.ladder().names)
    if commit is not None and not _COMMIT.fullmatch(commit):
        raise InvalidReference(f"{commit[:60]!r} is no commit: 40 hex digits.")
    with backend.catalog.reading() as tx:
        known = base_of(tx, base).base
    adapter = receiver(names[0])
    require_there(backend, adapter, files)
    sources = [StoredFile(file, backend.blobs) for file in files]
    problems = list(file_problems(sources))
    if problems:
        raise PushRefused(f"{len(problems)} files cannot be stored; nothing was.", problems=problems)
    _require_same(known, sources)
    ordered = tuple(sorted(files, key=lambda file: file.path))
    wanted = StoredBase(
        name="",
        base=known.digest,
        commit=commit or known.commit or derived_commit(ordered),
        model_type=known.model_type[:100] if known.model_type else None,
        files=ordered,
        stored_by=backend.actor,
        stored_at=backend.clock(),
    )
    for _ in range(ATTEMPTS):
        claims = require_there(backend, adapter, files)
        with backend.catalog.writing() as tx:
            if claims_to(backend, tx, adapter, claims) == claims:
                return _served(backend, tx, known, wanted, names)
    raise Conflict(f"{names[0]}: its files keep being asked for or removed by others; nothing was stored. Try again.")


def _served(backend: Backend, tx: Transaction, known: Base, wanted: StoredBase, names: Sequence[str]) -> Storing:
    found = [_stored(backend, tx, replace(wanted, name=name)) for name in dict.fromkeys(names)]
    for name in names:
        # Adapters trained on what is served here name their base so.
        tx.bases.add(known, name=name, by=backend.actor, at=backend.clock())
    return Storing(tuple(stored for stored, _ in found), created=any(created for _, created in found))


def _stored(backend: Backend, tx: Transaction, wanted: StoredBase) -> tuple[StoredBase, bool]:
    """What is stored under an id now, and whether it was not before."""
    _require_free(tx, wanted)
    before = next((each for each in tx.stored_bases.named(wanted.name) if each.base == wanted.base), None)
    if before is not None:
        if before.files == wanted.files:
            return before, False
        other = sorted({file.path for file in set(before.files) ^ set(wanted.files)})
        raise Conflict(
            f"{wanted.name} is stored already, with the same weights and other files: {', '.join(other[:5])}; nothing "
            f"was changed. `adapters base unstore {wanted.name}` makes room, or store this under another name."
        )
    tx.stored_bases.add(wanted)
    detail = {"digest": wanted.base, "commit": wanted.commit, "size": wanted.size}
    tx.events.append(Entry("base.store", wanted.name, Outcome.DONE, backend.actor, wanted.stored_at, detail))
    return wanted, True


def unstore(backend: Backend, *, name: str) -> tuple[StoredBase, ...]:
    """Stop serving bases under an id; the Bases stay registered, their bytes are collected later.

    Args:
        backend: the registry.
        name: an id, or `id@<digest or commit prefix>` for one of several.

    Raises:
        Forbidden: whoever asks may not remove what has this id.
        NotFound: nothing is served under it.
    """
    served, _, prefix = name.partition("@")
    check_base_name(served)
    _require_verb(backend, "remove", served)
    with backend.catalog.writing() as tx:
        found = tuple(each for each in tx.stored_bases.named(served) if _means(each, prefix))
        if not found:
            raise NotFound(f"no stored base is served as {name}; `adapters base ls` lists those that are.")
        for each in found:
            tx.stored_bases.remove(each)
            detail = {"digest": each.base, "commit": each.commit, "size": each.size}
            tx.events.append(Entry("base.unstore", served, Outcome.DONE, backend.actor, backend.clock(), detail))
    return found


def stored(backend: Backend, *, base: str) -> tuple[StoredBase, ...]:
    """The stored files of the Base that `name`, `name@prefix` or a digest means, under every id it is served under."""
    with backend.catalog.reading() as tx:
        return tx.stored_bases.of(base_of(tx, base).base.digest)


def bytes_of(backend: Backend, *, stored: StoredBase, path: str) -> Path | BinaryIO:
    """The bytes of a file of a stored base: where they lie on this machine, or a stream of them.

    Raises:
        NotFound: there is no such file, or the store lost its bytes.
    """
    file = next((each for each in stored.files if each.path == path), None)
    if file is None:
        raise NotFound(f"{stored.name} has no file {path[:200]!r}.")
    location = backend.blobs.location(file.digest)
    if location is not None and location.local:
        return Path(location.address)
    return backend.blobs.open(file.digest)


def _means(stored: StoredBase, prefix: str) -> bool:
    wanted = hex_of(prefix)
    return hex_of(stored.base).startswith(wanted) or stored.commit.startswith(wanted)


def _require_names(backend: Backend, names: Sequence[str], stages: Sequence[str]) -> None:
    if not names:
        raise InvalidInput("a stored base needs a name to be served under.")
    for name in names:
        check_served(name, stages)
        _require_verb(backend, "push", name)


def _require_verb(backend: Backend, verb: str, name: str) -> None:
    """An id with a namespace takes the right there, one without takes it on the registry as a whole."""
    if not backend.asks.may(verb, name if "/" in name else None):
        where = f"on {name}" if "/" in name else "on '*', because its name has no namespace"
        raise Forbidden(f"{name}: everybody loads a stored base by that name, so this takes the verb {verb!r} {where}.")


def _require_free(tx: Transaction, wanted: StoredBase) -> None:
    name = wanted.name
    try:
        adapter = "/".join(split_adapter(name, namespace=DEFAULT_NAMESPACE))
    except InvalidReference:
        adapter = ""
    if adapter and tx.versions.spelled(adapter) is not None:
        raise Conflict(f"{name} is the name of an adapter; give the base another name.")
    stem, _, selector = adapter.rpartition(".")
    if "/" in stem and tx.versions.spelled(stem) == stem and _selects(tx, f"{stem}@{selector}"):
        raise Conflict(f"{name} means {stem}@{selector}, an adapter's version; give the base another name.")
    spelled = tx.stored_bases.spelled(name)
    if spelled not in (None, name):
        raise Conflict(f"{name} differs only in upper and lower case from {spelled}, which is stored.")
    for each in tx.stored_bases.named(name):
        if each.commit == wanted.commit and each.base != wanted.base:
            raise Conflict(
                f"{name} has commit {wanted.commit} already, with other weights ({hex_of(each.base)[:12]}): one of "
                "the folders was changed after its download. Store this one under another name."
            )


def _selects(tx: Transaction, reference: str) -> bool:
    try:
        version_of(tx, parse(reference))
    except RegistryError:
        return False
    return True


def _require_same(known: Base, sources: Sequence[StoredFile]) -> None:
    """Refuse files that are not `known`.

    Raises:
        InvalidInput: with every difference.
    """
    differences = list(_differences(known, sources))
    if differences:
        listed = "".join(f"\n  {each}" for each in differences)
        raise InvalidInput(
            f"the files are not the registered base {hex_of(known.digest)[:12]}; nothing was stored.{listed}",
            problems=differences,
        )


def _differences(known: Base, sources: Sequence[StoredFile]) -> Iterator[Problem]:
    there = {source.path: source for source in sources}

    def read(name: str) -> bytes | None:
        return _text(there[name]) if name in there else None

    top = [path for path in there if "/" not in path]
    chosen = choose(top, read=read, source="the folder")
    expected = {file.path: file.sha256 for file in known.files}
    found = {name: hex_of(there[name].file.digest) for name in chosen.names}
    if expected != found and not _same_tensors(known, [there[name] for name in chosen.names]):
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                yield _other(name, expected.get(name), found.get(name))
    for name in sorted(name for name in top if name.endswith(".safetensors") and name not in found):
        yield Problem("base-differs", name, "", "the checkpoint's weights only", "other weights", "Leave it out.")
    yield from _text_differences(known, read)


def _same_tensors(known: Base, weights: Sequence[StoredFile]) -> bool:
    """Whether other files hold the tensors of `known`: told by reading every byte of them."""
    if known.root is None:
        return False
    from adapter_registry.checkpoints.stored_weights import root_of  # noqa: PLC0415  blake3 is slow to import

    return root_of(weights) == known.root


def _text_differences(known: Base, read: Read) -> Iterator[Problem]:
    config = read_config(read("config.json"), source="the folder").digest
    if None not in (config, known.config) and config != known.config:
        yield _other("config.json", known.config, config)
    tokenizer = tokenizer_digest(read, source="the folder")
    if None not in (tokenizer, known.tokenizer) and tokenizer != known.tokenizer:
        yield _other("tokenizer", known.tokenizer, tokenizer)


def _other(file: str, expected: str | None, found: str | None) -> Problem:
    fix = "Store the folder that was registered, or register this one under a name of its own."
    return Problem("base-differs", file, "", _short(expected), _short(found), fix)


def _short(digest: str | None) -> str:
    return hex_of(digest)[:12] if digest else "no such file"


def _text(source: StoredFile) -> bytes:
    if source.size > LARGEST_TEXT:
        raise InvalidInput(f"{source.path} has {source.size:,} bytes; such a file has at most {LARGEST_TEXT:,}.")
    with source.open() as stream:
        return stream.read()
