"""What the catalog keeps of webhooks: the outbox that events fall into, and what sending them came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from adapter_registry.domain.webhooks.signature import Secret
from adapter_registry.domain.webhooks.webhook import Delivery, State, Webhook


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that the caller is to send now, what is posted, and where and signed with what."""

    delivery: Delivery
    body: bytes
    webhook: Webhook
    secrets: tuple[Secret, ...]


class WebhookRows(Protocol):
    """Webhooks and their deliveries; `EventRows.append` adds the deliveries of each event in its transaction."""

    def add(self, webhook: Webhook, secrets: tuple[Secret, ...]) -> None: ...

    def all(self) -> tuple[Webhook, ...]:
        """Oldest first."""

    def get(self, id: str) -> Webhook | None: ...

    def change(self, webhook: Webhook) -> None: ...

    def remove(self, id: str) -> None:
        """Forget a webhook, its secrets and its deliveries."""

    def secrets(self, id: str) -> tuple[Secret, ...]:
        """Newest first."""

    def set_secrets(self, id: str, secrets: tuple[Secret, ...]) -> None: ...

    def due(self, *, now: str) -> bool:
        """Whether anything waits to be sent."""

    def claim(self, *, now: str, until: str, limit: int) -> tuple[Claimed, ...]:
        """What is to be sent now, by webhook and in the order of events; nobody else is given it before `until`.

        A delivery whose predecessor about the same thing still waits to be tried again waits with it.
        """

    def record(self, delivery: Delivery, *, release: tuple[str, ...] = ()) -> None:
        """Store what came of an attempt; the claimed deliveries `release` are due when this one is."""

    def delivery(self, id: str) -> Delivery | None: ...

    def deliveries(
        self, webhook: str, *, state: State | None = None, before: int | None = None, limit: int | None = None
    ) -> tuple[Delivery, ...]:
        """Newest first, beginning below the event `before`."""

    def forget(self, *, before: str) -> int:
        """Drop what was delivered before a moment; how many."""
