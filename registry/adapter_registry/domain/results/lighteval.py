"""Results files of lighteval, from the `harness|arc:challenge|25` rows of the first leaderboard to `gsm8k|5`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from adapter_registry.domain.evidence.metric import known_direction
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.results.file import ResultsFile
from adapter_registry.domain.untrusted import (
    amount,
    entries,
    fingerprint,
    mapping,
    number,
    whole,
    without_folders,
    words,
)

HARNESS = "lighteval"
AVERAGE_OF_ALL = "all"

_STDERR = "_stderr"


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document has the keys that only lighteval writes."""
    return isinstance(document.get("config_general"), dict) and isinstance(document.get("results"), dict)


def read(document: Mapping[str, Any]) -> ResultsFile:
    """The scores of every task; the row `all`, an average over whatever tasks ran together, is left out."""
    run = _Run(document)
    average = AVERAGE_OF_ALL in mapping(document.get("results"))
    notices = (f"the row {AVERAGE_OF_ALL!r} averages unlike tasks and was left out",) if average else ()
    return ResultsFile(tuple(run.scores()), run.claims(), run.producer, notices)


@dataclass(frozen=True, slots=True)
class _Task:
    """The key of a row, taken apart: `suite|name|shots`, `name|shots`, or with a fourth part nobody needs."""

    suite: str
    name: str
    shots: str

    @classmethod
    def of(cls, key: str) -> _Task:
        parts = key.split("|")
        if len(parts) == 1:
            return cls("", parts[0], "")
        if len(parts) == 2:
            return cls("", *parts) if parts[1].isdigit() else cls(parts[0], parts[1], "")
        return cls(parts[0], parts[1], parts[2])


@dataclass(frozen=True)
class _Run:
    """One results document, asked by row."""

    document: Mapping[str, Any]

    @cached_property
    def general(self) -> Mapping[str, Any]:
        return mapping(self.document.get("config_general"))

    @cached_property
    def model(self) -> Mapping[str, Any]:
        """Facts of the model: of `config_general` itself in older files, of its `model_config` in newer ones."""
        return {**mapping(self.general.get("model_config")), **self.general}

    @property
    def producer(self) -> str:
        commit = words(self.general.get("lighteval_sha"))
        return f"{HARNESS} {commit[:12]}" if len(commit) > 1 else HARNESS

    def scores(self) -> Iterator[Score]:
        for key, row in mapping(self.document.get("results")).items():
            if key != AVERAGE_OF_ALL:
                yield from self.of_row(key, mapping(row))

    def of_row(self, key: str, row: Mapping[str, Any]) -> Iterator[Score]:
        task, config = _Task.of(key), self.config(key)
        setting = self.setting(key, task, config)
        for metric, raw in row.items():
            value = number(raw)
            if value is None or metric.endswith(_STDERR):
                continue
            yield Score(
                f"{words(task.name)}/{words(metric)}",
                value,
                _direction(config, metric),
                stderr=amount(row.get(f"{metric}{_STDERR}")),
                n=whole(config.get("effective_num_docs")),
                setting=setting,
            )

    def config(self, key: str) -> Mapping[str, Any]:
        """The task's configuration, whose key has lost the shots in some versions and the suite in others."""
        table = mapping(self.document.get("config_tasks"))
        if key in table:
            return mapping(table[key])
        wanted = _Task.of(key)
        for other, config in table.items():
            found = _Task.of(other)
            if found.name == wanted.name and (not wanted.suite or not found.suite or found.suite == wanted.suite):
                return mapping(config)
        return {}

    def setting(self, key: str, task: _Task, config: Mapping[str, Any]) -> dict[str, str]:
        """Everything that must agree before two values of this row may be compared."""
        hashes = mapping(mapping(mapping(self.document.get("summary_tasks")).get(key)).get("hashes"))
        facts = {
            "harness": HARNESS,
            "suite": words(task.suite),
            "shots": words(task.shots) or words(config.get("num_fewshots")),
            "task_version": words(self.version(key, config)),
            "task_hash": words(hashes.get("hash_full_prompts")) or words(hashes.get("full_prompts")),
            "dataset": "/".join(filter(None, (words(config.get("hf_repo")), words(config.get("hf_subset"))))),
            "dataset_revision": words(config.get("hf_revision")),
            "split": "+".join(words(split) for split in entries(config.get("evaluation_splits"))),
            "limit": self.limit(config),
            "generation": self.generation(config),
            "chat_template": self.chat_template,
            "system_prompt": self.system_prompt,
            "dtype": self.dtype,
        }
        return {name: value for name, value in sorted(facts.items()) if value}

    def version(self, key: str, config: Mapping[str, Any]) -> object:
        versions = mapping(self.document.get("versions"))
        return versions.get(key, config.get("version"))

    def limit(self, config: Mapping[str, Any]) -> str:
        original, effective = whole(config.get("original_num_docs")), whole(config.get("effective_num_docs"))
        if original is not None and effective is not None:
            return str(effective) if effective < original else ""
        return words(self.general.get("max_samples"))

    def generation(self, config: Mapping[str, Any]) -> str:
        given = mapping(self.model.get("generation_parameters"))
        asked = {name: value for name, value in given.items() if value is not None}
        length = config.get("generation_size")
        return fingerprint([asked, length]) if asked or length is not None else ""

    @cached_property
    def chat_template(self) -> str:
        return "yes" if self.model.get("use_chat_template") is True else ""

    @cached_property
    def system_prompt(self) -> str:
        prompt = self.model.get("system_prompt")
        return fingerprint(prompt) if prompt else ""

    @cached_property
    def dtype(self) -> str:
        name = (words(self.model.get("model_dtype")) or words(self.model.get("dtype"))).removeprefix("torch.")
        return "" if name in ("auto", "None") else name

    def claims(self) -> dict[str, str]:
        model = self.model
        adapter = words(model.get("adapter_weights")) or words(model.get("adapter_path"))
        told = {
            "model": without_folders(words(model.get("model_name"))),
            "model revision": words(model.get("revision")),
            "model commit": words(model.get("model_sha")),
            "adapter": "" if adapter in ("True", "False") else without_folders(adapter),
        }
        return {what: value for what, value in told.items() if value}


def _direction(config: Mapping[str, Any], metric: str) -> Direction | None:
    """What the task's configuration says; by the metric's name where it says nothing.

    Rows may add parameters to a metric's name (`pass@k:k=1`), and one entry may describe several metrics.
    """
    stated: dict[str, object] = {}
    for entry in map(mapping, [*entries(config.get("metric")), *entries(config.get("metrics"))]):
        named, higher = entry.get("metric_name"), entry.get("higher_is_better")
        for name in map(words, named if isinstance(named, list) else [named]):
            stated[name] = higher.get(name) if isinstance(higher, dict) else higher
    for name in (metric, metric.partition(":")[0]):
        if isinstance(stated.get(name), bool):
            return Direction.HIGHER if stated[name] else Direction.LOWER
    return known_direction(metric) or known_direction(metric.partition(":")[0])
