"""Suites as text: YAML or TOML. Import it only where such text is handled, as `policies.file`."""

from __future__ import annotations

from typing import Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from adapter_registry.domain.document_file import Part, brief, parsed, problem, refused, told
from adapter_registry.domain.evidence.suite import Suite, SuiteMetric, document


def read_suite(text: str, *, name: str = "suite") -> Suite:
    """The Suite written in `text`, without a version yet.

    Raises:
        InvalidInput: `problems` lists everything that is wrong.
    """
    found = parsed(text, name)
    if not isinstance(found, dict):
        raise refused(name, [problem(name, "", "a mapping with name and metrics", brief(found))], "suite")
    try:
        asked = _Document.model_validate(found)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False)
        problems = [told(name, error, parts=(_Document, _Metric), not_yet=frozenset()) for error in errors]
        raise refused(name, problems, "suite") from invalid
    return Suite(asked.name, tuple(SuiteMetric(each.metric, dict(each.setting)) for each in asked.metrics))


def to_yaml(suite: Suite) -> str:
    """The document as YAML; `read_suite` reads it back to an equal suite."""
    return yaml.safe_dump(document(suite), sort_keys=False, allow_unicode=True, width=100)


class _Metric(Part):
    metric: str = Field(min_length=1, max_length=256)
    setting: dict[str, str] = Field(default={})

    @field_validator("setting", mode="before")
    @classmethod
    def _as_text(cls, setting: object) -> object:
        """`shots: 5` is as good as `shots: "5"`; settings are texts."""
        if not isinstance(setting, dict):
            return setting
        return {key: str(value) if type(value) in (int, float) else value for key, value in setting.items()}


class _Document(Part):
    apiVersion: Literal["adapters/v1"]
    kind: Literal["EvalSuite"]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    metrics: list[_Metric] = Field(min_length=1, max_length=1000)
