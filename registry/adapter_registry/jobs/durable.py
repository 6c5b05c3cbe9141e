"""A job as a worker carries it out: in steps, each done once, whichever worker does it; published by one alone."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from adapter_registry.checkpoints.confined import Limits
from adapter_registry.client import Registry
from adapter_registry.domain.digest import parse
from adapter_registry.domain.errors import RegistryError, StoreBusy, StoreUnavailable, Taken
from adapter_registry.domain.job import Progress
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.ports.jobs import Steps
from adapter_registry.jobs.checking import guarded, kind_of
from adapter_registry.jobs.computing import Ears, Task, computed
from adapter_registry.jobs.kind import OUT, Divisible, Kind, Kinds
from adapter_registry.jobs.scratch import Scratch
from adapter_registry.services import running
from adapter_registry.services.running import FencedCatalog, Held
from adapter_registry.settings import Settings

LOG = logging.getLogger("adapters.jobs")
BEAT_SECONDS = 1.0
PATIENCE_SECONDS = 600.0
"""How long a worker waits for a catalog that cannot be reached before it gives up what it does."""
Answer = TypeVar("Answer")


def patient(ask: Callable[[], Answer], *, seconds: float = PATIENCE_SECONDS) -> Answer:
    """What `ask` answers, asked again while the store is busy or cannot be reached."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except (StoreBusy, StoreUnavailable):
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)


class Pulse:
    """Says each second that a run's worker lives and what it does; hears that it was cancelled or taken over."""

    def __init__(self, backend: Backend, held: Held) -> None:
        self._backend, self._held = backend, held
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._progress: Progress | None = None
        self._lines: list[str] = []
        self._taken: RegistryError | None = None
        self._thread = threading.Thread(target=self._run, name=f"pulse-{held.run}", daemon=True)

    def report(self, progress: Progress) -> None:
        """How far it is."""
        with self._lock:
            self._progress = progress

    def say(self, text: str) -> None:
        """A line for the job's log."""
        with self._lock:
            self._lines = [*self._lines[-999:], text]

    def stopped(self) -> None:
        """Raises Taken when this worker's work on the run counts no more."""
        if self._taken is not None:
            raise self._taken

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Beats until the block ends, and once more."""
        self._thread.start()
        try:
            yield
        finally:
            self._ended.set()
            self._thread.join()
            self._beat()

    def _run(self) -> None:
        while not self._ended.wait(BEAT_SECONDS) and self._taken is None:
            self._beat()

    def _beat(self) -> None:
        with self._lock:
            progress, self._progress, lines, self._lines = self._progress, None, self._lines, []
        try:
            running.beat(self._backend, self._held, progress=progress, lines=lines)
        except Taken as error:
            self._taken = error
        except RegistryError as error:  # the store is busy or away: the next beat tells it
            LOG.warning("job %s: %s", self._held.job.id, error.text)
            with self._lock:
                self._progress, self._lines = self._progress or progress, [*lines, *self._lines]


@dataclass(frozen=True, slots=True)
class Carrier:
    """Carries jobs and parts out, in a worker.

    Attributes:
        settings: of the worker.
        backend: the registry, unfenced.
        kinds: of work.
        worker: its name.
    """

    settings: Settings
    backend: Backend
    kinds: Kinds
    worker: str
    _held: dict[str, Held] = field(default_factory=dict)
    _computing: threading.Lock = field(default_factory=threading.Lock)
    """Held by what computes: one at a time on a device."""

    def under_way(self) -> tuple[Held, ...]:
        """What this worker has begun with and not ended."""
        return tuple(self._held.copy().values())

    def job(self, run: str, steps: Steps) -> None:
        """One round of a job, from wherever the worker before it came to."""
        held = self._begun(run)
        if held is None:
            return
        pulse = Pulse(self.backend, held)
        pulse.say(f"worker {self.worker} begins, attempt {held.attempt}")
        with self._ending(held):
            with pulse.beating():
                result = self._carried_out(held, steps, pulse)
            files = [parse(digest) for digest in result.get("files", ())]
            patient(lambda: running.finish(self.backend, held, result=result, files=files))
            self._scratch(held).remove()

    def part(self, run: str, name: str, steps: Steps) -> dict[str, Any] | None:
        """The part `name` of a job; what came of it, None when the job came to an end meanwhile."""
        held = self._begun(run)
        if held is None:
            return None
        pulse = Pulse(self.backend, held)
        outcome: dict[str, Any] | None = None
        with self._ending(held):
            with pulse.beating():
                kind, scratch = kind_of(held.job.recipe, self.kinds), self._scratch(held)
                outcome = steps.once("compute", lambda: self._part(held, kind, scratch, pulse, name))
                pulse.report(Progress(1.0))
            patient(lambda: running.let_go(self.backend, held))
        return outcome

    def _begun(self, run: str) -> Held | None:
        held = patient(lambda: running.begin(self.backend, run=run, worker=self.worker))
        if held is not None:
            self._held[run] = held
        return held

    def _carried_out(self, held: Held, steps: Steps, pulse: Pulse) -> dict[str, Any]:
        recipe, scratch = held.job.recipe, self._scratch(held)
        kind = kind_of(recipe, self.kinds)
        steps.once("gather", lambda: self._gathered(held, kind, scratch))
        pulse.stopped()
        names = steps.once("parts", lambda: self._parts(held, kind, scratch, pulse))
        outcomes = self._shared_out(held, steps, pulse, names) if len(names) > 1 else {}
        made = steps.once("compute", lambda: self._made(held, kind, scratch, pulse, outcomes))
        result: dict[str, Any] = steps.once(
            "publish", lambda: self._published(held, kind, scratch, pulse, outcomes, made)
        )
        return result

    def _gathered(self, held: Held, kind: Kind, scratch: Scratch) -> None:
        registry, recipe = self._registry(held), held.job.recipe
        scratch.gather(lambda place: kind.gather(registry, recipe, place))

    def _parts(self, held: Held, kind: Kind, scratch: Scratch, pulse: Pulse) -> list[str]:
        if not isinstance(kind, Divisible):
            return []
        place = self._place(held, kind, scratch)
        try:
            names: list[str] = self._computed(Task(kind, held.job.recipe, place, "parts"), pulse)
            return names
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _shared_out(self, held: Held, steps: Steps, pulse: Pulse, names: list[str]) -> dict[str, Any]:
        pulse.report(Progress(0.0, f"0 of {len(names)} parts", parts=len(names)))
        found = steps.all_of({f"{held.run}.{index}": name for index, name in enumerate(names)})
        pulse.stopped()
        if None in found:
            raise Taken(f"job {held.job.id} came to an end while its parts were computed.")
        return dict(zip(names, found, strict=True))

    def _part(self, held: Held, kind: Kind, scratch: Scratch, pulse: Pulse, name: str) -> dict[str, Any]:
        place = self._place(held, kind, scratch)
        outcome: dict[str, Any] = self._computed(Task(kind, held.job.recipe, place, "part", name), pulse)
        scratch.part(place, name)
        return outcome

    def _made(self, held: Held, kind: Kind, scratch: Scratch, pulse: Pulse, outcomes: dict[str, Any]) -> dict[str, Any]:
        """What was computed, and in which folder of the scratch."""
        for name in outcomes:
            if not scratch.has_part(name):  # another machine made it, and the scratch is not shared
                self._part(held, kind, scratch, pulse, name)
        place = self._place(held, kind, scratch)
        do = "join" if outcomes else "compute"
        outcome = self._computed(Task(kind, held.job.recipe, place, do, outcomes=outcomes), pulse)
        return {"place": place.name, "outcome": outcome}

    def _published(
        self, held: Held, kind: Kind, scratch: Scratch, pulse: Pulse, outcomes: dict[str, Any], made: dict[str, Any]
    ) -> dict[str, Any]:
        if not (scratch.folder / made["place"] / OUT).is_dir():  # another machine made it
            pulse.say("what was made lies on another machine; it is made again")
            made = self._made(held, kind, scratch, pulse, outcomes)
        pulse.stopped()
        place = scratch.folder / made["place"]
        return kind.publish(self._registry(held), held.job.recipe, place, made["outcome"])

    def _place(self, held: Held, kind: Kind, scratch: Scratch) -> Path:
        self._gathered(held, kind, scratch)  # there already, unless another machine gathered
        return scratch.place()

    def _computed(self, task: Task, pulse: Pulse) -> Any:
        limits = Limits(self.settings.job_memory, self.settings.job_seconds)
        with self._turn(pulse):
            return computed(task, limits, Ears(pulse.report, pulse.say, pulse.stopped))

    @contextmanager
    def _turn(self, pulse: Pulse) -> Iterator[None]:
        while not self._computing.acquire(timeout=BEAT_SECONDS):
            pulse.stopped()
        try:
            yield
        finally:
            self._computing.release()

    def _registry(self, held: Held) -> Registry:
        """The registry in the name of who submitted the job; it writes only while the job is still held."""
        job = held.job
        asks = replace(self.backend.asks, name=job.submitted_by)
        fenced = FencedCatalog(self.backend.catalog, held)
        backend = replace(self.backend, catalog=fenced, actor=job.submitted_by, asks=asks, job=job.id)
        return Registry(guarded(self.settings, self.backend), backend)

    def _scratch(self, held: Held) -> Scratch:
        return Scratch(self.settings.scratch / f"{held.job.id}.{held.job.round}")

    @contextmanager
    def _ending(self, held: Held) -> Iterator[None]:
        """Whatever goes wrong becomes the end of the job, as far as it is still ours."""
        try:
            yield
        except Taken as error:
            LOG.warning("%s", error.text)
            self._failed(held, error.text)
        except RegistryError as error:
            self._failed(held, error.text + "".join(f"\n  {problem}" for problem in error.problems[:20]))
        except Exception as error:
            LOG.exception("job %s ended by a defect", held.job.id)
            self._failed(held, f"a defect of this program: {type(error).__name__}: {error}")
        finally:
            self._held.pop(held.run, None)

    def _failed(self, held: Held, error: str) -> None:
        if patient(lambda: running.fail(self.backend, held, error=error)):
            self._scratch(held).remove()
