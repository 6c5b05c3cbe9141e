"""Webhooks: set up, change, look at what came of deliveries, send again; and what a sender asks for and reports.

A webhook tells its receiver about every adapter in its scope, so setting one up or seeing it takes the verbs `webhook`
and `read` throughout that scope.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.errors import Forbidden, InvalidInput, NotFound
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.ports.webhooks import Claimed
from adapter_registry.domain.views.listing import DeliveryPage, WebhookPage
from adapter_registry.domain.webhooks.signature import Secret, new_secret, rotated
from adapter_registry.domain.webhooks.webhook import (
    Delivery,
    State,
    Webhook,
    attempted,
    check_events,
    check_scope,
    check_url,
    later,
    payload,
    replayed,
)

VERB = "webhook"
OVERLAP_SECONDS = 86_400
"""How long the secret before signs along after a rotation."""
LEASE_SECONDS = 300
"""How long a claimed delivery is its claimer's; longer than sending all that was claimed may take."""
CLAIM = 20
"""Deliveries of one webhook that are claimed together."""
KEEP_DAYS = 30
"""How long a delivery that arrived stays visible."""
PAGE = 1_000


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A webhook and the secret its messages are signed with, which is shown this once."""

    webhook: Webhook
    secret: str


@dataclass(frozen=True, slots=True)
class Message:
    """A delivery and its body, JSON."""

    delivery: Delivery
    body: str


def register(backend: Backend, *, url: str, scope: str = "*", events: tuple[str, ...] = ("*",)) -> NewWebhook:
    """Tell `url` of events from now on.

    Args:
        backend: the registry.
        url: where messages are posted.
        scope: which adapters it is told about: `team/sql-lora`, `team/*`; `*` is everything.
        events: of `webhook.EVENTS`, or `*`.

    Raises:
        Forbidden: whoever asks may not set one up for all of that scope.
    """
    webhook = Webhook(
        secrets.token_hex(6),
        check_url(url),
        check_scope(scope),
        check_events(events),
        active=True,
        created_by=backend.actor,
        created_at=backend.clock(),
    )
    if not _theirs(backend, webhook):
        raise Forbidden(
            f"a webhook for {scope} takes the verbs 'webhook' and 'read' on all of {scope}; nothing was set up."
        )
    secret = new_secret(secrets.token_bytes(32))
    with backend.catalog.writing() as tx:
        tx.webhooks.add(webhook, (Secret(secret),))
        tx.events.append(_entry(backend, "webhook.add", webhook))
    return NewWebhook(webhook, secret)


def webhooks(backend: Backend, *, after: str = "", limit: int = PAGE) -> WebhookPage:
    """The webhooks that whoever asks could set up, oldest first, a page at a time.

    Args:
        backend: the registry.
        after: `next` of the page before.
        limit: at most this many, and at most 1,000.
    """
    most = min(max(limit, 1), PAGE)
    with backend.catalog.reading() as tx:  # every event looks at all of them, too
        found = [each for each in tx.webhooks.all() if each.key > after and _theirs(backend, each)]
    return WebhookPage(tuple(found[:most]), found[most - 1].key if len(found) > most else None)


def show(backend: Backend, *, webhook: str) -> Webhook:
    """One webhook, by its id."""
    with backend.catalog.reading() as tx:
        return _webhook(backend, tx, webhook)


def change(
    backend: Backend,
    *,
    webhook: str,
    url: str | None = None,
    events: tuple[str, ...] | None = None,
    active: bool | None = None,
) -> Webhook:
    """Change what is given; a paused webhook is told of nothing new, and what waits for it is sent when it goes on."""
    with backend.catalog.writing() as tx:
        known = _webhook(backend, tx, webhook)
        changed = replace(
            known,
            url=known.url if url is None else check_url(url),
            events=known.events if events is None else check_events(events),
            active=known.active if active is None else active,
        )
        tx.webhooks.change(changed)
        tx.events.append(_entry(backend, "webhook.change", changed))
    return changed


def remove(backend: Backend, *, webhook: str) -> Webhook:
    """Forget a webhook and everything that waits for it."""
    with backend.catalog.writing() as tx:
        known = _webhook(backend, tx, webhook)
        tx.webhooks.remove(webhook)
        tx.events.append(_entry(backend, "webhook.remove", known))
    return known


def rotate(backend: Backend, *, webhook: str) -> NewWebhook:
    """Give a webhook a new secret; for a day messages carry a signature of each."""
    secret = new_secret(secrets.token_bytes(32))
    with backend.catalog.writing() as tx:
        known = _webhook(backend, tx, webhook)
        before = tx.webhooks.secrets(webhook)
        after = rotated(before, value=secret, at=backend.clock(), overlap_seconds=OVERLAP_SECONDS)
        tx.webhooks.set_secrets(webhook, after)
        tx.events.append(_entry(backend, "webhook.rotate", known))
    return NewWebhook(known, secret)


def deliveries(
    backend: Backend, *, webhook: str, state: State | None = None, before: int | None = None, limit: int = PAGE
) -> DeliveryPage:
    """What a webhook was told and what came of it, newest first, a page at a time.

    Args:
        backend: the registry.
        webhook: its id.
        state: only deliveries in this state: `dead` are those that were given up.
        before: the page before this event: `next` of the page before.
        limit: at most this many, and at most 1,000.
    """
    most = min(max(limit, 1), PAGE)
    with backend.catalog.reading() as tx:
        _webhook(backend, tx, webhook)
        found = tx.webhooks.deliveries(webhook, state=state, before=before, limit=most + 1)
    items = found[:most]
    return DeliveryPage(items, items[-1].event if len(found) > most else None)


def message(backend: Backend, *, webhook: str, delivery: str) -> Message:
    """What one delivery says: the body that was, or is to be, posted.

    Raises:
        NotFound: there is no such delivery of this webhook.
    """
    with backend.catalog.reading() as tx:
        _webhook(backend, tx, webhook)
        found = _delivery(tx, webhook, delivery)
        [event] = tx.events.all(after=found.event - 1, limit=1)
    return Message(found, payload(event).decode())


def replay(backend: Backend, *, webhook: str, delivery: str | None = None) -> tuple[Delivery, ...]:
    """Send again: one delivery, or every dead one. Each keeps its id, so a receiver that had it can drop it.

    Raises:
        NotFound: there is no such delivery of this webhook.
        InvalidInput: the webhook is paused, so nothing would be sent.
    """
    with backend.catalog.writing() as tx:
        known = _webhook(backend, tx, webhook)
        if not known.active:
            raise InvalidInput(f"webhook {webhook} is paused; nothing was sent. Let it go on first.")
        if delivery is None:
            chosen = tx.webhooks.deliveries(webhook, state=State.DEAD)
        else:
            chosen = (_delivery(tx, webhook, delivery),)
        again = tuple(replayed(each, at=backend.clock()) for each in chosen)
        for each in again:
            tx.webhooks.record(each)
        tx.events.append(_entry(backend, "webhook.replay", known, deliveries=len(again)))
    return again


def claim(backend: Backend) -> tuple[Claimed, ...]:
    """What is to be sent now; the caller sends it and reports each attempt within LEASE_SECONDS."""
    now = backend.clock()
    with backend.catalog.reading() as tx:
        if not tx.webhooks.due(now=now):
            return ()
    with backend.catalog.writing() as tx:
        return tx.webhooks.claim(now=now, until=later(now, LEASE_SECONDS), limit=CLAIM)


def report(
    backend: Backend,
    delivery: Delivery,
    *,
    status: int | None,
    error: str,
    release: tuple[str, ...],
    jitter: Callable[[], float],
) -> Delivery:
    """Store what came of one attempt.

    Args:
        backend: the registry.
        delivery: as it was claimed.
        status: HTTP status of the answer; None when there was none.
        error: why it failed; empty when it did not.
        release: ids of claimed deliveries that are not sent because this one failed.
        jitter: draws -1 to 1.
    """
    after = attempted(delivery, status=status, error=error, at=backend.clock(), jitter=jitter())
    with backend.catalog.writing() as tx:
        tx.webhooks.record(after, release=release)
    return after


def give_back(backend: Backend, deliveries: tuple[Delivery, ...]) -> None:
    """Let others send what was claimed and not tried."""
    with backend.catalog.writing() as tx:
        for each in deliveries:
            tx.webhooks.record(each)


def forget_old(backend: Backend) -> int:
    """Drop deliveries that arrived more than KEEP_DAYS ago; how many."""
    now = datetime.fromisoformat(backend.clock())
    before = (now - timedelta(days=KEEP_DAYS)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    with backend.catalog.writing() as tx:
        return tx.webhooks.forget(before=before)


def _theirs(backend: Backend, webhook: Webhook) -> bool:
    return all(backend.asks.may_throughout(verb, webhook.scope) for verb in (VERB, "read"))


def _webhook(backend: Backend, tx: Transaction, id: str) -> Webhook:
    found = tx.webhooks.get(id)
    if found is None or not _theirs(backend, found):
        raise NotFound(f"there is no webhook {id[:40]!r}; `adapters webhook ls` lists them.")
    return found


def _delivery(tx: Transaction, webhook: str, id: str) -> Delivery:
    found = tx.webhooks.delivery(id)
    if found is None or found.webhook != webhook:
        raise NotFound(f"webhook {webhook} has no delivery {id[:80]!r}; `adapters webhook log` lists them.")
    return found


def _entry(backend: Backend, action: str, webhook: Webhook, **detail: int) -> Entry:
    told = {"url": webhook.url, "scope": webhook.scope, "events": list(webhook.events), "active": webhook.active}
    return Entry(action, f"webhook {webhook.id}", Outcome.DONE, backend.actor, backend.clock(), {**told, **detail})
