"""Samples files of harnesses: what each sample scored. Of its text nothing is kept, only its digest or number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapter_registry.domain.errors import InvalidInput, Problem
from adapter_registry.domain.evidence.outcomes import LONGEST_KEY, MOST_SAMPLES, Outcomes, outcomes, unfit
from adapter_registry.domain.evidence.score import Score
from adapter_registry.domain.results.file import ResultsFile
from adapter_registry.domain.untrusted import number, words

LARGEST_FILE = 1 << 30
"""Bytes of a samples file; they hold whole prompts."""

_PREFIX = "samples_"


@dataclass(frozen=True, slots=True)
class SamplesFile:
    """One `samples_TASK_DATE.jsonl` of lm-evaluation-harness, or `MODEL_TASK.jsonl` of its versions before 0.4.3.

    Attributes:
        name: the file's name, which is the only place that says its task.
        outcomes: by metric with its filter, `exact_match@strict-match`.
    """

    name: str
    outcomes: Mapping[str, Outcomes]


def read_samples(data: bytes, *, name: str) -> SamplesFile:
    """What each sample of one task scored.

    Raises:
        InvalidInput: a line is no sample of the harness, or there are too many.
    """
    if len(data) > LARGEST_FILE:
        raise _refused(name, "size", f"at most {LARGEST_FILE:,} bytes", f"{len(data):,} bytes")
    found: dict[str, list[tuple[str, float]]] = {}
    for place, (where, sample) in enumerate(_samples(data, name), start=1):
        if place > MOST_SAMPLES * 4:
            raise _refused(name, "", f"at most {MOST_SAMPLES * 4:,} samples", "more")
        for metric, value in _values(_checked(sample, where, name)):
            found.setdefault(metric, []).append((_key(sample), value))
    return SamplesFile(name, {metric: outcomes(metric, pairs) for metric, pairs in found.items()})


def _samples(data: bytes, name: str) -> Iterator[tuple[str, Any]]:
    """(where it stands, sample): a line each, or one array as versions 0.4.0 to 0.4.2 of the harness wrote it."""
    if data.lstrip()[:1] == b"[":
        for place, sample in enumerate(_parsed(data, "", name), start=1):
            yield f"sample {place}", sample
        return
    for place, line in enumerate(data.splitlines(), start=1):
        if line.strip():
            yield f"line {place}", _parsed(line, f"line {place}", name)


def _parsed(text: bytes, where: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(name, where, "JSON", str(error)[:80]) from error


def _checked(sample: object, where: str, name: str) -> Mapping[str, Any]:
    if not isinstance(sample, dict) or "doc_id" not in sample:
        raise _refused(name, where, "a sample of lm-evaluation-harness with doc_id", "something else")
    return sample


def _key(sample: Mapping[str, Any]) -> str:
    """The digest of its document, equal in every run of the task; its number in files that have no digest yet."""
    digest = words(sample.get("doc_hash"))[:LONGEST_KEY]
    return digest or f"doc {words(sample['doc_id'])[:40]}"


def _values(sample: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """(metric with filter, value) of what the sample scored; `metrics` lists them in newer files."""
    kept = words(sample.get("filter"))
    suffix = "" if kept in ("", "none") else f"@{kept}"
    listed = sample.get("metrics")
    names = listed if isinstance(listed, list) else [key for key in sample if key not in _NOT_METRICS]
    for metric in map(str, names):
        raw = sample.get(metric)
        value = float(raw) if isinstance(raw, bool) else number(raw)
        if value is not None:
            yield f"{words(metric)}{suffix}", value


_NOT_METRICS = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "doc_hash", "prompt_hash"}


def attached(results: ResultsFile, files: Sequence[SamplesFile]) -> tuple[list[Outcomes], list[str]]:
    """(outcomes that belong to a score, what was left out and why).

    A group's outcomes are those of its tasks together. Samples whose mean is not the score's value are left out: they
    are not what it was computed from.
    """
    tasks = {score.metric.partition("/")[0] for score in results.scores} | {
        leaf for leaves in results.groups.values() for leaf in leaves
    }
    by_task = {task: each for each in files if (task := _task_of(each.name, tasks))}
    notices = [f"{each.name} belongs to no task of the results" for each in files if not _task_of(each.name, tasks)]
    kept: list[Outcomes] = list(results.outcomes)
    for score in results.scores:
        found = _of_score(score, by_task, results.groups)
        if found is None:
            continue
        why = unfit(found, score)
        if why:
            notices.append(f"{score.metric} is compared without its samples: {why}")
        else:
            kept.append(found)
    return kept, notices


def _task_of(name: str, tasks: set[str]) -> str:
    """The task in `samples_TASK_DATE.jsonl` or `MODEL_TASK.jsonl`: the longest that fits.

    One task's name may begin or end another's.
    """
    rest = name.removeprefix(_PREFIX).removesuffix(".jsonl")
    early = not name.startswith(_PREFIX)
    fitting = [
        task for task in tasks if rest == task or rest.startswith(f"{task}_2") or (early and rest.endswith(f"_{task}"))
    ]
    return max(fitting, key=len, default="")


def _of_score(
    score: Score, by_task: Mapping[str, SamplesFile], groups: Mapping[str, tuple[str, ...]]
) -> Outcomes | None:
    task, _, metric = score.metric.partition("/")
    leaves = groups.get(task) or (task,)
    files = [by_task[leaf] for leaf in leaves if leaf in by_task]
    found = [file.outcomes[metric] for file in files if metric in file.outcomes]
    if len(found) != len(leaves):
        return None
    if len(leaves) == 1:
        return Outcomes(score.metric, found[0].keys, found[0].values)
    pairs = [
        (f"{place}:{key}"[:LONGEST_KEY], value)
        for place, each in enumerate(found)
        for key, value in zip(each.keys, each.values, strict=True)
    ]
    return outcomes(score.metric, pairs)


def _refused(name: str, field: str, expected: str, found: str) -> InvalidInput:
    fix = "Write the samples again with --log_samples, or import without them."
    problem = Problem("samples-invalid", name, words(field), expected, words(found), fix)
    return InvalidInput(f"nothing was recorded: {problem}", problems=[problem])
