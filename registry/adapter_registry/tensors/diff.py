"""The measured difference of two adapters: config, files, tensors, and the delta of every module."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from adapter_registry.checkpoints.cores import cores
from adapter_registry.checkpoints.json_strict import parse
from adapter_registry.domain.base import Base
from adapter_registry.domain.diff import (
    FACTORS,
    ModuleDiff,
    Side,
    State,
    VersionDiff,
    cosine_of,
    groups,
    norms_of,
    percent,
)
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.figures import count
from adapter_registry.domain.peft.changes import config_changes
from adapter_registry.domain.peft.fields import CONFIG, WEIGHTS
from adapter_registry.tensors import elements
from adapter_registry.tensors.loaded import MAX_CONFIG, Loaded, loaded
from adapter_registry.tensors.matrices import OTHER_FUNCTIONS, Matrix, matrices, natural
from adapter_registry.tensors.over_modules import one_blas_thread
from adapter_registry.tensors.spectra import alone, measured
from adapter_registry.tensors.tensor_changes import file_changes, tensor_changes

FORMAT = "adapters.diff/1"
IN_DELTAS = frozenset(
    """
    r lora_alpha rank_pattern alpha_pattern use_rslora target_modules exclude_modules layers_to_transform
    layers_pattern target_parameters peft_type
    """.split()  # noqa: SIM905  a paragraph of names reads better than a column of strings
)
"""Fields of the config that have their whole effect in what is measured of modules and tensors."""

_NUMBER = re.compile(r"\.(\d+)(?=\.|$)")

Report = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Input:
    """One of the two adapters.

    Attributes:
        name: what it is called in the answer.
        digest: of the Version; None for a folder that is none.
        folder: where it is.
        base: what it is locked to.
        base_name: for people.
    """

    name: str
    digest: str | None
    folder: Path
    base: Base
    base_name: str


Finish = Callable[[ModuleDiff, Matrix | None, Matrix | None], ModuleDiff]
"""Adds to what the factors told of a module what takes more than them."""


def diff(
    first: Input,
    second: Input,
    *,
    exact: bool = False,
    finish: Finish | None = None,
    report: Report = lambda _: None,
) -> VersionDiff:
    """What changed from `first` to `second`.

    Args:
        first: the earlier.
        second: the later.
        exact: look at every element for signs and largest magnitudes, instead of at some rows.
        finish: see Finish; with the base's bytes, what `against_base.against` gives.
        report: told which share of the modules is done.

    Raises:
        InvalidInput: a folder that holds no adapter, or one with NaN or infinity in its factors.
    """
    with ExitStack() as stack:
        one, other = (stack.enter_context(loaded(side.folder, side.base)) for side in (first, second))
        files = file_changes(first.folder, second.folder)
        same_weights = all(file.state is State.SAME for file in files if file.path == WEIGHTS)
        tensors = tuple(tensor_changes(one.weights, other.weights, same=same_weights))
        documents = (_document(first), _document(second))
        mine, theirs = matrices(one, documents[0]), matrices(other, documents[1])
        # Without factors on one side, those of the other are neither added nor removed.
        modules = _modules(mine, theirs, exact, finish, report) if mine and theirs else ()
        methods = tuple(_method_notes((one, mine), (other, theirs)))
        same_modules = bool(modules) and not any(m.state in (State.ADDED, State.REMOVED) for m in modules)
        config = config_changes(*documents, same_modules=same_modules)
        found = VersionDiff(
            format=FORMAT,
            first=_side(first, one),
            second=_side(second, other),
            verdict="",
            summary="",
            relative=_relative(modules),
            norms=norms_of(modules),
            cosine=cosine_of(modules),
            config=config,
            files=files,
            tensors=tensors,
            modules=modules,
            kinds=groups(modules, [module.kind for module in modules]),
            layers=groups(modules, ["-" if m.layer is None else str(m.layer) for m in modules]),
            scores=(),
            notes=tuple(dict.fromkeys((*_base_notes(first, second), *methods))),
        )
    verdict, summary = _verdict(found)
    return replace(found, verdict=verdict, summary=summary)


def _document(side: Input) -> Any:
    return parse((side.folder / CONFIG).read_bytes(), max_bytes=MAX_CONFIG, max_depth=16)


def _side(given: Input, found: Loaded) -> Side:
    method = " ".join((found.config.peft_type, *found.config.variant))
    return Side(given.name, given.digest, method, given.base_name, given.base.digest)


def _modules(
    mine: Mapping[str, Matrix], other: Mapping[str, Matrix], exact: bool, finish: Finish | None, report: Report
) -> tuple[ModuleDiff, ...]:
    names = sorted(mine.keys() | other.keys(), key=natural)

    def one(name: str) -> ModuleDiff:
        found = None
        with suppress(np.linalg.LinAlgError), np.errstate(invalid="ignore", over="ignore"):
            found = _module(mine.get(name), other.get(name), exact)
        if found is None or not all(map(math.isfinite, found.norms)):
            raise InvalidInput(f"{name}: a factor holds NaN or infinity; nothing was compared.")
        return finish(found, mine.get(name), other.get(name)) if finish else found

    done: list[ModuleDiff] = []
    with one_blas_thread(), ThreadPoolExecutor(cores(), thread_name_prefix="diff") as pool:
        for module in pool.map(one, names):
            done.append(module)
            report(len(done) / len(names))
    return tuple(done)


def _module(first: Matrix | None, second: Matrix | None, exact: bool) -> ModuleDiff:
    blank = _named(first, second)
    if first is None or second is None:
        there, side = (second, 1) if first is None else (first, 0)
        assert there is not None  # noqa: S101  a name comes from one of the two
        return alone(there.read(), blank, side)
    one, other = first.read(), second.read()
    if one.shape != other.shape:
        gone, new = alone(one, blank, 0), alone(other, blank, 1)
        note = f"not comparable: {list(one.shape)} and {list(other.shape)}"
        norms = (gone.norms[0], new.norms[1], 0.0)
        return replace(blank, state=State.UNKNOWN, first=gone.first, second=new.second, norms=norms, note=note)
    found = measured(one, other, blank)
    if found.cosine is None or (found.state is State.SAME and not exact):
        return _with_magnitude(found, first, second)
    seen = elements.exact(one, other) if exact else elements.sampled(one, other, found.name)
    return _with_magnitude(replace(found, elements=seen), first, second)


def _with_magnitude(found: ModuleDiff, first: Matrix, second: Matrix) -> ModuleDiff:
    """DoRA's lengths act on base and delta together: without the base only the direction is known."""
    lengths = [each.lengths() for each in (first, second)]
    if lengths[0] is None and lengths[1] is None:
        return found
    note = "DoRA: the direction only; --base-path tells the delta"
    equal = lengths[0] is not None and lengths[1] is not None and bool((lengths[0] == lengths[1]).all())
    return replace(found, note=note, state=found.state if equal else State.CHANGED)


def _named(first: Matrix | None, second: Matrix | None) -> ModuleDiff:
    there = first or second
    assert there is not None  # noqa: S101  a name comes from one of the two
    number = _NUMBER.search(f".{there.path}")
    parts = [part for part in there.path.split(".") if not part.isdigit()]
    return ModuleDiff(
        name=there.name,
        layer=int(number[1]) if number else None,
        kind=parts[-1] if parts else there.path,
        shape=there.shape,
        state=State.UNKNOWN,
        rank=(first.rank if first else 0, second.rank if second else 0),
        scale=(first.scale if first else 0.0, second.scale if second else 0.0),
    )


def _relative(modules: Sequence[ModuleDiff]) -> float | None:
    first, _, difference = norms_of(modules)
    unknown = any(module.state is State.UNKNOWN for module in modules)
    return difference / first if first and not unknown else None


def _base_notes(first: Input, second: Input) -> Iterator[str]:
    if first.base.digest != second.base.digest:
        yield (
            f"the two are locked to different bases, {first.base_name} and {second.base_name}: equal deltas do not "
            "make equal models."
        )


def _method_notes(*sides: tuple[Loaded, Mapping[str, Matrix]]) -> Iterator[str]:
    for adapter, found in sides:
        config = adapter.config
        if others := OTHER_FUNCTIONS & set(config.extensions):
            yield f"{', '.join(sorted(others))}: the delta is no product of two factors; only tensors are compared."
        elif not found:
            yield f"{config.peft_type}: what it adds is not measured by module here, only tensor by tensor."
        if config.use_dora:
            yield "DoRA: lengths act on base and delta together; without --base-path the direction alone is measured."


def _verdict(found: VersionDiff) -> tuple[str, str]:
    """The verdict, and the sentence for it."""
    others = _other_changes(found)
    modules = [module for module in found.modules if module.state is not State.SAME]
    real = [module for module in modules if module.state is not State.SAME_DELTA]
    if all(file.state is State.SAME for file in found.files):
        return "identical", "identical: every file has the same bytes"
    if not real and not others:
        return "same-delta", _same_summary(found, modules)
    if not found.modules:
        return "changed", f"changed: {', '.join(others)}"
    added, removed = (sum(m.state is state for m in real) for state in (State.ADDED, State.REMOVED))
    parts = [
        f"by {percent(found.relative)}" if found.relative is not None else "",
        f"in {len(real):,} of {count(len(found.modules), 'module')}" if real else "in no module's delta",
        f"{added:,} added" if added else "",
        f"{removed:,} removed" if removed else "",
        *others,
    ]
    return "changed", f"changed {', '.join(part for part in parts if part)}"


def _same_summary(found: VersionDiff, modules: Sequence[ModuleDiff]) -> str:
    if modules:
        largest = max((module.relative or 0.0) for module in modules)
        return (
            f"the same delta by other factors in {count(len(modules), 'module')}: they differ by at most "
            f"{percent(largest)}, which rounding to float32 explains"
        )
    changed = ", ".join(file.path for file in found.files if file.state is not State.SAME)
    return f"the same weights; other bytes in {changed}"


def _other_changes(found: VersionDiff) -> list[str]:
    """What changed beside the deltas of modules."""
    others = [each for each in found.tensors if each.state is not State.SAME]
    if found.modules:
        others = [each for each in others if not each.name.endswith(FACTORS)]
    fields = [each.field for each in found.config if each.matters == "weights" and each.field not in IN_DELTAS]
    told = [count(len(others), "other tensor")] if others else []
    return [*told, *(f"{field} in the config" for field in fields)]
