"""Suites as text: YAML or TOML. Import it only where such text is handled, as `policies.file`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.document_file import Part, brief, parsed, problem, refused, told
from adapter_registry.domain.evidence.harness_task import File, HarnessTask, read_task
from adapter_registry.domain.evidence.suite import KIND, Suite, SuiteMetric, document, named

_OURS = {"apiVersion", "kind", "metrics"}


@dataclass(frozen=True, slots=True)
class Written:
    """A suite as it stands in a file of its own, or in that of the one task that it is of.

    Attributes:
        suite: without a version yet, and without the files of `tasks`.
        tasks: paths of tasks of lm-evaluation-harness beside the file.
        task: the task that the file itself is of; None for a document.
    """

    suite: Suite
    tasks: tuple[str, ...] = ()
    task: HarnessTask | None = None


def read_suite(text: str, *, name: str = "suite") -> Suite:
    """The Suite written in `text`, without a version yet, where there are no files beside it.

    Raises:
        InvalidInput: `problems` lists everything that is wrong.
    """
    written = _document(parsed(text, name, _WHAT), name)
    if written.tasks:
        found, fix = ", ".join(written.tasks[:5]), "store it where they are: adapters score suite set FILE"
        raise refused(name, [problem(name, "tasks", "no files, which are not here", found, fix)], _WHAT)
    return written.suite


def read_written(text: str, *, name: str) -> Written:
    """The suite in a file: a document (kind: EvalSuite), or a task of lm-evaluation-harness, which is a suite of one.

    Raises:
        InvalidInput: it is neither; `problems` lists everything that is wrong.
    """
    found = parsed(text, name, _WHAT)
    if isinstance(found, dict) and "task" in found and not _OURS & found.keys():
        if isinstance(found["task"], list):
            fix = "list their files under `tasks` of a document of ours (kind: EvalSuite)"
            raise refused(name, [problem(name, "task", "one task", "a group of several", fix)], _WHAT)
        task = read_task(text, name=name)
        return Written(Suite(named(task.name), task.metrics), task=task)
    if not isinstance(found, dict) or not _OURS & found.keys():
        fix = "see `adapters score suite set --help`"
        expected = f"a suite (kind: {KIND}, metrics: ...) or a task of lm-evaluation-harness (task: ...)"
        raise refused(name, [problem(name, "", expected, brief(found), fix)], _WHAT)
    return _document(found, name)


def to_yaml(suite: Suite) -> str:
    """The document as YAML; `read_suite` reads it back to an equal suite."""
    return yaml.safe_dump(document(suite), sort_keys=False, allow_unicode=True, width=100)


_WHAT = "suite"


def _document(found: object, name: str) -> Written:
    if not isinstance(found, dict):
        raise refused(name, [problem(name, "", "a mapping with name and metrics", brief(found))], _WHAT)
    try:
        asked = _Document.model_validate(found)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False)
        problems = [told(name, error, parts=(_Document, _Metric)) for error in errors]
        raise refused(name, problems, _WHAT) from invalid
    if not asked.metrics and not asked.tasks:
        raise refused(name, [problem(name, "metrics", "at least one metric, or tasks that have some", "none")], _WHAT)
    metrics = tuple(SuiteMetric(each.metric, dict(each.setting)) for each in asked.metrics)
    files = {path: Digest(digest) for path, digest in asked.files.items()}
    return Written(Suite(asked.name, metrics, files=files), tuple(asked.tasks))


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
    metrics: list[_Metric] = Field(default=[], max_length=1000)
    tasks: list[File] = Field(default=[], max_length=100)
    files: dict[str, Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]] = Field(default={}, max_length=1000)
