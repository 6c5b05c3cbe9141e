"""Intake: everything that is checked before an adapter becomes a Version; every problem is told at once.

Our own header reader first, then the safetensors library has to agree. Every tensor is accounted for: it belongs to the
declared method on the locked base, or it is declared, or the push is refused.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from adapter_registry.checkpoints.adapter_files import CONFIG, WEIGHTS, Source, refused
from adapter_registry.checkpoints.adapter_keys import Key, read_keys
from adapter_registry.checkpoints.full_weights import declared_by, full_problems, is_embedding, resized
from adapter_registry.checkpoints.header import Header, HeaderRefused, TensorEntry, agrees
from adapter_registry.checkpoints.header import read as read_header
from adapter_registry.checkpoints.json_strict import LFS_POINTER, JsonRefused, parse
from adapter_registry.checkpoints.lora import RESAVE, layers_of, lora_problems, module_path, ranks_and_scalings
from adapter_registry.checkpoints.modules import Modules, modules_of
from adapter_registry.checkpoints.prompts import prompt_problems
from adapter_registry.checkpoints.targets import Targets, targets_of
from adapter_registry.domain.adapter import Description
from adapter_registry.domain.base import Base, size_of
from adapter_registry.domain.errors import Notice, Problem
from adapter_registry.domain.peft import AdapterConfig, ConfigReading, read_config
from adapter_registry.domain.peft_fields import MODELLED, PROMPT_TYPES

if TYPE_CHECKING:
    from adapter_registry.checkpoints.values import Values

MAX_CONFIG = 1 << 20
MAX_CONFIG_DEPTH = 16
MAX_README = 5_000_000
GROUPED = 3
"""How many of many like problems are told one by one; the rest are counted."""


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


def examine(files: Sequence[Source], base: Base) -> Examination:
    """Check an adapter's files against the base it is to be locked to. Never raises for what is in them."""
    by_path = {file.path: file for file in files}
    reading = _read_config(by_path.get(CONFIG))
    header, header_problems = _read_weights(by_path.get(WEIGHTS), by_path)
    problems = [*reading.problems, *header_problems, *_other_problems(files)]
    notices = list(reading.notices)
    description = None
    config = reading.config
    if config is not None and header is not None:
        subject = _Subject(config, header, base, by_path[WEIGHTS])
        problems.extend(subject.problems())
        notices.extend(subject.notices())
        description = replace(subject.description(), notices=tuple(notices))
    return Examination(
        description=description,
        problems=tuple(_grouped(problems)),
        notices=tuple(notices),
        base_model_name=config.base_model_name_or_path if config else None,
        base_revision=config.revision if config else None,
    )


def _read_config(file: Source | None) -> ConfigReading:
    if file is None:
        fix = "Push the folder that PEFT's save_pretrained wrote."
        return ConfigReading(None, (Problem("no-config", CONFIG, "", "the adapter's config", "no such file", fix),), ())
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


def _read_weights(file: Source | None, by_path: dict[str, Source]) -> tuple[Header | None, list[Problem]]:
    if file is None:
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


def _other_problems(files: Sequence[Source]) -> Iterator[Problem]:
    for file in files:
        name = file.path.rpartition("/")[2].lower()
        if name.endswith(".safetensors") and file.path != WEIGHTS:
            try:
                _header(file)
            except HeaderRefused as error:
                yield from error.problems
        if name.endswith(".md") and file.size > MAX_README:
            found = f"{file.size:,}"
            yield Problem("file-too-large", file.path, "", f"at most {MAX_README:,} bytes", found, "Shorten it.")


class _Subject:
    """One adapter against one base."""

    def __init__(self, config: AdapterConfig, header: Header, base: Base, file: Source) -> None:
        self._config, self._header, self._base, self._file = config, header, base, file
        self._keys, self._foreign = read_keys(header.tensors)
        paths = sorted({module_path(key.path) for key in self._keys if key.method or is_embedding(key.path)})
        self._modules: Modules = modules_of(base, paths)
        self._targets: Targets = targets_of(config, self._modules, paths)
        self._layers = layers_of(self._keys)
        self._nonzero = True

    def problems(self) -> Iterator[Problem]:
        yield from self._targets.problems
        yield from self._value_problems()
        yield from self._depth_problems()
        kind = self._config.peft_type
        if kind in PROMPT_TYPES & MODELLED:
            yield from prompt_problems(self._header.tensors, self._config, self._modules)
            return
        if kind in MODELLED:
            for entry in self._foreign:
                yield _foreign(entry)
        if kind == "LORA":
            yield from self._lora_problems()
        elif kind == "IA3":
            yield from self._ia3_problems()
        else:
            yield from self._unmodelled_problems()
            return
        adapted = {module_path(layer.path) for layer in self._layers}
        yield from full_problems(self._keys, self._config, self._modules, adapted, self._digest_as)

    def _lora_problems(self) -> Iterator[Problem]:
        if self._targets.modules == frozenset() and not self._config.target_parameters and not self._layers:
            wanted = ", ".join(self._described_targets()) or "nothing"
            fix = "Name the base it was trained on with --base."
            yield Problem("no-target", CONFIG, "target_modules", "modules of the base", f"{wanted}: none exists", fix)
        yield from lora_problems(self._layers, self._config, self._targets, self._modules)
        yield from self._token_problems()
        for key in self._keys:
            if key.method and key.part == "ia3_l":
                yield _foreign(key.entry)

    def _token_problems(self) -> Iterator[Problem]:
        declared = self._config.trainable_token_indices
        for key in (key for key in self._keys if key.part == "token_delta"):
            module = self._modules.find(key.path)
            if declared is None:
                fix = "Set trainable_token_indices, or remove it."
                yield Problem("not-targeted", WEIGHTS, key.entry.name, "no trained tokens", "a delta of some", fix)
                continue
            counts = [count for name, count in declared.items() if not name or key.path.endswith(name)]
            width = module.shape[1] if module and module.shape else key.entry.shape[-1]
            expected = [(count, width) for count in counts or declared.values()]
            if tuple(key.entry.shape) not in expected:
                want = f"{list(expected[0])}: trained tokens by the base's width"
                yield Problem("shape-mismatch", WEIGHTS, key.entry.name, want, f"{list(key.entry.shape)}", RESAVE)

    def _ia3_problems(self) -> Iterator[Problem]:
        scaled = {key.path for key in self._keys if key.part == "ia3_l"}
        for key in self._keys:
            if key.part != "ia3_l":
                if key.method:
                    yield _foreign(key.entry)
                continue
            module = self._modules.find(key.path)
            fix = "Name the base it was trained on with --base."
            if module is None:
                yield Problem("module-not-in-base", WEIGHTS, key.path, "a module of the base", "no such module", fix)
            elif module.shape is not None and not self._ia3_fits(key, module.shape):
                want = f"a vector for a weight {list(module.shape)}"
                yield Problem("shape-mismatch", WEIGHTS, key.path, want, f"ia3_l {list(key.entry.shape)}", fix)
        if self._targets.modules is not None and self._targets.complete:
            for path in sorted(self._targets.modules - scaled):
                fix = f"{RESAVE} Its config targets this module."
                yield Problem("missing-tensors", WEIGHTS, path, "ia3_l of it", "none", fix)
            for path in sorted(scaled - self._targets.modules):
                fix = "Add it to target_modules, or remove its tensor: PEFT would ignore it."
                yield Problem("not-targeted", WEIGHTS, path, "a module that the config targets", "a vector of it", fix)

    def _ia3_fits(self, key: Key, shape: tuple[int, ...]) -> bool:
        reads, writes = (shape[0], shape[1]) if self._modules.conv1d else (shape[1], shape[0])
        names = self._config.feedforward_modules
        if isinstance(names, str) or names is None:
            return key.entry.shape[:2] in ((1, reads), (writes, 1))
        feedforward = any(key.path == name or key.path.endswith(f".{name}") for name in names)
        return key.entry.shape[:2] == ((1, reads) if feedforward else (writes, 1))

    def _unmodelled_problems(self) -> Iterator[Problem]:
        """Methods we do not model: no base weight is overwritten, and every module exists."""
        for key in self._keys:
            name = f"{key.path}.{key.part}"
            if name in self._modules.tensors and not key.method and declared_by(key.path, self._config) is None:
                yield from full_problems([key], self._config, self._modules, set(), self._digest_as)
            elif not self._belongs(key) and self._config.peft_type not in PROMPT_TYPES:
                fix = "Name the base it was trained on with --base."
                yield Problem("module-not-in-base", WEIGHTS, key.entry.name, "a module of the base", "none of it", fix)

    def _belongs(self, key: Key) -> bool:
        parts = f"{key.path}.{key.part}".split(".")
        prefixes = {".".join(parts[:i]) for i in range(1, len(parts) + 1)}
        if prefixes & self._modules.by_path.keys() or declared_by(key.path, self._config):
            return True
        # A method may sit on a module that holds no weight itself, e.g. an attention block.
        parent = next((p for p in sorted(prefixes, key=len, reverse=True) if len(p.split(".")) > 1), "")
        parents = {".".join(path.split(".")[:-1]) for path in self._modules.by_path}
        return bool(prefixes & parents) and bool(parent)

    def _depth_problems(self) -> Iterator[Problem]:
        made = sum(end - start for start, end in self._config.layer_replication)
        depth = self._modules.depth
        if made > 4 * max(depth, 1):
            fix = "Set it to what the adapter was trained with, or leave it out."
            found = f"{made:,} layers from {depth}"
            yield Problem("too-many-layers", CONFIG, "layer_replication", "at most four times the layers", found, fix)

    def _value_problems(self) -> Iterator[Problem]:
        # numpy is needed for values only, and listing adapters must not import it.
        from adapter_registry.checkpoints import values  # noqa: PLC0415

        changing, zero = False, True
        with self._file.open() as stream:
            for entry in self._header.tensors:
                if entry.dtype not in values.FLOATS:
                    zero = False
                    changing = True
                    if self._config.peft_type in MODELLED:
                        yield Problem("not-float", WEIGHTS, entry.name, "a float type", entry.dtype, RESAVE)
                    continue
                found = values.examine(stream, entry)
                if found.not_finite:
                    told = f"{found.not_finite:,} of {size_of(entry.shape):,} values NaN or infinite"
                    yield Problem(
                        "not-finite", WEIGHTS, entry.name, "finite values", told, "Train it again, or repair it."
                    )
                zero = zero and found.all_zero
                changing = changing or self._changes(entry, found)
        self._nonzero = changing
        if zero:
            fix = "It was saved without its values: save it again from the trained model."
            yield Problem("zero-weights", WEIGHTS, "", "values", "zeros in every tensor", fix)

    def _changes(self, entry: TensorEntry, found: Values) -> bool:
        """Whether this tensor makes the adapter change something: for LoRA, a factor that writes, or a full weight."""
        if self._config.peft_type == "IA3":
            return not found.all_one
        if self._config.peft_type == "LORA":
            reads = any(
                part in entry.name for part in (".lora_A", ".lora_embedding_A", ".lora_magnitude", ".base_layer.")
            )
            return not reads and not found.all_zero
        return not found.all_zero

    def _digest_as(self, key: Key, dtype: str) -> str | None:
        from adapter_registry.checkpoints import values  # noqa: PLC0415

        with self._file.open() as stream:
            return values.digest_as(stream, key.entry, dtype)

    def notices(self) -> Iterator[Notice]:
        if self._targets.absent:
            names = ", ".join(self._targets.absent[:8])
            text = f"names no module of the base: {names}; PEFT ignores it"
            yield Notice("absent-targets", CONFIG, "target_modules", text)
        if self._modules.prefix:
            sign, name = self._modules.prefix[0], self._modules.prefix[1:]
            how = f"{'have' if sign == '+' else 'lack'} the prefix {name!r} beside the checkpoint's tensor names"
            yield Notice("prefix", WEIGHTS, "", f"its module names {how}")
        if not self._nonzero:
            yield Notice("changes-nothing", WEIGHTS, "", "it changes nothing: it was saved before any training step")
        if any(resized(key, self._modules) for key in self._keys):
            text = "its embeddings have another number of rows than the base's: a resized vocabulary"
            yield Notice("vocabulary-resized", WEIGHTS, "", text)
        absent = [n for n in self._config.modules_to_save if not self._saved(n)]
        if absent:
            yield Notice("absent-saved", CONFIG, "modules_to_save", f"not in the file: {', '.join(absent[:8])}")
        packed = any(m.shape is None for layer in self._layers if (m := self._modules.find(module_path(layer.path))))
        if packed:
            yield Notice(
                "packed-base", WEIGHTS, "", "the base is quantised: module names were checked, sizes could not be"
            )
        if self._config.peft_type not in MODELLED:
            text = "compatibility was checked by names and shapes only: this method is not modelled here"
            yield Notice("not-modelled", CONFIG, "peft_type", text)

    def _saved(self, name: str) -> bool:
        return any(not key.method and declared_by(key.path, self._config) == name for key in self._keys)

    def description(self) -> Description:
        config = self._config
        ranks, scaling, rank = ranks_and_scalings(self._layers, config, self._targets, self._modules)
        adapted = {module_path(layer.path) for layer in self._layers} | {
            key.path for key in self._keys if key.part == "ia3_l"
        }
        kinds = Counter(path.rpartition(".")[2] for path in adapted)
        names = {path.rpartition(".")[2] for path in adapted}
        candidates = [m for m in self._modules.by_path.values() if m.kind in names and m.adaptable]
        saved = {
            declared_by(key.path, config) or key.path for key in self._keys if not key.method and not key.base_layer
        }
        lora = config.peft_type == "LORA"
        return Description(
            peft_type=config.peft_type,
            variant=config.variant,
            task_type=config.task_type,
            rank=rank if lora else None,
            ranks=ranks if lora else {},
            alpha=config.lora_alpha if lora else None,
            scaling=scaling if lora else {},
            target_modules=self._described_targets(),
            matched=dict(sorted(kinds.items())),
            modules=len(adapted),
            candidates=max(len(candidates), len(adapted)),
            saved_modules=tuple(sorted(saved)) if config.peft_type in MODELLED else (),
            dtype="+".join(sorted({entry.dtype for entry in self._header.tensors})),
            parameters=sum(size_of(entry.shape) for entry in self._header.tensors),
            nonzero=self._nonzero,
            vocab_resized=any(resized(key, self._modules) for key in self._keys),
            checked="full" if config.peft_type in MODELLED else "names and shapes only",
        )

    def _described_targets(self) -> tuple[str, ...]:
        wanted = self._config.target_modules
        if isinstance(wanted, str):
            return (wanted,)
        return tuple(sorted({*(wanted or ()), *self._config.target_parameters}))


def _foreign(entry: TensorEntry) -> Problem:
    expected = "a name that PEFT gives: base_model.model.<module>.<part>"
    fix = "Save the adapter with PEFT's save_pretrained; PEFT would ignore this tensor."
    return Problem("foreign-tensor", WEIGHTS, entry.name, expected, "another name", fix)


def _grouped(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Of many like problems the first few, and a count of the rest."""
    groups: defaultdict[tuple[str, str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        groups[problem.code, problem.file, problem.fix].append(problem)
    for (code, file, fix), alike in groups.items():
        yield from alike[:GROUPED]
        if len(alike) > GROUPED:
            more = len(alike) - GROUPED
            yield Problem(code, file, f"{more} more tensors or fields", "the same", "the same problem", fix)
