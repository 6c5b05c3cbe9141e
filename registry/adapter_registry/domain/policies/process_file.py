"""The shape of a policy's process in its document: from, soak, approvals, freeze, rollback."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from adapter_registry.domain.document_file import Part
from adapter_registry.domain.errors import InvalidReference
from adapter_registry.domain.names import check_namespace, check_stage_name
from adapter_registry.domain.policies import process as rules
from adapter_registry.domain.policies.process import Duty, Mode, Process

_SPAN = re.compile(r"([1-9][0-9]{0,5})([dhm])")
MOST_GROUPS = 20
CHANGES = ("policy_change", "evidence_change", "incumbent_change")
"""What ends an approval. A policy may say so, and may not say less."""
CHECKED_GOING_BACK = ("compatibility", "integrity")
_SECONDS = {"d": rules.DAY, "h": rules.HOUR, "m": 60}


def seconds(text: str) -> int:
    """A time span as a policy writes it; raises PydanticCustomError for anything else."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise PydanticCustomError("span", "a time span: 30m, 24h or 7d")
    return int(found[1]) * _SECONDS[found[2]]


def _stage(text: str) -> str:
    try:
        return check_stage_name(text)
    except InvalidReference as invalid:
        lane = ", and no lane: what has to be in one first needs a stage of its own" if "." in text else ""
        raise PydanticCustomError("stage", "{text}", {"text": f"the name of a stage{lane}"}) from invalid


def _group(text: str) -> str:
    name = text.removeprefix(rules.GROUP)
    try:
        if name == text:
            raise InvalidReference(text)
        return check_namespace(name)
    except InvalidReference as invalid:
        raise PydanticCustomError("group", "groups of accounts, written group:NAME") from invalid


class From(Part):
    """`from`."""

    stages: list[str] = Field(min_length=1)
    mode: Literal["all", "one-of"] = "all"
    hotfix: list[str] = Field(default=[])

    @field_validator("stages", "hotfix")
    @classmethod
    def _are_stages(cls, stages: list[str]) -> list[str]:
        return [_stage(each) for each in stages]


class Soak(Part):
    """`soak`."""

    in_: str = Field(alias="in")
    min: str

    @model_validator(mode="after")
    def _makes_sense(self) -> Soak:
        _stage(self.in_)
        seconds(self.min)
        return self


class Approvals(Part):
    """`approvals`."""

    count: int = Field(ge=1, le=20)
    from_: list[str] = Field(default=[], alias="from", max_length=MOST_GROUPS)
    each_group: int = Field(default=0, ge=0, le=5)
    not_: list[Literal["author", "requester", "last-editor-of-evidence"]] = Field(
        default=["author", "requester", "last-editor-of-evidence"], alias="not"
    )
    decline_blocks: bool = True
    expire_after: str = "7d"
    stale_on: list[Literal["policy_change", "evidence_change", "incumbent_change"]] | None = None

    @field_validator("stale_on")
    @classmethod
    def _all_of_them(cls, given: list[str] | None) -> list[str] | None:
        if given is not None and len(set(given)) < len(CHANGES):
            text = f"all of {', '.join(CHANGES)}: any of them ends an approval, whatever a policy says"
            raise PydanticCustomError("stale_on", "{text}", {"text": text})
        return given

    @model_validator(mode="after")
    def _makes_sense(self) -> Approvals:
        for each in self.from_:
            _group(each)
        seconds(self.expire_after)
        if self.each_group * len(self.from_) > self.count or (self.each_group and not self.from_):
            raise PydanticCustomError("each", "a count that each_group approvals of every group in `from` fit into")
        return self

    def approvals(self) -> rules.Approvals:
        """As the domain has it."""
        excluded = tuple(duty for duty in Duty if duty in self.not_)
        groups = tuple(dict.fromkeys(_group(each) for each in self.from_))
        expire = seconds(self.expire_after)
        return rules.Approvals(self.count, groups, self.each_group, excluded, self.decline_blocks, expire)


class Freeze(Part):
    """`freeze`."""

    respect: bool = True
    rollback_exempt: bool = True


class Rollback(Part):
    """`rollback`."""

    window: int | None = Field(default=None, ge=1, le=1000)
    requires: list[Literal["compatibility", "integrity"]] | None = None
    approvals: Literal[0] = 0
    reason: Literal["required", "optional"] = "optional"
    hold: bool = True

    @field_validator("requires")
    @classmethod
    def _both(cls, given: list[str] | None) -> list[str] | None:
        if given is not None and len(set(given)) < len(CHECKED_GOING_BACK):
            text = f"both of {', '.join(CHECKED_GOING_BACK)}: going back always checks them, and nothing else"
            raise PydanticCustomError("requires", "{text}", {"text": text})
        return given


class Override(Part):
    """`override`."""

    who: str | list[str] = Field(default=[])
    approvals: int = Field(ge=0, le=20)
    reason: Literal["required"] = "required"
    ticket: Literal["required", "optional"] = "required"
    ttl: str = "24h"
    rules_named_one_by_one: Literal[True] = True
    never: list[str] = Field(default=list(rules.NEVER), max_length=100)

    @model_validator(mode="after")
    def _makes_sense(self) -> Override:
        seconds(self.ttl)
        if len(self.groups) > MOST_GROUPS:
            raise PydanticCustomError("who", "at most 20 groups")
        for each in self.groups:
            _group(each)
        if lacking := [rule for rule in rules.NEVER if rule not in self.never]:
            text = f"never to hold {', '.join(rules.NEVER)}, and {lacking[0]} is missing"
            raise PydanticCustomError("never", "{text}", {"text": text})
        return self

    @property
    def groups(self) -> list[str]:
        """`who`, as a list."""
        return [self.who] if isinstance(self.who, str) else self.who

    def overriding(self) -> rules.Overriding:
        """As the domain has it."""
        groups = tuple(dict.fromkeys(_group(each) for each in self.groups))
        never = tuple(dict.fromkeys((*rules.NEVER, *self.never)))
        return rules.Overriding(self.approvals, groups, self.ticket == "required", seconds(self.ttl), never)


PARTS = (From, Soak, Approvals, Freeze, Rollback, Override)


def process(
    *,
    source: From | None,
    soak: Soak | None,
    approvals: Approvals | None,
    freeze: Freeze | None,
    rollback: Rollback | None,
    override: Override | None = None,
) -> Process:
    """The process that these parts of a document describe."""
    frozen, back = freeze or Freeze(), rollback or Rollback()
    return Process(
        rules.Sources(tuple(source.stages), Mode(source.mode), tuple(source.hotfix)) if source else None,
        rules.Soak(soak.in_, seconds(soak.min)) if soak else None,
        approvals.approvals() if approvals else None,
        rules.Freezing(frozen.respect, frozen.rollback_exempt),
        rules.Rollbacks(back.window, back.reason == "required", back.hold),
        overriding=override.overriding() if override else None,
    )
