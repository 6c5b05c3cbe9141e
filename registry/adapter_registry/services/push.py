"""Push: blobs first, then one transaction that makes them a Version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from adapter_registry.checkpoints.intake import Examination, examine, refuse
from adapter_registry.domain.adapter import Description, File, Version
from adapter_registry.domain.base import Base
from adapter_registry.domain.digest import Digest, of_bytes
from adapter_registry.domain.errors import Conflict, InvalidReference, Notice, PushRefused
from adapter_registry.domain.event import Entry, Outcome
from adapter_registry.domain.lock import Lock
from adapter_registry.domain.manifest import manifest
from adapter_registry.domain.names import check_label
from adapter_registry.domain.ports import Backend, BlobStore, Transaction
from adapter_registry.domain.reference import split_adapter
from adapter_registry.domain.versioning import Bump, next_semver
from adapter_registry.services.base import find

LONGEST_MESSAGE = 10_000


@dataclass(frozen=True, slots=True)
class Pushed:
    """The answer to a push.

    Attributes:
        version: the Version that holds the bytes.
        created: False when the same bytes on the same Base were pushed before.
        because: why it got its semantic version.
        notices: what is worth knowing.
    """

    version: Version
    created: bool
    because: str
    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A File whose bytes are in the blob store: a Source for the intake."""

    file: File
    blobs: BlobStore

    @property
    def path(self) -> str:
        """Its path inside the Version."""
        return self.file.path

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.file.size

    def open(self) -> BinaryIO:
        """Its bytes, as the store has them."""
        return self.blobs.open(self.file.digest)


def missing(backend: Backend, *, files: Sequence[File]) -> tuple[Digest, ...]:
    """Which of these the store does not hold yet, or holds damaged; the others are safe from collection meanwhile."""
    return tuple(sorted({f.digest for f in files if not backend.blobs.holds(f.digest, f.size)}))


def receive(backend: Backend, *, file: File, source: BinaryIO) -> int:
    """Store the bytes of one File; see ports.BlobStore.put."""
    return backend.blobs.put(file.digest, source, name=file.path)


def commit(  # noqa: PLR0913  every fact of a push
    backend: Backend,
    *,
    adapter: str,
    base: str,
    files: Sequence[File],
    message: str = "",
    labels: dict[str, str] | None = None,
    semver: str | None = None,
    bump: Bump | None = None,
) -> Pushed:
    """Make received files a Version of `adapter`, locked to `base`.

    Everything is checked on the stored bytes, whatever the client checked before.

    Raises:
        PushRefused: with every reason at once; the attempt is recorded.
        Conflict: the label was used before, files are missing, or the name differs only in case from another.
        InvalidReference: a name, label or version is not of its grammar.
    """
    name = "/".join(split_adapter(adapter, namespace=backend.namespace))
    wanted = dict(check_label(key, value) for key, value in (labels or {}).items())
    if len(message) > LONGEST_MESSAGE:
        raise InvalidReference(f"the message has {len(message):,} characters; at most {LONGEST_MESSAGE:,} are kept.")
    locked = find(backend, reference=base)
    _require_blobs(backend.blobs, files)
    description = _examined(backend, name, locked.base, files)
    document = manifest(files, lock=Lock(locked.base.digest))
    digest = of_bytes(document)
    with backend.catalog.writing() as tx:
        _refuse_other_case(tx, name)
        known = tx.versions.with_digest(name, digest)
        if known is not None:
            return Pushed(known, created=False, because="the same bytes on the same base", notices=description.notices)
        number, taken = tx.versions.used(name)
        chosen = next_semver(
            description,
            base=locked.base.digest,
            previous=tx.versions.latest(name),
            taken=taken,
            exact=semver,
            bump=bump,
        )
        _require_blobs(backend.blobs, files)
        version = Version(
            adapter=name,
            number=number + 1,
            semver=chosen.semver,
            digest=digest,
            base=locked.base.digest,
            base_name=locked.registered.name,
            files=tuple(sorted(files, key=lambda file: file.path)),
            description=description,
            message=message,
            created_by=backend.actor,
            created_at=backend.clock(),
            labels=wanted,
        )
        tx.versions.add(version, manifest=document)
        detail = {"digest": digest, "base": version.base, "semver": version.semver, "size": version.size}
        tx.events.append(Entry("push", version.reference, Outcome.DONE, backend.actor, version.created_at, detail))
    return Pushed(version, created=True, because=chosen.because, notices=description.notices)


def _require_blobs(blobs: BlobStore, files: Sequence[File]) -> None:
    absent = [file.path for file in files if blobs.size(file.digest) != file.size]
    if absent:
        raise Conflict(
            f"{len(absent)} of {len(files)} files are not in the store ({', '.join(absent[:3])}); "
            "nothing was stored. Push again: only what is missing travels."
        )


def _examined(backend: Backend, adapter: str, base: Base, files: Sequence[File]) -> Description:
    examination = examine([StoredFile(file, backend.blobs) for file in files], base)
    try:
        refuse(examination)
    except PushRefused as refused:
        _record_refusal(backend, adapter, base, refused, examination)
        raise
    if examination.description is None:
        raise Conflict(f"{adapter}: the intake found neither a problem nor an adapter in {len(files)} files.")
    return examination.description


def _record_refusal(backend: Backend, adapter: str, base: Base, refused: PushRefused, examination: Examination) -> None:
    problems = [str(problem) for problem in refused.problems[:50]]
    detail = {"base": base.digest, "problems": problems, "claimed_base": examination.base_model_name}
    with backend.catalog.writing() as tx:
        tx.events.append(Entry("push", adapter, Outcome.REFUSED, backend.actor, backend.clock(), detail))


def _refuse_other_case(tx: Transaction, name: str) -> None:
    spelled = tx.versions.spelled(name)
    if spelled not in (None, name):
        raise Conflict(f"{name} differs only in upper and lower case from {spelled}, which exists; use that name.")
