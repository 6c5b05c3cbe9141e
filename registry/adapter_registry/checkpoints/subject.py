"""One adapter beside one base: its tensors by name, where they sit, and what its config selects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from adapter_registry.checkpoints.adapter_files import Source
from adapter_registry.checkpoints.adapter_keys import PROMPT_WRAPPER, WRAPPER, Key, read_keys
from adapter_registry.checkpoints.full_weights import DigestAs, full_problems, in_base, is_embedding, resized
from adapter_registry.checkpoints.header import Header, TensorEntry
from adapter_registry.checkpoints.ia3 import PART, ia3_problems
from adapter_registry.checkpoints.lora import Place, layers_of, lora_problems, places_of
from adapter_registry.checkpoints.modules import Modules, modules_of
from adapter_registry.checkpoints.naming import namings
from adapter_registry.checkpoints.other_methods import other_problems, owner_of
from adapter_registry.checkpoints.prompts import EMBEDDINGS, MULTITASK, prompt_problems
from adapter_registry.checkpoints.targets import Targets, targets_of
from adapter_registry.checkpoints.tokens import token_problems
from adapter_registry.domain.base import Base
from adapter_registry.domain.errors import Problem
from adapter_registry.domain.peft.config import AdapterConfig
from adapter_registry.domain.peft.fields import CONFIG, PROMPT_TYPES, WEIGHTS

NO_BASE_MODULE = frozenset({"module-not-in-base", "missing-tensors", "not-targeted", "would-overwrite-base"})
"""Problems that another naming of the base's tensors may solve."""


@dataclass(frozen=True, slots=True)
class Subject:
    """An adapter beside a base.

    Attributes:
        config: as read.
        entries: its tensors.
        file: the weight file.
        keys: tensors that belong to a module, by name.
        foreign: tensors whose names do not begin as PEFT's do.
        modules: of the base, under the adapter's names.
        targets: what the config selects.
        places: where the LoRA layers sit; empty for other methods.
        resized: embeddings saved with another number of rows than the base's.
    """

    config: AdapterConfig
    entries: tuple[TensorEntry, ...]
    file: Source
    keys: tuple[Key, ...]
    foreign: tuple[TensorEntry, ...]
    modules: Modules
    targets: Targets
    places: tuple[Place, ...]
    resized: dict[str, tuple[int, ...]]

    @property
    def adapted(self) -> set[str]:
        """Live paths of the modules with tensors of the method."""
        if self.config.peft_type == "LORA":
            return {place.name.removesuffix(".weight") for place in self.places}
        if self.config.peft_type == "IA3":
            return {key.module for key in self.keys if key.part == PART}
        return {module.path for key in self.keys if (module := owner_of(key, self.modules)) is not None}

    def digest_as(self, key: Key, dtype: str) -> str | None:
        """BLAKE3 of a full parameter's values in `dtype`; None when that would round them."""
        # numpy and blake3 are needed for values only, and listing adapters must not import them.
        from adapter_registry.checkpoints import values  # noqa: PLC0415

        with self.file.open() as stream:
            return values.digest_as(stream, key.entry, dtype)


def subject_of(config: AdapterConfig, header: Header, base: Base, file: Source) -> Subject:
    """The adapter beside the base, under the naming of the base's tensors that leaves the fewest names unexplained."""
    prompt = config.peft_type in PROMPT_TYPES
    keys, foreign = read_keys(header.tensors, PROMPT_WRAPPER if prompt else WRAPPER)
    paths = sorted({key.module for key in keys if key.method or is_embedding(key.module)})
    named = [] if prompt else sorted({key.module for key in keys})
    best, fewest = None, -1
    for naming in namings(base, named, config.layer_replication):
        modules = modules_of(base, naming)
        targets = targets_of(config, modules, paths)
        grown = resized(keys, modules)
        layers = layers_of(keys) if config.peft_type == "LORA" else []
        places = places_of(layers, config, targets, modules, grown)
        subject = Subject(
            config, header.tensors, file, tuple(keys), tuple(foreign), modules, targets, tuple(places), grown
        )
        unexplained = sum(problem.code in NO_BASE_MODULE for problem in structure_problems(subject, _unread(modules)))
        if best is None or unexplained < fewest:
            best, fewest = subject, unexplained
        if not fewest:
            break
    if best is None:
        raise ValueError("there is always a first naming")
    return best


def _unread(modules: Modules) -> DigestAs:
    """For choosing a naming: embeddings are large, and their bytes say nothing about names."""

    def digest_as(key: Key, _: str) -> str | None:
        base = in_base(key, modules)
        return base.digest if base else None

    return digest_as


def structure_problems(subject: Subject, digest_as: DigestAs | None = None) -> Iterator[Problem]:
    """Everything wrong with names, shapes and full parameters, whose bytes `digest_as` tells if given."""
    digest_as = digest_as or subject.digest_as
    kind, config, modules = subject.config.peft_type, subject.config, subject.modules
    yield from subject.targets.problems
    if kind in PROMPT_TYPES:
        methods = [key.entry for key in subject.keys if key.method]
        yield from prompt_problems((*subject.foreign, *methods), config, modules)
        yield from full_problems(subject.keys, config, modules, set(), digest_as)
        return
    if kind not in ("LORA", "IA3"):
        yield from other_problems(subject.keys, subject.foreign, config, modules, digest_as)
        return
    yield from _nothing_targeted(subject)
    yield from _foreign_problems(subject)
    if kind == "LORA":
        yield from lora_problems(subject.places, config, subject.targets, modules)
        yield from token_problems(subject.keys, config, modules, subject.resized)
    else:
        yield from ia3_problems(subject.keys, config, subject.targets, modules)
    yield from full_problems(subject.keys, config, modules, subject.adapted, digest_as)


def _nothing_targeted(subject: Subject) -> Iterator[Problem]:
    selected = subject.targets.modules
    if selected == frozenset() and not subject.targets.parameters and not subject.adapted:
        wanted = ", ".join(described_targets(subject.config)) or "nothing"
        fix = "Name the base it was trained on with --base."
        yield Problem("no-target", CONFIG, "target_modules", "modules of the base", f"{wanted}: none exists", fix)


def _foreign_problems(subject: Subject) -> Iterator[Problem]:
    lora = subject.config.peft_type == "LORA"
    others = [key.entry for key in subject.keys if key.method and (key.part == PART) == lora]
    for entry in (*subject.foreign, *others):
        expected = "a name that PEFT gives: base_model.model.<module>.<part>"
        fix = "Save the adapter with PEFT's save_pretrained; PEFT would ignore this tensor."
        yield Problem("foreign-tensor", WEIGHTS, entry.name, expected, "another name", fix)


def described_targets(config: AdapterConfig) -> Sequence[str]:
    """Targets as configured: a list's entries sorted, or the one regular expression."""
    wanted = config.target_modules
    if isinstance(wanted, str):
        return (wanted,)
    return tuple(sorted({*(wanted or ()), *config.target_parameters}))


def method_names(subject: Subject) -> set[str]:
    """Names of the tensors that belong to the method, as against full parameters."""
    if subject.config.peft_type in PROMPT_TYPES:
        return {EMBEDDINGS, *MULTITASK}
    return {key.entry.name for key in subject.keys if key.method}
