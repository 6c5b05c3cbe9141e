"""Does what time lets through: moves requests on, promotes where a policy says so, verifies pointers again."""

from __future__ import annotations

import logging
import threading
import time

from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.ports import Backend
from adapter_registry.services import auto, request, reverify

LOG = logging.getLogger("adapters.requests")
SWEEP_SECONDS = 5.0
REVERIFY_SECONDS = 3600.0
"""How often pointers that are due are looked at."""


class Sweeper:
    """Runs from `start` to `stop`, in any number of processes: the catalog decides who moves a request on."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="requests", daemon=True)
        self._followed = -1
        self._verified = -REVERIFY_SECONDS

    def start(self) -> None:
        """Begin, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """End, once the sweep that runs is over."""
        self._stopping.set()
        self._thread.join()

    def sweep(self) -> None:
        """Once: everything there is to do now."""
        for moved in request.sweep(self._backend):
            LOG.info("%s is %s", moved.name, moved.state)
        with self._backend.catalog.reading() as tx:
            newest = tx.events.newest()
        if newest != self._followed:
            for found in auto.follow(self._backend):
                LOG.info("%s -> %s by itself: %s", found.version.reference, found.stage, found.decision.outcome)
            self._followed = newest
        if time.monotonic() - self._verified >= REVERIFY_SECONDS:
            reverify.sweep(self._backend)
            self._verified = time.monotonic()

    def _run(self) -> None:
        while not self._stopping.wait(SWEEP_SECONDS):
            try:
                self.sweep()
            except RegistryError as error:
                LOG.warning("open requests cannot be looked at: %s", error.text)
