"""How far fleets of servers serve versions, as those who deploy to them told it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import InvalidInput

MOST_REPLICAS = 1_000
LONGEST_NAME, LONGEST_TEXT = 90, 500
SERVING = ("moved", "there", "loaded again")
"""Outcomes of a replica that serves what was deployed."""


@dataclass(frozen=True, slots=True)
class Replica:
    """What came of a deployment on one server.

    Attributes:
        url: its address.
        outcome: moved, there, loaded again, restored, refused, untouched, drifted, missing or silent.
        serves: the path that it serves the name from; empty for none.
        why: of anything but the first three.
    """

    url: str
    outcome: str
    serves: str = ""
    why: str = ""

    @property
    def good(self) -> bool:
        """Whether it serves what was deployed."""
        return self.outcome in SERVING


@dataclass(frozen=True, slots=True)
class Deployment:
    """A name on a fleet, as it was told last.

    Attributes:
        fleet: what its document calls it.
        name: that requests use.
        follows: the reference that it is kept at, `team/sql-lora@prod`; the version itself where it is kept at none.
        version: `team/sql-lora@v7`, which was to be served.
        digest: of that version.
        replicas: what came of it on each.
        because: why nothing was moved at all; empty where something was.
        by: who told it.
        at: when, ISO 8601 in UTC.
        meant: what `follows` means now, `team/sql-lora@v8`; empty for nothing.
    """

    fleet: str
    name: str
    follows: str
    version: str
    digest: Digest
    replicas: tuple[Replica, ...]
    because: str
    by: str
    at: str
    meant: str = ""

    @property
    def good(self) -> bool:
        """Whether every replica serves the version that is meant."""
        return not self.because and self.meant == self.version and all(each.good for each in self.replicas)


def check(*, fleet: str, name: str, replicas: Sequence[Replica], because: str) -> None:
    """Refuse what is no report; raises InvalidInput."""
    if not (0 < len(fleet) <= LONGEST_NAME and 0 < len(name) <= LONGEST_NAME):
        raise InvalidInput(f"a fleet and a name have 1 to {LONGEST_NAME} characters.")
    if len(replicas) > MOST_REPLICAS or not (replicas or because):
        raise InvalidInput(f"a report is of 1 to {MOST_REPLICAS:,} replicas, or says why nothing was moved.")
    texts = (because, *(text for each in replicas for text in (each.url, each.outcome, each.serves, each.why)))
    if (longest := max(map(len, texts))) > LONGEST_TEXT:
        raise InvalidInput(f"a report's texts have {LONGEST_TEXT} characters at most, not {longest}.")
