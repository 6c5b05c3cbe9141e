"""Evaluating: the loss is what transformers and PEFT say it is, and its scores name everything it was measured with."""

from __future__ import annotations

import math

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.digest import of_json
from adapter_registry.domain.errors import InvalidInput, JobFailed
from adapter_registry.domain.evidence.score import Direction
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs.evaluate import DEFAULTS, Evaluate
from adapter_registry.jobs.run import fresh_scratch, run_here
from adapter_registry.local.folders import file_digest
from adapter_registry.settings import read_settings
from tests.adapter_builders import adapter, llama

TEXT = " ".join(f"w{(7 * index) % 61}" for index in range(150))
CLOSE = 1e-5
"""Of the same sums in float32, in batches or one window at a time."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A base with a tokenizer of words, an adapter on it, and a text."""
    from peft import LoraConfig
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    root = tmp_path_factory.mktemp("evaluate")
    llama(root / "base")
    words = Tokenizer(models.WordLevel({f"w{index}": index for index in range(64)}, unk_token="w63"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w63").save_pretrained(root / "base")
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    adapter(root / "lora", root / "base", config)
    (root / "text").write_text(TEXT)
    return root


@pytest.fixture
def registry(tmp_path, folders):
    made = Registry(read_settings({"ADAPTERS_HOME": str(tmp_path / "home"), "ADAPTERS_CACHE": str(tmp_path / "c")}))
    made.add_base("tiny", folders / "base")
    made.push(folders / "lora", base="tiny", name="sql-lora")
    return made


def recipe(folders, reference="default/sql-lora@v1", **options):
    inputs = (Ingredient(reference),) if reference else ()
    return Recipe("evaluate", inputs, options=options, files={"data": file_digest(folders / "text")}, into=ADAPTER)


ADAPTER = "default/sql-lora"


def run(registry, folders, given):
    return run_here(registry, Evaluate({"data": folders / "text"}), given, fresh_scratch(registry), lambda _: None)


def truth(folders, *, adapted: bool, longest: int) -> float:
    """The mean loss, one window after the other, as transformers computes it from labels."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folders / "base", dtype=torch.float32)
    if adapted:
        model = PeftModel.from_pretrained(model, folders / "lora")
    tokens = [int(word[1:]) for word in TEXT.split()]
    total = 0.0
    for start in range(0, len(tokens) - 1, longest - 1):
        ids = torch.tensor([tokens[start : start + longest]])
        with torch.no_grad():
            total += float(model.eval()(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
    return total / (len(tokens) - 1)


@pytest.mark.parametrize("adapted", [True, False])
@pytest.mark.parametrize(("batch", "longest"), [(1, 64), (3, 16)])
def test_the_loss_is_that_of_transformers_and_peft(folders, batch, longest, adapted):
    from adapter_registry.jobs.evaluate_loss import measured

    options = {**DEFAULTS, "batch": batch, "max_length": longest}
    found = measured(folders / "base", folders / "lora" if adapted else None, folders / "text", options, lambda _: None)
    loss = truth(folders, adapted=adapted, longest=longest)
    assert found["loss"] == pytest.approx(loss, rel=CLOSE)
    assert found["perplexity"] == pytest.approx(math.exp(loss), rel=10 * CLOSE)
    assert found["tokens"] == len(TEXT.split()) - 1


def test_a_score_names_what_it_was_measured_with_and_is_recorded_once(registry, folders):
    result = run(registry, folders, recipe(folders))
    [loss, perplexity] = registry.scores("sql-lora@v1")
    version = registry.resolve("sql-lora@v1")
    assert (loss.subject, loss.score.metric, loss.score.direction) == (version.digest, "heldout/loss", Direction.LOWER)
    assert loss.score.setting["data"] == file_digest(folders / "text")
    assert loss.score.stderr > 0
    assert "peft " in loss.score.producer
    assert loss.score.evidence == perplexity.score.evidence == of_json(result["evidence"])
    assert loss.job is None
    kind, exact = Evaluate(), Evaluate().check(registry, recipe(folders))
    assert kind.publish(registry, exact, folders, result["evidence"]["measured"]) == result
    assert len(registry.scores("sql-lora@v1")) == 2


def test_a_base_alone_has_scores_that_a_versions_can_be_compared_with(registry, folders):
    base = registry.base("tiny").base.digest
    given = Recipe("evaluate", base=base, files={"data": file_digest(folders / "text")}, into=ADAPTER)
    outcome = {"loss": 2.0, "perplexity": 7.4, "loss_stderr": 0.1, "perplexity_stderr": None, "windows": 3}
    outcome |= {"max_length": 64, "tokenizer": "sha256:" + "0" * 64, "versions": {"torch": "2"}}
    for each in (given, recipe(folders)):
        Evaluate().publish(registry, Evaluate().check(registry, each), folders, outcome)
    [of_base, _], [of_version, _] = registry.base_scores("tiny"), registry.scores("sql-lora@v1")
    assert of_base.score.comparability == of_version.score.comparability


def test_a_loss_that_is_no_number_is_not_recorded(registry, folders):
    exact = Evaluate().check(registry, recipe(folders))
    with pytest.raises(JobFailed, match="the loss is nan"):
        Evaluate().publish(registry, exact, folders, {"loss": math.nan})
    assert registry.scores("sql-lora@v1") == ()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"batch": 0}, "batch is a whole number"),
        ({"batch": True}, "batch is a whole number"),
        ({"format": "csv"}, "format is one of text, jsonl"),
        ({"shots": 5}, "no option 'shots'"),
        ({"task": ""}, "task is a name"),
    ],
)
def test_an_option_that_there_is_not_is_refused_before_anything_is_computed(registry, folders, options, reason):
    with pytest.raises(InvalidInput, match=reason):
        Evaluate().check(registry, recipe(folders, **options))


def test_what_the_child_refuses_is_told_as_what_it_is(registry, folders):
    with pytest.raises(InvalidInput, match="the data is not jsonl with 'text'"):
        run(registry, folders, recipe(folders, format="jsonl"))
    assert registry.scores("sql-lora@v1") == ()
    assert not list(registry.settings.scratch.iterdir())
