"""Which modules of the base a config targets, and which rank and scaling each gets: PEFT's matching, without PEFT."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from adapter_registry.checkpoints.modules import INPUT_EMBEDDING, OUTPUT_HEAD, Module, Modules
from adapter_registry.checkpoints.patterns import Pattern, PatternTooExpensive, is_plain, match
from adapter_registry.domain.errors import Problem
from adapter_registry.domain.peft import CONFIG, AdapterConfig

ALL_LINEAR = "all-linear"
_LAYER = re.compile(r".*?\.[^.]*\.(?P<idx>\d+)\.")


@dataclass(frozen=True, slots=True)
class Targets:
    """What a config selects in a base.

    Attributes:
        modules: live paths it adapts, where the config says; None when it leaves that to PEFT's defaults.
        absent: entries of `target_modules` that no module of the base bears.
        complete: whether every selected module must have tensors (not for `all-linear`, which PEFT resolves by class).
        ranks: pattern -> names it matches, for `rank_pattern`, in order.
        alphas: the same for `alpha_pattern`.
        saved: entries of `modules_to_save` that no module of the base bears.
        problems: patterns that are no patterns, or too expensive.
    """

    modules: frozenset[str] | None
    absent: tuple[str, ...] = ()
    complete: bool = True
    ranks: tuple[tuple[str, frozenset[str]], ...] = ()
    alphas: tuple[tuple[str, frozenset[str]], ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(slots=True)
class _Questions:
    """Patterns that need a regex engine, collected so that one child answers them all."""

    patterns: list[Pattern] = field(default_factory=list)
    owners: list[tuple[str, str]] = field(default_factory=list)

    def ask(self, owner: str, text: str, pattern: Pattern) -> None:
        self.patterns.append(pattern)
        self.owners.append((owner, text))


def targets_of(config: AdapterConfig, modules: Modules, paths: Sequence[str]) -> Targets:
    """What `config` selects among the modules of a base and the adapter's own `paths`."""
    adaptable = {path for path, module in modules.by_path.items() if module.adaptable}
    names = sorted(adaptable | set(paths) | _tied_head(config, modules))
    answers, problems = _answers(config, names)
    selected, absent, complete = _selected(config, modules, names, answers)
    return Targets(
        modules=selected,
        absent=absent,
        complete=complete,
        ranks=tuple((key, _named(key, names, answers, "rank_pattern")) for key in config.rank_pattern),
        alphas=tuple((key, _named(key, names, answers, "alpha_pattern")) for key in config.alpha_pattern),
        problems=tuple(problems),
    )


def rank_of(path: str, config: AdapterConfig, targets: Targets) -> int:
    """`r` of a module, `rank_pattern` included: the first key that matches counts, as in PEFT."""
    return next((config.rank_pattern[key] for key, names in targets.ranks if path in names), config.r)


def scaling_of(path: str, config: AdapterConfig, targets: Targets) -> float:
    """What multiplies B·A of a module: alpha / r, or alpha / √r when rank-stabilised."""
    rank = rank_of(path, config, targets)
    alpha = next((config.alpha_pattern[key] for key, names in targets.alphas if path in names), config.lora_alpha)
    return alpha / (math.sqrt(rank) if config.use_rslora else rank)


def _tied_head(config: AdapterConfig, modules: Modules) -> set[str]:
    """A tied head has no tensor of its own, and can be targeted by its name all the same."""
    if not modules.tied or isinstance(config.target_modules, str | None):
        return set()
    return {name for name in config.target_modules if OUTPUT_HEAD.fullmatch(name)}


def _answers(
    config: AdapterConfig, names: Sequence[str]
) -> tuple[dict[tuple[str, str], dict[str, str | None]], list[Problem]]:
    questions = _Questions()
    if isinstance(config.target_modules, str) and config.target_modules != ALL_LINEAR:
        questions.ask("target_modules", config.target_modules, Pattern(config.target_modules, full=True))
    if isinstance(config.exclude_modules, str):
        questions.ask("exclude_modules", config.exclude_modules, Pattern(config.exclude_modules, full=True))
    for owner, keys in (("rank_pattern", config.rank_pattern), ("alpha_pattern", config.alpha_pattern)):
        for key in keys:
            if not is_plain(key):
                questions.ask(owner, key, Pattern(rf"(.*\.)?({key})$", full=False))
    for name in config.modules_to_save:
        if not is_plain(name):
            questions.ask("modules_to_save", name, Pattern(rf"(^|.*\.){name}($|\..*)", full=False))
    for text in config.layers_pattern if config.layers_to_transform else ():
        questions.ask("layers_pattern", text, Pattern(rf"(?:^|.*?\.){text}\.(?P<idx>\d+)\.", full=False))
    try:
        answers = match(questions.patterns, names)
    except PatternTooExpensive:
        fields = ", ".join(sorted({owner for owner, _ in questions.owners}))
        fix = "Write plain module names, or a pattern without nested repetition."
        found = "no answer within a second"
        return {}, [Problem("pattern-too-expensive", CONFIG, fields, "patterns that match quickly", found, fix)]
    problems = [
        Problem("bad-pattern", CONFIG, owner, "a regular expression", f"{text[:80]!r}: {each.error}", "Correct it.")
        for (owner, text), each in zip(questions.owners, answers, strict=True)
        if each.error
    ]
    return {key: each.names for key, each in zip(questions.owners, answers, strict=True)}, problems


def _selected(
    config: AdapterConfig,
    modules: Modules,
    names: Sequence[str],
    answers: dict[tuple[str, str], dict[str, str | None]],
) -> tuple[frozenset[str] | None, tuple[str, ...], bool]:
    wanted = config.target_modules
    if wanted is None or (not wanted and config.target_parameters):
        return (frozenset() if config.target_parameters else None), (), True
    absent: tuple[str, ...] = ()
    if wanted == ALL_LINEAR:
        chosen = {path for path in names if _is_linear(modules.by_path.get(path))}
    elif isinstance(wanted, str):
        chosen = set(answers.get(("target_modules", wanted), {}))
    else:
        by_entry = {entry: {name for name in names if _ends(name, entry)} for entry in wanted}
        absent = tuple(sorted(entry for entry, found in by_entry.items() if not found))
        chosen = {name for found in by_entry.values() for name in found}
        chosen = _in_layers(config, chosen, answers)
    excluded = {name for name in chosen if _excluded(name, config, answers)}
    return frozenset(chosen - excluded), absent, wanted != ALL_LINEAR


def _is_linear(module: Module | None) -> bool:
    if module is None or not module.adaptable:
        return False
    return not (INPUT_EMBEDDING.fullmatch(module.path) or OUTPUT_HEAD.fullmatch(module.path))


def _ends(name: str, entry: str) -> bool:
    return name == entry or name.endswith(f".{entry}")


def _excluded(name: str, config: AdapterConfig, answers: dict[tuple[str, str], dict[str, str | None]]) -> bool:
    if isinstance(config.exclude_modules, str):
        if name in answers.get(("exclude_modules", config.exclude_modules), {}):
            return True
    elif any(_ends(name, entry) for entry in config.exclude_modules or ()):
        return True
    for entry in config.modules_to_save:
        if is_plain(entry):
            if re.match(rf"(^|.*\.){re.escape(entry)}($|\..*)", name):
                return True
        elif name in answers.get(("modules_to_save", entry), {}):
            return True
    return False


def _in_layers(
    config: AdapterConfig, chosen: set[str], answers: dict[tuple[str, str], dict[str, str | None]]
) -> set[str]:
    if config.layers_to_transform is None:
        return chosen
    kept = set()
    for name in chosen:
        number = _layer_number(name, config, answers)
        if number is not None and number in config.layers_to_transform:
            kept.add(name)
    return kept


def _layer_number(
    name: str, config: AdapterConfig, answers: dict[tuple[str, str], dict[str, str | None]]
) -> int | None:
    if not config.layers_pattern:
        found = _LAYER.match(name)
        return int(found["idx"]) if found else None
    for text in config.layers_pattern:
        index = answers.get(("layers_pattern", text), {}).get(name)
        if index is not None:
            return int(index)
    return None


def _named(
    key: str, names: Sequence[str], answers: dict[tuple[str, str], dict[str, str | None]], owner: str
) -> frozenset[str]:
    if is_plain(key):
        return frozenset(name for name in names if _ends(name, key))
    return frozenset(answers.get((owner, key), {}))
