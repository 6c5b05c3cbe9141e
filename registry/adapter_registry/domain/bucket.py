"""Bucket: so many at once, then one more each while; what a flood is held against."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """What one caller has left.

    Attributes:
        size: how many there are at most.
        refill_seconds: after as long as this, there is one more.
        at: when it was looked at last, in seconds of a clock that never goes back.
        left: how many there were then.
    """

    size: int
    refill_seconds: float
    at: float
    left: float

    def wait(self, now: float) -> float:
        """Seconds until there is one; 0 when there is."""
        self.left = min(self.size, self.left + (now - self.at) / self.refill_seconds)
        self.at = now
        return max(0.0, (1 - self.left) * self.refill_seconds)
