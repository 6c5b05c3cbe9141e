"""Intake: everything that is checked before an adapter becomes a Version; every problem is told at once.

Our own header reader first, then the safetensors library has to agree. Every tensor is accounted for: it belongs to the
declared method on the locked base, or it is declared, or the push is refused.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_registry.checkpoints.adapter_files import FolderFile, Source, refused, survey
from adapter_registry.checkpoints.effect import changes, value_problems, values_of
from adapter_registry.checkpoints.file_rules import PICKLED, file_notices, file_problems
from adapter_registry.checkpoints.full_weights import declared_by, ends_with, unread_notices
from adapter_registry.checkpoints.header import Header, HeaderRefused, agrees
from adapter_registry.checkpoints.header import read as read_header
from adapter_registry.checkpoints.json_strict import LFS_POINTER, JsonRefused, parse
from adapter_registry.checkpoints.lora import ranks_and_scalings
from adapter_registry.checkpoints.selection import RESAVE
from adapter_registry.checkpoints.subject import Subject, described_targets, structure_problems, subject_of
from adapter_registry.domain.adapter import Description
from adapter_registry.domain.base import Base, size_of
from adapter_registry.domain.errors import Notice, Problem
from adapter_registry.domain.peft.config import ConfigReading, read_config
from adapter_registry.domain.peft.fields import CONFIG, MODELLED, WEIGHTS

if TYPE_CHECKING:
    from adapter_registry.checkpoints.passing import Weights

MAX_CONFIG = 1 << 20
MAX_CONFIG_DEPTH = 16
REPLICATION = 4
"""How many times the base's layers `layer_replication` may make."""
GROUPED = 3
"""How many of many like problems of tensors are told one by one; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What intake found.

    Attributes:
        description: what the adapter is, as far as it could be read; None when its config or weights could not.
        problems: every reason to refuse it; empty when it may be stored.
        notices: what is worth knowing.
        base_model_name: the base its config names: free text, never trusted.
        base_revision: the revision its config names.
    """

    description: Description | None
    problems: tuple[Problem, ...]
    notices: tuple[Notice, ...]
    base_model_name: str | None
    base_revision: str | None

    def with_notices(self, notices: Sequence[Notice]) -> Examination:
        """The same with further notices in front."""
        return replace(self, notices=(*notices, *self.notices))


def refuse(examination: Examination) -> None:
    """Raise PushRefused with every problem, when there is one."""
    if examination.problems:
        raise refused(examination.problems)


def examine(files: Sequence[Source], base: Base, *, seen: Weights | None = None) -> Examination:
    """Check an adapter's files against the base it is to be locked to. Never raises for what is in them.

    Args:
        files: all of them.
        base: the base.
        seen: what is known of the weights' bytes, which are not read again then.
    """
    by_path = {file.path: file for file in files}
    reading = _read_config(by_path)
    header, header_problems = (seen.header, []) if seen else _read_weights(by_path)
    problems = [*file_problems(files), *reading.problems, *header_problems, *_beside(files)]
    notices = [*reading.notices, *file_notices(files)]
    description = None
    config = reading.config
    if config is not None and header is not None:
        depth_problems = list(_depth_problems(config.layer_replication, base))
        if depth_problems:
            config = replace(config, layer_replication=())
        subject = subject_of(config, header, base, by_path[WEIGHTS])
        values = seen.values if seen else values_of(subject.file, subject.entries)
        problems += [*depth_problems, *structure_problems(subject), *value_problems(subject, values)]
        nonzero = changes(subject, values)
        notices += _notices(subject, nonzero=nonzero)
        description = replace(_description(subject, nonzero=nonzero), notices=tuple(notices))
    return Examination(
        description=description,
        problems=tuple(map(_printable, _grouped(problems))),
        notices=tuple(notices),
        base_model_name=config.base_model_name_or_path if config else None,
        base_revision=config.revision if config else None,
    )


def examine_folder(
    folder: Path, base: Base, *, seen: Callable[[FolderFile], Weights | None] = lambda _: None
) -> tuple[tuple[FolderFile, ...], Examination]:
    """The files of a local folder that a version would hold, and everything that is wrong with them, at once.

    Args:
        folder: the folder.
        base: the base.
        seen: what is known of the bytes of the weights.

    Raises:
        InvalidInput: there is no such folder.
    """
    found = survey(folder)
    weights = next((file for file in found.files if file.path == WEIGHTS), None)
    examination = examine(found.files, base, seen=seen(weights) if weights else None)
    problems = (*found.problems, *examination.problems)
    return found.files, replace(examination, problems=problems, notices=(*found.notices, *examination.notices))


def _read_config(by_path: Mapping[str, Source]) -> ConfigReading:
    file = by_path.get(CONFIG)
    if file is None:
        return ConfigReading(None, (_no_config(by_path),), ())
    with file.open() as stream:
        data = stream.read(MAX_CONFIG + 1)
    if data.startswith(LFS_POINTER):
        fix = "Run `git lfs pull` where it was cloned."
        found = "a Git LFS pointer"
        return ConfigReading(None, (Problem("bad-config", CONFIG, "", "the config itself", found, fix),), ())
    try:
        return read_config(parse(data, max_bytes=MAX_CONFIG, max_depth=MAX_CONFIG_DEPTH))
    except JsonRefused as error:
        expected = f"JSON of at most {MAX_CONFIG:,} bytes without duplicate keys or NaN"
        problem = Problem("bad-config", CONFIG, "", expected, str(error), "Save the adapter again.")
        return ConfigReading(None, (problem,), ())


def _no_config(by_path: Mapping[str, Source]) -> Problem:
    nested = next((path for path in sorted(by_path) if path.endswith(f"/{CONFIG}")), None)
    fix = "Push the folder that PEFT's save_pretrained wrote."
    if nested is not None:
        fix = f"Push {nested.removesuffix(f'/{CONFIG}')}/ of it: each adapter of a model is a folder of its own."
    there = ", ".join(sorted(by_path)[:6]) or "nothing"
    return Problem("no-config", CONFIG, "", "the adapter's config", f"a folder with {there}", fix)


def _read_weights(by_path: Mapping[str, Source]) -> tuple[Header | None, list[Problem]]:
    file = by_path.get(WEIGHTS)
    if file is None:
        if PICKLED in by_path:
            return None, []
        there = ", ".join(sorted(by_path)) or "nothing"
        fix = "Push the folder that PEFT's save_pretrained wrote; pickled weights: `adapters convert` first."
        return None, [Problem("no-weights", WEIGHTS, "", "the adapter's weights", f"a folder with {there[:200]}", fix)]
    try:
        header = _header(file)
    except HeaderRefused as error:
        return None, list(error.problems)
    if not header.tensors:
        return None, [Problem("no-weights", WEIGHTS, "", "at least one tensor", "a sound file without any", RESAVE)]
    return header, []


def _header(file: Source) -> Header:
    with file.open() as stream:
        header = read_header(stream, size=file.size, file=file.path)
        stream.seek(0)
        agrees(stream.read(header.data_start), header, file=file.path)
    return header


def _beside(files: Sequence[Source]) -> Iterator[Problem]:
    """Weight files that PEFT does not read must be sound all the same."""
    for file in files:
        if file.path.lower().endswith(".safetensors") and file.path != WEIGHTS:
            try:
                _header(file)
            except HeaderRefused as error:
                yield from error.problems


def _depth_problems(ranges: Sequence[tuple[int, int]], base: Base) -> Iterator[Problem]:
    if not ranges:
        return
    depth = _depth(base)
    made, last = sum(end - start for start, end in ranges), max(end for _, end in ranges)
    fix = "Set it to what the adapter was trained with, or leave it out."
    if made > REPLICATION * max(depth, 1):
        found = f"{made:,} layers from {depth}"
        yield Problem("too-many-layers", CONFIG, "layer_replication", "at most four times the layers", found, fix)
    elif last > depth:
        found = f"layer {last - 1:,}"
        yield Problem("module-not-in-base", CONFIG, "layer_replication", f"layers below {depth}", found, fix)


def _depth(base: Base) -> int:
    numbers = (part for tensor in base.tensors for part in tensor.name.split(".") if part.isdigit())
    return max((int(number) for number in numbers if len(number) < 6), default=-1) + 1


def _notices(subject: Subject, *, nonzero: bool) -> Iterator[Notice]:
    config, modules = subject.config, subject.modules
    if subject.targets.absent:
        names = ", ".join(subject.targets.absent[:8])
        yield Notice(
            "absent-targets", CONFIG, "target_modules", f"no module of the base bears: {names}; PEFT ignores it"
        )
    if modules.naming.told:
        yield Notice("prefix", WEIGHTS, "", modules.naming.told)
    if not nonzero:
        yield Notice("changes-nothing", WEIGHTS, "", "it changes nothing: it was saved before any training step")
    if subject.resized:
        text = "its embeddings have another number of rows than the base's: a resized vocabulary"
        yield Notice("vocabulary-resized", WEIGHTS, "", text)
    saved = {key.module for key in subject.keys if not key.method}
    wanted = dict.fromkeys(config.modules_to_save)
    absent = [name for name in wanted if not any(ends_with(path, name) for path in saved)]
    if absent:
        yield Notice("absent-saved", CONFIG, "modules_to_save", f"not in the file: {', '.join(absent[:8])}")
    yield from unread_notices(subject.keys, config, modules)
    if any(place.shape is None for place in subject.places):
        yield Notice(
            "packed-base", WEIGHTS, "", "the base is quantised: sizes were checked only as far as packed weights tell"
        )
    if config.peft_type not in MODELLED:
        text = "compatibility was checked by names and shapes only: this method is not modelled here"
        yield Notice("not-modelled", CONFIG, "peft_type", text)


def _description(subject: Subject, *, nonzero: bool) -> Description:
    config, entries = subject.config, subject.entries
    lora = config.peft_type == "LORA"
    ranks, scaling, rank = ranks_and_scalings(subject.places, config, subject.targets)
    adapted = subject.adapted
    kinds = Counter(path.rpartition(".")[2] for path in adapted)
    alike = (m.path for m in subject.modules.by_path.values() if m.kind in kinds and m.adaptable)
    candidates = {path for path in alike if _stack(path) not in adapted} | set(adapted)
    return Description(
        peft_type=config.peft_type,
        variant=config.variant,
        task_type=config.task_type,
        rank=rank if lora else None,
        ranks=ranks if lora else {},
        alpha=config.lora_alpha if lora else None,
        scaling=scaling if lora else {},
        target_modules=tuple(described_targets(config)),
        matched=dict(sorted(kinds.items())),
        modules=len(adapted),
        candidates=len(candidates),
        saved_modules=tuple(sorted(set(_saved(subject)))),
        dtype="+".join(sorted({entry.dtype for entry in entries})),
        parameters=sum(size_of(entry.shape) for entry in entries),
        nonzero=nonzero,
        vocab_resized=bool(subject.resized),
        checked="full" if config.peft_type in MODELLED else "names and shapes only",
    )


def _stack(path: str) -> str:
    """The stack of experts that one expert is part of: `experts.3.down_proj` is in `experts.down_proj`."""
    return re.sub(r"\.\d+\.([^.]+)$", r".\1", path)


def _saved(subject: Subject) -> Iterator[str]:
    for key in subject.keys:
        if not key.method:
            name = declared_by(key.module, subject.config)
            if name is not None:
                yield name
            elif key.module in subject.resized:
                yield key.module


def _printable(problem: Problem) -> Problem:
    """The same with control characters and half characters escaped: terminals and stores take it as it is."""
    if all(text.isprintable() for text in (problem.file, problem.field, problem.expected, problem.found)):
        return problem
    file, name, expected, found = (
        "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
        for text in (problem.file, problem.field, problem.expected, problem.found)
    )
    return replace(problem, file=file, field=name, expected=expected, found=found)


def _grouped(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Of many like problems of tensors the first few, and a count of the rest; fields are few and told one by one."""
    groups: defaultdict[tuple[str, str, str], list[Problem]] = defaultdict(list)
    for problem in dict.fromkeys(problems):
        groups[problem.code, problem.file, problem.fix].append(problem)
    for (code, file, fix), alike in groups.items():
        told = len(alike) if file == CONFIG else GROUPED
        yield from alike[:told]
        if len(alike) > told:
            more = len(alike) - told
            yield Problem(code, file, f"{more} more tensors", "the same", "the same problem", fix)
