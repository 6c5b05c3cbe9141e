"""What PEFT saves on models of many architectures is accepted, however their checkpoints name and store weights."""

from __future__ import annotations

import peft
import pytest
import transformers as tf

from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.checkpoints.intake import examine_folder
from tests.adapter_builders import adapter

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
GROUPED = {**SMALL, "num_key_value_heads": 2}
VISION = {**SMALL, "image_size": 16, "patch_size": 8}
del VISION["vocab_size"]
MIXTURE = {**GROUPED, "moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2}


def lora(**fields):
    return lambda: peft.LoraConfig(**{"r": 4, **fields})


def prompt(kind, task):
    return lambda: kind(task_type=task, num_virtual_tokens=3)


def t5():
    return tf.T5ForConditionalGeneration(
        tf.T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=3, num_heads=4)
    )


def bart():
    shape = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    return tf.BartForConditionalGeneration(tf.BartConfig(vocab_size=64, max_position_embeddings=32, **shape, **heads))


def gpt2():
    return tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2, n_positions=32))


def opt():
    shape = {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    return tf.OPTForCausalLM(tf.OPTConfig(vocab_size=64, max_position_embeddings=32, word_embed_proj_dim=16, **shape))


def resnet():
    return tf.ResNetForImageClassification(
        tf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=3)
    )


def wav2vec():
    convolutions = {"conv_dim": (8, 8), "conv_kernel": (3, 3), "conv_stride": (2, 2), "num_feat_extract_layers": 2}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    return tf.Wav2Vec2ForSequenceClassification(
        tf.Wav2Vec2Config(**SMALL, **convolutions, **positions, classifier_proj_size=16)
    )


def llava():
    return tf.LlavaForConditionalGeneration(
        tf.LlavaConfig(
            vision_config=tf.CLIPVisionConfig(**VISION), text_config=tf.LlamaConfig(**GROUPED), image_token_index=5
        )
    )


def qwen2_vl():
    rope = {"type": "mrope", "mrope_section": [1, 1, 2]}
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "patch_size": 4}
    return tf.Qwen2VLForConditionalGeneration(
        tf.Qwen2VLConfig(text_config={**GROUPED, "rope_scaling": rope}, vision_config=vision)
    )


MODELS = {
    "bert": lambda: tf.BertModel(tf.BertConfig(**SMALL)),
    "bert-masked": lambda: tf.BertForMaskedLM(tf.BertConfig(**SMALL)),
    "roberta-masked": lambda: tf.RobertaForMaskedLM(tf.RobertaConfig(**SMALL, max_position_embeddings=40)),
    "albert": lambda: tf.AlbertModel(tf.AlbertConfig(**SMALL, embedding_size=16)),
    "t5": t5,
    "bart": bart,
    "gpt2": gpt2,
    "gpt2-headless": lambda: gpt2().transformer,
    "opt": opt,
    "neox": lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**SMALL)),
    "phi3": lambda: tf.Phi3ForCausalLM(tf.Phi3Config(**GROUPED, pad_token_id=0)),
    "bloom": lambda: tf.BloomForCausalLM(tf.BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=2)),
    "vit": lambda: tf.ViTForImageClassification(tf.ViTConfig(**VISION)),
    "resnet": resnet,
    "wav2vec": wav2vec,
    "mixtral": lambda: tf.MixtralForCausalLM(tf.MixtralConfig(**GROUPED, num_local_experts=4)),
    "qwen2-moe": lambda: tf.Qwen2MoeForCausalLM(tf.Qwen2MoeConfig(**MIXTURE, shared_expert_intermediate_size=40)),
    "gpt-oss": lambda: tf.GptOssForCausalLM(tf.GptOssConfig(**GROUPED, num_local_experts=4, head_dim=8)),
    "granite-moe": lambda: tf.GraniteMoeForCausalLM(tf.GraniteMoeConfig(**GROUPED, num_local_experts=4)),
    "llava": llava,
    "qwen2-vl": qwen2_vl,
}
EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]
IMAGE_TEXT = "AutoModelForImageTextToText"
CASES = [
    ("bert", "AutoModelForSequenceClassification", prompt(peft.PromptTuningConfig, "SEQ_CLS")),
    ("bert", "AutoModelForTokenClassification", prompt(peft.PrefixTuningConfig, "TOKEN_CLS")),
    ("bert", "AutoModelForQuestionAnswering", prompt(peft.PromptEncoderConfig, "QUESTION_ANS")),
    ("bert", "AutoModelForSequenceClassification", lora(task_type="SEQ_CLS", target_modules=["dense"], bias="all")),
    ("bert", "AutoModelForSequenceClassification", lora(task_type="SEQ_CLS", target_modules=["word_embeddings"])),
    ("bert", "AutoModelForSequenceClassification", lambda: peft.IA3Config(task_type="SEQ_CLS")),
    ("bert-masked", "AutoModelForSequenceClassification", lora(task_type="SEQ_CLS", target_modules=["query"])),
    ("bert-masked", "AutoModel", lora(task_type="FEATURE_EXTRACTION", target_modules=["query"])),
    ("roberta-masked", "AutoModelForSequenceClassification", prompt(peft.PrefixTuningConfig, "SEQ_CLS")),
    ("albert", "AutoModelForSequenceClassification", prompt(peft.PromptTuningConfig, "SEQ_CLS")),
    ("t5", "AutoModelForSeq2SeqLM", lora(task_type="SEQ_2_SEQ_LM", target_modules=["shared", "q"])),
    ("t5", "AutoModelForSeq2SeqLM", prompt(peft.PrefixTuningConfig, "SEQ_2_SEQ_LM")),
    ("t5", "AutoModelForSeq2SeqLM", prompt(peft.MultitaskPromptTuningConfig, "SEQ_2_SEQ_LM")),
    ("bart", "AutoModelForSeq2SeqLM", lora(target_modules=["embed_tokens", "fc1"])),
    ("gpt2", "AutoModelForCausalLM", lambda: peft.IA3Config(task_type="CAUSAL_LM")),
    ("gpt2", "AutoModelForCausalLM", lora(target_modules=["c_attn"], use_dora=True)),
    ("gpt2-headless", "AutoModelForCausalLM", lora(target_modules=["wte", "c_fc"])),
    ("gpt2-headless", "AutoModelForCausalLM", lora(target_modules=["c_attn"], modules_to_save=["ln_f", "lm_head"])),
    ("opt", "AutoModelForCausalLM", prompt(peft.PromptTuningConfig, "CAUSAL_LM")),
    ("opt", "AutoModelForCausalLM", lora(target_modules="all-linear", bias="lora_only")),
    ("neox", "AutoModelForCausalLM", lora(target_modules=["embed_in", "embed_out", "query_key_value"])),
    ("phi3", "AutoModelForCausalLM", prompt(peft.PrefixTuningConfig, "CAUSAL_LM")),
    ("bloom", "AutoModelForCausalLM", lora(target_modules=["query_key_value"], bias="all")),
    ("vit", "AutoModelForImageClassification", lora(target_modules=["projection", "q_proj"])),
    ("vit", "AutoModelForImageClassification", lora(target_modules="all-linear", modules_to_save=["classifier"])),
    (
        "resnet",
        "AutoModelForImageClassification",
        lora(target_modules=["convolution"], modules_to_save=["normalization"]),
    ),
    ("wav2vec", "AutoModelForAudioClassification", lora(target_modules=["conv"])),
    ("mixtral", "AutoModelForCausalLM", lora(target_modules="all-linear")),
    ("mixtral", "AutoModelForCausalLM", lora(target_modules=["gate", "q_proj"])),
    (
        "mixtral",
        "AutoModelForCausalLM",
        lora(target_modules=["q_proj"], target_parameters=EXPERTS, rank_pattern={"experts.down_proj": 2}),
    ),
    ("qwen2-moe", "AutoModelForCausalLM", lora(target_modules=["up_proj", "shared_expert_gate"])),
    ("gpt-oss", "AutoModelForCausalLM", lora(target_modules=["q_proj"], target_parameters=EXPERTS)),
    ("granite-moe", "AutoModelForCausalLM", lora(target_modules=["q_proj"], target_parameters=["experts.down_proj"])),
    ("llava", IMAGE_TEXT, lora(target_modules="all-linear")),
    ("llava", IMAGE_TEXT, lora(target_modules=["embed_tokens"])),
    ("llava", IMAGE_TEXT, lora(target_modules=["q_proj"], modules_to_save=["lm_head", "linear_1"])),
    ("qwen2-vl", IMAGE_TEXT, lora(target_modules=r".*(visual.*qkv|language_model.*q_proj)")),
    ("qwen2-vl", IMAGE_TEXT, lora(target_modules=["qkv", "fc1"])),
]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Checkpoints of the models and their Bases, each made once."""
    made = {}

    def make(name):
        if name not in made:
            import torch

            torch.manual_seed(0)
            folder = tmp_path_factory.mktemp(name) / "base"
            MODELS[name]().save_pretrained(folder)
            made[name] = folder, read_base(folder, cache=None, progress=lambda _: None)
        return made[name]

    return make


@pytest.mark.parametrize(("model", "auto", "config"), CASES, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(CASES)])
def test_whatever_peft_saves_on_an_architecture_is_accepted(model, auto, config, bases, tmp_path):
    folder, base = bases(model)
    _, examination = examine_folder(adapter(tmp_path / "a", folder, config(), auto=auto), base)
    assert [str(problem) for problem in examination.problems] == []
    assert examination.description.nonzero
