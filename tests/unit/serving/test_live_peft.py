import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from adapter_registry.client import Registry
from adapter_registry.domain.errors import Conflict, IncompatibleBase
from adapter_registry.serving.live_peft import LoadWarning, load
from adapter_registry.settings import read_settings
from tests.adapter_builders import adapter, llama


@pytest.fixture
def registry(tmp_path, llama_folder, lora_folder):
    home = tmp_path / "home"
    made = Registry(read_settings({"ADAPTERS_HOME": str(home), "ADAPTERS_CACHE": str(home / "cache")}))
    made.add_base("llama", llama_folder)
    made.push(lora_folder, base="llama", name="team/sql_lora.en")
    return made


def live(folder, **how):
    return AutoModelForCausalLM.from_pretrained(folder, **how).eval()


LORA = "team/sql_lora.en@v1"


class TestNames:
    def test_the_adapter_is_active_under_its_name_and_number(self, registry, llama_folder):
        model = load(live(llama_folder), LORA, registry=registry)
        assert model.active_adapters == ["sql-lora-en-v1"]

    def test_a_chosen_name_is_kept(self, registry, llama_folder):
        assert load(live(llama_folder), LORA, registry=registry, adapter_name="sql").active_adapters == ["sql"]

    def test_one_more_adapter_becomes_the_active_one(self, registry, llama_folder):
        model = load(live(llama_folder), LORA, registry=registry, adapter_name="first")
        assert load(model, LORA, registry=registry, adapter_name="second") is model
        assert model.active_adapters == ["second"]

    def test_a_taken_name_is_refused_rather_than_overwritten(self, registry, llama_folder):
        model = load(live(llama_folder), LORA, registry=registry)
        with pytest.raises(Conflict, match="sql-lora-en-v1"):
            load(model, LORA, registry=registry)


class TestWeightsThatCannotBeProved:
    def test_the_folder_they_came_from_is_read_instead(self, registry, llama_folder):
        model = live(llama_folder, dtype=torch.bfloat16)
        with pytest.warns(
            LoadWarning, match=f"float32 weights are held as bfloat16.*{llama_folder}, were read instead"
        ):
            assert isinstance(load(model, LORA, registry=registry), PeftModel)

    def test_another_folder_is_refused(self, registry, tmp_path):
        model = live(llama(tmp_path / "other", seed=1), dtype=torch.bfloat16)
        with pytest.raises(IncompatibleBase, match="embed_tokens"):
            load(model, LORA, registry=registry)

    def test_without_a_folder_they_are_refused_with_the_ways_out(self, registry, llama_folder):
        model = live(llama_folder, dtype=torch.bfloat16)
        model.config._name_or_path = "org/llama"
        with pytest.raises(IncompatibleBase, match="cannot be proved") as refused:
            load(model, LORA, registry=registry)
        assert "dtype='auto'" in refused.value.text
        assert "verify='structure'" in refused.value.text

    def test_quantised_in_memory_from_the_locked_folder(self, registry, llama_folder):
        model = live(llama_folder)
        model.config.quantization_config = {"quant_method": "bitsandbytes"}
        with pytest.warns(LoadWarning, match="quantised in memory"):
            load(model, LORA, registry=registry)

    def test_a_declared_stand_in_is_loaded_and_the_declaration_repeated(self, registry, tmp_path):
        copy = llama(tmp_path / "copy", seed=1)
        registry.add_base("copy", copy)
        registry.declare_equivalent("llama", "copy", because="4-bit copy of the same release")
        model = live(copy)
        model.config.quantization_config = {"quant_method": "bitsandbytes"}
        with pytest.warns(LoadWarning, match="4-bit copy of the same release"):
            load(model, LORA, registry=registry)


class TestStructureOnly:
    def test_other_weights_of_the_same_shapes_are_loaded_with_a_warning(self, registry, tmp_path):
        model = live(llama(tmp_path / "other", seed=1))
        with pytest.warns(LoadWarning, match="only names and shapes were compared"):
            load(model, LORA, registry=registry, verify="structure")

    def test_other_shapes_are_refused_all_the_same(self, registry, tmp_path):
        model = live(llama(tmp_path / "other", num_hidden_layers=1))
        with pytest.raises(IncompatibleBase):
            load(model, LORA, registry=registry, verify="structure")


class TestOtherHeads:
    def test_a_classifier_is_loaded_onto_the_base_with_a_new_head(self, registry, llama_folder, tmp_path):
        kind = "AutoModelForSequenceClassification"
        folder = adapter(
            tmp_path / "a", llama_folder, LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj"]), auto=kind
        )
        registry.push(folder, base="llama", name="judge")
        bare = AutoModelForSequenceClassification.from_pretrained(llama_folder)
        bare.config.pad_token_id = 0
        trained = PeftModel.from_pretrained(bare, folder).eval()
        expected = trained(torch.arange(8).reshape(1, 8)).logits
        again = AutoModelForSequenceClassification.from_pretrained(llama_folder)
        again.config.pad_token_id = 0
        loaded = load(again, "judge@v1", registry=registry)
        assert torch.equal(loaded(torch.arange(8).reshape(1, 8)).logits, expected)

    def test_a_model_without_the_part_the_adapter_changes_is_refused_and_left_alone(self, registry, llama_folder):
        trunk = AutoModel.from_pretrained(llama_folder)
        before = set(trunk.state_dict())
        with pytest.raises(IncompatibleBase, match="LlamaModel"):
            load(trunk, LORA, registry=registry)
        assert set(trunk.state_dict()) == before


def test_soft_prompts_are_loaded(registry, llama_folder, tmp_path):
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    registry.push(adapter(tmp_path / "p", llama_folder, config), base="llama", name="soft")
    assert isinstance(load(live(llama_folder), "soft@v1", registry=registry), PeftModel)


def test_a_proved_model_is_loaded_without_a_warning(registry, llama_folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error", LoadWarning)
        load(live(llama_folder), LORA, registry=registry)
