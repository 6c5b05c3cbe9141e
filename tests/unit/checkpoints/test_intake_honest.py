"""Unusual but honest adapters are accepted: whatever PEFT itself saves on a base is accepted on that base."""

from __future__ import annotations

from dataclasses import replace

import peft
import peft.tuners.lora.config as variants
import pytest
import torch
import transformers

from adapter_registry.checkpoints.adapter_files import read_folder
from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.checkpoints.intake import examine
from adapter_registry.domain.base import Tensor
from adapter_registry.domain.problem_codes import NOTICES
from tests.adapter_builders import adapter, changed_config, copied, llama

QV = ["q_proj", "v_proj"]
LM = {"task_type": "CAUSAL_LM"}
REGEX = r".*layers\.[01]\.self_attn\.(q|v)_proj"

LORAS = {
    "plain": {"target_modules": QV},
    "all-linear": {"target_modules": "all-linear"},
    "regex": {"target_modules": REGEX},
    "full-path": {"target_modules": ["model.layers.0.self_attn.q_proj"]},
    "rslora": {"target_modules": QV, "use_rslora": True, "r": 8, "lora_alpha": 16},
    "dora": {"target_modules": QV, "use_dora": True},
    "rank-pattern": {"target_modules": QV, "rank_pattern": {"q_proj": 2, r"layers\.1.*v_proj": 6}},
    "alpha-pattern": {"target_modules": QV, "alpha_pattern": {"q_proj": 2}},
    "layers": {"target_modules": QV, "layers_to_transform": [1], "layers_pattern": "layers"},
    "exclude": {"target_modules": ["q_proj", "k_proj"], "exclude_modules": r".*layers\.0\..*"},
    "head-saved": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "norm-saved": {"target_modules": ["q_proj"], "modules_to_save": ["norm", "embed_tokens"]},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    "bias-all": {"target_modules": ["q_proj"], "bias": "all"},
    "bias-lora-only": {"target_modules": ["q_proj"], "bias": "lora_only"},
    "lora-bias": {"target_modules": ["q_proj"], "lora_bias": True},
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [1, 5]},
    "tokens-by-name": {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [2]}},
    "parameter": {"target_modules": [], "target_parameters": ["q_proj.weight"]},
    "replicated": {"target_modules": ["q_proj"], "layer_replication": [[0, 2], [0, 2]]},
    "alora": {"target_modules": ["q_proj"], "alora_invocation_tokens": [1, 2]},
    "gaussian": {"target_modules": QV, "init_lora_weights": "gaussian"},
    "orthogonal": {"target_modules": QV, "init_lora_weights": "orthogonal"},
    "no-task": {"target_modules": QV, "task_type": None},
    "rank-1": {"target_modules": QV, "r": 1},
    "layers-replaced": {"target_modules": ["v_proj"], "modules_to_save": ["layers.0.mlp"]},
    "tying": {"target_modules": ["v_proj", "embed_tokens"], "ensure_weight_tying": True},
    "tokens-of-both": {
        "target_modules": ["v_proj"],
        "trainable_token_indices": {"embed_tokens": [1], "lm_head": [3]},
    },
    "parameter-rank": {
        "target_modules": ["v_proj"],
        "target_parameters": ["q_proj.weight"],
        "rank_pattern": {"q_proj.weight": 2, "v_proj": 3},
    },
    "replicated-unevenly": {"target_modules": QV, "layer_replication": [[0, 1], [0, 2], [1, 2]]},
    "kasa": {"target_modules": QV, "kasa_config": variants.KasaConfig()},
    "velora": {"target_modules": QV, "velora_config": variants.VeloraConfig(num_groups=8)},
    "monteclora": {"target_modules": QV, "monteclora_config": variants.MontecloraConfig()},
    "qalora": {"target_modules": QV, "use_qalora": True, "qalora_group_size": 8},
    "block-diagonal": {
        "target_modules": ["q_proj", "o_proj"],
        "use_bdlora": variants.BdLoraConfig(target_modules_bd_a=["o_proj"], target_modules_bd_b=["q_proj"], nblocks=2),
    },
    "mica": {"target_modules": QV, "init_lora_weights": "mica"},
    "rank-above-width": {"target_modules": ["v_proj"], "r": 40},
}
OTHERS = {
    "ia3": lambda: peft.IA3Config(**LM, target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "prefix": lambda: peft.PrefixTuningConfig(**LM, num_virtual_tokens=5),
    "prefix-projected": lambda: peft.PrefixTuningConfig(**LM, num_virtual_tokens=5, prefix_projection=True),
    "prompt": lambda: peft.PromptTuningConfig(**LM, num_virtual_tokens=5),
    "p-tuning": lambda: peft.PromptEncoderConfig(**LM, num_virtual_tokens=5, encoder_hidden_size=16),
    "multitask": lambda: peft.MultitaskPromptTuningConfig(**LM, num_virtual_tokens=5, num_tasks=2),
    "adalora": lambda: peft.AdaLoraConfig(**LM, target_modules=QV, total_step=10),
    "loha": lambda: peft.LoHaConfig(**LM, target_modules=QV),
    "lokr": lambda: peft.LoKrConfig(**LM, target_modules=QV),
    "oft": lambda: peft.OFTConfig(**LM, target_modules=QV, oft_block_size=4, r=0),
    "boft": lambda: peft.BOFTConfig(**LM, target_modules=QV, boft_block_size=4),
    "vera": lambda: peft.VeraConfig(**LM, target_modules=["q_proj"], r=4),
    "fourierft": lambda: peft.FourierFTConfig(**LM, target_modules=QV, n_frequency=10),
    "hra": lambda: peft.HRAConfig(**LM, target_modules=QV),
    "ln-tuning": lambda: peft.LNTuningConfig(**LM, target_modules=["input_layernorm"]),
    "vblora": lambda: peft.VBLoRAConfig(**LM, target_modules=QV, r=2, vector_length=16, num_vectors=8),
    "miss": lambda: peft.MissConfig(**LM, target_modules=QV, r=4),
    "shira": lambda: peft.ShiraConfig(**LM, target_modules=QV, r=2),
    "tokens-only": lambda: peft.TrainableTokensConfig(**LM, token_indices=[1, 2], target_modules=["embed_tokens"]),
    "cpt": lambda: peft.CPTConfig(**LM, cpt_token_ids=[1, 2], cpt_mask=[1, 1], cpt_tokens_type_mask=[1, 1]),
    "adaption": lambda: peft.AdaptionPromptConfig(**LM, adapter_len=4, adapter_layers=2),
    "randlora": lambda: peft.RandLoraConfig(**LM, target_modules=QV, r=4),
    "road": lambda: peft.RoadConfig(**LM, target_modules=["q_proj"], group_size=8),
    "beft": lambda: peft.BeftConfig(**LM, target_modules=QV),
    "cartridge": lambda: peft.CartridgeConfig(**LM, num_virtual_tokens=5),
    "deft": lambda: peft.DeftConfig(**LM, target_modules=QV, r=4),
    "delora": lambda: peft.DeloraConfig(**LM, target_modules=QV),
    "gralora": lambda: peft.GraloraConfig(**LM, target_modules=QV, r=8),
    "hira": lambda: peft.HiraConfig(**LM, target_modules=QV),
    "lily": lambda: peft.LilyConfig(**LM, target_modules=QV, r=4, stride_A=1, num_B=2),
    "osf": lambda: peft.OSFConfig(**LM, target_modules=QV, effective_rank=4),
    "poly": lambda: peft.PolyConfig(**LM, target_modules=QV, n_tasks=2, n_skills=2),
    "psoft": lambda: peft.PsoftConfig(**LM, target_modules=QV, r=4),
    "shadow": lambda: peft.ShadowConfig(**LM),
    "supertuning": lambda: peft.SupertuningConfig(**LM, target_modules=QV),
    "waveft": lambda: peft.WaveFTConfig(**LM, target_modules=QV, n_frequency=10),
    "c3a": lambda: peft.C3AConfig(**LM, target_modules=QV, block_size=4),
}


def accepted(folder, base):
    files, _ = read_folder(folder)
    examination = examine(files, base)
    assert [str(problem) for problem in examination.problems] == []
    assert {notice.code for notice in examination.notices} <= NOTICES.keys()
    return examination.description


@pytest.mark.parametrize("name", LORAS)
def test_whatever_lora_peft_saves_is_accepted_on_its_base(name, tmp_path, llama_folder, llama_base):
    config = peft.LoraConfig(**{**LM, "r": 4, **LORAS[name]})
    description = accepted(adapter(tmp_path / "a", llama_folder, config), llama_base)
    assert description.checked == "full"
    assert description.nonzero
    assert description.modules >= 1


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_method_peft_saves_is_accepted_and_described_honestly(name, tmp_path, llama_folder, llama_base):
    description = accepted(adapter(tmp_path / "a", llama_folder, OTHERS[name]()), llama_base)
    modelled = name in ("ia3", "prefix", "prefix-projected", "prompt", "p-tuning", "multitask")
    assert description.checked == ("full" if modelled else "names and shapes only")
    assert description.nonzero


@pytest.mark.parametrize("name", ["plain", "dora", "embeddings", "regex"])
def test_what_fits_one_base_is_refused_on_one_of_other_shapes(name, tmp_path, llama_folder):
    wider = llama(tmp_path / "wider", hidden_size=64)
    config = peft.LoraConfig(**{**LM, "r": 4, **LORAS[name]})
    files, _ = read_folder(adapter(tmp_path / "a", llama_folder, config))
    examination = examine(files, read_base(wider, cache=None, progress=lambda _: None))
    assert "shape-mismatch" in {problem.code for problem in examination.problems}


@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": QV},
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": QV, "modules_to_save": ["lm_head", "norm"]},
        {"target_modules": [], "target_parameters": ["q_proj.weight"]},
    ],
    ids=str,
)
def test_an_adapter_that_was_never_trained_is_accepted_and_said_to_change_nothing(
    fields, tmp_path, llama_folder, llama_base
):
    config = peft.LoraConfig(**LM, **fields)
    files, _ = read_folder(adapter(tmp_path / "a", llama_folder, config, fresh=True))
    examination = examine(files, llama_base)
    assert examination.problems == ()
    assert not examination.description.nonzero
    assert "changes-nothing" in {notice.code for notice in examination.notices}


def test_a_scaling_of_zero_changes_nothing(tmp_path, llama_folder, llama_base):
    config = peft.LoraConfig(**LM, target_modules=QV, lora_alpha=0)
    assert not accepted(adapter(tmp_path / "a", llama_folder, config), llama_base).nonzero


@pytest.mark.parametrize("make", [peft.WaveFTConfig, peft.BeftConfig, peft.MissConfig], ids=lambda kind: kind.__name__)
def test_a_method_that_starts_at_zero_is_accepted_before_training(make, tmp_path, llama_folder, llama_base):
    sizes = {peft.WaveFTConfig: {"n_frequency": 10}, peft.MissConfig: {"r": 4}}.get(make, {})
    folder = adapter(tmp_path / "a", llama_folder, make(**LM, target_modules=["q_proj"], **sizes), fresh=True)
    assert not accepted(folder, llama_base).nonzero


@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": QV},
        {"target_modules": QV, "modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": [64, 69]},
    ],
    ids=str,
)
def test_a_resized_vocabulary_is_accepted_and_told(fields, tmp_path, llama_folder, llama_base):
    def grown(folder):
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        model.resize_token_embeddings(70, mean_resizing=False)
        return model

    folder = adapter(tmp_path / "a", llama_folder, peft.LoraConfig(**LM, r=4, **fields), load=grown)
    assert accepted(folder, llama_base).vocab_resized


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_factors_of_any_float_type_are_accepted(dtype, tmp_path, llama_folder, llama_base):
    def cast(folder):
        return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))

    config = peft.LoraConfig(**LM, target_modules=QV)
    folder = adapter(tmp_path / "a", llama_folder, config, load=cast, autocast=False)
    assert accepted(folder, llama_base).dtype == {"bfloat16": "BF16", "float16": "F16", "float64": "F64"}[dtype]


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        ("U8", lambda out, into: ("weight", (out * into // 2, 1))),
        ("I32", lambda out, into: ("qweight", (into // 8, out))),
        ("I8", lambda out, into: ("weight", (out, into))),
        ("F8_E4M3", lambda out, into: ("weight", (out, into))),
    ],
)
def test_an_adapter_of_a_quantised_base_is_accepted(dtype, stored, tmp_path, lora_folder, llama_base):
    def packed(tensor):
        if ".layers." not in tensor.name or len(tensor.shape) != 2:
            return tensor
        leaf, shape = stored(*tensor.shape)
        return Tensor(f"{tensor.name.removesuffix('weight')}{leaf}", dtype, shape)

    base = replace(llama_base, tensors=tuple(map(packed, llama_base.tensors)), quantization="some")
    accepted(lora_folder, base)


def test_a_packed_weight_of_another_size_is_refused(tmp_path, lora_folder, llama_base):
    def packed(tensor):
        wide = ".layers." in tensor.name and len(tensor.shape) == 2
        return Tensor(tensor.name, "U8", (32 * 512, 1)) if wide else tensor

    base = replace(llama_base, tensors=tuple(map(packed, llama_base.tensors)), quantization="bitsandbytes")
    files, _ = read_folder(lora_folder)
    assert {problem.code for problem in examine(files, base).problems} == {"shape-mismatch"}


def test_the_description_counts_modules_ranks_and_scalings(tmp_path, llama_folder, llama_base):
    config = peft.LoraConfig(**LM, r=4, lora_alpha=8, target_modules=QV, rank_pattern={"v_proj": 2})
    description = accepted(adapter(tmp_path / "a", llama_folder, config), llama_base)
    assert (description.rank, description.ranks) == (4, {"2": 2, "4": 2})
    assert description.scaling == {"2": 2, "4": 2}
    assert (description.modules, description.candidates, description.matched) == (4, 4, {"q_proj": 2, "v_proj": 2})


def test_a_base_without_its_head_is_found_under_the_prefix_the_live_model_has(tmp_path):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2, n_positions=32))
    model.save_pretrained(tmp_path / "full")
    model.transformer.save_pretrained(tmp_path / "headless")
    config = peft.LoraConfig(**LM, r=4, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)
    folder = adapter(tmp_path / "a", tmp_path / "full", config)
    for name in ("full", "headless"):
        base = read_base(tmp_path / name, cache=None, progress=lambda _: None)
        assert accepted(folder, base).matched == {"c_attn": 2, "c_proj": 4}


@pytest.mark.parametrize(
    ("auto", "task", "targets"),
    [
        ("AutoModelForSequenceClassification", "SEQ_CLS", ["query", "value"]),
        ("AutoModelForTokenClassification", "TOKEN_CLS", ["query"]),
        ("AutoModelForQuestionAnswering", "QUESTION_ANS", ["value"]),
        ("AutoModel", "FEATURE_EXTRACTION", ["query", "dense"]),
    ],
)
def test_an_encoder_with_a_task_head_is_accepted(auto, task, targets, tmp_path):
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    BertModel(BertConfig(vocab_size=64, **shape)).save_pretrained(tmp_path / "bert")
    folder = adapter(
        tmp_path / "a", tmp_path / "bert", peft.LoraConfig(task_type=task, target_modules=targets), auto=auto
    )
    accepted(folder, read_base(tmp_path / "bert", cache=None, progress=lambda _: None))


def test_a_sequence_to_sequence_model_is_accepted(tmp_path):
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    shape = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    T5ForConditionalGeneration(T5Config(vocab_size=64, **shape)).save_pretrained(tmp_path / "t5")
    base = read_base(tmp_path / "t5", cache=None, progress=lambda _: None)
    for i, config in enumerate(
        (
            peft.LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q", "v"]),
            peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=4),
            peft.IA3Config(task_type="SEQ_2_SEQ_LM", target_modules=["k", "v", "wo"], feedforward_modules=["wo"]),
        )
    ):
        accepted(adapter(tmp_path / f"a{i}", tmp_path / "t5", config, auto="AutoModelForSeq2SeqLM"), base)


def test_experts_of_a_mixture_are_matched_though_the_checkpoint_stores_them_apart(tmp_path):
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = MixtralConfig(vocab_size=64, **shape, num_key_value_heads=2, num_local_experts=4)
    MixtralForCausalLM(config).save_pretrained(tmp_path / "moe")
    lora = peft.LoraConfig(
        **LM, r=2, target_modules=["q_proj"], target_parameters=["experts.gate_up_proj", "experts.down_proj"]
    )
    folder = adapter(tmp_path / "a", tmp_path / "moe", lora)
    accepted(folder, read_base(tmp_path / "moe", cache=None, progress=lambda _: None))


def test_all_linear_on_a_mixture_reaches_its_experts_and_its_router(tmp_path):
    import torch
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "moe_intermediate_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    config = Qwen3MoeConfig(vocab_size=64, **shape, **heads, num_experts=4, num_experts_per_tok=2)
    Qwen3MoeForCausalLM(config).save_pretrained(tmp_path / "moe")
    folder = adapter(tmp_path / "a", tmp_path / "moe", peft.LoraConfig(**LM, r=2, target_modules="all-linear"))
    description = accepted(folder, read_base(tmp_path / "moe", cache=None, progress=lambda _: None))
    assert description.modules == description.candidates == 14


def test_a_tied_head_that_is_targeted_is_checked_against_the_embedding(tmp_path):
    tied = llama(tmp_path / "tied", tie_word_embeddings=True)
    config = peft.LoraConfig(**LM, r=4, target_modules=["q_proj", "lm_head"])
    accepted(adapter(tmp_path / "a", tied, config), read_base(tied, cache=None, progress=lambda _: None))


def test_a_base_whose_bytes_are_unknown_is_checked_by_shapes(tmp_path, llama_folder, llama_base):
    config = peft.LoraConfig(**LM, r=4, target_modules=["q_proj", "embed_tokens"])
    unread = tuple(replace(tensor, digest=None) for tensor in llama_base.tensors)
    accepted(adapter(tmp_path / "a", llama_folder, config), replace(llama_base, root=None, tensors=unread))


@pytest.mark.parametrize(
    "changes",
    [
        {"base_model_name_or_path": None},
        {"base_model_name_or_path": "C:\\models\\llama"},
        {"base_model_name_or_path": "../llama"},
        {"megatron_core": "megatron.core"},
        {"peft_version": "0.9.1.dev0@unknown"},
        {"peft_version": ...},
        {"enable_lora": None, "merge_weights": False},
        {
            "auto_mapping": {
                "base_model_class": "LlamaForCausalLM",
                "parent_library": "transformers.models.llama.modeling_llama",
                "unsloth_fixed": True,
            }
        },
        {"modules_to_save": ["score", "score", "classifier"]},
        {"target_modules": ["q_proj", "v_proj", "W_pack"]},
        {"target_modules": ["v_proj", "q_proj", "q_proj"]},
        {"a_field_of_tomorrow": {"x": [1]}},
        {"lora_alpha": 16.5},
        {"lora_dropout": 0},
        {"revision": "main"},
        {"inference_mode": True},
        {"loftq_config": {}, "eva_config": None, "corda_config": None},
        {"init_lora_weights": "eva", "eva_config": {"rho": 2.0, "tau": 0.99}},
        {"layers_pattern": [], "layers_to_transform": None},
        {"r": 4, "rank_pattern": {}, "alpha_pattern": {}},
    ],
    ids=str,
)
def test_a_config_as_found_in_the_wild_is_accepted(changes, tmp_path, lora_folder, llama_base):
    folder = copied(lora_folder, tmp_path / "a")
    changed_config(folder, **changes)
    accepted(folder, llama_base)


def test_a_config_of_peft_0_2_is_accepted(tmp_path, lora_folder, llama_base):
    folder = copied(lora_folder, tmp_path / "a")
    (folder / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "decapoda-research/llama-7b-hf", "bias": "none", "enable_lora": null,'
        ' "fan_in_fan_out": false, "inference_mode": true, "lora_alpha": 16, "lora_dropout": 0.05,'
        ' "merge_weights": false, "modules_to_save": null, "peft_type": "LORA", "r": 4,'
        ' "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}'
    )
    accepted(folder, llama_base)
