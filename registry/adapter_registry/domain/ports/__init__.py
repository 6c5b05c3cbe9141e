"""What the services need from the outside world, as Protocols: Catalog, BlobStore, Clock.

Each Protocol has one contract suite under tests/contract that every implementation passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.base import Base, RegisteredBase
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.draft import Branch
from adapter_registry.domain.lock import Equivalence
from adapter_registry.domain.people.access import SYSTEM, Principal
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.ports.accounts import AccountRows as AccountRows
from adapter_registry.domain.ports.accounts import KeptAnswer as KeptAnswer
from adapter_registry.domain.ports.accounts import ViewRows
from adapter_registry.domain.ports.ancestry import AncestryRows
from adapter_registry.domain.ports.blobs import BlobStore as BlobStore
from adapter_registry.domain.ports.blobs import Incoming as Incoming
from adapter_registry.domain.ports.blobs import Location as Location
from adapter_registry.domain.ports.blobs import Partial as Partial
from adapter_registry.domain.ports.events import EventRows as EventRows
from adapter_registry.domain.ports.identity import IdentityRows
from adapter_registry.domain.ports.integrity import IntegrityRows
from adapter_registry.domain.ports.jobs import JobRows
from adapter_registry.domain.ports.requests import RequestRows
from adapter_registry.domain.ports.scores import ScoreRows as ScoreRows
from adapter_registry.domain.ports.webhooks import WebhookRows
from adapter_registry.domain.promotions.promotion import Promotion
from adapter_registry.domain.promotions.stage import Ladder
from adapter_registry.domain.promotions.verification import Verified
from adapter_registry.domain.recipe import Recipe
from adapter_registry.domain.sketch import Sketch
from adapter_registry.domain.stored_base import StoredBaseRows
from adapter_registry.domain.views.listing import AdapterLine, Wanted
from adapter_registry.domain.views.record import Revision
from adapter_registry.domain.views.usage import Used, UsedInAll


class BaseRows(Protocol):
    """Bases, their names and declared equivalences."""

    def add(self, base: Base, *, name: str, by: str, at: str) -> None:
        """Store `base` unless its digest is known, and give it `name`."""

    def learn(self, digest: Digest, read: Base) -> None:
        """Add what reading the bytes told about a Base known by its file digests alone."""

    def get(self, digest: Digest) -> Base | None:
        """The Base with its whole table of tensors."""

    def names(
        self, *, search: str = "", after: Sequence[str] = (), limit: int | None = None
    ) -> tuple[RegisteredBase, ...]:
        """(name, Base), by name, tables of tensors left empty; of names that contain `search`, in any case.

        `after` is the name, time and digest of the one before.
        """

    def with_weights_of(self, base: Base) -> tuple[Digest, ...]:
        """Bases whose tensors or weight files are those of `base`, whatever their tokenizer."""

    def declare(self, equivalence: Equivalence) -> None:
        """Record that one Base may stand in for another."""

    def equivalences(self, digest: Digest) -> tuple[Equivalence, ...]:
        """Stand-ins declared for adapters that are locked to `digest`."""


class VersionRows(Protocol):
    """Adapters, their Versions, tags and labels. Adapters are named `namespace/name`."""

    def adapters(
        self, wanted: Wanted | None = None, *, after: str = "", limit: int | None = None
    ) -> tuple[AdapterLine, ...]:
        """One line per adapter with versions, by name, beginning after `after`."""

    def spelled(self, adapter: str) -> str | None:
        """The adapter whose name differs at most in upper and lower case."""

    def names_near(self, adapter: str) -> tuple[str, ...]:
        """Names in the same namespace, up to a thousand."""

    def all_of(self, adapter: str, *, before: int | None = None, limit: int | None = None) -> tuple[Version, ...]:
        """Versions that were not removed, newest first, beginning below number `before`."""

    def numbered(self, adapter: str, number: int) -> Version | None: ...
    def labelled(self, adapter: str, semver: str) -> Version | None: ...

    def with_digest(self, adapter: str, digest: str) -> Version | None:
        """By full digest, or by its first 40 hex digits."""

    def with_digests(self, digests: Sequence[Digest]) -> tuple[Version, ...]:
        """Every Version of these digests that was not removed, of any adapter."""

    def made_from(self, digests: Sequence[Digest], *, limit: int) -> tuple[Version, ...]:
        """Versions whose lineage names one of these digests as a parent, newest first."""

    def arrived(self, arrivals: Sequence[int]) -> dict[int, Version]:
        """Versions by `AdapterLine.arrival`."""

    def tagged(self, adapter: str, tag: str) -> Version | None: ...

    def staged(self, adapter: str, stage: str) -> Version | None: ...

    def named(self, adapter: str, name: str) -> Version | None:
        """What a stage or tag of this name points to; no tag bears the name of a stage."""

    def semvers(self, adapter: str) -> Iterator[str]:
        """Semantic versions that may be served, the highest first; they are looked up as they are asked for."""

    def pointers(self, adapter: str) -> tuple[str, ...]:
        """Names of its stages and tags that point somewhere, by name; a hundred at most."""

    def latest(self, adapter: str) -> Version | None: ...

    def used(self, adapter: str) -> tuple[int, str | None]:
        """Highest number and highest semantic version ever given, removed versions included; 0 and None for none."""

    def given(self, adapter: str, semver: str) -> bool:
        """Whether a version of it ever had this semantic version, removed versions included."""

    def add(self, version: Version, *, manifest: bytes) -> None:
        """Store a Version and its files; creates the adapter on its first push."""

    def remove(self, version: Version, *, by: str, at: str) -> None:
        """Forget the files; the number and the label stay used."""

    def revoke(self, version: Version, *, because: str, by: str, at: str) -> None:
        """Withdraw it for good: it keeps its record and is not served any more."""

    def set_tag(self, version: Version, tag: str, *, by: str, at: str) -> None: ...

    def remove_tag(self, adapter: str, tag: str) -> bool: ...

    def set_labels(self, version: Version, labels: dict[str, str | None]) -> None:
        """Set each label; None removes it."""

    def locked_to(self, base: Digest) -> int:
        """How many Versions are locked to a Base."""


class StageRows(Protocol):
    """Stage pointers, the append-only log of promotions, and the policies that stages own."""

    def hold(self, adapter: str, stage: str) -> int:
        """Lock the pointer until the transaction ends; its sequence, 0 when it never moved."""

    def move(self, promotion: Promotion) -> None:
        """Append the promotion and move the pointer to it."""

    def current(self, adapter: str, stage: str) -> Promotion | None:
        """The move that the pointer stands where it does by; None when it never moved."""

    def history(self, adapter: str, stage: str | None = None, *, number: int | None = None) -> tuple[Promotion, ...]:
        """Moves of an adapter's stages, newest first; only those of a stage, only those to a version."""

    def entered(self, adapter: str, stage: str, *, number: int) -> bool:
        """Whether the pointer ever moved to this version."""

    def moves(
        self, *, adapter: str | None, stage: str | None, until: str | None, before: int | None, limit: int
    ) -> tuple[tuple[int, Promotion], ...]:
        """(key, move), newest first; `until` a moment, `before` a key."""

    def newest(self, stage: str, *, limit: int) -> tuple[Promotion, ...]:
        """The last promotions into a stage and its lanes, of every adapter, newest first; rollbacks left out."""

    def ladder(self) -> Ladder:
        """The stages there are."""

    def set_ladder(self, ladder: Ladder, *, by: str, at: str) -> None:
        """Store what they are from now on, as a new revision."""

    def standing(self, place: str) -> dict[str, int]:
        """Adapter -> number of the Version that a stage, or a lane of one, points to."""

    def verified(self, place: str, adapter: str | None = None) -> tuple[Verified, ...]:
        """Since when what a stage, or a lane of one, points to counts as good: for every adapter, or for one."""

    def verify(self, known: Verified) -> None:
        """Note that it was found good again."""

    def named(self, place: str) -> tuple[str, ...]:
        """Adapters that have a tag or branch of this name, or one that would read as a lane of a stage so named."""

    def policies(self, stage: str) -> tuple[Revision, ...]:
        """Newest first."""

    def policy(self, stage: str) -> tuple[int, Policy] | None:
        """The policy in force and its revision; None when none was ever set."""

    def set_policy(self, policy: Policy, *, by: str, at: str) -> int:
        """Store a new revision; its number."""


class BlobRows(Protocol):
    """Which blobs versions refer to."""

    def known(self, digests: Iterable[Digest]) -> frozenset[Digest]: ...

    def referenced(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """Those of `digests` that a version refers to."""

    def unreferenced(self) -> tuple[Digest, ...]: ...

    def forget(self, digest: Digest) -> None: ...

    def each(self) -> tuple[tuple[Digest, int], ...]:
        """(digest, size) of every blob row."""

    def used(self, scopes: Sequence[str], *, after: str = "", limit: int | None = None) -> tuple[Used, ...]:
        """A line for each adapter in one of these scopes that has versions, most bytes first, after `Used.place`."""

    def used_in_all(self, scopes: Sequence[str]) -> UsedInAll:
        """What those lines add up to."""

    def miscounted(self) -> tuple[str, ...]:
        """Names of adapters and digests of bases whose kept totals are wrong; reads every version."""

    def recount(self) -> None:
        """Make the totals anew; reads every version."""


class BranchRows(Protocol):
    """Branches and drafts, who owns which bytes, defaults of namespaces, uploads in pieces."""

    def create_adapter(self, adapter: str, *, by: str, at: str) -> bool:
        """Make an adapter without versions; False when it exists."""

    def created_at(self, adapter: str) -> str | None:
        """When an adapter was made; None when there is none of that name."""

    def of(self, adapter: str) -> tuple[Branch, ...]:
        """By name."""

    def get(self, adapter: str, name: str) -> Branch | None: ...

    def put(self, adapter: str, branch: Branch) -> None: ...

    def remove(self, adapter: str, name: str) -> bool: ...

    def own(self, namespace: str, digests: Iterable[Digest], *, at: str, sketch: Sketch | None = None) -> None:
        """Record that these bytes were received in a namespace, or asked for there again.

        A sketch goes with one digest, and stays when the digest is recorded again without one.
        """

    def sketched(self, sketches: Iterable[Sketch]) -> dict[Digest, Sketch]:
        """What was received with one of these sketches, in any namespace."""

    def owned(self, namespace: str, digests: Iterable[Digest]) -> dict[Digest, str]:
        """Those of `digests` that were received in the namespace, and when they were last asked for."""

    def reserved(self, digests: Iterable[Digest], *, since: str) -> frozenset[Digest]:
        """Those of `digests` that were received or asked for after `since`, in any namespace or in pieces."""

    def holders(self, digest: Digest) -> tuple[str, ...]:
        """Adapters with a version that holds these bytes."""

    def disown(self, digest: Digest) -> None: ...

    def drafted(self) -> frozenset[Digest]:
        """Every digest that a draft refers to."""

    def default_base(self, namespace: str) -> Digest | None: ...

    def set_default_base(self, namespace: str, base: Digest | None, *, by: str, at: str) -> None: ...

    def stage_xorb(self, upload: str, xorb: str, digest: Digest, *, at: str) -> None:
        """Record that a piece of an upload arrived and is stored under `digest`."""

    def staged_xorb(self, upload: str, xorb: str) -> Digest | None: ...

    def forget_xorbs(self, *, before: str) -> None: ...


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
    @property
    def accounts(self) -> AccountRows: ...
    @property
    def branches(self) -> BranchRows: ...
    @property
    def webhooks(self) -> WebhookRows: ...
    @property
    def stored_bases(self) -> StoredBaseRows: ...
    @property
    def identities(self) -> IdentityRows: ...
    @property
    def jobs(self) -> JobRows: ...
    @property
    def requests(self) -> RequestRows: ...
    @property
    def views(self) -> ViewRows: ...
    @property
    def ancestry(self) -> AncestryRows: ...
    @property
    def integrity(self) -> IntegrityRows: ...


class Catalog(Protocol):
    """Rows of everything that has a name."""

    def reading(self) -> AbstractContextManager[Transaction]:
        """A consistent view; nothing is written."""

    def writing(self) -> AbstractContextManager[Transaction]:
        """Commits on leaving, rolls back on an exception."""


class Lookups(Protocol):
    """What every request asks, without a thread, where the catalog lies behind a network; changes nothing."""

    async def principal(self, hashed: str, *, now: str) -> tuple[Principal, bool] | None:
        """See AccountRows.principal; raises StoreUnavailable when the catalog does not answer."""

    async def named(self, adapter: str, name: str) -> tuple[Version, str] | None:
        """See VersionRows.named, and when the adapter was made; StoreUnavailable when the catalog does not answer."""

    async def close(self) -> None:
        """Let go of what is kept between questions."""


Clock = Callable[[], str]
"""Now, as ISO 8601 in UTC with microseconds, ending in `Z`."""

Checks = Callable[["Backend", Recipe], Recipe]
"""What the kind of a recipe makes of it before it is queued: every reference exact, what cannot work refused."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Everything a service may touch, and who asks.

    `asks` is who asks, as far as a listing or a hint may depend on it; whether they may do the thing at all is decided
    before a service is called. `at_hand` says that catalog and blobs are files of this machine: small reads never wait
    for anybody.
    """

    catalog: Catalog
    blobs: BlobStore
    clock: Clock
    actor: str
    namespace: str
    asks: Principal = SYSTEM
    at_hand: bool = False
    lookups: Lookups | None = None
    checks: Checks | None = None
    job: str | None = None
