"""Tasks of lm-evaluation-harness in evaluate jobs: the real harness on a tiny base and adapter, without network."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import yaml

from adapter_registry.domain.digest import of_json
from adapter_registry.domain.errors import InvalidInput, Unsupported
from adapter_registry.domain.evidence.suite import Suite, SuiteMetric
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs import evaluate_tasks
from adapter_registry.jobs.evaluate import Evaluate
from adapter_registry.jobs.run import fresh_scratch, run_here
from adapter_registry.local.folders import file_digest
from adapter_registry.local.suite_files import files_of_tasks
from tests.adapter_builders import copied
from tests.integration.test_evaluate import ADAPTER, registry  # noqa: F401  a fixture
from tests.integration.test_evaluate import folders as without_ends  # noqa: F401  a fixture

SAMPLES = 24
TASK = {
    "task": "words",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "words.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{label}}",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    "metadata": {"version": 2.0},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, without_ends):  # noqa: F811  the fixture
    """A base whose tokenizer has a token that ends a text, and an adapter on it."""
    from transformers import AutoTokenizer

    root = tmp_path_factory.mktemp("tasks") / "folders"
    copied(without_ends, root)
    AutoTokenizer.from_pretrained(root / "base", eos_token="w62").save_pretrained(root / "base")
    return root


@pytest.fixture
def task(tmp_path):
    """A task's file with its data beside it; a function that changes it."""
    lines = [
        {"question": f"w{n} w{n + 1}", "choices": [f"w{n + 2}", f"w{n + 7}"], "label": n % 2} for n in range(SAMPLES)
    ]
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def written(**changes):
        (tmp_path / "words.yaml").write_text(yaml.safe_dump({**TASK, **changes}))
        return tmp_path / "words.yaml"

    return written


VERSION = (Ingredient(f"{ADAPTER}@v1"),)


def recipe(*paths, inputs=VERSION, **more):
    files = {name: file_digest(path) for name, path in files_of_tasks(paths).items()}
    return Recipe("evaluate", inputs, files=files, into=ADAPTER, **more)


class TestFiles:
    def test_a_task_travels_with_its_data(self, task, tmp_path):
        path = task()
        assert files_of_tasks([path]) == {"words/task.yaml": path, "words/data/words.jsonl": tmp_path / "words.jsonl"}

    def test_what_is_not_there_or_there_twice_is_refused(self, task, tmp_path):
        with pytest.raises(InvalidInput, match="both of a task words"):
            files_of_tasks([task(), task()])
        with pytest.raises(InvalidInput, match=r"none\.jsonl is no file"):
            files_of_tasks([task(dataset_kwargs={"data_files": "none.jsonl"})])
        with pytest.raises(InvalidInput, match="cannot be read"):
            files_of_tasks([tmp_path / "none.yaml"])


class TestChecked:
    @pytest.mark.parametrize("name", ["words", "words/../../x", "words/data/../../x", "/words/task.yaml", "a/data/x"])
    def test_a_file_with_another_name_is_refused(self, registry, task, name):  # noqa: F811
        given = recipe(task())
        given.files[name] = given.files["words/task.yaml"]
        with pytest.raises(InvalidInput, match=r"or tasks: NAME/task\.yaml"):
            Evaluate().check(registry, given)

    def test_a_suite_that_asks_for_other_tasks_is_refused_before_anything_is_measured(self, registry, task):  # noqa: F811
        registry.set_suite(Suite("core", (SuiteMetric("words/acc"), SuiteMetric("numbers/acc"))))
        with pytest.raises(InvalidInput, match="core@1 also asks for the tasks numbers"):
            Evaluate().check(registry, recipe(task(), options={"suite": "core"}))

    def test_options_of_the_other_kind_of_measurement_are_refused(self, registry, task):  # noqa: F811
        with pytest.raises(InvalidInput, match="no option 'field'"):
            Evaluate().check(registry, recipe(task(), options={"field": "text"}))
        with pytest.raises(InvalidInput, match="shots is a whole number"):
            Evaluate().check(registry, recipe(task(), options={"shots": -1}))


def test_without_the_harness_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(evaluate_tasks.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(Unsupported, match=r"pip install 'adapter-registry\[eval\]'"):
        evaluate_tasks.require_harness()


def test_a_tokenizer_without_ends_is_refused_with_the_way_out():
    with pytest.raises(InvalidInput, match=r"no token that begins a text.*--data"):
        evaluate_tasks.require_ends(SimpleNamespace(bos_token_id=None, eos_token_id=None))


def run(registry, given, path):  # noqa: F811
    kind = Evaluate(files_of_tasks([path]))
    return run_here(registry, kind, given, fresh_scratch(registry), lambda _: None, say=print)


def by_hand(folders, *, adapted: bool) -> list[bool]:
    """Whether the first choice of each sample is likelier where it is right, from the logits alone."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folders / "base", dtype=torch.float32)
    if adapted:
        model = PeftModel.from_pretrained(model, folders / "lora")
    found = []
    for n in range(SAMPLES):
        with torch.no_grad():
            after = model.eval()(input_ids=torch.tensor([[n, n + 1]])).logits[0, -1]
        found.append(bool(after[n + 7] > after[n + 2]) == bool(n % 2))
    return found


@pytest.mark.skipif(
    not evaluate_tasks.is_installed(), reason="LM-EVAL IS NOT INSTALLED: no task was run (extra `eval`)"
)
class TestHarness:
    def test_scores_are_those_of_the_model_with_everything_they_were_measured_with(self, registry, folders, task):  # noqa: F811
        path = task()
        registry.set_suite(Suite("core", (SuiteMetric("words/acc", {"task_version": "2", "shots": "0"}),)))
        result = run(registry, recipe(path, options={"suite": "core"}), path)
        scores = {each.score.metric: each for each in registry.scores(f"{ADAPTER}@v1")}
        assert result["scores"].keys() == scores.keys() == {"words/acc", "words/acc_norm"}
        right = by_hand(folders, adapted=True)
        acc = scores["words/acc"].score
        assert acc.value == pytest.approx(sum(right) / SAMPLES)
        assert (acc.n, acc.suite, acc.source) == (SAMPLES, "core@1", "evaluate")
        assert acc.evidence == of_json(result["evidence"])
        assert acc.outcomes is not None
        assert {"data", "tokenizer", "max_length", "dtype", "task_version", "shots"} <= acc.setting.keys()
        assert "lm-eval " in acc.producer
        ours = result["evidence"]["adapter_registry"]
        assert ours["recipe"]["files"]["words/data/words.jsonl"] == file_digest(path.parent / "words.jsonl")
        assert str(registry.settings.home) not in json.dumps(result["evidence"])

    def test_a_base_alone_is_measured_and_a_measurement_recorded_twice_is_one(self, registry, folders, task, tmp_path):  # noqa: F811
        path = task()
        given = recipe(path, inputs=(), base=registry.base("tiny").base.digest, options={"limit": 20})
        scratch, kind, published = fresh_scratch(registry), Evaluate(files_of_tasks([path])), []

        class Twice(Evaluate):
            def publish(self, *arguments):
                published.extend([super().publish(*arguments), super().publish(*arguments)])
                return published[-1]

        Twice.__module__, Twice.__qualname__ = Evaluate.__module__, Evaluate.__qualname__
        run_here(registry, Twice(kind.local), given, scratch, lambda _: None)
        assert published[0] == published[1]
        [acc] = (each for each in registry.base_scores("tiny") if each.score.metric == "words/acc")
        assert acc.score.value == pytest.approx(sum(by_hand(folders, adapted=False)[:20]) / 20)
        assert acc.score.setting["limit"] == "20"

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"doc_to_text": "{{ question.__class__.__mro__ }}"}, "SecurityError"),
            ({"doc_to_text": "{{ nothing }}"}, "'nothing' is undefined"),
        ],
    )
    def test_a_template_reaches_nothing_but_its_sample_and_what_is_wrong_is_told(
        self,
        registry,  # noqa: F811
        task,
        changes,
        told,
    ):
        path = task(**changes)
        with pytest.raises(InvalidInput, match=told):
            run(registry, recipe(path), path)
        assert registry.scores(f"{ADAPTER}@v1") == ()
