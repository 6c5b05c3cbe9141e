"""Check the store against itself, and remove bytes that nothing refers to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from adapter_registry.domain.audit.event import Entry, Outcome, broken_link
from adapter_registry.domain.audit.replay import Replica, replayed
from adapter_registry.domain.digest import Digest, hex_of
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.integrity.key import Key
from adapter_registry.domain.ports import Backend, BlobStore, Transaction

GRACE_SECONDS = 2 * 3600.0
"""How long bytes that nothing refers to are safe: longer than any push takes between upload and commit."""
LONGEST_GRACE_SECONDS = 100 * 365 * 86_400

ANSWER_SECONDS = 2 * 24 * 3600.0
"""How long the answer to an idempotency key is kept."""
JOB_SECONDS = 90 * 24 * 3600.0
"""How long a job that ended is known, with its log and the bytes of its result."""
BATCH = 20
"""Blobs that are removed while writers wait."""
READ_BATCH = 10_000
BEGINNING = ""
"""Before any time."""
BLOCK = 1 << 20
_MISCOUNTED = "has totals that its versions do not add up to; `adapters admin collect` counts them anew"


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing wrong with the store.

    Attributes:
        what: `missing`, `damaged`, `log`, `pointer`, `key` or `total`.
        digest: of the blob concerned; None for what is none.
        text: what it is and what to do.
        affected: what needs it: versions, `namespace/name@v3`, stored bases, `base NAME`, suites, `suite core@3`,
            and `key NAME`.
    """

    what: str
    digest: Digest | None
    text: str
    affected: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What a check found.

    Attributes:
        blobs: how many blobs the catalog knows.
        bytes: their total size.
        events: length of the audit log.
        read: whether every byte was read.
        damage: everything wrong; empty when the store is sound.
    """

    blobs: int
    bytes: int
    events: int
    read: bool
    damage: tuple[Damage, ...]


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed, or would remove: blobs, their bytes, and leftovers of interrupted writes."""

    blobs: int
    bytes: int
    leftovers: int


def check(backend: Backend, *, read_data: bool, progress: Callable[[int], None]) -> StoreReport:
    """Every blob row has its bytes, the audit log is an unbroken chain, and stages and trusted keys are what it says.

    Args:
        backend: the registry.
        read_data: hash every byte; otherwise sizes only.
        progress: called with the size of each blob checked.
    """
    with backend.catalog.reading() as tx:
        rows = tx.blobs.each()
        events = tx.events.all()
        users = _users(tx)
        lines = tx.versions.adapters()
        keys = tx.integrity.all_keys()
        miscounted = tx.blobs.miscounted()
    damage = [Damage("total", None, f"{name} {_MISCOUNTED}", (name,)) for name in miscounted]
    for digest, size in rows:
        what = _state(backend.blobs, digest, size, read_data=read_data)
        if what:
            text = f"blob {digest} ({size:,} bytes) is {what}; pushing the same files again restores it"
            damage.append(Damage(what, digest, text, tuple(users.get(digest, ()))))
        progress(size)
    broken = broken_link(events)
    if broken is not None:
        damage.append(Damage("log", None, f"the audit log was changed at or before event {broken}", ()))
    else:
        pointers = {(line.adapter, stage): number for line in lines for stage, number in line.stages.items()}
        log = replayed(events)
        damage += [*_moved(pointers, log), *_trusted(keys, log)]
    return StoreReport(len(rows), sum(size for _, size in rows), len(events), read_data, tuple(damage))


def _moved(pointers: Mapping[tuple[str, str], int], log: Replica) -> Iterator[Damage]:
    """Stages that point elsewhere than the log says: somebody changed the tables behind the registry's back."""
    for place in sorted(pointers.keys() | log.pointers.keys()):
        adapter, stage = place
        here, told = pointers.get(place), log.pointers.get(place)
        if told is None or here != told.number:
            where = f"v{here}" if here is not None else "nothing"
            said = f"v{told.number}" if told else "nothing"
            text = f"{stage} of {adapter} points to {where}, and the audit log says {said}"
            text += ": somebody changed the database; compare with a backup"
            yield Damage("pointer", None, text, (f"{adapter}@{stage}",))


def _trusted(keys: Iterable[Key], log: Replica) -> Iterator[Damage]:
    """Keys that the log does not know as they are here: whoever can write rows could have anybody's signature count."""
    here = {key.name: key for key in keys}
    for name in sorted(here.keys() | log.keys.keys()):
        if here.get(name) != log.keys.get(name):
            text = f"the key {name} is not what the audit log says"
            text += ": somebody changed the database; compare with a backup"
            yield Damage("key", None, text, (f"key {name}",))


def _users(tx: Transaction) -> dict[Digest, list[str]]:
    users: dict[Digest, list[str]] = {}
    for line in tx.versions.adapters():
        for version in tx.versions.all_of(line.adapter):
            for file in version.files:
                users.setdefault(file.digest, []).append(version.reference)
    for stored in tx.stored_bases.all():
        for file in stored.files:
            users.setdefault(file.digest, []).append(f"base {stored.name}")
    for suite in tx.scores.suites():
        for digest in suite.files.values():
            users.setdefault(digest, []).append(f"suite {suite.reference}")
    return users


def _state(blobs: BlobStore, digest: Digest, size: int, *, read_data: bool) -> str | None:
    found = blobs.size(digest)
    if found is None:
        return "missing"
    if found != size:
        return "damaged"
    if not read_data:
        return None
    hasher = hashlib.sha256()
    with blobs.open(digest) as stream:
        while block := stream.read(BLOCK):
            hasher.update(block)
    return None if hasher.hexdigest() == hex_of(digest) else "damaged"


def collect(backend: Backend, *, grace_seconds: float = GRACE_SECONDS, dry_run: bool = False) -> Collected:
    """Remove what no version and no stored base refers to and nobody sent or asked for within `grace_seconds`.

    The store is listed outside of any transaction. Then, a few at a time: rows and claims go in one transaction, so
    that no commit that began before can go on; bytes go in a second one, unless somebody received or asked for them
    meanwhile. A crash in between leaves bytes without a row, which the next collection removes; never a version without
    bytes.

    Raises:
        InvalidInput: a grace that is none.
    """
    cutoff = before(backend, grace_seconds)
    if not dry_run:
        _forget_old(backend, cutoff)
        _count_anew(backend)
    old = {digest: age >= grace_seconds for digest, age in backend.blobs.each()}
    with backend.catalog.reading() as tx:
        candidates = [digest for digest, is_old in old.items() if is_old]
        candidates += [digest for digest in tx.blobs.unreferenced() if digest not in old]
    if dry_run:
        with backend.catalog.reading() as tx:
            doomed = [d for some in batches(candidates, READ_BATCH) for d in _unneeded(tx, some, cutoff) if d in old]
        return Collected(len(doomed), sum(backend.blobs.size(digest) or 0 for digest in doomed), 0)
    blobs = size = 0
    for some in batches(candidates, BATCH):
        sizes = _removed(backend, some, cutoff)
        blobs, size = blobs + len(sizes), size + sum(sizes)
    leftovers = backend.blobs.sweep(older_than=grace_seconds)
    if blobs or leftovers:
        with backend.catalog.writing() as tx:
            detail = {"blobs": blobs, "bytes": size, "leftovers": leftovers}
            tx.events.append(Entry("collect", "store", Outcome.DONE, backend.actor, backend.clock(), detail))
    return Collected(blobs, size, leftovers)


def _forget_old(backend: Backend, cutoff: str) -> None:
    """Forget pieces of uploads never put together, answers that nobody asks for again, and old jobs."""
    with backend.catalog.writing() as tx:
        tx.branches.forget_xorbs(before=cutoff)
        tx.accounts.forget_answers(before=before(backend, ANSWER_SECONDS))
        tx.jobs.forget(before=before(backend, JOB_SECONDS))


def _count_anew(backend: Backend) -> None:
    """Mend totals that are wrong, which only who changes the tables by hand makes them."""
    with backend.catalog.reading() as tx:
        wrong = tx.blobs.miscounted()
    if wrong:
        with backend.catalog.writing() as tx:
            tx.blobs.recount()


def _removed(backend: Backend, digests: Sequence[Digest], cutoff: str) -> list[int]:
    """Remove those that are not needed; the sizes of those that were there."""
    with backend.catalog.reading() as tx:
        doomed = _unneeded(tx, digests, cutoff)
    sizes = {digest: backend.blobs.size(digest) for digest in doomed}
    if not sizes:
        return []
    with backend.catalog.writing() as tx:
        doomed = _unneeded(tx, sizes, cutoff)
        for digest in doomed:
            tx.blobs.forget(digest)
            tx.branches.disown(digest)
    with backend.catalog.writing() as tx:
        doomed = [digest for digest in _unneeded(tx, doomed, BEGINNING) if sizes[digest] is not None]
        for digest in doomed:
            backend.blobs.delete(digest)
    return [sizes[digest] or 0 for digest in doomed]


def in_use(tx: Transaction, digests: Sequence[Digest], cutoff: str) -> dict[str, frozenset[Digest]]:
    """Why -> those of `digests` that stay for it; `cutoff` is since when what was received or asked for stays."""
    return {
        "versions, bases and scores": tx.blobs.referenced(digests),
        "drafts": tx.branches.drafted(),
        "jobs": tx.jobs.kept(digests),
        "suites": tx.scores.suite_files(),
        "just arrived": tx.branches.reserved(digests, since=cutoff),
    }


def _unneeded(tx: Transaction, digests: Iterable[Digest], cutoff: str) -> list[Digest]:
    """Those that nothing of `in_use` refers to: nobody received or asked for them after `cutoff`, either."""
    wanted = list(digests)
    needed = frozenset[Digest]().union(*in_use(tx, wanted, cutoff).values())
    return [digest for digest in wanted if digest not in needed]


def batches(digests: Sequence[Digest], size: int) -> Iterator[Sequence[Digest]]:
    """The digests, so many at a time."""
    return (digests[start : start + size] for start in range(0, len(digests), size))


def before(backend: Backend, seconds: float) -> str:
    """The time `seconds` ago, as ports.Clock writes it.

    Raises:
        InvalidInput: a grace that is none.
    """
    if not 0 <= seconds <= LONGEST_GRACE_SECONDS:
        raise InvalidInput(f"a grace of {seconds} seconds: expected 0 to {LONGEST_GRACE_SECONDS:,} (a century).")
    return (datetime.fromisoformat(backend.clock()) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
