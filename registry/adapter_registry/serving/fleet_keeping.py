"""A fleet kept at what references mean, and what came of it told to the registry.

It is driven by what is so, not by what happened: whatever was missed while it was down, or while the registry was, is
done at the next look.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from adapter_registry.domain.errors import RegistryError, ServerUnreachable, StoreUnavailable, TooSlow, Unauthorised
from adapter_registry.serving.deploy_record import Deployed
from adapter_registry.serving.deploying import Deploying, Line
from adapter_registry.serving.fleet_file import Fleet
from adapter_registry.serving.pointing import Patience
from adapter_registry.serving.telling import tell

logger = logging.getLogger("adapter_registry.serving")
PASSING = (ServerUnreachable, StoreUnavailable, TooSlow, Unauthorised)
"""Failures of the registry, a replica or the disk: they say nothing of a version."""


class FleetKeeping:
    """Keeps the names of one fleet; `step` looks once."""

    def __init__(self, fleet: Fleet, deploying: Deploying, *, clock: Callable[[], float]) -> None:
        self._fleet, self._deploying, self._registry = fleet, deploying, deploying.registry
        self._patience = {name: Patience(clock) for name in fleet.serve}
        self._untold = ""

    def step(self) -> tuple[Line, ...]:
        """Load again what replicas forgot, then deploy what references mean now and the fleet does not serve.

        Raises:
            Conflict: another process deploys from this root.
            StoreUnavailable: the root cannot be written.
        """
        lines: dict[str, list[Line]] = {name: [] for name in self._fleet.serve}
        for line in self._deploying.reconcile():
            lines.setdefault(line.name, []).append(line)
        deployed = self._deploying.deployed()
        for name, reference in self._fleet.serve.items():
            came = self._kept(name, reference, deployed.get(name))
            if came is None:
                continue  # what was told is that another version was refused, and still is
            lines[name] = came or lines[name]
            if lines[name] and lines[name][0].version:
                self._tell(name, lines[name], follows=reference)
        return tuple(line for each in lines.values() for line in each)

    def left(self) -> float:
        """Seconds until what was not taken may be tried again; infinite where everything was."""
        return min((each.left() for each in self._patience.values()), default=math.inf)

    def _kept(self, name: str, reference: str, known: Deployed | None) -> list[Line] | None:
        """What came of deploying what a reference means now; [] where that is deployed, None where it is to wait."""
        patience = self._patience[name]
        try:
            version = self._registry.resolve(reference)
        except RegistryError as error:
            # What is deployed goes on serving, and comes back to replicas that restart, without the registry.
            return [] if known else [Line("", name, "unknown", why=error.text)]
        if known is not None and known.digest == version.digest:
            patience.over()
            return []
        if patience.waits(version.digest):
            return None
        try:
            lines = list(self._deploying.deploy(f"{version.adapter}@{version.digest}", name))
        except RegistryError as error:
            passing = isinstance(error, PASSING)
            lines = [Line("", name, "refused", why=error.text, version=version.reference, passing=passing)]
        if all(line.good for line in lines):
            patience.over()
        else:
            patience.refused(version.digest, passing=any(line.passing for line in lines))
        return lines

    def _tell(self, name: str, lines: list[Line], *, follows: str) -> None:
        try:
            tell(self._registry, self._fleet, name, lines, follows=follows)
            self._untold = ""
        except RegistryError as error:
            if error.code != self._untold:
                logger.warning("what came of %s was not told to the registry: %s", name, error.text)
            self._untold = error.code
