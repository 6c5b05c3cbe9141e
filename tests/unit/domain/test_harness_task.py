"""Tasks that somebody submits run beside what others stored: what of them is taken, and what is refused."""

from __future__ import annotations

import pytest
import yaml

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.evidence.harness_task import read_task

GOOD = {
    "task": "sql-questions",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "questions.jsonl", "train": ["more/a.jsonl", "more/b.jsonl"]}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "label",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}


def read(**changes):
    return read_task(yaml.safe_dump({**GOOD, **changes}), name="task.yaml")


def test_its_data_is_placed_and_all_else_is_as_it_was_written():
    task = read()
    assert task.name == "sql-questions"
    assert task.files == ("questions.jsonl", "more/a.jsonl", "more/b.jsonl")
    placed = task.placed("/scratch")
    assert placed["dataset_kwargs"]["data_files"]["train"] == ["/scratch/more/a.jsonl", "/scratch/more/b.jsonl"]
    assert {**placed, "dataset_kwargs": GOOD["dataset_kwargs"]} == GOOD


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"dataset_path": "someone/dataset"}, "dataset_path"),
        ({"dataset_path": "./loader.py"}, "dataset_path"),
        ({"dataset_kwargs": {"data_files": "/etc/passwd"}}, "data_files"),
        ({"dataset_kwargs": {"data_files": "../../registry.db"}}, "data_files"),
        ({"dataset_kwargs": {"data_files": "https://example.org/a.jsonl"}}, "data_files"),
        ({"dataset_kwargs": {"data_files": "a.jsonl", "trust_remote_code": True}}, "trust_remote_code"),
        ({"metric_list": [{"metric": "./metric.py"}]}, "metric"),
        ({"metric_list": [{"metric": "code_eval"}]}, "metric"),
        ({"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "hf_evaluate"),
        ({"generation_kwargs": {"custom_generate": "./here"}}, "custom_generate"),
        ({"filter_list": [{"name": "x", "filter": [{"function": "custom"}]}]}, "function"),
        ({"include": "other.yaml"}, "include"),
        ({"unsafe_code": True}, "unsafe_code"),
        ({"process_docs": "here.process"}, "process_docs"),
        ({"custom_dataset": "here.load"}, "custom_dataset"),
        ({"task": "../up"}, "task"),
    ],
)
def test_what_may_be_a_program_or_leads_elsewhere_is_refused_by_name(changes, field):
    with pytest.raises(InvalidInput) as refused:
        read(**changes)
    assert any(field in str(problem) for problem in refused.value.problems)


def test_a_function_of_the_harness_is_no_plain_value():
    text = yaml.safe_dump(GOOD) + "process_results: !function here.process\n"
    with pytest.raises(InvalidInput, match="without tags"):
        read_task(text, name="task.yaml")
