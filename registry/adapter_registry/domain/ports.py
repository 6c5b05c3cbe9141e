"""What the services need from the outside world, as Protocols: Catalog, BlobStore, Clock.

Each Protocol has one contract suite under tests/contract that every implementation passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.base import Base, RegisteredBase
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.event import Entry, Event
from adapter_registry.domain.listing import AdapterLine
from adapter_registry.domain.lock import Equivalence
from adapter_registry.domain.policy import Policy
from adapter_registry.domain.promotion import Promotion
from adapter_registry.domain.score import RecordedScore


class BaseRows(Protocol):
    """Bases, their names and declared equivalences."""

    def add(self, base: Base, *, name: str, by: str, at: str) -> None:
        """Store `base` unless its digest is known, and give it `name`."""

    def learn(self, digest: Digest, read: Base) -> None:
        """Add what reading the bytes told about a Base known by its file digests alone."""

    def get(self, digest: Digest) -> Base | None:
        """The Base with its whole table of tensors."""

    def names(self) -> tuple[RegisteredBase, ...]:
        """Every (name, Base), by name, tables of tensors left empty."""

    def with_weights_of(self, base: Base) -> tuple[Digest, ...]:
        """Bases whose tensors or weight files are those of `base`, whatever their tokenizer."""

    def declare(self, equivalence: Equivalence) -> None:
        """Record that one Base may stand in for another."""

    def equivalences(self, digest: Digest) -> tuple[Equivalence, ...]:
        """Stand-ins declared for adapters that are locked to `digest`."""


class VersionRows(Protocol):
    """Adapters, their Versions, tags and labels. Adapters are named `namespace/name`."""

    def adapters(self) -> tuple[AdapterLine, ...]:
        """One line per adapter, by name."""

    def spelled(self, adapter: str) -> str | None:
        """The adapter whose name differs at most in upper and lower case."""

    def all_of(self, adapter: str) -> tuple[Version, ...]:
        """Versions that were not removed, newest first."""

    def numbered(self, adapter: str, number: int) -> Version | None: ...

    def labelled(self, adapter: str, semver: str) -> Version | None: ...

    def with_digest(self, adapter: str, digest: str) -> Version | None:
        """By full digest, or by its first 40 hex digits."""

    def tagged(self, adapter: str, tag: str) -> Version | None: ...

    def staged(self, adapter: str, stage: str) -> Version | None: ...

    def latest(self, adapter: str) -> Version | None: ...

    def used(self, adapter: str) -> tuple[int, tuple[str, ...]]:
        """Highest number and every semantic version ever given, removed versions included."""

    def add(self, version: Version, *, manifest: bytes) -> None:
        """Store a Version and its files; creates the adapter on its first push."""

    def remove(self, version: Version, *, by: str, at: str) -> None:
        """Forget the files; the number and the label stay used."""

    def set_tag(self, version: Version, tag: str, *, by: str, at: str) -> None: ...

    def remove_tag(self, adapter: str, tag: str) -> bool: ...

    def set_labels(self, version: Version, labels: dict[str, str | None]) -> None:
        """Set each label; None removes it."""

    def locked_to(self, base: Digest) -> int:
        """How many Versions are locked to a Base."""


class ScoreRows(Protocol):
    """Scores of Versions and of Bases; subjects are digests."""

    def add(self, scores: Iterable[RecordedScore]) -> None: ...

    def of(self, subject: Digest) -> tuple[RecordedScore, ...]:
        """In the order they were recorded."""


class StageRows(Protocol):
    """Stage pointers, the append-only log of promotions, and the policies that stages own."""

    def hold(self, adapter: str, stage: str) -> int:
        """Lock the pointer until the transaction ends; its sequence, 0 when it never moved."""

    def move(self, promotion: Promotion) -> None:
        """Append the promotion and move the pointer to it."""

    def history(self, adapter: str, stage: str | None = None) -> tuple[Promotion, ...]:
        """Newest first."""

    def policy(self, stage: str) -> tuple[int, Policy] | None:
        """The policy in force and its revision; None when none was ever set."""

    def set_policy(self, policy: Policy, *, by: str, at: str) -> int:
        """Store a new revision; its number."""


class EventRows(Protocol):
    """The audit log."""

    def append(self, entry: Entry) -> Event: ...

    def all(self, *, subject: str | None = None) -> tuple[Event, ...]:
        """In order; `subject` keeps those about it and about its versions."""


class BlobRows(Protocol):
    """Which blobs versions refer to."""

    def known(self, digests: Iterable[Digest]) -> frozenset[Digest]: ...

    def unreferenced(self) -> tuple[Digest, ...]: ...

    def forget(self, digest: Digest) -> None: ...

    def each(self) -> tuple[tuple[Digest, int], ...]:
        """(digest, size) of every blob row."""


class Transaction(Protocol):
    """One unit of work: all of it happens, or none."""

    @property
    def bases(self) -> BaseRows: ...
    @property
    def versions(self) -> VersionRows: ...
    @property
    def scores(self) -> ScoreRows: ...
    @property
    def stages(self) -> StageRows: ...
    @property
    def events(self) -> EventRows: ...
    @property
    def blobs(self) -> BlobRows: ...


class Catalog(Protocol):
    """Rows of everything that has a name."""

    def reading(self) -> AbstractContextManager[Transaction]:
        """A consistent view; nothing is written."""

    def writing(self) -> AbstractContextManager[Transaction]:
        """Commits on leaving, rolls back on an exception."""


class BlobStore(Protocol):
    """Bytes addressed by their digest."""

    def put(self, digest: Digest, source: BinaryIO, *, name: str) -> int:
        """Store the bytes of `source` under `digest`; their number.

        Durable when it returns. The same bytes again are a success and are stored once.

        Args:
            digest: what the caller says they are.
            source: read to its end.
            name: the file's name, for the error.

        Raises:
            DigestMismatch: they are not; nothing is kept.
            StoreFull: no space; nothing is kept.
        """

    def open(self, digest: Digest) -> BinaryIO:
        """A seekable stream; raises NotFound when the store lost the bytes."""

    def size(self, digest: Digest) -> int | None:
        """Bytes stored under `digest`; None when there are none."""

    def holds(self, digest: Digest, size: int) -> bool:
        """Whether sound bytes of this size are there; if so, they count as asked for now."""

    def delete(self, digest: Digest) -> None: ...

    def each(self) -> Iterator[tuple[Digest, float]]:
        """(digest, age in seconds since it was last stored or asked for)."""

    def sweep(self, *, older_than: float) -> int:
        """Remove what interrupted writes left behind more than `older_than` seconds ago; how many files."""


Clock = Callable[[], str]
"""Now, as ISO 8601 in UTC with microseconds, ending in `Z`."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Everything a service may touch, and who asks."""

    catalog: Catalog
    blobs: BlobStore
    clock: Clock
    actor: str
    namespace: str
