"""One name kept at what its reference means: asks by long poll, loads what is new, keeps what serves on failure."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapter_registry.client import Registry
from adapter_registry.domain.errors import NotFound, RegistryError
from adapter_registry.domain.names import STAGE_NAMES
from adapter_registry.domain.reference import Kind
from adapter_registry.domain.stage import of_place
from adapter_registry.serving.placing import Missing, Placing, Refused
from adapter_registry.serving.vllm.names import Follow
from adapter_registry.serving.vllm.releases import logger

WAIT_SECONDS = 25.0
"""How long one question for a stage's next move waits."""
POLL_SECONDS = 5.0
"""How often a reference that is no stage is asked about: tags and ranges move without a signed pointer."""
FIRST_SECONDS, LONGEST_SECONDS = 1.0, 30.0
"""How long the registry is left alone when it does not answer: doubled each time."""
AGAIN_SECONDS, RARELY_SECONDS = 30.0, 900.0
"""When a version that was refused is tried again, should nothing move: doubled each time. One that could not be brought
because the registry or the disk failed is tried again as a silent registry is."""

Load = Callable[[str, Path], None]
"""Has vLLM serve a name from a folder; raises Refused."""


@dataclass(slots=True)
class Line:
    """What is known of a followed name, for the status route.

    Attributes:
        name: that vLLM serves it by.
        follows: the reference.
        version: what serves, `team/sql-lora@v3`; None while nothing does.
        digest: of that version.
        base: digest of the base that it is locked to, and that was found running.
        move: of the stage, the last that was seen.
        refused: why what it points to now does not serve, or cannot be asked; empty when all is well.
        reached_at: when the registry last answered.
    """

    name: str
    follows: str
    version: str | None = None
    digest: str | None = None
    base: str | None = None
    move: int | None = None
    refused: str = ""
    reached_at: str | None = None


class Following:
    """Follows one reference; `step` asks once, `run` for ever."""

    def __init__(
        self,
        follow: Follow,
        registry: Registry,
        placing: Placing,
        load: Load,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._follow, self._registry, self._placing, self._load = follow, registry, placing, load
        self._clock, self._wait = clock, wait_seconds
        self._line = Line(follow.name, str(follow.reference))
        wanted = follow.reference
        self._staged = wanted.kind is Kind.NAME and of_place(wanted.selector) in STAGE_NAMES
        self._silent, self._tries, self._again, self._refused = 0, 0, 0.0, ""

    def status(self) -> dict[str, Any]:
        """What is known, JSON types only."""
        return asdict(self._line)

    def run(self) -> None:
        """Follow until the process ends; for a thread of its own."""
        while True:
            try:
                seconds = self.step()
            except Exception:  # noqa: BLE001  a defect here must not leave the name unfollowed
                logger.exception("adapters: %s", self._line.name)
                seconds = LONGEST_SECONDS
            time.sleep(seconds)

    def step(self) -> float:
        """Ask once, waiting for a move, and do what follows; seconds to wait before the next question."""
        try:
            exact, digest = self._asked()
        except RegistryError as error:
            return self._unanswered(error)
        self._silent, self._line.reached_at = 0, datetime.now(UTC).isoformat(timespec="seconds")
        pause = 0.0 if self._staged else POLL_SECONDS
        if digest == self._line.digest:
            self._line.refused, self._refused = "", ""
            return pause
        if digest == self._refused and self._clock() < self._again:
            return pause
        self._replace(exact, digest)
        return pause

    def _asked(self) -> tuple[str, str]:
        """(exact reference, digest) of what it means now; a stage by its signed pointer, once it moved on."""
        wanted = self._follow.reference
        if not self._staged:
            version = self._registry.resolve(str(wanted))
            # A name may be that of a stage that was declared there, or of a lane; it stays one.
            self._staged = wanted.kind is Kind.NAME and wanted.selector in version.stages
            return f"{version.adapter}@{version.digest}", version.digest
        wait = self._wait if not self._refused else min(self._wait, max(self._again - self._clock(), 0.0))
        pointer = self._registry.pointer(wanted.adapter, wanted.selector, after=self._line.move, wait_seconds=wait)
        self._line.move = pointer.sequence
        return pointer.reference, pointer.digest

    def _unanswered(self, error: RegistryError) -> float:
        if isinstance(error, NotFound):
            self._line.refused = "it points to nothing"
            return POLL_SECONDS
        seconds = min(FIRST_SECONDS * float(2**self._silent), LONGEST_SECONDS)
        if not self._silent:
            logger.warning("adapters: %s is not followed for now: %s", self._line.name, error.text)
        self._silent = min(self._silent + 1, 10)
        self._line.refused = f"the registry was not understood or does not answer ({error.code})"
        return seconds * random.uniform(0.8, 1.2)  # noqa: S311  so that servers do not ask in step

    def _replace(self, exact: str, digest: str) -> None:
        """Serve another version under the name; on any failure the one before goes on serving."""
        try:
            placed = self._placing.place(exact)
            self._load(self._follow.name, placed.folder)
        except (Missing, Refused) as error:
            text = str(error) if isinstance(error, Refused) else "it is not there any more, or was revoked"
            self._tries = min(self._tries + 1, 10) if digest == self._refused else 0
            passing = isinstance(error, Refused) and error.passing
            first, longest = (FIRST_SECONDS, LONGEST_SECONDS) if passing else (AGAIN_SECONDS, RARELY_SECONDS)
            self._again = self._clock() + min(first * 2**self._tries, longest)
            self._refused, self._line.refused = digest, text
            kept = self._line.version or "nothing"
            logger.warning("adapters: %s: %s; %s goes on serving.", self._line.name, text, kept)
            return
        version = placed.version
        self._line.version, self._line.digest, self._line.base = version.reference, version.digest, version.base
        self._line.refused, self._refused = "", ""
        logger.info("adapters: %s is %s (%s) now.", self._line.name, version.reference, digest)
