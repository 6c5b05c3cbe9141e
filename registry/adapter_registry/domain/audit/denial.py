"""Denials: refusals for want of rights, on the record without letting who is refused fill the log."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from adapter_registry.domain.bucket import Bucket

BURST = 20
"""Denials of one account that are written down at once."""
REFILL_SECONDS = 60.0
"""After as long as this, one more is."""
AGAIN_SECONDS = 600.0
"""The same denial once more is only counted for as long as this."""
MOST_ACCOUNTS = 1_000
"""Accounts that are told apart; those that asked longest ago are forgotten."""


@dataclass(slots=True)
class _Caller:
    bucket: Bucket
    unrecorded: int = 0
    told: dict[tuple[str, str], float] = field(default_factory=dict)


class Denials:
    """Which denials of this process go on the record; the rest are counted, and told with the next one that does."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` answers seconds that never go back."""
        self._clock, self._lock = clock, Lock()
        self._callers: OrderedDict[str, _Caller] = OrderedDict()

    def due(self, who: str, action: str, subject: str) -> int | None:
        """How many of this account's denials were left out since the last, when this one is written; None: left out."""
        now = self._clock()
        with self._lock:
            caller = self._callers.setdefault(who, _Caller(Bucket(BURST, REFILL_SECONDS, now, BURST)))
            self._callers.move_to_end(who)
            if len(self._callers) > MOST_ACCOUNTS:
                self._callers.popitem(last=False)
            caller.told = {each: at for each, at in caller.told.items() if now - at < AGAIN_SECONDS}
            if caller.bucket.wait(now) > 0 or (action, subject) in caller.told:
                caller.unrecorded += 1
                return None
            caller.bucket.left -= 1
            caller.told[action, subject] = now
            left_out, caller.unrecorded = caller.unrecorded, 0
            return left_out
