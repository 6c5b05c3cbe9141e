"""adapter_config.json as PEFT releases from 0.2 to 0.21 wrote it."""

from __future__ import annotations

import pytest

from adapter_registry.domain.peft.config import Blocks, read_config


def read(**fields):
    reading = read_config({"peft_type": "LORA", **fields})
    assert reading.problems == ()
    return reading.config


OLD = {
    "0.2": {"enable_lora": None, "merge_weights": False, "r": 8, "bias": "none"},
    "0.3": {"init_lora_weights": True},
    "0.4": {"auto_mapping": None, "revision": None, "layers_pattern": None, "layers_to_transform": None},
    "0.6": {"rank_pattern": {}, "alpha_pattern": {}},
    "0.7": {"loftq_config": {}, "megatron_config": None, "megatron_core": "megatron.core"},
    "0.10": {"use_rslora": False, "use_dora": False, "layer_replication": None},
    "0.13": {"runtime_config": {"ephemeral_gpu_offload": False}},
    "0.14": {"eva_config": None, "exclude_modules": None, "lora_bias": False},
    "0.15": {"corda_config": None, "trainable_token_indices": None},
    "0.16": {"use_qalora": False, "qalora_group_size": 16},
    "0.17": {"target_parameters": None},
    "0.18": {
        "peft_version": "0.18.1",
        "alora_invocation_tokens": None,
        "arrow_config": None,
        "ensure_weight_tying": False,
    },
    "0.19": {"use_bdlora": None, "lora_ga_config": None},
    "0.21": {"monteclora_config": None, "velora_config": None, "kasa_config": None},
}


@pytest.mark.parametrize("release", OLD)
def test_the_fields_of_each_release_are_known(release):
    reading = read_config({"peft_type": "LORA", "base_model_name_or_path": "a/b", **OLD[release]})
    assert (reading.problems, reading.notices) == ((), ())


@pytest.mark.parametrize(
    ("fields", "variant"),
    [
        ({}, ()),
        ({"use_dora": True, "use_rslora": True}, ("dora", "rslora")),
        ({"alora_invocation_tokens": [1]}, ("alora",)),
        ({"layer_replication": [[0, 2], [1, 3]]}, ("layer_replication",)),
        ({"use_qalora": True, "velora_config": {"scale": 1.0}}, ("qalora", "velora")),
        ({"kasa_config": {"beta": 0.1}}, ("kasa",)),
    ],
)
def test_the_variant_says_what_modifies_the_method(fields, variant):
    assert read(**fields).variant == variant


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"target_modules": "q_proj|v_proj"}, "target_modules", "q_proj|v_proj"),
        ({"target_modules": ["b", "a"]}, "target_modules", ("b", "a")),
        ({"modules_to_save": "score"}, "modules_to_save", ("score",)),
        ({"layers_to_transform": 3}, "layers_to_transform", (3,)),
        ({"layers_to_transform": [0, 1], "layers_pattern": "layers"}, "layers_pattern", ("layers",)),
        ({"layers_pattern": ""}, "layers_pattern", ()),
        ({"trainable_token_indices": [1, 5]}, "trainable_token_indices", {"": (1, 5)}),
        ({"trainable_token_indices": {"lm_head": [2]}}, "trainable_token_indices", {"lm_head": (2,)}),
        (
            {"use_bdlora": {"target_modules_bd_a": ["o"], "target_modules_bd_b": None, "nblocks": 2}},
            "blocks",
            Blocks(("o",), (), 2),
        ),
    ],
)
def test_each_spelling_of_a_field_is_read(fields, name, value):
    assert getattr(read(**fields), name) == value


def test_patterns_of_other_methods_are_kept_for_matching_whatever_they_map_to():
    document = {"peft_type": "ADALORA", "rank_pattern": {"a.*": [True, False]}, "lambda_pattern": {"b": 1}}
    assert set(read_config(document).config.other_patterns) == {"a.*", "b"}


@pytest.mark.parametrize("bias", ["none", "all", "boft_only"])
def test_other_methods_have_their_own_word_for_biases(bias):
    assert read_config({"peft_type": "BOFT", "bias": bias}).config.bias == bias


def test_unknown_fields_are_named_in_a_notice():
    reading = read_config({"peft_type": "LORA", "zeta": 1, "base_model_name_or_path": "a"})
    assert [notice.text for notice in reading.notices] == ["fields no PEFT release writes, kept as they are: zeta"]
