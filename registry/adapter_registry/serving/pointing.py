"""What a reference means, asked again and again: a stage by long poll and signed pointer, anything else by asking."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from adapter_registry.client import Registry
from adapter_registry.domain.errors import NotFound, RegistryError
from adapter_registry.domain.names import STAGE_NAMES
from adapter_registry.domain.promotions.stage import of_place
from adapter_registry.domain.reference import Kind, Reference
from adapter_registry.settings import Settings

WAIT_SECONDS = 25.0
"""How long one question for a stage's next move waits."""
POLL_SECONDS = 5.0
"""How often a reference that is no stage is asked about: tags and ranges move without a signed pointer."""
ANSWER_SECONDS = 20.0
"""How long the registry may say nothing, beyond what it was asked to wait, before it counts as not answering."""
NOTHING_SECONDS = 2.0
"""How often it is asked about what points to nothing: nobody can wait for its first move."""
FIRST_SECONDS, LONGEST_SECONDS = 1.0, 30.0
"""How long the registry is left alone when it does not answer: doubled each time."""
AGAIN_SECONDS, RARELY_SECONDS = 30.0, 900.0
"""When a version that was refused is tried again, should nothing move: doubled each time. One that could not be brought
because the registry or the disk failed is tried again as a silent registry is."""


def impatient(settings: Settings) -> Settings:
    """For a client that goes on asking for ever: a connection that died without a word must not be waited for long."""
    return replace(settings, answer_seconds=ANSWER_SECONDS)


class Pointing:
    """One reference; `ask` waits for its next move once it was asked before."""

    def __init__(self, wanted: Reference, registry: Registry, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._wanted, self._registry, self._wait = wanted, registry, wait_seconds
        self._staged = wanted.kind is Kind.NAME and of_place(wanted.selector) in STAGE_NAMES
        self.move: int | None = None

    @property
    def pause(self) -> float:
        """Seconds to leave between two questions."""
        return 0.0 if self._staged else POLL_SECONDS

    def ask(self, *, longest: float = math.inf) -> tuple[str, str]:
        """(exact reference, digest) of what it means now; a stage by its signed pointer, once it moved on.

        Args:
            longest: seconds to wait for its next move at most.
        """
        wanted = self._wanted
        if not self._staged:
            version = self._registry.resolve(str(wanted))
            # A name may be that of a stage that was declared there, or of a lane; it stays one.
            self._staged = wanted.kind is Kind.NAME and wanted.selector in version.stages
            return f"{version.adapter}@{version.digest}", version.digest
        wait = min(self._wait, longest)
        pointer = self._registry.pointer(wanted.adapter, wanted.selector, after=self.move, wait_seconds=wait)
        self.move = pointer.sequence
        return pointer.reference, pointer.digest


class Moves:
    """Wakes whoever waits once it is known what references mean, when one moves, and when the registry is back."""

    def __init__(
        self, references: Iterable[Reference], registry: Registry, *, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self._moved = threading.Event()
        for each in sorted(set(references), key=str):
            pointing = Pointing(each, registry, wait_seconds=wait_seconds)
            threading.Thread(target=self._watch, args=(pointing,), name=f"adapters-{each}", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Whether something moved within that time, or since the last wait."""
        moved = self._moved.wait(seconds)
        self._moved.clear()
        return moved

    def _watch(self, pointing: Pointing) -> None:
        known, silent = "", 0
        while True:
            try:
                _, digest = pointing.ask()
            except NotFound:
                time.sleep(NOTHING_SECONDS)
            except RegistryError:
                time.sleep(silence(silent))
                silent += 1
            else:
                if digest != known or silent:
                    self._moved.set()
                known, silent = digest, 0
                time.sleep(pointing.pause)


class Patience:
    """Which version was refused, and when it is tried again: ever more rarely."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._digest, self._tries, self._again = clock, "", 0, 0.0

    def waits(self, digest: str) -> bool:
        """Whether it is too early to try a version again."""
        return digest == self._digest and self._clock() < self._again

    def left(self) -> float:
        """Seconds until a refused version may be tried again; infinite where none was refused."""
        return max(self._again - self._clock(), 0.0) if self._digest else math.inf

    def refused(self, digest: str, *, passing: bool = False) -> None:
        """A version was not taken; `passing` says nothing of it: the registry, a server or the disk failed."""
        self._tries = min(self._tries + 1, 10) if digest == self._digest else 0
        first, longest = (FIRST_SECONDS, LONGEST_SECONDS) if passing else (AGAIN_SECONDS, RARELY_SECONDS)
        self._digest, self._again = digest, self._clock() + min(first * 2.0**self._tries, longest)

    def over(self) -> None:
        """What is meant serves."""
        self._digest = ""


def silence(times: int) -> float:
    """Seconds to leave the registry alone after it did not answer so many times before; servers do not ask in step."""
    return min(FIRST_SECONDS * 2.0 ** min(times, 10), LONGEST_SECONDS) * random.uniform(0.8, 1.2)  # noqa: S311
