"""Tasks of lm-evaluation-harness as YAML, as far as jobs run them. Import it only where such text is handled.

A task that somebody submits runs beside what others stored, so nothing of it may be a program: no Python functions, no
metrics that are fetched or run code, no data but the files that came with it. Templates are rendered in a sandbox.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from adapter_registry.domain.document_file import Part, brief, parsed, problem, refused, told
from adapter_registry.domain.evidence.suite import SuiteMetric
from adapter_registry.domain.untrusted import words

_PATH = r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$"
File = Annotated[str, Field(pattern=_PATH, max_length=200)]
Files = File | Annotated[list[File], Field(min_length=1, max_length=100)]
Split = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,60}$")]
Text = Annotated[str, Field(max_length=20_000)]


@dataclass(frozen=True, slots=True)
class HarnessTask:
    """A task that may be run.

    Attributes:
        name: what its scores are named by: `NAME/acc`.
        config: as the harness takes it.
        files: paths of its data, relative to the task's file; no path leads out of its folder.
    """

    name: str
    config: dict[str, Any]
    files: tuple[str, ...]

    @property
    def metrics(self) -> tuple[SuiteMetric, ...]:
        """What it measures, by the names of its scores, with what its file says of how."""
        version = words(self.config.get("metadata", {}).get("version"))
        said = {"shots": str(self.config.get("num_fewshot", 0)), **({"task_version": version} if version else {})}
        filters = [f"@{each['name']}" for each in self.config.get("filter_list", ()) if each["name"] != "none"] or [""]
        names = [f"{self.name}/{each['metric']}" for each in self.config["metric_list"]]
        return tuple(SuiteMetric(name + kept, said) for name in dict.fromkeys(names) for kept in dict.fromkeys(filters))

    def placed(self, folder: str) -> dict[str, Any]:
        """Its config with its data in a folder."""
        given = self.config["dataset_kwargs"]["data_files"]
        return {**self.config, "dataset_kwargs": {"data_files": _mapped(given, lambda path: f"{folder}/{path}")}}


def read_task(text: str, *, name: str) -> HarnessTask:
    """The task that a file describes.

    Raises:
        InvalidInput: `problems` lists everything that it may not hold.
    """
    found = parsed(text, name, _WHAT)
    if not isinstance(found, dict):
        raise refused(name, [problem(name, "", "a mapping with task, dataset_path, ...", brief(found))], _WHAT)
    try:
        asked = _Task.model_validate(found)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False)
        found_wrong = [told(name, error, parts=(_Task,)) for error in errors]
        problems = [replace(each, fix=_FIXES.get(each.field, each.fix)) for each in found_wrong]
        raise refused(name, problems, _WHAT) from invalid
    files = dict.fromkeys(_paths(asked.dataset_kwargs.data_files))
    return HarnessTask(asked.task, asked.model_dump(exclude_unset=True), tuple(files))


_WHAT = "task that a job runs"
_FIXES = {
    "dataset_path": "A job reaches no hub: write the data beside this file, and say json, csv, text or parquet.",
    "dataset_kwargs": "Name the data beside this file: dataset_kwargs: {data_files: {test: questions.jsonl}}",
    "metric_list": "Add what is measured: metric_list: [{metric: acc}]",
    "include": "Write what it includes into this file.",
}
"""What to do where tasks that the harness brings along differ from those that jobs run."""


def _mapped(given: Any, change: Any) -> Any:
    if isinstance(given, dict):
        return {key: _mapped(value, change) for key, value in given.items()}
    return [_mapped(each, change) for each in given] if isinstance(given, list) else change(given)


def _paths(given: Any) -> list[str]:
    if isinstance(given, str):
        return [given]
    return [path for each in (given.values() if isinstance(given, dict) else given) for path in _paths(each)]


class _Data(Part):
    data_files: Files | dict[Split, Files]


class _Metric(Part):
    metric: Literal[
        "acc", "acc_norm", "acc_bytes", "acc_mutual_info", "bits_per_byte", "bleu", "brier_score", "byte_perplexity",
        "chrf", "exact_match", "f1", "likelihood", "mcc", "perplexity", "ter", "word_perplexity",
    ]  # fmt: skip
    aggregation: Literal[
        "mean", "median", "perplexity", "weighted_perplexity", "bits_per_byte", "nanmean", "f1", "mcc", "bleu", "chrf",
        "ter", "brier_score",
    ] | None = None  # fmt: skip
    higher_is_better: bool = True
    ignore_case: bool = False
    ignore_punctuation: bool = False
    ignore_numbers: bool = False
    regexes_to_ignore: list[Text] = Field(default=[])


class _Generation(Part):
    until: str | list[str] = Field(default=[])
    do_sample: bool = False
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 50
    max_gen_toks: int = Field(default=256, ge=1, le=100_000)
    num_beams: int = Field(default=1, ge=1, le=64)
    repetition_penalty: float = 1.0


class _Step(Part):
    function: Literal[
        "regex", "multi_choice_regex", "remove_whitespace", "lowercase", "uppercase", "take_first", "take_first_k",
        "majority_vote",
    ]  # fmt: skip
    regex_pattern: Text = ""
    group_select: int = 0
    fallback: str = "[invalid]"
    ignore_case: bool = False
    ignore_punctuation: bool = False
    k: int = Field(default=1, ge=1, le=1_000)


class _Filter(Part):
    name: Split
    filter: list[_Step] = Field(min_length=1, max_length=20)


class _Shots(Part):
    sampler: Literal["default", "first_n"] = "default"


class _About(Part):
    version: float | str = 0


class _Task(Part):
    task: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    task_alias: str = Field(default="", max_length=100)
    dataset_path: Literal["json", "csv", "text", "parquet"]
    dataset_kwargs: _Data
    training_split: Split = ""
    validation_split: Split = ""
    test_split: Split = ""
    fewshot_split: Split = ""
    output_type: Literal["loglikelihood", "loglikelihood_rolling", "multiple_choice", "generate_until"]
    doc_to_text: Text | int = ""
    doc_to_target: Text | int = ""
    doc_to_choice: Text | list[Text] | dict[str, Text] = ""
    description: Text = ""
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"
    gen_prefix: Text = ""
    num_fewshot: int = Field(default=0, ge=0, le=1_000)
    fewshot_config: _Shots = _Shots()
    generation_kwargs: _Generation = _Generation()
    repeats: int = Field(default=1, ge=1, le=100)
    filter_list: list[_Filter] = Field(default=[], max_length=20)
    metric_list: list[_Metric] = Field(min_length=1, max_length=50)
    metadata: _About = _About()
