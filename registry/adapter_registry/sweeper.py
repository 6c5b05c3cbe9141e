"""Moves promotion requests on that time lets through: soak time that is over, freeze windows that ended."""

from __future__ import annotations

import logging
import threading

from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.ports import Backend
from adapter_registry.services import request

LOG = logging.getLogger("adapters.requests")
SWEEP_SECONDS = 5.0


class Sweeper:
    """Runs from `start` to `stop`, in any number of processes: the catalog decides who moves a request on."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="requests", daemon=True)

    def start(self) -> None:
        """Begin, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """End, once the sweep that runs is over."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(SWEEP_SECONDS):
            try:
                for moved in request.sweep(self._backend):
                    LOG.info("%s is %s", moved.name, moved.state)
            except RegistryError as error:
                LOG.warning("open requests cannot be looked at: %s", error.text)
