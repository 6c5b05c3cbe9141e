import dataclasses

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    CLIPVisionConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MixtralConfig,
    MixtralForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from adapter_registry.domain.lock import Level
from adapter_registry.serving.live_weights import live_differences
from tests.unit.serving.builders import TINY, llama, saved


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("llama")


@pytest.fixture(scope="module")
def base(folder):
    return saved(llama(), folder)


def loaded(folder, **how):
    return AutoModelForCausalLM.from_pretrained(folder, **how)


def vision_language():
    text = LlamaConfig(**TINY)
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    return LlavaForConditionalGeneration(LlavaConfig(text_config=text, vision_config=vision, image_token_index=60))


class TestTheSameWeights:
    def test_the_model_loaded_from_its_checkpoint_is_exact(self, base, folder):
        verdict = live_differences(loaded(folder), base)
        assert verdict.level is Level.EXACT
        assert not verdict.differences
        assert not verdict.notes

    def test_untied_heads_are_compared_like_any_weight(self, tmp_path):
        untied = saved(llama(tie_word_embeddings=False), tmp_path)
        assert live_differences(loaded(tmp_path), untied).level is Level.EXACT

    def test_a_wider_dtype_is_converted_back_without_loss(self, tmp_path):
        half = saved(llama().to(torch.bfloat16), tmp_path)
        verdict = live_differences(loaded(tmp_path, dtype=torch.float32), half)
        assert verdict.level is Level.EQUIVALENT
        assert verdict.notes == ("held as float32, converted back without loss",)

    def test_a_narrower_dtype_is_proved_where_it_lost_nothing(self, tmp_path):
        wide = saved(llama().to(torch.bfloat16).to(torch.float32), tmp_path)
        assert live_differences(loaded(tmp_path, dtype=torch.bfloat16), wide).level is Level.EQUIVALENT

    @pytest.mark.parametrize("how", [{}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}])
    @pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
    def test_attached_adapters_are_looked_through(self, base, folder, how):
        config = LoraConfig(task_type=TaskType.CAUSAL_LM, target_modules=["q_proj", "embed_tokens"], **how)
        model = get_peft_model(loaded(folder), config)
        assert live_differences(model, base).level is Level.EXACT

    def test_trained_tokens_are_looked_through(self, base, folder):
        model = get_peft_model(loaded(folder), LoraConfig(target_modules=["q_proj"], trainable_token_indices=[1, 2]))
        assert live_differences(model, base).level is Level.EXACT

    def test_fused_experts_are_the_checkpoints_separate_ones(self, tmp_path):
        config = MixtralConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_local_experts=3,
        )
        experts = saved(MixtralForCausalLM(config), tmp_path)
        model = loaded(tmp_path)
        assert live_differences(model, experts).level is Level.EXACT
        wrapped = get_peft_model(
            model, LoraConfig(target_modules=["q_proj"], target_parameters=["mlp.experts.down_proj"])
        )
        assert live_differences(wrapped, experts).level is Level.EXACT
        with torch.no_grad():
            model.get_parameter("model.layers.0.self_attn.o_proj.weight").mul_(1.001)
        assert live_differences(wrapped, experts).level is Level.STRUCTURAL

    @pytest.mark.parametrize(
        "model",
        [
            lambda: GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2, n_positions=32)),
            lambda: BertForMaskedLM(
                BertConfig(
                    vocab_size=64,
                    hidden_size=32,
                    num_hidden_layers=1,
                    num_attention_heads=2,
                    intermediate_size=48,
                    max_position_embeddings=32,
                )
            ),
            lambda: T5ForConditionalGeneration(
                T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4)
            ),
            vision_language,
        ],
    )
    def test_other_architectures(self, model, tmp_path):
        built = model()
        checkpoint = saved(built, tmp_path)
        assert live_differences(type(built).from_pretrained(tmp_path), checkpoint).level is Level.EXACT


class TestOtherHeads:
    def test_a_new_head_is_no_part_of_the_base(self, base, folder):
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
        verdict = live_differences(model, base)
        assert verdict.level is Level.EXACT
        assert verdict.notes == ("score.weight is no part of the base and was not compared",)

    def test_a_trunk_without_head_has_the_same_trunk(self, base, folder):
        assert live_differences(AutoModel.from_pretrained(folder), base).level is Level.EXACT

    def test_a_checkpoint_of_the_trunk_alone_fits_the_model_with_head(self, tmp_path):
        config = GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2, n_positions=32)
        trunk = saved(GPT2Model(config), tmp_path)
        model = GPT2LMHeadModel.from_pretrained(tmp_path)
        assert live_differences(model, trunk).level is Level.EXACT

    def test_a_head_that_should_be_the_embedding_and_is_not_is_found(self, base, folder):
        model = loaded(folder)
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone() + 1)
        verdict = live_differences(model, base)
        assert verdict.level is Level.STRUCTURAL
        assert any("embed_tokens" in difference.what for difference in verdict.differences)


class TestOtherWeights:
    def test_one_changed_weight_is_named(self, base, folder):
        model = loaded(folder)
        with torch.no_grad():
            model.get_parameter("model.layers.1.mlp.up_proj.weight")[3, 4] += 1e-6
        verdict = live_differences(model, base)
        assert verdict.level is Level.STRUCTURAL
        count, named = verdict.differences
        assert (count.expected, count.found) == (str(len(base.tensors)), str(len(base.tensors) - 1))
        assert named.what == "model.layers.1.mlp.up_proj.weight"

    def test_permuted_rows_are_other_weights(self, base, folder):
        model = loaded(folder)
        weight = model.get_parameter("model.layers.0.self_attn.q_proj.weight")
        with torch.no_grad():
            weight.copy_(weight.flip(0).clone())
        assert "model.layers.0.self_attn.q_proj.weight" in [d.what for d in live_differences(model, base).differences]

    def test_another_training_differs_in_almost_every_tensor(self, base):
        count = live_differences(llama(seed=1), base).differences[0]
        norms = 5
        assert count.found == str(norms)

    def test_a_change_below_the_checkpoints_precision_is_found(self, tmp_path):
        half = saved(llama().to(torch.bfloat16), tmp_path)
        model = loaded(tmp_path, dtype=torch.float32)
        with torch.no_grad():
            model.get_parameter("model.norm.weight")[0] += 1e-6
        assert [d.what for d in live_differences(model, half).differences][1:] == ["model.norm.weight"]

    @pytest.mark.parametrize(
        "changed", [{"hidden_size": 16}, {"num_hidden_layers": 1}, {"num_hidden_layers": 3}, {"vocab_size": 97}]
    )
    def test_another_size_is_incompatible(self, base, changed):
        verdict = live_differences(llama(**changed), base)
        assert verdict.level is Level.INCOMPATIBLE
        assert verdict.differences

    def test_a_merged_adapter_has_changed_the_base(self, base, folder):
        model = get_peft_model(loaded(folder), LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
        assert live_differences(model, base).level is Level.EXACT
        model.merge_adapter()
        assert live_differences(model, base).level is Level.STRUCTURAL


class TestResizedEmbeddings:
    def test_longer_embeddings_are_refused_unless_the_adapter_brings_its_own(self, base, folder):
        model = loaded(folder)
        model.resize_token_embeddings(101)
        assert live_differences(model, base).level is Level.INCOMPATIBLE
        assert live_differences(model, base, resized=True).level is Level.EXACT

    def test_the_locked_rows_must_be_the_same(self, base, folder):
        model = loaded(folder)
        model.resize_token_embeddings(101)
        with torch.no_grad():
            model.get_input_embeddings().weight[5, 0] += 1
        assert live_differences(model, base, resized=True).level is Level.STRUCTURAL


class TestWhatCannotBeProved:
    def test_a_narrower_dtype_is_said_and_not_guessed(self, base, folder):
        verdict = live_differences(loaded(folder, dtype=torch.bfloat16), base)
        assert verdict.level is Level.STRUCTURAL
        assert not verdict.differences
        assert verdict.notes == ("float32 weights are held as bfloat16",)

    def test_weights_on_no_device(self, base):
        with torch.device("meta"):
            model = llama()
        verdict = live_differences(model, base)
        assert not verdict.differences
        assert verdict.notes == ("weights are offloaded, on no device",)

    def test_a_base_registered_without_reading_its_bytes(self, base, folder):
        unread = dataclasses.replace(base, tensors=tuple(dataclasses.replace(t, digest=None) for t in base.tensors))
        verdict = live_differences(loaded(folder), unread)
        assert verdict.notes == ("the base was registered from file digests, without its values",)

    def test_weights_quantised_in_memory(self, base, folder):
        model = loaded(folder)
        model.config.quantization_config = {"quant_method": "bitsandbytes"}
        assert live_differences(model, base).notes == ("its weights were quantised in memory (bitsandbytes)",)

    def test_weights_of_which_this_process_holds_a_part(self, base, folder, tmp_path):
        import torch.distributed
        from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

        torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/peers", rank=0, world_size=1)
        try:
            mesh = torch.distributed.init_device_mesh("cpu", (1,))
            second = fully_shard(loaded(folder), mesh=mesh)
            with pytest.warns(UserWarning, match="since the world size is 1"):
                first = FullyShardedDataParallel(loaded(folder), device_id=torch.device("cpu"))
            found = [live_differences(model, base) for model in (first, second)]
        finally:
            torch.distributed.destroy_process_group()
        zero3 = loaded(folder)
        zero3.model.norm.weight.ds_id = 7
        for verdict in (*found, live_differences(zero3, base)):
            assert verdict.level is Level.STRUCTURAL
            assert not verdict.differences
            assert verdict.notes == ("its weights are spread over several processes",)

    def test_structure_alone_looks_at_no_value(self, base):
        verdict = live_differences(llama(seed=1), base, values=False)
        assert verdict.level is Level.STRUCTURAL
        assert not verdict.differences
