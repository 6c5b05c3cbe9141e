"""What jobs need from the outside world: their rows, the engine that carries them out, and what a kind checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.job import Job, LogLine, Run, State


class JobRows(Protocol):
    """Jobs, what workers say of them, and their logs."""

    def put(self, job: Job, *, sent: bool | None = None) -> None:
        """Store a job, new or changed; `sent` says whether the engine knows of it, None leaves that as it is."""

    def get(self, id: str) -> Job | None: ...

    def all(
        self, *, state: State | None = None, before: str | None = None, limit: int | None = None
    ) -> tuple[Job, ...]:
        """Newest first, beginning below the job `before`."""

    def about(self, digests: Sequence[Digest], *, limit: int) -> tuple[Job, ...]:
        """Jobs that work on all of these versions or made them, newest first."""

    def unsent(self, queues: Iterable[str]) -> tuple[Job, ...]:
        """Open jobs that the engine does not know of yet, oldest first."""

    def open(self) -> tuple[Job, ...]:
        """Jobs that have not ended."""

    def run(self, id: str) -> Run | None: ...

    def put_run(self, run: Run) -> None: ...

    def say(self, job: str, texts: Sequence[str], *, at: str) -> None:
        """Add lines to a job's log; the oldest are forgotten."""

    def log(self, job: str, *, after: int = 0, limit: int | None = None) -> tuple[LogLine, ...]: ...

    def keep(self, job: str, digests: Iterable[Digest]) -> None:
        """Bytes that stay as long as the job is known."""

    def kept(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """Those of `digests` that a job keeps."""

    def forget(self, *, before: str) -> int:
        """Drop jobs that ended before a moment, with all that belongs to them; how many."""


class Steps(Protocol):
    """How a run goes on where the worker before it ended."""

    def once(self, name: str, do: Callable[[], Any]) -> Any:
        """What `do` answers, or what it answered when it was done before this worker began; JSON types only."""

    def all_of(self, parts: Mapping[str, str]) -> list[Any]:
        """What came of these parts, each carried out by whichever worker is free; in order.

        Args:
            parts: run -> what the part is called.
        """


Work = Callable[[str, Steps], Any]
"""Carries out the run of a name."""
PartWork = Callable[[str, str, Steps], Any]
"""Carries out the run of a name, which is the part that is called by the second."""


class Queue(Protocol):
    """The engine: gives each run to one worker at a time, and to another when that one is gone."""

    def start(self, job: Work, part: PartWork) -> None:
        """Begin to take runs; `job` and `part` are called in threads of this process."""

    def add(self, run: str, *, queue: str, priority: int) -> None:
        """Have a run carried out; nothing happens when it was added before."""

    def state(self, run: str) -> str:
        """`waiting`, `held`, `over`, or `unknown`."""

    def take_over(self, *, stale: Callable[[str], bool]) -> tuple[str, ...]:
        """Give the runs of workers that are gone, and runs that `stale` names, to others; which they are."""

    def lost(self) -> bool:
        """Whether others may take this worker for gone."""
