"""`adapter_registry.load`: onto the base it is locked to, and onto no other model."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

import adapter_registry
from adapter_registry.client import Registry
from adapter_registry.domain.errors import Conflict, IncompatibleBase, InvalidInput
from adapter_registry.settings import read_settings
from tests.adapter_builders import adapter, llama

TOKENS = torch.arange(12).reshape(1, 12)


def live(folder, **options):
    return AutoModelForCausalLM.from_pretrained(folder, **options).eval()


def logits(model):
    with torch.no_grad():
        return model(TOKENS).logits


@pytest.fixture
def registry(tmp_path, llama_folder, lora_folder):
    home = tmp_path / "home"
    made = Registry(read_settings({"ADAPTERS_HOME": str(home), "ADAPTERS_CACHE": str(home / "cache")}))
    made.add_base("llama", llama_folder)
    made.push(lora_folder, base="llama", name="sql-lora")
    return made


def test_the_right_base_gives_the_trained_models_logits_bit_for_bit(registry, llama_folder, lora_folder):
    trained = PeftModel.from_pretrained(live(llama_folder), lora_folder).eval()
    loaded = adapter_registry.load(live(llama_folder), "sql-lora@v1", registry=registry)
    assert torch.equal(logits(loaded), logits(trained))
    assert not torch.equal(logits(loaded), logits(live(llama_folder)))


def one_value(model):
    model.model.layers[1].mlp.up_proj.weight.data[3, 5] += 1e-3


def swapped_rows(model):
    weight = model.model.layers[0].self_attn.q_proj.weight.data
    weight[[0, 1]] = weight[[1, 0]]


def swapped_layers(model):
    layers = model.model.layers
    layers[0].mlp, layers[1].mlp = layers[1].mlp, layers[0].mlp


@pytest.mark.parametrize("change", [one_value, swapped_rows, swapped_layers], ids=lambda change: change.__name__)
def test_a_model_whose_weights_were_touched_is_refused_and_left_alone(change, registry, llama_folder):
    model = live(llama_folder)
    change(model)
    before = logits(model)
    with pytest.raises(IncompatibleBase, match="not touched"):
        adapter_registry.load(model, "sql-lora@v1", registry=registry)
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize(
    "changes",
    [{"seed": 5}, {"hidden_size": 16}, {"hidden_size": 64}, {"num_hidden_layers": 3}, {"num_hidden_layers": 1}],
    ids=str,
)
def test_another_model_is_refused_with_the_differences(changes, registry, tmp_path):
    model = live(llama(tmp_path / "other", **changes))
    with pytest.raises(IncompatibleBase) as refused:
        adapter_registry.load(model, "sql-lora@v1", registry=registry)
    assert refused.value.exit_code == 6
    assert refused.value.problems


def test_a_resized_vocabulary_is_refused(registry, llama_folder):
    model = live(llama_folder)
    model.resize_token_embeddings(70)
    with pytest.raises(IncompatibleBase, match=r"70|embed_tokens"):
        adapter_registry.load(model, "sql-lora@v1", registry=registry)


def test_a_second_adapter_joins_a_model_that_has_one(registry, llama_folder, tmp_path):
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["o_proj"])
    registry.push(adapter(tmp_path / "b", llama_folder, config), base="llama", name="other")
    model = adapter_registry.load(live(llama_folder), "sql-lora@v1", registry=registry)
    model = adapter_registry.load(model, "other@v1", registry=registry)
    assert len(model.peft_config) == 2
    with pytest.raises(Conflict):
        adapter_registry.load(model, "other@v1", registry=registry)


def test_a_checkpoint_in_bfloat16_is_proved_though_it_was_loaded_as_float32(registry, tmp_path):
    live(llama(tmp_path / "wide")).to(torch.bfloat16).save_pretrained(tmp_path / "narrow")
    registry.add_base("narrow", tmp_path / "narrow")
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
    registry.push(adapter(tmp_path / "a", tmp_path / "narrow", config), base="narrow", name="narrow-lora")
    model = live(tmp_path / "narrow", dtype=torch.float32)
    assert isinstance(adapter_registry.load(model, "narrow-lora@v1", registry=registry), PeftModel)


def test_an_unknown_way_to_verify_is_refused(registry, llama_folder):
    with pytest.raises(InvalidInput, match="verify"):
        adapter_registry.load(live(llama_folder), "sql-lora@v1", registry=registry, verify="trust me")
