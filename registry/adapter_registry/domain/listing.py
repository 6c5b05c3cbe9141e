"""Lists: one line of the list of adapters, and lists a page at a time."""

from __future__ import annotations

from dataclasses import dataclass

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.event import Event
from adapter_registry.domain.webhook import Delivery


@dataclass(frozen=True, slots=True)
class AdapterLine:
    """What `adapters ls` says of one adapter.

    Attributes:
        adapter: `namespace/name`.
        versions: how many versions it has, removed ones not counted.
        latest: number of the newest.
        semver: label of the newest.
        method: of the newest, e.g. `LORA (rslora)`.
        rank: of the newest.
        base: digest of the Base the newest is locked to.
        base_name: a name of it.
        size: bytes of the newest.
        pushed_at: when the newest was pushed.
        stages: stage -> version number it points to.
    """

    adapter: str
    versions: int
    latest: int
    semver: str
    method: str
    rank: int | None
    base: Digest
    base_name: str
    size: int
    pushed_at: str
    stages: dict[str, int]


@dataclass(frozen=True, slots=True)
class AdapterPage:
    """Some adapters by name; `next` is where the page after begins, None when this is the last."""

    items: tuple[AdapterLine, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class VersionPage:
    """Some versions of an adapter, newest first; `next` as in AdapterPage."""

    items: tuple[Version, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events in order; `next` as in AdapterPage."""

    items: tuple[Event, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Some deliveries of a webhook, newest first; `next` as in AdapterPage."""

    items: tuple[Delivery, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which adapters a list is of.

    Attributes:
        scopes: only adapters in one of these, see access.Grant.
        stage: only adapters with a version in this stage.
        base: only adapters whose newest version is locked to this Base.
        search: only names that contain this, in any case.
    """

    scopes: tuple[str, ...] = ("*",)
    stage: str | None = None
    base: Digest | None = None
    search: str | None = None
