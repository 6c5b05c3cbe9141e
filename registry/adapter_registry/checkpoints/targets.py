"""Which modules of the base a config targets, and which rank and scaling each gets: PEFT's matching, without PEFT."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from adapter_registry.checkpoints.limited_child import PatternTooExpensive
from adapter_registry.checkpoints.modules import EXPERT, OUTPUT_HEAD, Modules
from adapter_registry.checkpoints.patterns import Matches, Pattern, is_plain, match
from adapter_registry.domain.errors import Problem
from adapter_registry.domain.peft.config import AdapterConfig
from adapter_registry.domain.peft.fields import CONFIG

ALL_LINEAR = "all-linear"
_LAYER = re.compile(r".*?\.[^.]*\.(?P<idx>\d+)\.")
_NUMBERED = r"(?:^|.*?\.)" + "\0" + r"\.(?P<idx>\d+)\."


@dataclass(frozen=True, slots=True)
class Targets:
    """What a config selects in a base.

    Attributes:
        modules: live paths it adapts, where the config says; None when it leaves that to PEFT's defaults or to the
            classes of the live model (`all-linear`).
        parameters: module -> names of its parameters that `target_parameters` adapts.
        absent: entries of `target_modules` that no module of the base bears.
        feedforward: modules that `feedforward_modules` names.
        ranks: pattern -> names it matches, for `rank_pattern`, in order.
        alphas: the same for `alpha_pattern`.
        problems: patterns that are no patterns, or too expensive.
    """

    modules: frozenset[str] | None
    parameters: dict[str, tuple[str, ...]]
    absent: tuple[str, ...] = ()
    feedforward: frozenset[str] = frozenset()
    ranks: tuple[tuple[str, frozenset[str]], ...] = ()
    alphas: tuple[tuple[str, frozenset[str]], ...] = ()
    problems: tuple[Problem, ...] = ()

    def required(self, there: Iterable[str]) -> frozenset[str]:
        """Modules that must have tensors, given those that do.

        Experts are stored one by one and may be fused in the live model, where no list of modules reaches them.
        """
        wanted = self.modules or frozenset()
        return wanted if any(map(EXPERT.fullmatch, there)) else frozenset(p for p in wanted if not EXPERT.fullmatch(p))


class _Names:
    """Names that patterns are asked about; a plain pattern is answered by an index, any other by a child process."""

    def __init__(self, names: Iterable[str], containers: Iterable[str]) -> None:
        self.all = sorted(set(names))
        # What is no target can still make a pattern expensive: PEFT asks it about every module.
        self.asked = sorted({*self.all, *containers})
        self._endings: defaultdict[str, set[str]] = defaultdict(set)
        for name in self.all:
            parts = name.split(".")
            for i in range(len(parts)):
                self._endings[".".join(parts[i:])].add(name)

    def ending(self, text: str) -> frozenset[str]:
        """The names that are `text` or end with `.text`."""
        return frozenset(self._endings.get(text, ()))

    def among(self, names: Iterable[str]) -> frozenset[str]:
        return frozenset(names) & frozenset(self.all)


@dataclass(slots=True)
class _Questions:
    """Patterns that need a regex engine, collected so that one child answers them all."""

    patterns: list[Pattern] = field(default_factory=list)
    owners: list[tuple[str, str]] = field(default_factory=list)

    def ask(self, owner: str, texts: Iterable[str], form: str, *, full: bool = False, plain: bool = False) -> None:
        """Ask about each of `texts` that is no plain name, or about all of them."""
        for text in texts:
            if plain or not is_plain(text):
                self.patterns.append(Pattern(form.replace("\0", text), full=full))
                self.owners.append((owner, text))


_Answers = dict[tuple[str, str], dict[str, str | None]]


def targets_of(config: AdapterConfig, modules: Modules, paths: Sequence[str]) -> Targets:
    """What `config` selects among the modules of a base and the adapter's own `paths`."""
    adaptable = {path for path, module in modules.by_path.items() if module.adaptable}
    known = adaptable | {path for path in paths if modules.find(path) is not None}
    parameters = _parameters(config, modules)
    keys = {f"{owner}.{leaf}" for owner, leaves in parameters.items() for leaf in leaves}
    names = _Names(known | keys | _tied_heads(config, modules), modules.containers)
    answers, problems = _answers(config, names)
    selected, absent = _selected(config, names, answers)
    return Targets(
        modules=None if selected is None else selected - keys,
        parameters=parameters,
        absent=absent,
        feedforward=_named_by(config.feedforward_modules, "feedforward_modules", names, answers),
        ranks=tuple((key, _pattern_names(key, "rank_pattern", names, answers)) for key in config.rank_pattern),
        alphas=tuple((key, _pattern_names(key, "alpha_pattern", names, answers)) for key in config.alpha_pattern),
        problems=tuple(problems),
    )


def rank_of(path: str, config: AdapterConfig, targets: Targets) -> int:
    """`r` of a module or parameter, `rank_pattern` included: the first key that matches counts, as in PEFT."""
    return next((config.rank_pattern[key] for key, names in targets.ranks if path in names), config.r)


def scaling_of(path: str, config: AdapterConfig, targets: Targets) -> float:
    """What multiplies B·A of a module or parameter: alpha / r, or alpha / √r when rank-stabilised."""
    rank = rank_of(path, config, targets)
    alpha = next((config.alpha_pattern[key] for key, names in targets.alphas if path in names), config.lora_alpha)
    return alpha / (math.sqrt(rank) if config.use_rslora else rank)


def _parameters(config: AdapterConfig, modules: Modules) -> dict[str, tuple[str, ...]]:
    """Module -> its parameters that `target_parameters` names by their whole path or its end."""
    if not config.target_parameters:
        return {}
    names = _Names(modules.parameters, ())
    found: defaultdict[str, set[str]] = defaultdict(set)
    for text in config.target_parameters:
        for name in names.ending(text):
            owner, _, leaf = name.rpartition(".")
            found[owner].add(leaf)
    return {owner: tuple(sorted(leaves)) for owner, leaves in found.items()}


def _tied_heads(config: AdapterConfig, modules: Modules) -> set[str]:
    """A tied head has no tensor of its own, and can be targeted by its name all the same."""
    if not modules.tied or isinstance(config.target_modules, str | None):
        return set()
    return {name for name in config.target_modules if OUTPUT_HEAD.fullmatch(name)}


def _answers(config: AdapterConfig, names: _Names) -> tuple[_Answers, list[Problem]]:
    questions = _questions(config)
    try:
        answers = match(questions.patterns, names.asked)
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
    return {key: _only(each, names) for key, each in zip(questions.owners, answers, strict=True)}, problems


def _only(matches: Matches, names: _Names) -> dict[str, str | None]:
    among = names.among(matches.names)
    return {name: group for name, group in matches.names.items() if name in among}


def _questions(config: AdapterConfig) -> _Questions:
    questions = _Questions()
    for owner, value in (
        ("target_modules", config.target_modules),
        ("exclude_modules", config.exclude_modules),
        ("feedforward_modules", config.feedforward_modules),
    ):
        if isinstance(value, str) and not _is_all_linear(value):
            questions.ask(owner, [value], "\0", full=True, plain=True)
    questions.ask("rank_pattern", config.rank_pattern, r"(.*\.)?(" + "\0" + ")$")
    questions.ask("alpha_pattern", config.alpha_pattern, r"(.*\.)?(" + "\0" + ")$")
    questions.ask("rank_pattern", config.other_patterns, r"(.*\.)?(" + "\0" + ")$")
    questions.ask("modules_to_save", config.modules_to_save, r"(^|.*\.)" + "\0" + r"($|\..*)")
    if config.layers_to_transform:
        questions.ask("layers_pattern", config.layers_pattern, _NUMBERED)
    return questions


def _is_all_linear(text: str) -> bool:
    return text.lower() == ALL_LINEAR


def _selected(config: AdapterConfig, names: _Names, answers: _Answers) -> tuple[frozenset[str] | None, tuple[str, ...]]:
    wanted = config.target_modules
    if wanted is None or (not wanted and config.target_parameters):
        return (frozenset() if config.target_parameters else None), ()
    if isinstance(wanted, str) and _is_all_linear(wanted):
        return None, ()
    chosen = _named_by(wanted, "target_modules", names, answers)
    absent: tuple[str, ...] = ()
    if not isinstance(wanted, str):
        absent = tuple(sorted(entry for entry in set(wanted) if not names.ending(entry)))
        chosen = frozenset(_in_layers(config, chosen, answers))
    return chosen - _excluded(config, chosen, names, answers), absent


def _named_by(value: str | tuple[str, ...] | None, owner: str, names: _Names, answers: _Answers) -> frozenset[str]:
    if value is None:
        return frozenset()
    if isinstance(value, str):
        return frozenset(answers.get((owner, value), ()))
    return frozenset(name for entry in value for name in names.ending(entry))


def _excluded(config: AdapterConfig, chosen: frozenset[str], names: _Names, answers: _Answers) -> set[str]:
    out = set(_named_by(config.exclude_modules, "exclude_modules", names, answers))
    for entry in config.modules_to_save:
        if is_plain(entry):
            dotted = f".{entry}."
            out |= {name for name in chosen if dotted in f".{name}."}
        else:
            out |= answers.get(("modules_to_save", entry), {}).keys()
    return out


def _in_layers(config: AdapterConfig, chosen: frozenset[str], answers: _Answers) -> Iterable[str]:
    if config.layers_to_transform is None:
        return chosen
    return [name for name in chosen if _layer_number(name, config, answers) in config.layers_to_transform]


def _layer_number(name: str, config: AdapterConfig, answers: _Answers) -> int | None:
    if not config.layers_pattern:
        found = _LAYER.match(name)
        return int(found["idx"]) if found else None
    for text in config.layers_pattern:
        if is_plain(text):
            found = re.match(_NUMBERED.replace("\0", re.escape(text)), name)
            index = found["idx"] if found else None
        else:
            index = answers.get(("layers_pattern", text), {}).get(name)
        if index is not None:
            return int(index)
    return None


def _pattern_names(key: str, owner: str, names: _Names, answers: _Answers) -> frozenset[str]:
    return names.ending(key) if is_plain(key) else frozenset(answers.get((owner, key), ()))
