"""Evaluating: the loss is what transformers and PEFT say it is, and its scores name everything it was measured with."""

from __future__ import annotations

import math

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.domain.score import Direction
from adapter_registry.jobs.evaluate import Evaluate, file_digest
from adapter_registry.jobs.run import fresh_scratch, run_here
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


def measured(registry, folders, given):
    return run_here(registry, Evaluate(folders / "text"), given, fresh_scratch(registry), lambda _: None)


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


@pytest.mark.parametrize(("batch", "longest"), [(1, 64), (3, 16)])
def test_the_loss_is_that_of_transformers_and_peft(registry, folders, batch, longest):
    result = measured(registry, folders, recipe(folders, batch=batch, max_length=longest))
    loss = truth(folders, adapted=True, longest=longest)
    assert result["scores"]["heldout/loss"] == pytest.approx(loss, rel=CLOSE)
    assert result["scores"]["heldout/perplexity"] == pytest.approx(math.exp(loss), rel=10 * CLOSE)
    assert result["evidence"]["measured"]["tokens"] == len(TEXT.split()) - 1


def test_a_base_alone_is_measured_too_and_can_be_compared(registry, folders):
    base = registry.base("tiny").base.digest
    given = Recipe("evaluate", base=base, files={"data": file_digest(folders / "text")}, into=ADAPTER)
    result = measured(registry, folders, given)
    assert result["scores"]["heldout/loss"] == pytest.approx(truth(folders, adapted=False, longest=64), rel=CLOSE)
    measured(registry, folders, recipe(folders))
    [of_base, _], [of_version, _] = registry.base_scores("tiny"), registry.scores("sql-lora@v1")
    assert of_base.score.comparability == of_version.score.comparability


def test_a_score_names_what_it_was_measured_with(registry, folders):
    measured(registry, folders, recipe(folders))
    [loss, perplexity] = registry.scores("sql-lora@v1")
    version = registry.resolve("sql-lora@v1")
    assert (loss.subject, loss.score.metric, loss.score.direction) == (version.digest, "heldout/loss", Direction.LOWER)
    assert loss.score.setting["data"] == file_digest(folders / "text")
    assert loss.score.stderr > 0
    assert "peft " in loss.score.producer
    assert loss.score.evidence == perplexity.score.evidence is not None
    assert loss.job is None


def test_measuring_the_same_again_adds_no_score(registry, folders):
    first = measured(registry, folders, recipe(folders))
    assert measured(registry, folders, recipe(folders)) == first
    assert len(registry.scores("sql-lora@v1")) == 2


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
        measured(registry, folders, recipe(folders, format="jsonl"))
    assert registry.scores("sql-lora@v1") == ()
    assert not list(registry.settings.scratch.iterdir())
