"""Policies as text: YAML or TOML in, every problem at once; YAML out.

Import it only where such text is handled: it brings pydantic and a YAML parser along.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, Self

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from adapter_registry.domain.document_file import LARGEST_TEXT as LARGEST_TEXT
from adapter_registry.domain.document_file import Part, brief, parsed, problem, refused, told
from adapter_registry.domain.errors import InvalidInput, InvalidReference
from adapter_registry.domain.integrity.scan import OWN
from adapter_registry.domain.lock import Level
from adapter_registry.domain.names import check_label, check_stage_name
from adapter_registry.domain.policies import policy as rules
from adapter_registry.domain.policies import process_file as way
from adapter_registry.domain.policies.evals_file import Eval, Rule, evals
from adapter_registry.domain.policies.integrity import ANY_KEY, CLEAN, Integrity, Scanners, Signers
from adapter_registry.domain.policies.policy import Health, Policy
from adapter_registry.domain.policies.process import Process
from adapter_registry.domain.servable_rules import parse as parse_stack

INSTEAD = {
    "calibration": "measure its error and bound it as any metric: evals: [{metric: TASK/ece, max: 0.05}]",
}
"""What people look for and what there is in its place; refused by name, because a rule that is ignored passes."""


def read_policy(text: str, *, name: str = "policy") -> Policy:
    """The Policy written in `text`.

    Args:
        text: YAML (no anchors, aliases or tags) or TOML, in the shape that docs/policies.md describes.
        name: the file's name, for the problems.

    Raises:
        InvalidInput: `problems` lists everything that is wrong; unknown keys and rules that are not available in this
            release included, because a rule that is ignored always passes.
    """
    document = parsed(text, name)
    if not isinstance(document, dict):
        raise refused(name, [problem(name, "", "a mapping with stage and require", brief(document))])
    try:
        return _Document.model_validate(document).policy()
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False)
        raise refused(name, [told(name, error, parts=_PARTS, instead=INSTEAD) for error in errors]) from invalid


def to_yaml(policy: Policy) -> str:
    """The document as YAML, for people; `read_policy` reads it back to an equal policy."""
    return yaml.safe_dump(rules.document(policy), sort_keys=False, allow_unicode=True, width=100)


# Shape


def _span(text: str | None) -> str | None:
    if text is not None:
        way.seconds(text)
    return text


class _Compatibility(Part):
    verdict: list[Literal["exact", "equivalent"]] = Field(min_length=1)

    @field_validator("verdict", mode="before")
    @classmethod
    def _known(cls, given: object) -> object:
        """`declared-equivalent` is part of `equivalent`: a quantised copy, which somebody has to declare."""
        if not isinstance(given, list):
            return given
        return ["equivalent" if each == "declared-equivalent" else each for each in given]


class _Health(Part):
    matched_modules: Literal["all", "some"] | None = None
    finite: bool = False
    nonzero: bool = False

    def health(self) -> Health:
        matched = rules.Matched(self.matched_modules) if self.matched_modules else None
        return Health(matched, finite=self.finite, nonzero=self.nonzero)


class _Signature(Part):
    keys: list[str] = Field(default=[], max_length=20)
    count: int = Field(default=1, ge=1, le=20)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.keys and self.count > len(set(self.keys)):
            raise PydanticCustomError("count", "a count of at most the keys that are named")
        return self

    def signers(self) -> Signers:
        return Signers(tuple(dict.fromkeys(self.keys)), self.count)


class _Scan(Part):
    by: list[str] = Field(default=[OWN], min_length=1, max_length=20)
    max_age: str | None = None

    @field_validator("max_age")
    @classmethod
    def _is_span(cls, text: str | None) -> str | None:
        return _span(text)

    def scanners(self) -> Scanners:
        return Scanners(tuple(dict.fromkeys(self.by)), way.seconds(self.max_age) if self.max_age else None)


class _Integrity(Part):
    format: Literal["safetensors"] | None = None
    signature: _Signature | None = None
    scan: _Scan | None = None

    @field_validator("signature", "scan", mode="before")
    @classmethod
    def _is_word(cls, given: object, field: ValidationInfo) -> object:
        word = {"signature": ANY_KEY, "scan": CLEAN}[field.field_name or ""]
        if given == word:
            return {}
        if not isinstance(given, dict):
            raise PydanticCustomError("word", "{text}", {"text": f"{word!r}, or a mapping"})
        return given

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if not (self.format or self.signature or self.scan):
            raise PydanticCustomError("integrity", "format, signature or scan")
        return self

    def integrity(self) -> Integrity:
        return Integrity(
            safetensors=self.format is not None,
            signature=self.signature.signers() if self.signature else None,
            scan=self.scan.scanners() if self.scan else None,
        )


class _Ancestry(Part):
    revoked: Literal["block", "warn"] = "block"


class _Require(Part):
    integrity: _Integrity | None = None
    compatibility: _Compatibility | None = None
    health: _Health | None = None
    ancestry: _Ancestry | None = None
    metadata: list[str] = Field(default=[])
    serving: list[str] = Field(default=[], max_length=20)
    evals: list[Eval] = Field(default=[], max_length=1000)
    soak: way.Soak | None = None
    approvals: way.Approvals | None = None

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

    @field_validator("serving")
    @classmethod
    def _are_stacks(cls, serving: list[str]) -> list[str]:
        for text in serving:
            try:
                parse_stack(text)
            except InvalidInput as invalid:
                raise PydanticCustomError("stack", "{text}", {"text": f"stacks: {invalid.text}"}) from invalid
        return list(dict.fromkeys(serving))


class _Document(Part):
    apiVersion: Literal["adapters/v1"]
    kind: Literal["StagePolicy"]
    stage: str
    from_: way.From | None = Field(default=None, alias="from")
    require: _Require | None = None
    freeze: way.Freeze | None = None
    rollback: way.Rollback | None = None
    reverify_every: str | None = None
    auto_promote: bool = False
    override: way.Override | None = None

    @field_validator("stage")
    @classmethod
    def _is_stage(cls, stage: str) -> str:
        try:
            return check_stage_name(stage)
        except InvalidReference as invalid:
            raise PydanticCustomError("stage", "the name of a stage") from invalid

    @field_validator("reverify_every")
    @classmethod
    def _is_span(cls, text: str | None) -> str | None:
        return _span(text)

    def policy(self) -> Policy:
        asked = self.require or _Require()
        levels = asked.compatibility.verdict if asked.compatibility else []
        verdicts = tuple(level for level in Level if level in levels)
        health = asked.health.health() if asked.health else None
        warns = asked.ancestry is not None and asked.ancestry.revoked == "warn"
        return Policy(
            *(self.stage, verdicts, health, tuple(asked.metadata), evals(asked.evals), self._process(asked)),
            revoked_ancestors_pass=warns,
            integrity=asked.integrity.integrity() if asked.integrity else None,
            serving=tuple(asked.serving),
        )

    def _process(self, asked: _Require) -> Process:
        found = way.process(
            source=self.from_,
            soak=asked.soak,
            approvals=asked.approvals,
            freeze=self.freeze,
            rollback=self.rollback,
            override=self.override,
        )
        every = way.seconds(self.reverify_every) if self.reverify_every else None
        return replace(found, auto=self.auto_promote, reverify_seconds=every)


_RULES = (_Compatibility, _Health, _Integrity, _Signature, _Scan, _Ancestry)
_PARTS = (_Document, _Require, *_RULES, Eval, Rule, *way.PARTS)
