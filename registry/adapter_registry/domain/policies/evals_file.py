"""The shape of `evals` in a policy's document: single rules, and groups of rules with demands on the evidence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from adapter_registry.domain.document_file import Part
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.evidence.suite import parse as parse_suite
from adapter_registry.domain.policies import evals as rules
from adapter_registry.domain.policies.evals import Bound, Comparison, Demands, EvalGroup, Evals, Margin

_AGE = re.compile(r"([1-9][0-9]{0,3})([dh])")
_DEMANDS = {"suite", "verified", "max_age", "min_samples", "full_run"}
_LISTS = {"absolute", "relative"}
_TESTING = {"test", "margin", "min_effect", "confidence", "against", "waive_if"}


class Rule(Part):
    """A bound or a test on one metric."""

    metric: str | None = Field(default=None, min_length=1, max_length=256)
    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)
    test: Literal["non-inferior", "superior"] | None = None
    margin: float | str | None = None
    min_effect: float | str | None = None
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    against: Literal["incumbent", "base", "parents"] = "incumbent"
    waive_if: Literal["no-incumbent"] | None = None

    @field_validator("margin", "min_effect")
    @classmethod
    def _is_margin(cls, margin: float | str | None) -> float | str | None:
        if margin is not None:
            _margin(margin)
        return margin

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        wanted = [text for wrong, text in self._contradictions() if wrong]
        if wanted:
            raise PydanticCustomError("rule", "{text}", {"text": "; ".join(wanted)})
        return self

    def _contradictions(self) -> Iterator[tuple[bool, str]]:
        yield self.metric is None, "a metric"
        yield from self._of_one_rule()

    def _of_one_rule(self) -> Iterator[tuple[bool, str]]:
        given = self.model_fields_set
        bounded, tested = bool({"min", "max"} & given), "test" in given
        yield bounded == tested, "either a bound (min, max) or a test, and not both"
        yield bounded and bool(_TESTING & given), "min and max only, no test"
        yield bounded and "*" in (self.metric or ""), "one metric by its full name for a bound"
        yield self.min is not None and self.max is not None and self.min > self.max, "a min that is not above max"
        yield (
            self.test == "non-inferior" and self.margin is None,
            "a margin: how much worse is still acceptable, e.g. 2%",
        )
        yield self.min_effect is not None and self.test != "superior", "min_effect only with test: superior"
        yield self.min_effect is not None and self.margin is not None, "margin or min_effect: they are one for superior"
        yield self.against != "incumbent" and self.waive_if is not None, f"no waive_if against {self.against}"

    def bound(self, *, shadow: bool) -> Bound:
        """The bound that it is."""
        return Bound(str(self.metric), self.min, self.max, shadow=shadow)

    def comparison(self, *, shadow: bool) -> Comparison:
        """The test that it is."""
        waive = rules.WaiveIf(self.waive_if) if self.waive_if else None
        margin = next((_margin(each) for each in (self.margin, self.min_effect) if each is not None), _margin(0.0))
        test, whom = rules.Test(str(self.test)), rules.Against(self.against)
        return Comparison(str(self.metric), test, margin, self.confidence, waive, whom, shadow)


class Eval(Rule):
    """One entry of `evals`: `any: true`, a rule, or a group with demands."""

    any: Literal[True] | None = None
    shadow: bool | list[Rule] = False
    suite: str | None = None
    verified: bool = False
    max_age: str | None = None
    min_samples: int | dict[str, int] | None = None
    full_run: bool = False
    absolute: list[Rule] = Field(default=[], max_length=1000)
    relative: list[Rule] = Field(default=[], max_length=1000)

    @property
    def is_group(self) -> bool:
        """Whether it holds rules of its own."""
        return bool((_DEMANDS | _LISTS) & self.model_fields_set) or isinstance(self.shadow, list)

    @field_validator("suite")
    @classmethod
    def _is_suite(cls, suite: str | None) -> str | None:
        try:
            parse_suite(suite or "")
        except InvalidInput as invalid:
            raise PydanticCustomError("suite", "a suite such as core@3, or core for its newest version") from invalid
        return suite

    @field_validator("max_age")
    @classmethod
    def _is_age(cls, age: str | None) -> str | None:
        if age is not None and not _AGE.fullmatch(age):
            raise PydanticCustomError("age", "days or hours such as 30d or 12h")
        return age

    @field_validator("min_samples")
    @classmethod
    def _are_counts(cls, fewest: int | dict[str, int] | None) -> int | dict[str, int] | None:
        counts = fewest.values() if isinstance(fewest, dict) else [fewest]
        if not all(isinstance(each, int) and each > 0 for each in counts):
            raise PydanticCustomError("samples", "numbers above 0, one for all tasks or one per task")
        return fewest

    def _contradictions(self) -> Iterator[tuple[bool, str]]:
        given = self.model_fields_set
        if self.is_group:
            single = given & {"metric", "min", "max", *_TESTING}
            yield bool(single), "either one rule, or a group with its rules in absolute, relative and shadow"
            yield isinstance(self.shadow, bool) and self.shadow, "a list of rules under shadow in a group"
            yield any(each.test is not None for each in self.absolute), "bounds only under absolute"
            yield any(each.test is None for each in self.relative), "tests only under relative"
            return
        yield bool(self.any) and given != {"any"}, "'any: true' on its own"
        yield not self.any and self.metric is None, "a metric, or 'any: true'"
        if not self.any:
            yield from self._of_one_rule()

    def group(self) -> EvalGroup:
        """The group that it is."""
        shadows = self.shadow if isinstance(self.shadow, list) else []
        bounds = [(each, False) for each in self.absolute] + [(each, True) for each in shadows if each.test is None]
        tests = [(each, False) for each in self.relative] + [(each, True) for each in shadows if each.test is not None]
        return EvalGroup(
            Demands(self.suite or "", self.verified, _seconds(self.max_age), self._fewest(), self.full_run),
            bool(self.any),
            tuple(each.bound(shadow=shadow) for each, shadow in bounds),
            tuple(each.comparison(shadow=shadow) for each, shadow in tests),
        )

    def _fewest(self) -> dict[str, int]:
        fewest = self.min_samples or {}
        return {rules.EVERY_TASK: fewest} if isinstance(fewest, int) else dict(sorted(fewest.items()))


def evals(asked: list[Eval]) -> Evals:
    """What the entries of `evals` ask together."""
    single = [each for each in asked if not each.is_group]
    return Evals(
        any=any(each.any for each in single),
        bounds=tuple(e.bound(shadow=bool(e.shadow)) for e in single if not e.any and e.test is None),
        comparisons=tuple(e.comparison(shadow=bool(e.shadow)) for e in single if e.test is not None),
        groups=tuple(each.group() for each in asked if each.is_group),
    )


def _seconds(age: str | None) -> int | None:
    found = _AGE.fullmatch(age or "")
    return int(found[1]) * (rules.DAY if found[2] == "d" else rules.HOUR) if found else None


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
