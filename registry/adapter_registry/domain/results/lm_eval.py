"""Results files of lm-evaluation-harness, from 0.3 (`acc`) to 0.4 (`acc,none`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
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

HARNESS = "lm-eval"

_BESIDE = {"versions", "config", "configs", "n-shot", "n-samples", "higher_is_better", "group_subtasks", "git_hash"}
_NOT_METRICS = {"alias", "name", "sample_len", "sample_count", "samples", " "}
_STDERR = "_stderr"
_YEAR_2100 = 4_102_444_800


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document has the keys that only this harness writes."""
    results = document.get("results")
    is_table = isinstance(results, dict) and all(isinstance(row, dict) for row in results.values())
    return is_table and bool(_BESIDE & document.keys()) and not {"config_general", "eval"} & document.keys()


def read(document: Mapping[str, Any]) -> ResultsFile:
    """The scores of every task and group."""
    run = _Run(document)
    return ResultsFile(tuple(run.scores()), run.claims(), run.producer, groups=run.groups())


@dataclass(frozen=True)
class _Run:
    """One results document, asked by task."""

    document: Mapping[str, Any]

    @property
    def producer(self) -> str:
        version = words(self.document.get("lm_eval_version"))
        return f"{HARNESS} {version}" if version else HARNESS

    @cached_property
    def config(self) -> Mapping[str, Any]:
        return mapping(self.document.get("config"))

    @cached_property
    def model_args(self) -> Mapping[str, Any]:
        """`config.model_args`: an object, or `key=value` pairs joined by commas in older files."""
        given = self.config.get("model_args")
        if not isinstance(given, str):
            return mapping(given)
        pairs = (pair.partition("=") for pair in given.split(","))
        return {key.strip(): value.strip() for key, separator, value in pairs if separator}

    def of(self, table: str, task: str) -> Any:
        """What the top-level table `table` says of `task`."""
        return mapping(self.document.get(table)).get(task)

    def scores(self) -> Iterator[Score]:
        """`results` holds group rows too; `groups` only repeats those."""
        rows = {**mapping(self.document.get("groups")), **mapping(self.document.get("results"))}
        order = dict.fromkeys([*mapping(self.document.get("results")), *rows])
        for task in order:
            yield from self.of_task(task, mapping(rows[task]))

    def of_task(self, task: str, row: Mapping[str, Any]) -> Iterator[Score]:
        setting = self.setting(task)
        for key, raw in row.items():
            metric, _, kept = key.partition(",")
            value = number(raw)
            if value is None or metric in _NOT_METRICS or metric.endswith(_STDERR):
                continue
            filtered = "" if kept in ("", "none") else words(kept)
            name = f"{words(task)}/{words(metric)}" + (f"@{filtered}" if filtered else "")
            error = row.get(f"{metric}{_STDERR},{kept}" if kept else f"{metric}{_STDERR}")
            yield Score(
                name,
                value,
                self.direction(task, metric),
                stderr=amount(error),
                n=self.samples(task, row, key),
                setting=dict(sorted((setting | ({"filter": filtered} if filtered else {})).items())),
                measured_at=self.measured_at,
            )

    def direction(self, task: str, metric: str) -> Direction | None:
        """What the file says; by the metric's name only where the file says nothing at all."""
        stated = mapping(self.of("higher_is_better", task))
        listed = {
            words(entry.get("metric")): entry.get("higher_is_better")
            for entry in map(mapping, entries(mapping(self.of("configs", task)).get("metric_list")))
        }
        for said in (stated, listed):
            if metric in said:
                higher = said[metric]
                # null is how a group says that its tasks disagree.
                return Direction.HIGHER if higher is True else Direction.LOWER if higher is False else None
        return known_direction(metric)

    def samples(self, task: str, row: Mapping[str, Any], key: str) -> int | None:
        counted = mapping(self.of("n-samples", task)).get("effective")
        own = whole(counted) or whole(mapping(row.get("sample_count")).get(key)) or whole(row.get("sample_len"))
        if own is not None:
            return own
        counts = [whole(mapping(self.of("n-samples", leaf)).get("effective")) for leaf in self.leaves(task)]
        known = [count for count in counts if count is not None]
        return sum(known) if known and len(known) == len(counts) else None

    def leaves(self, group: str) -> list[str]:
        """The tasks under a group, sorted; empty for a task. Groups that contain each other end."""
        found: set[str] = set()
        waiting, seen = [group], {group}
        while waiting:
            for child in entries(self.of("group_subtasks", waiting.pop())):
                name = str(child)
                if entries(self.of("group_subtasks", name)):
                    waiting += [name] if name not in seen else []
                    seen.add(name)
                else:
                    found.add(name)
        return sorted(found)

    def setting(self, task: str) -> dict[str, str]:
        """Everything that must agree before two values of this task may be compared."""
        config, leaves = mapping(self.of("configs", task)), self.leaves(task)
        version = words(self.of("versions", task))
        facts = {
            "harness": HARNESS,
            "task_version": "" if version == "N/A" else version,
            "task_hash": words(self.of("task_hashes", task))[:12],
            "tasks": fingerprint(leaves) if leaves else "",
            "shots": self.shots(task),
            "dataset": "/".join(filter(None, (words(config.get("dataset_path")), words(config.get("dataset_name"))))),
            "dataset_revision": words(mapping(config.get("dataset_kwargs")).get("revision")),
            "split": words(config.get("test_split")) or words(config.get("validation_split")),
            "limit": self.limit(task),
            "generation": self.generation(config),
            "dtype": self.dtype,
            **self.prompt,
        }
        return {key: value for key, value in facts.items() if value}

    def shots(self, task: str) -> str:
        configured = mapping(self.of("configs", task)).get("num_fewshot")
        for said in (self.of("n-shot", task), configured, self.config.get("num_fewshot")):
            if number(said) is not None:
                return words(said)
        return ""

    def limit(self, task: str) -> str:
        counted = mapping(self.of("n-samples", task))
        original, effective = whole(counted.get("original")), whole(counted.get("effective"))
        if original is not None and effective is not None:
            return str(effective) if effective < original else ""
        return words(self.config.get("limit"))

    def generation(self, config: Mapping[str, Any]) -> str:
        asked = [self.config.get("gen_kwargs") or None, config.get("generation_kwargs") or None]
        return fingerprint(asked) if any(asked) else ""

    @cached_property
    def dtype(self) -> str:
        stated = words(self.config.get("model_dtype")) or words(self.model_args.get("dtype"))
        name = stated.removeprefix("torch.")
        return "" if name in ("auto", "None") else name

    @cached_property
    def prompt(self) -> dict[str, str]:
        """Chat template and system prompt; both are told by digest, or by text in files that have no digest."""
        told = {}
        for key, name in (("chat_template", "chat_template"), ("system_instruction", "system_prompt")):
            digest, text = words(self.document.get(f"{key}_sha")), self.document.get(key)
            told[name] = digest[:12] or (fingerprint(text) if text else "")
        multiturn = self.document.get("fewshot_as_multiturn") is True
        return told | ({"shots_as_turns": "yes"} if multiturn else {})

    @cached_property
    def measured_at(self) -> str | None:
        started = amount(self.document.get("date"))
        if not started or started > _YEAR_2100:
            return None
        return datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Group -> the tasks under it."""
        named = {task: tuple(self.leaves(task)) for task in mapping(self.document.get("group_subtasks"))}
        return {words(group): leaves for group, leaves in named.items() if leaves}

    def claims(self) -> dict[str, str]:
        args, config = self.model_args, self.config
        told = {
            "model": without_folders(words(args.get("pretrained")) or words(self.document.get("model_name"))),
            "model revision": words(config.get("model_revision")),
            "model commit": words(config.get("model_sha")),
            "adapter": without_folders(words(args.get("peft")) or words(args.get("lora_local_path"))),
            "adapter commit": words(config.get("peft_sha")),
        }
        return {what: value for what, value in told.items() if value}
