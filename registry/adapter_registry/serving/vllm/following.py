"""One name kept at what its reference means: asks by long poll, loads what is new, keeps what serves on failure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapter_registry.client import Registry
from adapter_registry.domain.errors import NotFound, RegistryError
from adapter_registry.serving.placing import Missing, Placed, Placing, Refused, unanswered, whole
from adapter_registry.serving.pointing import (
    LONGEST_SECONDS,
    NOTHING_SECONDS,
    POLL_SECONDS,
    WAIT_SECONDS,
    Patience,
    Pointing,
    silence,
)
from adapter_registry.serving.vllm.names import Follow
from adapter_registry.serving.vllm.releases import logger

Load = Callable[[str, Path], None]
"""Has vLLM serve a name from a folder; raises Refused."""
Serving = Callable[[str], str | None]
"""The folder that vLLM serves a name from; None where it has no such name."""
NOTHING = "it points to nothing"
LOST = "it was unloaded, or another adapter was loaded under its name"


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
        bringing: what is being downloaded, checked and loaded now; empty when nothing is.
        refused: why what it points to now does not serve, or cannot be asked; empty when all is well.
        reached_at: when the registry last answered.
    """

    name: str
    follows: str
    version: str | None = None
    digest: str | None = None
    base: str | None = None
    move: int | None = None
    bringing: str = ""
    refused: str = ""
    reached_at: str | None = None


class Following:
    """Follows one reference; `step` asks once, `run` for ever. `mend` is called meanwhile, from another thread."""

    def __init__(
        self,
        follow: Follow,
        registry: Registry,
        placing: Placing,
        load: Load,
        *,
        serving: Serving | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        """Follow a name.

        Args:
            follow: the name, and what it follows.
            registry: that is asked.
            placing: brings versions.
            load: has vLLM serve one.
            serving: what vLLM serves, where it can be asked.
            clock: seconds, for what is tried again.
            wait_seconds: how long one question waits for a move.
        """
        self._follow, self._placing, self._load = follow, placing, load
        self._patience, self._mends = Patience(clock), Patience(clock)
        self._pointing = Pointing(follow.reference, registry, wait_seconds=wait_seconds)
        self._line = Line(follow.name, str(follow.reference))
        self._serving, self._silent = serving, 0
        self._placed: Placed | None = None
        self._unmended = ""
        self._loading = threading.Lock()

    def status(self) -> dict[str, Any]:
        """What is known, JSON types only."""
        line = self._line
        if line.digest is not None and not self._there():
            line = replace(line, version=None, digest=None, base=None, refused=self._unmended or line.refused or LOST)
        return asdict(line)

    def lost(self) -> bool:
        """Whether what was loaded last was unloaded, or another adapter loaded under its name."""
        return self._line.digest is not None and not self._follow.adopted and not self._there()

    def mend(self) -> None:
        """Load what was lost again; the answer to the next question may be long in coming.

        It is asked for anew, because it may have been revoked; a registry that does not answer is not waited for.
        """
        with self._loading:
            digest = self._line.digest
            if digest and self.lost() and not self._mends.waits(digest):
                self._mend(digest)

    def _mend(self, digest: str) -> None:
        before, there = self._placed, f"{self._follow.reference.adapter}@{digest}"
        try:
            try:
                self._serve(self._placing.place(there))
            except Refused as refused:
                if before is None or not refused.passing or not whole(before):
                    raise
                self._serve(before)
        except (Missing, Refused) as error:
            self._unmended = self._failed(error, digest, self._mends)
        else:
            self._mends.over()
            self._unmended = ""

    def _there(self) -> bool:
        """Whether vLLM serves the name from what was loaded last."""
        folder = None if self._placed is None else str(self._placed.folder)
        return self._serving is None or self._serving(self._follow.name) == folder

    def run(self) -> None:
        """Follow until the process ends; for a thread of its own."""
        while True:
            try:
                seconds = self.step()
            except Exception:  # noqa: BLE001  a defect here must not leave the name unfollowed
                logger.exception("adapters: %s", self._line.name)
                self._line.refused = "what went wrong is in this server's log"
                seconds = LONGEST_SECONDS
            time.sleep(seconds)

    def step(self) -> float:
        """Ask once, waiting for a move, and do what follows; seconds to wait before the next question."""
        try:
            exact, digest = self._pointing.ask(longest=self._patience.left())
        except RegistryError as error:
            return self._unanswered(error)
        self._silent, self._line.reached_at = 0, datetime.now(UTC).isoformat(timespec="seconds")
        self._line.move, pause = self._pointing.move, self._pointing.pause
        if self._follow.adopted and self._serving is not None and self._serving(self._follow.name) is None:
            self._line.version = self._line.digest = self._line.base = None
            self._line.refused = "it was unloaded"
            return max(pause, POLL_SECONDS)
        with self._loading:
            if digest == self._line.digest:
                self._line.refused = ""
                self._patience.over()
                if not self._there() and not self._mends.waits(digest):
                    self._mend(digest)
            elif not self._patience.waits(digest):
                self._replace(exact, digest)
        return pause

    def _unanswered(self, error: RegistryError) -> float:
        name = self._line.name
        if isinstance(error, NotFound):
            if self._line.refused != NOTHING:
                logger.warning("adapters: %s points to nothing that this server's token may read: %s", name, error.text)
            self._line.refused = NOTHING
            return NOTHING_SECONDS
        if not self._silent:
            logger.warning("adapters: %s is not followed for now: %s", name, error.text)
        self._silent += 1
        self._line.refused = unanswered(error)
        return silence(self._silent - 1)

    def _replace(self, exact: str, digest: str) -> None:
        """Serve another version under the name; on any failure the one before goes on serving."""
        self._line.bringing = exact
        try:
            self._serve(self._placing.place(exact))
        except (Missing, Refused) as error:
            self._line.refused = self._failed(error, digest, self._patience)
        else:
            self._patience.over()
            self._line.refused = self._unmended = ""
        finally:
            self._line.bringing = ""

    def _serve(self, placed: Placed) -> None:
        self._load(self._follow.name, placed.folder)
        version, self._placed = placed.version, placed
        self._line.version, self._line.digest, self._line.base = version.reference, version.digest, version.base
        logger.info("adapters: %s is %s (%s) now.", self._line.name, version.reference, version.digest)

    def _failed(self, error: Missing | Refused, digest: str, patience: Patience) -> str:
        """Why it does not serve, once that is logged and it was noted when to try again."""
        text = str(error) if isinstance(error, Refused) else "it is not there any more, or was revoked"
        patience.refused(digest, passing=isinstance(error, Refused) and error.passing)
        version = self.status()["version"]
        kept = f"{version} goes on serving" if version else "nothing serves"
        logger.warning("adapters: %s: %s; %s.", self._line.name, text, kept)
        return text
