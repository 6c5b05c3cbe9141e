"""Training side: a callback of transformers' Trainer that pushes each checkpoint, locked to what training began from.

from adapter_registry.training import PushCheckpoints

trainer = Trainer(model, ..., callbacks=[PushCheckpoints("team/sql-lora")])
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapter_registry.client import Registry, connect
from adapter_registry.domain.errors import (
    IncompatibleBase,
    InvalidInput,
    NotFound,
    PushRefused,
    RegistryError,
    StoreUnavailable,
)
from adapter_registry.domain.evidence.metric import known_direction
from adapter_registry.domain.evidence.score import Score
from adapter_registry.domain.names import check_label

logger = logging.getLogger("adapter_registry.training")
PREFIX = "eval_"
SPEEDS = frozenset({"eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_model_preparation_time"})
"""What the Trainer reports beside metrics: of the machine, not of the adapter."""
COUNTS = frozenset({"eval_num_tokens"})
"""What TRL counts beside metrics: of the training, not of the adapter."""
LONGEST_KEY = 250
"""Characters of a metric's name in the Trainer's log; longer ones are no scores."""
PATIENCE_SECONDS = 10.0
"""How long a registry may be silent before a push is put off."""
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
        adapter: which of the model's adapters is pushed, by PEFT's name; default: the active one.
        pushed: references of the versions that hold what was saved, in order.
    """

    name: str
    base: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    registry: Registry | None = None
    adapter: str | None = None
    pushed: list[str] = field(default_factory=list)
    _locked: str = ""
    _began: int = 0
    _waiting: list[Checkpoint] = field(default_factory=list)
    _steps: dict[int, str] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Callable[..., None]:
        """The Trainer's other events: nothing happens."""
        if name.startswith("on_"):
            return _nothing
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Lock the base; push the checkpoint that training goes on from, where it was not pushed before.

        Raises:
            NotFound: the base is not registered.
            IncompatibleBase: the model has other weights than the registered base.
            InvalidInput: there is no adapter to push, or no telling which, or which base it is for.
            InvalidReference: no version could have this name or these labels.
            ServerUnreachable: the registry does not answer.
        """
        if not state.is_world_process_zero:
            return
        self.registry = self.registry or connect()
        self.registry.adapter(self.name)
        for key, value in self.labels.items():
            check_label(key, value)
        self.adapter = adapter_of(model, self.adapter)
        self.registry.require_server(seconds=PATIENCE_SECONDS)
        self._locked = locked(self.registry, model, self.base)
        logger.info("checkpoints are pushed to %s, locked to %s", self.name, self._locked)
        self._began = state.global_step
        # The process may have died between saving and pushing.
        if state.global_step and self._take(args, state, state.global_step):
            self._push_waiting()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Push the checkpoint that was just saved, and what waits from before."""
        if not state.is_world_process_zero:
            return
        if not self._take(args, state, state.global_step):
            logger.error("step %d was not pushed: there is no %s", state.global_step, _folder(args, state.global_step))
        self._push_waiting()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Push what still waits; log what is left; tag the best checkpoint, where the Trainer knows it."""
        if not state.is_world_process_zero:
            return
        best = int(getattr(state, "best_global_step", None) or 0)
        if best and best not in self._steps and all(each.step != best for each in self._waiting):
            # Of a training that went on: what an earlier process pushed is the same version still.
            self._take(args, state, best)
        self._push_waiting()
        if best:
            self._tag_best(best)
        for left in self._waiting:
            parts = ("adapters", "push", str(self._saved(left.folder)), "--base", self._locked, "--name", self.name)
            logger.error("step %d was not pushed: %s", left.step, shlex.join(parts))

    def _tag_best(self, step: int) -> None:
        best = self._steps.get(step)
        if best is None or self.registry is None:
            logger.warning("step %d is best and was not pushed: nothing was tagged %s", step, BEST)
            return
        try:
            self.registry.tag(best, BEST)
        except RegistryError as error:
            logger.warning("%s was not tagged %s: %s", best, BEST, error.text)

    def _take(self, args: Any, state: Any, step: int) -> bool:
        """Let the checkpoint of a step wait to be pushed; whether there is one."""
        folder = _folder(args, step)
        if not folder.is_dir():
            return False
        scores = tuple(scores_of(state.log_history, step=step))
        epoch = next((e["epoch"] for e in reversed(state.log_history) if e.get("step") == step and "epoch" in e), None)
        self._waiting.append(Checkpoint(folder, step, float(state.epoch or 0) if epoch is None else epoch, scores))
        return True

    def _saved(self, folder: Path) -> Path:
        """Where PEFT saved the adapter: one of another name than `default` in a folder of its own."""
        own = folder / (self.adapter or "default")
        return own if (own / "adapter_config.json").exists() else folder

    def _push_waiting(self) -> None:
        """Push what waits, the oldest first, until something fails that would fail for the next as well."""
        waiting, self._waiting = self._waiting, []
        for number, each in enumerate(waiting):
            if not each.folder.is_dir():
                logger.error("step %d was not pushed: the Trainer removed %s meanwhile", each.step, each.folder)
                continue
            try:
                self._push(each)
            except PushRefused as error:
                logger.error("step %d is not pushed, now or later: %s", each.step, error)
            except (RegistryError, OSError) as error:
                logger.warning("step %d is not pushed for now: %s", each.step, error)
                self._waiting.append(each)
                if isinstance(error, RegistryError) and not isinstance(error, InvalidInput):
                    self._waiting += waiting[number + 1 :]
                    break

    def _push(self, each: Checkpoint) -> None:
        if self.registry is None or not self._locked:
            raise StoreUnavailable("the base was not locked: on_train_begin was not called.")
        # What hangs in the middle of a push costs minutes, in which other processes wait and the GPUs idle.
        self.registry.require_server(seconds=PATIENCE_SECONDS)
        labels = {**self.labels, "step": str(each.step), "epoch": f"{each.epoch:.6g}"}
        message = f"checkpoint of step {each.step}"
        folder = self._saved(each.folder)
        made = self.registry.push(folder, base=self._locked, name=self.name, labels=labels, message=message)
        reference = made.version.reference
        if (made.created or each.step > self._began) and reference not in self.pushed:
            self.pushed.append(reference)
        # Scores may have failed after the version was made, the time before.
        if each.scores and (made.created or not self.registry.scores(reference)):
            self.registry.add_scores(reference, each.scores, claimed=f"the Trainer's evaluation at step {each.step}")
        self._steps[each.step] = reference


def _folder(args: Any, step: int) -> Path:
    return Path(args.output_dir) / f"checkpoint-{step}"


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


def adapter_of(model: Any, wanted: str | None = None) -> str:
    """PEFT's name of the adapter that a training trains: the one that is `wanted`, else the active one.

    Raises:
        InvalidInput: the model bears none, or not that one, or several are active.
    """
    there = list(getattr(model, "peft_config", None) or ())
    if not there:
        raise InvalidInput(
            "the model bears no adapter, and only adapters are pushed: training has not begun. Give the Trainer "
            "get_peft_model(model, ...), or TRL's peft_config; `adapters extract` makes one of a full fine-tune."
        )
    active = getattr(model, "active_adapters", None)
    active = active() if callable(active) else active
    names = [wanted] if wanted else list(active or there)
    if len(names) == 1 and names[0] in there:
        return names[0]
    told = f"it bears no {wanted!r}" if wanted else f"{len(names)} are active, {', '.join(names)}"
    raise InvalidInput(
        f"the model bears the adapters {', '.join(there)}, and {told}: training has not begun. "
        "PushCheckpoints(..., adapter=...) names the one to push."
    )


def locked(registry: Registry, model: Any, base: str | None) -> str:
    """`name@digest` of the registered base whose weights `model` holds; an embedding may have more rows.

    Raises:
        NotFound: the base is not registered.
        IncompatibleBase: the model, or what it was loaded from, has other weights.
        InvalidInput: where the model is from does not tell which base it is.
    """
    from adapter_registry.serving.live_origin import files_verdict, origin_of  # noqa: PLC0415  needs PEFT
    from adapter_registry.serving.live_weights import live_differences  # noqa: PLC0415  needs torch

    origin = origin_of(model)
    [only] = origin.folders if len(origin.folders) == 1 else [None]
    wanted = base or str(only or origin.name)
    if not wanted:
        raise InvalidInput("the model does not say where it was loaded from: PushCheckpoints(..., base=...) names it.")
    try:
        known = registry.base(wanted)
    except NotFound as error:
        name, place = base or "NAME", only or (f"hf://{origin.name}@<commit>" if origin.name else "FOLDER")
        told = f"{error.text} Training has not begun; register it first: adapters base add {name} {place}"
        raise NotFound(told) from error
    exact = f"{known.registered.name}@{known.base.digest}"
    # More rows are of tokens that were added; PEFT saves such embeddings with the adapter.
    verdict = live_differences(model, known.base, resized=True)
    if not verdict.accepted and not verdict.differences:
        verdict = files_verdict(origin, known.base.digest, registry=registry, live=verdict)
        if verdict.accepted:
            logger.info("%s", "; ".join(verdict.notes))
        elif not verdict.differences:
            logger.warning("that the model is %s is not proved: %s", exact, "; ".join(verdict.notes))
            return exact
    if verdict.accepted:
        return exact
    listed = "".join(f"\n  {difference}" for difference in verdict.differences)
    noted = "".join(f"\n  {note}" for note in verdict.notes)
    raise IncompatibleBase(
        f"the model is not {known.registered.reference}, it is {verdict}: training has not begun.{listed}{noted}\n"
        "Register what it was loaded from, or load what was registered."
    )


def _nothing(*_arguments: Any, **_given: Any) -> None:
    return
