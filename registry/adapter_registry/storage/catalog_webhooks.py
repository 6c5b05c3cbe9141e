"""Rows of webhooks and of the outbox."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from adapter_registry.domain.audit.event import Event
from adapter_registry.domain.ports.webhooks import Claimed
from adapter_registry.domain.webhooks.signature import Secret
from adapter_registry.domain.webhooks.webhook import Delivery, State, Webhook, matches, payload, scheduled
from adapter_registry.storage.rows import from_text, to_text
from adapter_registry.storage.tables_work import deliveries, webhooks

_SECRETS = tuple[Secret, ...]
_PENDING = deliveries.c.state == str(State.PENDING)


class WebhookTable:
    """See ports.webhooks.WebhookRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, webhook: Webhook, secrets: tuple[Secret, ...]) -> None:
        """Store a webhook."""
        row = {"id": webhook.id, "secrets": to_text(secrets), **_columns(webhook)}
        self._connection.execute(insert(webhooks), [row])

    def all(self) -> tuple[Webhook, ...]:
        """See ports.webhooks.WebhookRows.all."""
        found = (from_text(text, Webhook) for text in self._connection.execute(select(webhooks.c.document)).scalars())
        return tuple(sorted(found, key=lambda webhook: webhook.key))

    def get(self, id: str) -> Webhook | None:
        """The webhook of this id."""
        text = self._connection.execute(select(webhooks.c.document).where(webhooks.c.id == id)).scalar()
        return from_text(text, Webhook) if text else None

    def change(self, webhook: Webhook) -> None:
        """Store a webhook as it is now."""
        self._connection.execute(update(webhooks).where(webhooks.c.id == webhook.id).values(**_columns(webhook)))

    def remove(self, id: str) -> None:
        """See ports.webhooks.WebhookRows.remove."""
        self._connection.execute(delete(deliveries).where(deliveries.c.webhook == id))
        self._connection.execute(delete(webhooks).where(webhooks.c.id == id))

    def secrets(self, id: str) -> tuple[Secret, ...]:
        """See ports.webhooks.WebhookRows.secrets."""
        text = self._connection.execute(select(webhooks.c.secrets).where(webhooks.c.id == id)).scalar()
        return from_text(text, _SECRETS) if text else ()

    def set_secrets(self, id: str, secrets: tuple[Secret, ...]) -> None:
        """Replace the secrets of a webhook."""
        self._connection.execute(update(webhooks).where(webhooks.c.id == id).values(secrets=to_text(secrets)))

    def told(self, event: Event) -> None:
        """Put the event into the outbox of every active webhook that it concerns."""
        active = self._connection.execute(select(webhooks.c.document).where(webhooks.c.active == 1)).scalars()
        concerned = [hook for text in active if matches(hook := from_text(text, Webhook), event.entry)]
        if concerned:
            body = payload(event).decode()
            rows = [{"body": body, **_row(scheduled(webhook, event))} for webhook in concerned]
            self._connection.execute(insert(deliveries), rows)

    def due(self, *, now: str) -> bool:
        """See ports.webhooks.WebhookRows.due."""
        active = select(webhooks.c.id).where(webhooks.c.active == 1)
        query = select(deliveries.c.id).where(_PENDING, deliveries.c.due_at <= now, deliveries.c.webhook.in_(active))
        return self._connection.execute(query.limit(1)).scalar() is not None

    def claim(self, *, now: str, until: str, limit: int) -> tuple[Claimed, ...]:
        """See ports.webhooks.WebhookRows.claim; at most `limit` of each webhook."""
        found: list[Claimed] = []
        waiting = select(deliveries.c.webhook).where(_PENDING, deliveries.c.due_at <= now).distinct()
        for row in self._connection.execute(select(webhooks).where(webhooks.c.id.in_(waiting))).all():
            webhook = from_text(row.document, Webhook)
            if webhook.active:
                secrets = from_text(row.secrets, _SECRETS)
                for document, body in self._ready(webhook.id, now, limit):
                    found.append(Claimed(from_text(document, Delivery), body.encode(), webhook, secrets))
        ids = [each.delivery.id for each in found]
        self._connection.execute(update(deliveries).where(deliveries.c.id.in_(ids)).values(due_at=until))
        return tuple(found)

    def _ready(self, webhook: str, now: str, limit: int) -> list[tuple[str, str]]:
        """(document, body) of what can be sent without overtaking anything about the same thing."""
        earlier = deliveries.alias()
        overtakes = (
            select(earlier.c.id)
            .where(
                earlier.c.webhook == deliveries.c.webhook,
                earlier.c.subject == deliveries.c.subject,
                earlier.c.event < deliveries.c.event,
                earlier.c.state == str(State.PENDING),
                earlier.c.due_at > now,
            )
            .exists()
        )
        query = (
            select(deliveries.c.document, deliveries.c.body)
            .where(deliveries.c.webhook == webhook, _PENDING, deliveries.c.due_at <= now, ~overtakes)
            .order_by(deliveries.c.event)
            .limit(limit)
        )
        return [(row.document, row.body) for row in self._connection.execute(query)]

    def record(self, delivery: Delivery, *, release: tuple[str, ...] = ()) -> None:
        """See ports.webhooks.WebhookRows.record."""
        self._connection.execute(update(deliveries).where(deliveries.c.id == delivery.id).values(**_row(delivery)))
        if release:
            ours = deliveries.c.id.in_(release)
            self._connection.execute(update(deliveries).where(ours, _PENDING).values(due_at=delivery.due_at))

    def delivery(self, id: str) -> Delivery | None:
        """The delivery of this id."""
        text = self._connection.execute(select(deliveries.c.document).where(deliveries.c.id == id)).scalar()
        return from_text(text, Delivery) if text else None

    def deliveries(
        self, webhook: str, *, state: State | None = None, before: int | None = None, limit: int | None = None
    ) -> tuple[Delivery, ...]:
        """See ports.webhooks.WebhookRows.deliveries."""
        query = select(deliveries.c.document).where(deliveries.c.webhook == webhook)
        if state is not None:
            query = query.where(deliveries.c.state == str(state))
        if before is not None:
            query = query.where(deliveries.c.event < before)
        rows = self._connection.execute(query.order_by(deliveries.c.event.desc()).limit(limit)).scalars()
        return tuple(from_text(text, Delivery) for text in rows)

    def forget(self, *, before: str) -> int:
        """See ports.webhooks.WebhookRows.forget: a delivered one keeps the moment it was due last."""
        old = delete(deliveries).where(deliveries.c.state == str(State.DELIVERED), deliveries.c.due_at < before)
        return self._connection.execute(old).rowcount


def _columns(webhook: Webhook) -> dict[str, Any]:
    return {"scope": webhook.scope, "document": to_text(webhook), "active": int(webhook.active)}


def _row(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "webhook": delivery.webhook,
        "event": delivery.event,
        "subject": delivery.about,
        "state": str(delivery.state),
        "attempts": delivery.attempts,
        "due_at": delivery.due_at,
        "document": to_text(delivery),
    }
