"""Push: blobs first, then one transaction that makes them a Version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

from adapter_registry.checkpoints.intake import Examination, examine, refuse
from adapter_registry.domain.adapter import Description, File, Version
from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.base import Base
from adapter_registry.domain.digest import Digest, of_bytes
from adapter_registry.domain.draft import MAIN, Branch
from adapter_registry.domain.errors import Conflict, InvalidReference, NotFound, Notice, PushRefused
from adapter_registry.domain.lineage import Lineage, check_lineage
from adapter_registry.domain.lock import Lock
from adapter_registry.domain.manifest import manifest
from adapter_registry.domain.names import check_label
from adapter_registry.domain.peft.fields import WEIGHTS
from adapter_registry.domain.ports import Backend, BlobStore, Incoming, Transaction
from adapter_registry.domain.reference import split_adapter
from adapter_registry.domain.sketch import Sketch
from adapter_registry.domain.versioning import Bump, next_semver
from adapter_registry.services.base import KnownBase, find
from adapter_registry.services.references import refuse_base_name

LONGEST_MESSAGE = 10_000
BLOCK = 1 << 20
ATTEMPTS = 10
"""How often a commit is tried while others ask for the same bytes, or a collection removes them."""


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


def missing(backend: Backend, *, adapter: str, files: Sequence[File]) -> tuple[Digest, ...]:
    """Which of these have to be sent; the others are safe from collection meanwhile.

    Bytes count as there when they were received in the adapter's namespace, or are in a version that whoever asks may
    read: nobody learns from an answer that somebody else has them.
    """
    name = named(backend, adapter)
    digests = {file.digest for file in files}
    with backend.catalog.reading() as tx:
        known = claims_to(backend, tx, name, digests).keys()
    if known:
        # Before looking whether they are there: a collection leaves alone what was asked for.
        received(backend, adapter=name, digests=sorted(known))
    there = {f.digest for f in files if f.digest in known and backend.blobs.holds(f.digest, f.size)}
    return tuple(sorted(digests - there))


@contextmanager
def receiving(backend: Backend, *, adapter: str, name: str) -> Iterator[Incoming]:
    """A place for bytes as they arrive; `publish` stores them and gives them to the adapter's namespace."""
    with backend.blobs.incoming(name=name) as incoming:
        yield Owned(backend, named(backend, adapter), incoming)


@dataclass(frozen=True, slots=True)
class Owned:
    """See ports.Incoming."""

    backend: Backend
    adapter: str
    incoming: Incoming

    @property
    def sketch(self) -> Sketch | None:
        """See ports.Incoming.sketch."""
        return self.incoming.sketch

    def write(self, *pieces: bytes | memoryview) -> None:
        """See ports.Incoming.write."""
        self.incoming.write(*pieces)

    def check(self, digest: Digest) -> None:
        """See ports.Incoming.check."""
        self.incoming.check(digest)

    def publish(self, digest: Digest) -> int:
        """See ports.Incoming.publish."""
        # They are the namespace's before they are stored: from then on no collection takes what was there already.
        self.incoming.check(digest)
        received(self.backend, adapter=self.adapter, digests=(digest,), sketch=self.sketch)
        return self.incoming.publish(digest)


def receive(backend: Backend, *, adapter: str, file: File, source: BinaryIO) -> int:
    """Store the bytes of one File; see ports.BlobStore.put. They now belong to the adapter's namespace."""
    with receiving(backend, adapter=adapter, name=file.path) as incoming:
        while block := source.read(BLOCK):
            incoming.write(block)
        return incoming.publish(file.digest)


def received(backend: Backend, *, adapter: str, digests: Sequence[Digest], sketch: Sketch | None = None) -> None:
    """Record that bytes which are in the store were received for an adapter, or are asked for again."""
    with backend.catalog.writing() as tx:
        tx.branches.own(adapter.partition("/")[0], digests, at=backend.clock(), sketch=sketch)


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
    lineage: Lineage | None = None,
) -> Pushed:
    """Make received files a Version of `adapter`, locked to `base`.

    Everything is checked on the bytes that arrived, whatever the client checked before.

    Raises:
        PushRefused: with every reason at once; the attempt is recorded.
        Conflict: the label was used before, files are missing, or the name differs only in case from another.
        InvalidReference: a name, label or version is not of its grammar.
    """
    wish = Wish(message, dict(check_label(key, value) for key, value in (labels or {}).items()), semver, bump, lineage)
    return store(backend, adapter=adapter, base=base, files=files, wish=wish, after=_advance_main)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a pusher says about a Version beside its bytes: message, labels, semantic version or bump, lineage."""

    message: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    semver: str | None = None
    bump: Bump | None = None
    lineage: Lineage | None = None


def store(
    backend: Backend,
    *,
    adapter: str,
    base: str,
    files: Sequence[File],
    wish: Wish,
    after: Callable[[Transaction, Version], None],
) -> Pushed:
    """As `commit`; `after` runs in the transaction that makes the Version, or finds that it exists."""
    name = named(backend, adapter)
    if len(wish.message) > LONGEST_MESSAGE:
        found = f"{len(wish.message):,}"
        raise InvalidReference(f"the message has {found} characters; at most {LONGEST_MESSAGE:,} are kept.")
    locked = find(backend, reference=base)
    with backend.catalog.reading() as tx:
        _refuse_other_case(tx, name)
        _check_parents(backend, tx, wish.lineage)
    require_there(backend, name, files)
    description = _examined(backend, name, locked.base, files)
    for _ in range(ATTEMPTS):
        claims = require_there(backend, name, files)
        with backend.catalog.writing() as tx:
            if claims_to(backend, tx, name, claims) == claims:
                return _made(backend, tx, Making(name, locked, tuple(files), wish, description), after)
    raise Conflict(f"{name}: its files keep being asked for or removed by others; nothing was stored. Try again.")


@dataclass(frozen=True, slots=True)
class Making:
    """All that a Version is made of, checked."""

    adapter: str
    locked: KnownBase
    files: tuple[File, ...]
    wish: Wish
    description: Description


def _made(backend: Backend, tx: Transaction, making: Making, after: Callable[[Transaction, Version], None]) -> Pushed:
    name, base, wish, description = making.adapter, making.locked.base.digest, making.wish, making.description
    document = manifest(making.files, lock=Lock(base), lineage=wish.lineage)
    digest = of_bytes(document)
    _refuse_other_case(tx, name)
    number, highest = tx.versions.used(name)
    known = tx.versions.with_digest(name, digest)
    if known is not None:
        after(tx, known)
        return Pushed(known, created=False, because="the same bytes on the same base", notices=description.notices)
    chosen = next_semver(
        description,
        base=base,
        previous=tx.versions.latest(name),
        highest=highest,
        given=partial(tx.versions.given, name),
        exact=wish.semver,
        bump=wish.bump,
    )
    version = Version(
        adapter=name,
        number=number + 1,
        semver=chosen.semver,
        digest=digest,
        base=base,
        base_name=making.locked.registered.name,
        files=tuple(sorted(making.files, key=lambda file: file.path)),
        description=description,
        message=wish.message,
        created_by=backend.actor,
        created_at=backend.clock(),
        labels=wish.labels,
        lineage=wish.lineage,
    )
    tx.versions.add(version, manifest=document)
    tx.ancestry.made(version)
    after(tx, version)
    detail = {"digest": digest, "base": base, "semver": version.semver, "size": version.size}
    if version.labels:
        detail["labels"] = dict(version.labels)
    tx.events.append(Entry("push", version.reference, Outcome.DONE, backend.actor, version.created_at, detail))
    return Pushed(version, created=True, because=chosen.because, notices=description.notices)


def _check_parents(backend: Backend, tx: Transaction, lineage: Lineage | None) -> None:
    """Every parent is a version that whoever asks may read."""
    if lineage is None:
        return
    check_lineage(lineage)
    for parent in lineage.parents:
        found = tx.versions.with_digest(parent.adapter, parent.digest) if backend.asks.sees(parent.adapter) else None
        if found is None or found.number != parent.number:
            raise NotFound(
                f"there is no version {parent.reference} {parent.digest}, which this one is said to be made of; "
                "nothing was stored."
            )


def named(backend: Backend, adapter: str) -> str:
    """`namespace/name` of an adapter's name."""
    return "/".join(split_adapter(adapter, namespace=backend.namespace))


def _advance_main(tx: Transaction, version: Version) -> None:
    before = tx.branches.get(version.adapter, MAIN)
    tx.branches.put(version.adapter, Branch(MAIN, version.number, before.draft if before else None))


def claims_to(backend: Backend, tx: Transaction, adapter: str, digests: Iterable[Digest]) -> dict[Digest, str]:
    """Those of the digests that whoever asks may put into `adapter` without sending the bytes.

    With each, when the namespace received or last asked for it; empty where it is in a version that they may read. As
    long as a claim is the same, no collection took the bytes: it takes the claim first, and never what a version has.
    """
    wanted = set(digests)
    claims = tx.branches.owned(adapter.partition("/")[0], wanted)
    readable = (
        d for d in wanted - claims.keys() if any(backend.asks.sees(holder) for holder in tx.branches.holders(d))
    )
    return {**claims, **dict.fromkeys(readable, "")}


def require_there(backend: Backend, adapter: str, files: Sequence[File]) -> dict[Digest, str]:
    """The claims to all of the files, whose bytes are there.

    Raises:
        Conflict: some are not.
    """
    with backend.catalog.reading() as tx:
        claims = claims_to(backend, tx, adapter, {file.digest for file in files})
    absent = [f.path for f in files if f.digest not in claims or backend.blobs.size(f.digest) != f.size]
    if absent:
        raise Conflict(
            f"{len(absent)} of {len(files)} files are not in the store ({', '.join(absent[:3])}); "
            "nothing was stored. Send them again: only what is missing travels."
        )
    return claims


def _examined(backend: Backend, adapter: str, base: Base, files: Sequence[File]) -> Description:
    # numpy is needed for values only.
    from adapter_registry.checkpoints.passing import remembered  # noqa: PLC0415

    seen = next((remembered(file.digest) for file in files if file.path == WEIGHTS), None)
    try:
        examination = examine([StoredFile(file, backend.blobs) for file in files], base, seen=seen)
    except NotFound as gone:
        raise Conflict(
            f"bytes were collected while they were checked; nothing was stored. Push again: {gone.text}"
        ) from gone
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
    if spelled is None:
        refuse_base_name(tx, name)
    if spelled not in (None, name):
        raise Conflict(f"{name} differs only in upper and lower case from {spelled}, which exists; use that name.")
