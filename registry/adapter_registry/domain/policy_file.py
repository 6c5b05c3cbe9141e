"""Policies as text: YAML or TOML in, every problem at once; YAML out.

Import it only where such text is handled: it brings pydantic and a YAML parser along.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from adapter_registry.domain import policy as rules
from adapter_registry.domain.errors import InvalidInput, InvalidReference, Problem
from adapter_registry.domain.lock import Level
from adapter_registry.domain.names import check_label
from adapter_registry.domain.policy import Bound, Comparison, Evals, Health, Margin, Policy
from adapter_registry.domain.stage import STAGES, check_stage

LARGEST_TEXT = 64 * 1024
"""Characters of a policy; real ones have a few hundred."""

DEEPEST = 12
"""Levels of nesting; a policy has five."""

NOT_YET = frozenset(
    {
        *("approvals", "auto_promote", "calibration", "each_group", "each_parent", "freeze", "from", "full_run"),
        *("integrity", "lanes", "max_age", "min_effect", "min_samples", "override", "relative", "absolute"),
        *("reverify_every", "rollback", "shadow", "signature", "scan", "soak", "suite", "verified", "every_parent"),
    }
)
"""Rules that a stage may ask for one day; until then they are refused by name, because ignoring one would pass it."""

_TOML_START = re.compile(r"\s*(\[[^\]]|[\"'\w.-]+\s*=)")


def read_policy(text: str, *, name: str = "policy") -> Policy:
    """The Policy written in `text`.

    Args:
        text: YAML (no anchors, aliases or tags) or TOML, in the shape that docs/policies.md describes.
        name: the file's name, for the problems.

    Raises:
        InvalidInput: `problems` lists everything that is wrong; unknown keys and rules that are not available in this
            release included, because a rule that is ignored always passes.
    """
    document = _parsed(text, name)
    if not isinstance(document, dict):
        raise _refused(name, [_problem(name, "", "a mapping with stage and require", _brief(document))])
    try:
        return _Document.model_validate(document).policy()
    except ValidationError as invalid:
        raise _refused(name, [_told(name, error) for error in invalid.errors(include_url=False)]) from invalid


def to_yaml(policy: Policy) -> str:
    """The document as YAML, for people; `read_policy` reads it back to an equal policy."""
    return yaml.safe_dump(rules.document(policy), sort_keys=False, allow_unicode=True, width=100)


# Text


def _parsed(text: str, name: str) -> object:
    if len(text) > LARGEST_TEXT:
        size = f"{len(text):,} characters"
        raise _refused(name, [_problem(name, "", f"at most {LARGEST_TEXT:,} characters", size)])
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    try:
        return tomllib.loads(text) if _TOML_START.match(first) else _yaml(text, name)
    except tomllib.TOMLDecodeError as invalid:
        raise _refused(name, [_problem(name, "", "TOML", str(invalid))]) from invalid
    except (yaml.YAMLError, ValueError) as invalid:
        raise _refused(name, [_problem(name, "", "YAML", " ".join(str(invalid).split()))]) from invalid


def _yaml(text: str, name: str) -> object:
    problems = list(_unsafe(text, name))
    if not problems:
        problems = list(_repeated(yaml.compose(text, Loader=yaml.SafeLoader), name, ""))
    if problems:
        raise _refused(name, problems)
    return yaml.safe_load(text)


def _unsafe(text: str, name: str) -> Iterator[Problem]:
    """What is read from the flat stream of events, before anything is built from it."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = f"line {event.start_mark.line + 1}" if event.start_mark else ""
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if anchor:
            yield _problem(name, line, "no anchors and aliases", repr(anchor), "write the value out")
        if tag:
            yield _problem(name, line, "plain values without tags", repr(tag), "remove the tag")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            yield _problem(name, line, f"at most {DEEPEST} levels of nesting", "more")
            return


def _repeated(node: yaml.Node | None, name: str, path: str) -> Iterator[Problem]:
    """Keys that stand twice in one mapping, of which a parser would silently keep the last."""
    if isinstance(node, yaml.SequenceNode):
        for index, entry in enumerate(node.value):
            yield from _repeated(entry, name, _join(path, index))
    if isinstance(node, yaml.MappingNode):
        keys = Counter(str(key.value) for key, _ in node.value)
        for key in (key for key, times in keys.items() if times > 1 or key == "<<"):
            yield _problem(name, _join(path, key), "each key once, none of them <<", f"{keys[key]} times {key!r}")
        for key, value in node.value:
            yield from _repeated(value, name, _join(path, key.value))


# Shape


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Compatibility(_Part):
    verdict: list[Literal["exact", "equivalent"]] = Field(min_length=1)


class _Health(_Part):
    matched_modules: Literal["all", "some"] | None = None
    finite: bool = False
    nonzero: bool = False

    def health(self) -> Health:
        matched = rules.Matched(self.matched_modules) if self.matched_modules else None
        return Health(matched, finite=self.finite, nonzero=self.nonzero)


class _Eval(_Part):
    any: Literal[True] | None = None
    metric: str | None = Field(default=None, min_length=1, max_length=256)
    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)
    test: Literal["non-inferior", "superior"] | None = None
    margin: float | str | None = None
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    against: Literal["incumbent"] = "incumbent"
    waive_if: Literal["no-incumbent"] | None = None

    @field_validator("margin")
    @classmethod
    def _is_margin(cls, margin: float | str | None) -> float | str | None:
        if margin is not None:
            _margin(margin)
        return margin

    @model_validator(mode="after")
    def _is_one_rule(self) -> Self:
        wanted = [text for wrong, text in self._contradictions() if wrong]
        if wanted:
            raise PydanticCustomError("rule", "{text}", {"text": "; ".join(wanted)})
        return self

    def _contradictions(self) -> Iterator[tuple[bool, str]]:
        given = self.model_fields_set
        bounded, tested = {"min", "max"} & given, "test" in given
        yield bool(self.any) and given != {"any"}, "'any: true' on its own"
        yield not self.any and self.metric is None, "a metric, or 'any: true'"
        yield not self.any and bool(bounded) == tested, "either a bound (min, max) or a test, and not both"
        yield (
            bool(bounded) and bool({"margin", "confidence", "against", "waive_if"} & given),
            "min and max only, no test",
        )
        yield bool(bounded) and "*" in (self.metric or ""), "one metric by its full name for a bound"
        yield _crossed(self.min, self.max), "a min that is not above max"
        yield (
            self.test == "non-inferior" and self.margin is None,
            "a margin: how much worse is still acceptable, e.g. 2%",
        )

    def comparison(self) -> Comparison:
        waive = rules.WaiveIf(self.waive_if) if self.waive_if else None
        margin = _margin(self.margin if self.margin is not None else 0.0)
        return Comparison(str(self.metric), rules.Test(str(self.test)), margin, self.confidence, waive)


class _Require(_Part):
    compatibility: _Compatibility | None = None
    health: _Health | None = None
    metadata: list[str] = []
    evals: list[_Eval] = Field(default=[], max_length=1000)

    @field_validator("metadata")
    @classmethod
    def _are_labels(cls, metadata: list[str]) -> list[str]:
        for key in metadata:
            try:
                check_label(key, "-")
            except InvalidReference as invalid:
                text = f"label names, and {key!r} is none"
                raise PydanticCustomError("label", "{text}", {"text": text}) from invalid
        return list(dict.fromkeys(metadata))


class _Document(_Part):
    apiVersion: Literal["adapters/v1"]
    kind: Literal["StagePolicy"]
    stage: str
    require: _Require | None = None

    @field_validator("stage")
    @classmethod
    def _is_stage(cls, stage: str) -> str:
        try:
            return check_stage(stage)
        except InvalidReference as invalid:
            raise PydanticCustomError("stage", "{text}", {"text": " or ".join(STAGES)}) from invalid

    def policy(self) -> Policy:
        asked = self.require or _Require()
        levels = asked.compatibility.verdict if asked.compatibility else []
        evals = Evals(
            any=any(each.any for each in asked.evals),
            bounds=tuple(Bound(str(e.metric), e.min, e.max) for e in asked.evals if not e.any and e.test is None),
            comparisons=tuple(each.comparison() for each in asked.evals if each.test is not None),
        )
        verdicts = tuple(level for level in Level if level in levels)
        health = asked.health.health() if asked.health else None
        return Policy(self.stage, verdicts, health, tuple(asked.metadata), evals)


def _crossed(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and low > high


def _margin(written: float | str) -> Margin:
    """0.01, or 2% of the other side's value."""
    try:
        percent = isinstance(written, str) and written.endswith("%")
        amount = float(written[:-1]) / 100 if isinstance(written, str) and percent else float(written)
    except ValueError:
        amount = -1.0
    if not rules.is_amount(amount) or (isinstance(written, str) and not percent):
        raise PydanticCustomError("margin", "a number not below 0, or a percentage such as 2%")
    return Margin(amount, relative=percent)


# Problems


def _told(name: str, error: ErrorDetails) -> Problem:
    location = [part for part in error["loc"] if not str(part).startswith(("function-", "literal[", "list["))]
    path = ".".join(str(part) for part in location)
    key = str(location[-1]) if location else ""
    if error["type"] == "extra_forbidden":
        return _unknown(name, path, key)
    if error["type"] == "missing":
        return _problem(name, path, f"a value for {key}", "nothing", f"add {_EXAMPLES.get(key, key + ': ...')}")
    expected = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return _problem(name, path, expected, _brief(error["input"]))


_EXAMPLES = {"apiVersion": "apiVersion: adapters/v1", "kind": "kind: StagePolicy", "stage": "stage: prod"}


def _unknown(name: str, path: str, key: str) -> Problem:
    if key in NOT_YET:
        fix = "remove it: it is refused instead of ignored, because a rule that is ignored always passes"
        return _problem(name, path, "a rule of this release", f"{key}, not available in this release", fix)
    known = sorted({field for part in _PARTS for field in part.model_fields})
    near = difflib.get_close_matches(key, known, n=1)
    return _problem(name, path, "a known key", repr(key), f"did you mean {near[0]}?" if near else "remove it")


_PARTS = (_Document, _Require, _Compatibility, _Health, _Eval)


def _problem(name: str, field: str, expected: str, found: str, fix: str = "correct it") -> Problem:
    return Problem(
        "policy-invalid", name, field, expected, found, fix[0].upper() + fix[1:] + ("" if fix.endswith("?") else ".")
    )


def _refused(name: str, problems: list[Problem]) -> InvalidInput:
    listed = "".join(f"\n  {problem}" for problem in problems)
    return InvalidInput(f"{name} is not a policy; nothing was changed:{listed}", problems=problems)


def _brief(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)
