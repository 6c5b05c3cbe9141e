"""Training side: a callback of transformers' Trainer that pushes each checkpoint, locked to what training began from.

from adapter_registry.training import PushCheckpoints

trainer = Trainer(model, ..., callbacks=[PushCheckpoints("team/sql-lora")])
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapter_registry.client import Registry, connect
from adapter_registry.domain.errors import IncompatibleBase, InvalidInput, NotFound, RegistryError, StoreUnavailable
from adapter_registry.domain.evidence.metric import known_direction
from adapter_registry.domain.evidence.score import Score
from adapter_registry.domain.lock import Level
from adapter_registry.domain.names import check_label

logger = logging.getLogger("adapter_registry.training")
PREFIX = "eval_"
SPEEDS = frozenset({"eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_model_preparation_time"})
"""What the Trainer reports beside metrics: of the machine, not of the adapter."""
COUNTS = frozenset({"eval_num_tokens"})
"""What TRL counts beside metrics: of the training, not of the adapter."""
LONGEST_KEY = 250
"""Characters of a metric's name in the Trainer's log; longer ones are no scores."""
BEST = "best"
"""The tag of the version that the Trainer found best."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One that was saved and is to be pushed."""

    folder: Path
    step: int
    epoch: float
    scores: tuple[Score, ...]


@dataclass(eq=False)
class PushCheckpoints:
    """Pushes what the Trainer saves, each checkpoint as a version, with the scores of its last evaluation.

    When training begins, the model is held against the registered base, every byte of every weight: what is pushed
    later is locked to the weights that training really began from, whatever the config says they are called. From then
    on nothing of the registry's stops training: a checkpoint that could not be pushed is tried again at the next one
    and at the end, and what is left then is logged.

    Attributes:
        name: `[namespace/]name` of the adapter.
        base: registered base, `name`, `name@digest` or a folder; default: where the model was loaded from.
        labels: facts for every version, beside `step` and `epoch`.
        registry: default: the one the environment names.
        pushed: references of the versions that were made, in order.
    """

    name: str
    base: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    registry: Registry | None = None
    pushed: list[str] = field(default_factory=list)
    _locked: str = ""
    _waiting: list[Checkpoint] = field(default_factory=list)
    _steps: dict[int, str] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Callable[..., None]:
        """The Trainer's other events: nothing happens."""
        if name.startswith("on_"):
            return _nothing
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Lock the base.

        Raises:
            NotFound: the base is not registered.
            IncompatibleBase: the model has other weights than the registered base.
            InvalidInput: where the model is from does not tell which base it is.
            InvalidReference: no version could have this name or these labels.
        """
        if not state.is_world_process_zero:
            return
        self.registry = self.registry or connect()
        self.registry.adapter(self.name)
        for key, value in self.labels.items():
            check_label(key, value)
        self._locked = _lock(self.registry, model, self.base)
        logger.info("checkpoints are pushed to %s, locked to %s", self.name, self._locked)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Push the checkpoint that was just saved, and what waits from before."""
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        scores = tuple(scores_of(state.log_history, step=state.global_step))
        self._waiting.append(Checkpoint(folder, state.global_step, float(state.epoch or 0), scores))
        self._push_waiting()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Push what still waits; log what is left; tag the best checkpoint, where the Trainer knows it."""
        if not state.is_world_process_zero:
            return
        self._push_waiting()
        best = self._steps.get(state.best_global_step or 0)
        if best is not None and self.registry is not None:
            try:
                self.registry.tag(best, BEST)
            except RegistryError as error:
                logger.warning("%s was not tagged %s: %s", best, BEST, error.text)
        for left in self._waiting:
            command = f"adapters push {left.folder} --base {self._locked} --name {self.name}"
            logger.error("step %d was not pushed: %s", left.step, command)

    def _push_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.folder.is_dir():
                logger.error("step %d was not pushed: the Trainer removed %s meanwhile", each.step, each.folder)
                continue
            try:
                self._push(each)
            except (RegistryError, OSError) as error:
                logger.warning("step %d is not pushed for now: %s", each.step, error)
                self._waiting.append(each)

    def _push(self, each: Checkpoint) -> None:
        if self.registry is None or not self._locked:
            raise StoreUnavailable("the base was not locked: on_train_begin was not called.")
        labels = {**self.labels, "step": str(each.step), "epoch": f"{each.epoch:.6g}"}
        made = self.registry.push(
            each.folder, base=self._locked, name=self.name, labels=labels, message=f"checkpoint of step {each.step}"
        )
        reference = made.version.reference
        # Scores may have failed after the version was made, the time before.
        if each.scores and (made.created or not self.registry.scores(reference)):
            self.registry.add_scores(reference, each.scores, claimed=f"the Trainer's evaluation at step {each.step}")
        self._steps[each.step] = reference
        if reference not in self.pushed:
            self.pushed.append(reference)


def scores_of(history: Iterable[Mapping[str, Any]], *, step: int) -> Iterable[Score]:
    """The metrics that the Trainer's log has for a step, as scores: `eval_loss` is `heldout/loss`.

    With several evaluation sets, `eval_chat_loss` is `heldout/chat_loss`.
    """
    found: dict[str, float] = {}
    for entry in history:
        if entry.get("step") == step:
            found |= {key: value for key, value in entry.items() if key.startswith(PREFIX) and _is_metric(key, value)}
    for key, value in sorted(found.items()):
        metric = f"heldout/{key.removeprefix(PREFIX)}"
        yield Score(metric, float(value), known_direction(metric), producer="transformers Trainer", source="trainer")


def _is_metric(key: str, value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    timed = key.endswith(("_runtime", "_per_second")) or key in SPEEDS | COUNTS
    # One name that no score can have would keep the others from being recorded.
    named = key.isprintable() and len(key) <= LONGEST_KEY
    return number and not timed and named and not abs(value) > sys.float_info.max


def _lock(registry: Registry, model: Any, base: str | None) -> str:
    """`name@digest` of the registered base whose weights `model` holds."""
    from adapter_registry.serving.live_names import unwrapped  # noqa: PLC0415  needs torch
    from adapter_registry.serving.live_weights import live_differences  # noqa: PLC0415

    origin = str(getattr(getattr(unwrapped(model), "config", None), "_name_or_path", "") or "")
    wanted = base or origin
    if not wanted:
        raise InvalidInput("the model does not say where it was loaded from: PushCheckpoints(..., base=...) names it.")
    try:
        known = registry.base(wanted)
    except NotFound as error:
        told = f"{error.text} Training has not begun; register it first: adapters base add NAME {wanted}"
        raise NotFound(told) from error
    exact = f"{known.registered.name}@{known.base.digest}"
    verdict = live_differences(model, known.base)
    if verdict.accepted:
        return exact
    if verdict.level is Level.STRUCTURAL and not verdict.differences:
        return _by_folder(registry, origin, exact, verdict.notes)
    listed = "".join(f"\n  {difference}" for difference in verdict.differences)
    raise IncompatibleBase(
        f"the model is not {known.registered.reference}, it is {verdict}: training has not begun.{listed}\n"
        "Register what it was loaded from, or load what was registered."
    )


def _by_folder(registry: Registry, origin: str, exact: str, notes: tuple[str, ...]) -> str:
    """Where live weights cannot be proved (quantised, narrower), the folder they were loaded from decides."""
    told = "; ".join(notes)
    if Path(origin).is_dir():
        if registry.digest_of(Path(origin)) == exact.partition("@")[2]:
            logger.info("%s: the folder %s was read instead", told, origin)
            return exact
        raise IncompatibleBase(f"{origin} does not hold {exact}: training has not begun.")
    logger.warning("%s, and it was not loaded from a folder: that it is %s is not proved", told, exact)
    return exact


def _nothing(*_arguments: Any, **_given: Any) -> None:
    return
