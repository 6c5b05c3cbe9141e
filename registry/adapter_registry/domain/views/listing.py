"""Lists: one line of the list of adapters, and lists a page at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.audit.event import Event
from adapter_registry.domain.base import RegisteredBase
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.evidence.suite import Suite
from adapter_registry.domain.people.account import Account, Group, Token
from adapter_registry.domain.people.trust import Trust
from adapter_registry.domain.views.overview import Trend
from adapter_registry.domain.webhooks.webhook import Delivery, Webhook


class Order(StrEnum):
    """Of a list of adapters: by name, or those that got a version last first."""

    NAME = "name"
    NEWEST = "newest"


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
        since: stage -> when it was moved there.
        arrival: grows with each version that arrives anywhere: what the order `newest` goes by.
        flags: what of the newest version is worth a look: `revoked` and those of Description.
        trend: how its newest versions did, where that was asked for.
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
    since: dict[str, str] = field(default_factory=dict)
    arrival: int = 0
    flags: tuple[str, ...] = ()
    trend: Trend | None = None


@dataclass(frozen=True, slots=True)
class AdapterPage:
    """Some adapters in the order asked for; `next` is where the page after begins, None when this is the last."""

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
class WebhookPage:
    """Some webhooks, oldest first; `next` as in AdapterPage."""

    items: tuple[Webhook, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class AccountPage:
    """Some accounts, by name; `next` as in AdapterPage."""

    items: tuple[Account, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class TokenPage:
    """Some tokens, newest first; `next` as in AdapterPage."""

    items: tuple[Token, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class GroupPage:
    """Some groups, by name; `next` as in AdapterPage."""

    items: tuple[Group, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class TrustPage:
    """Some trusts, in the order they were declared; `next` as in AdapterPage."""

    items: tuple[Trust, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class SuitePage:
    """Some suites, by name and version; `next` as in AdapterPage."""

    items: tuple[Suite, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class BasePage:
    """Some bases under their names, by name; `next` as in AdapterPage."""

    items: tuple[RegisteredBase, ...]
    next: str | None


def parts_of(place: str, count: int) -> tuple[str, ...]:
    """What the place where a page begins is made of; empty for the start of the list.

    Raises:
        InvalidInput: it is no such place.
    """
    parts = tuple(place.split(" ")) if place else ()
    if parts and (len(parts) != count or not all(parts)):
        raise InvalidInput(f"{place[:40]!r} is no place in this list; begin at its start, or with `next` of a page.")
    return parts


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which adapters a list is of.

    Attributes:
        scopes: only adapters in one of these, see access.Grant.
        stage: only adapters with a version in this stage.
        base: only adapters whose newest version is locked to this Base.
        search: only names that contain this, in any case.
        order: how they are sorted.
    """

    scopes: tuple[str, ...] = ("*",)
    stage: str | None = None
    base: Digest | None = None
    search: str | None = None
    order: Order = Order.NAME
