"""Sends what waits in the outbox: one thread per server process that asks, several that post.

Any number of processes may run one: a delivery is claimed in the catalog before it is sent, and comes due again when
its claimer dies. It may then arrive twice, with the same id.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from itertools import groupby

from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.ports.webhooks import Claimed
from adapter_registry.domain.webhooks.signature import headers, live
from adapter_registry.outside import delivery
from adapter_registry.services import webhook

LOG = logging.getLogger("adapters.webhooks")
POLL_SECONDS = 0.5
THREADS = 16
"""Receivers that are told at the same time."""
HOUR_SECONDS = 3_600


class Sender:
    """Runs from `start` to `stop`."""

    def __init__(self, backend: Backend, *, allow_private: bool) -> None:
        self._backend, self._allow_private = backend, allow_private
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begin to send, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Send no further message; what is on its way is awaited as long as one attempt may take."""
        self._stopping.set()
        self._thread.join(delivery.TIMEOUT_SECONDS + 1)

    def _run(self) -> None:
        swept = time.monotonic()
        with ThreadPoolExecutor(THREADS, thread_name_prefix="webhook") as threads:
            under_way: list[Future[None]] = []
            while not self._stopping.wait(POLL_SECONDS if not under_way else 0.02):
                try:
                    if time.monotonic() - swept > HOUR_SECONDS:
                        swept = time.monotonic()
                        webhook.forget_old(self._backend)
                    under_way = [each for each in under_way if not _ended(each)]
                    if len(under_way) < THREADS:
                        claimed = webhook.claim(self._backend)
                        by_webhook = groupby(claimed, key=lambda each: each.webhook.id)
                        under_way += [threads.submit(self._tell, tuple(group)) for _, group in by_webhook]
                except RegistryError as error:
                    LOG.warning("the outbox cannot be read: %s", error.text)
                    self._stopping.wait(POLL_SECONDS * 10)

    def _tell(self, claimed: Sequence[Claimed]) -> None:
        """Send to one receiver, in order, up to the first failure: what is about the same thing must not overtake."""
        deadline = time.monotonic() + webhook.LEASE_SECONDS / 2
        for index, each in enumerate(claimed):
            rest = tuple(later.delivery.id for later in claimed[index + 1 :])
            try:
                if self._stopping.is_set() or time.monotonic() > deadline:
                    webhook.give_back(self._backend, tuple(left.delivery for left in claimed[index:]))
                    return
                if not self._sent(each, rest):
                    return
            except RegistryError as error:
                LOG.warning("what came of %s was not stored, so it is sent again: %s", each.delivery.id, error.text)
                return

    def _sent(self, claimed: Claimed, rest: tuple[str, ...]) -> bool:
        values = live(claimed.secrets, at=self._backend.clock())
        moment = int(datetime.fromisoformat(self._backend.clock()).timestamp())
        signed = headers(values, id=claimed.delivery.id, timestamp=moment, body=claimed.body)
        answer = delivery.send(claimed.webhook.url, claimed.body, signed, allow_private=self._allow_private)
        failed = bool(answer.error)
        after = webhook.report(
            self._backend,
            claimed.delivery,
            status=answer.status,
            error=answer.error,
            release=rest if failed else (),
            jitter=lambda: random.uniform(-1, 1),  # noqa: S311  spreads retries, protects nothing
        )
        if failed:
            LOG.info("%s to webhook %s is %s: %s", after.id, after.webhook, after.state, answer.error)
        return not failed


def _ended(sending: Future[None]) -> bool:
    """Whether it is over; a mistake of this program is told, and what was claimed comes due again."""
    if not sending.done():
        return False
    if error := sending.exception():
        LOG.error("sending to a webhook ended by a defect", exc_info=error)
    return True
