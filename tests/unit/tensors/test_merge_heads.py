"""Heads that are tied to embeddings, beyond Llama's: a merge says what base and adapter say, or is refused by name."""

from __future__ import annotations

import warnings

import peft
import pytest
import torch

from adapter_registry.domain.errors import Unsupported
from tests.adapter_builders import adapter
from tests.unit.checkpoints.test_intake_architectures import MODELS
from tests.unit.tensors.merging import adapted, base_of, by_us, loaded

MASKED, TWO = "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM"


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    made = {}

    def make(name, auto):
        if name not in made:
            made[name] = base_of(tmp_path_factory.mktemp(name) / "base", "float32", _with_biases(name), auto=auto)
        return made[name]

    return make


def _with_biases(name):
    def save(folder):
        torch.manual_seed(0)
        model = MODELS[name]()
        for path, parameter in model.named_parameters():
            if path.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder)
        return folder

    return save


def says(model, auto):
    tokens = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    more = {"decoder_input_ids": tokens} if auto == TWO else {}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = model.eval()(input_ids=tokens, **more)
    return found.logits if "logits" in found else found.last_hidden_state


SAME = [
    ("bert-masked", MASKED, {"target_modules": ["word_embeddings"]}),
    ("bert-masked", MASKED, {"target_modules": ["decoder"]}),
    ("bert-masked", MASKED, {"target_modules": ["query"], "modules_to_save": ["word_embeddings"]}),
    ("roberta-masked", MASKED, {"target_modules": ["word_embeddings"]}),
    ("bert", "AutoModel", {"target_modules": ["word_embeddings"]}),
    ("gpt2-headless", "AutoModelForCausalLM", {"target_modules": ["wte"]}),
    ("t5", TWO, {"target_modules": ["q", "lm_head"]}),
    ("t5", TWO, {"target_modules": ["q"], "trainable_token_indices": {"shared": [3, 5]}}),
]


@pytest.mark.parametrize(("name", "auto", "options"), SAME, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(SAME)])
def test_the_merged_model_says_what_base_and_adapter_say(tmp_path, bases, name, auto, options):
    base = bases(name, auto)
    folder = adapter(tmp_path / "adapter", base, peft.LoraConfig(r=4, **options), auto=auto)
    by_us(base, tmp_path / "out", folder)
    expected = says(adapted(base, folder, auto), auto)
    assert not torch.allclose(says(loaded(base, auto), auto), expected, atol=1e-3)
    assert torch.allclose(says(loaded(tmp_path / "out", auto), auto), expected, atol=1e-5)


REFUSED = [
    ("t5", {"target_modules": ["shared"]}, "shared: .*the one embedding of encoder and decoder"),
    ("t5", {"target_modules": ["q"], "modules_to_save": ["shared"]}, "the one embedding of encoder and decoder"),
    ("bart", {"target_modules": ["encoder.embed_tokens"]}, "encoder.embed_tokens: .*the one embedding"),
    (
        "bart",
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        "lm_head, tied to the one embedding",
    ),
]


@pytest.mark.parametrize(("name", "options", "told"), REFUSED)
def test_what_peft_changes_under_one_name_of_several_is_refused(tmp_path, bases, name, options, told):
    base = bases(name, TWO)
    folder = adapter(tmp_path / "adapter", base, peft.LoraConfig(r=4, **options), auto=TWO)
    with pytest.raises(Unsupported, match=told):
        by_us(base, tmp_path / "out", folder)
