"""A config that may not be is refused, with the field, what was expected and found, and a way out."""

from __future__ import annotations

import pytest

from tests.adapter_builders import CONFIG, changed_config, copied
from tests.unit.checkpoints.refusals import expect

CONFIGS = {
    "rank-zero": ({"r": 0}, "bad-config-value", "r: expected an integer of 1 to 4096, found 0"),
    "rank-negative": ({"r": -4}, "bad-config-value", "-4"),
    "rank-huge": ({"r": 1 << 40}, "bad-config-value", "4096"),
    "rank-bool": ({"r": True}, "bad-config-value", "True"),
    "rank-float": ({"r": 4.0}, "bad-config-value", "4.0"),
    "rank-text": ({"r": "4"}, "bad-config-value", "'4'"),
    "rank-list": ({"r": [4]}, "bad-config-value", ""),
    "rank-other": ({"r": 8}, "rank-mismatch", "expected rank 8, as r and rank_pattern say, found rank 4"),
    "alpha-text": ({"lora_alpha": "16"}, "bad-config-value", "lora_alpha"),
    "alpha-bool": ({"lora_alpha": True}, "bad-config-value", "lora_alpha"),
    "dropout-one": ({"lora_dropout": 1}, "bad-config-value", "lora_dropout"),
    "dropout-negative": ({"lora_dropout": -0.1}, "bad-config-value", "lora_dropout"),
    "bias-word": ({"bias": "some"}, "bad-config-value", "none, all, lora_only"),
    "rslora-text": ({"use_rslora": "yes"}, "bad-config-value", "use_rslora"),
    "fan-number": ({"fan_in_fan_out": 1}, "bad-config-value", "fan_in_fan_out"),
    "targets-number": ({"target_modules": 5}, "bad-config-value", "target_modules"),
    "targets-numbers": ({"target_modules": ["q_proj", 5]}, "bad-config-value", "target_modules"),
    "targets-nested": ({"target_modules": [["q_proj"]]}, "bad-config-value", "target_modules"),
    "targets-object": ({"target_modules": {"q_proj": 1}}, "bad-config-value", "target_modules"),
    "targets-long": ({"target_modules": ["q" * 300]}, "bad-config-value", "256 bytes"),
    "targets-many": ({"target_modules": ["q_proj"] * 10_001}, "bad-config-value", "10,000"),
    "targets-empty-name": ({"target_modules": [""]}, "bad-config-value", "target_modules"),
    "targets-nothing-there": ({"target_modules": ["W_pack"]}, "not-targeted", ""),
    "targets-more": ({"target_modules": ["q_proj", "v_proj", "k_proj"]}, "missing-tensors", "k_proj"),
    "targets-fewer": ({"target_modules": ["q_proj"]}, "not-targeted", "v_proj"),
    "regex-invalid": ({"target_modules": "(q_proj"}, "bad-pattern", "target_modules"),
    "regex-slow": ({"target_modules": r"(([a-z_0-9.])*)*X"}, "pattern-too-expensive", "within a second"),
    "exclude-slow": ({"exclude_modules": r"(.*)*(.*)*(.*)*X"}, "pattern-too-expensive", "exclude_modules"),
    "rank-pattern-slow": ({"rank_pattern": {r"((.*)*)*X": 4}}, "pattern-too-expensive", "rank_pattern"),
    "alpha-pattern-slow": ({"alpha_pattern": {r"((.*)*)*X": 4}}, "pattern-too-expensive", "alpha_pattern"),
    "saved-slow": ({"modules_to_save": [r"((.*)*)*X"]}, "pattern-too-expensive", "modules_to_save"),
    "layers-pattern-slow": (
        {"layers_pattern": r"((.*)*)*X", "layers_to_transform": [0]},
        "pattern-too-expensive",
        "layers_pattern",
    ),
    "rank-pattern-list": ({"rank_pattern": [4]}, "bad-config-value", "rank_pattern"),
    "rank-pattern-zero": ({"rank_pattern": {"q_proj": 0}}, "bad-config-value", "rank_pattern"),
    "rank-pattern-other": ({"rank_pattern": {"q_proj": 2}}, "rank-mismatch", "rank 2"),
    "alpha-pattern-text": ({"alpha_pattern": {"q_proj": "2"}}, "bad-config-value", "alpha_pattern"),
    "layers-negative": ({"layers_to_transform": [-1]}, "bad-config-value", "layers_to_transform"),
    "layers-other": ({"layers_to_transform": [0]}, "not-targeted", "layers.1"),
    "replication-backwards": ({"layer_replication": [[2, 0]]}, "bad-config-value", "layer_replication"),
    "replication-huge": ({"layer_replication": [[0, 2]] * 200}, "too-many-layers", "400 layers from 2"),
    "type-unknown": ({"peft_type": "LORAX"}, "unknown-method", "'LORAX'"),
    "type-missing": ({"peft_type": ...}, "unknown-method", "no such field"),
    "type-list": ({"peft_type": ["LORA"]}, "unknown-method", ""),
    "base-number": ({"base_model_name_or_path": 5}, "bad-config-value", "base_model_name_or_path"),
    "task-list": ({"task_type": ["CAUSAL_LM"]}, "bad-config-value", "task_type"),
    "pissa": ({"init_lora_weights": "pissa"}, "refused-value", "path_initial_model_for_weight_conversion"),
    "pissa-niter": ({"init_lora_weights": "pissa_niter_9999"}, "refused-value", "pissa_niter_9999"),
    "olora": ({"init_lora_weights": "olora"}, "refused-value", "init_lora_weights"),
    "corda": ({"init_lora_weights": "corda"}, "refused-value", "init_lora_weights"),
    "loftq": ({"init_lora_weights": "loftq"}, "refused-value", "init_lora_weights"),
    "init-number": ({"init_lora_weights": 3}, "bad-config-value", "init_lora_weights"),
    "megatron": ({"megatron_config": {"a": 1}}, "refused-value", "megatron_config"),
    "megatron-core": ({"megatron_core": "os"}, "refused-value", "megatron_core"),
    "mapping-code": (
        {"auto_mapping": {"base_model_class": "system", "parent_library": "os"}},
        "refused-value",
        "auto_mapping",
    ),
    "mapping-text": ({"auto_mapping": "os"}, "refused-value", "auto_mapping"),
    "remote-code": ({"tokenizer_kwargs": {"trust_remote_code": True}}, "refused-value", "trust_remote_code"),
    "cache-path": ({"corda_config": {"cache_file": "/etc/passwd"}}, "refused-value", "corda_config.cache_file"),
    "tokenizer-path": ({"tokenizer_name_or_path": "/etc"}, "refused-value", "tokenizer_name_or_path"),
    "tokenizer-up": ({"tokenizer_name_or_path": "../../x"}, "refused-value", "tokenizer_name_or_path"),
    "tokenizer-url": ({"tokenizer_name_or_path": "http://x/y"}, "refused-value", "tokenizer_name_or_path"),
    "init-state": ({"prompt_tuning_init_state_dict_path": "x.bin"}, "refused-value", "prompt_tuning_init_state"),
    "dora-without-magnitude": ({"use_dora": True}, "missing-tensors", "lora_magnitude_vector"),
    "lora-bias-without": ({"lora_bias": True}, "not-targeted", "lora_B.bias"),
    "tokens-beyond": ({"trainable_token_indices": [64]}, "wrong-dimension", "token ids below 64, found 64"),
    "tokens-without-delta": ({"trainable_token_indices": [1]}, "missing-tensors", "trainable_tokens_delta"),
    "tokens-bool": ({"trainable_token_indices": [True]}, "bad-config-value", "trainable_token_indices"),
    "task-unknown": ({"task_type": "CHAT"}, "bad-config-value", "CAUSAL_LM"),
    "base-with-escapes": ({"base_model_name_or_path": "a\x1b]0;b\x07"}, "bad-config-value", "printable"),
    "target-with-escapes": ({"target_modules": ["q_proj", "\x1b[31m"]}, "bad-config-value", "printable"),
    "inference-text": ({"inference_mode": "yes"}, "bad-config-value", "inference_mode"),
    "init-unknown": ({"init_lora_weights": "magic"}, "bad-config-value", "gaussian"),
    "init-lora-ga": ({"init_lora_weights": "lora_ga"}, "refused-value", "path_initial_model_for_weight_conversion"),
    "init-capitals": ({"init_lora_weights": "PiSSA"}, "refused-value", "PiSSA"),
    "regex-with-layers": (
        {"target_modules": ".*(q|v)_proj", "layers_to_transform": [0, 1]},
        "contradiction",
        "layers_to_transform: expected null, as target_modules is a pattern",
    ),
    "pattern-of-no-layers": ({"layers_pattern": "layers"}, "contradiction", "layers_to_transform"),
    "bias-and-dora": ({"lora_bias": True, "use_dora": True}, "contradiction", "lora_bias"),
    "bias-and-init": ({"lora_bias": True, "init_lora_weights": "gaussian"}, "contradiction", "init_lora_weights"),
    "replication-beyond": (
        {"layer_replication": [[0, 2], [4, 5]]},
        "module-not-in-base",
        "layers below 2, found layer 4",
    ),
    "replication-without": ({"layer_replication": [[0, 2], [0, 2]]}, "missing-tensors", "layers.3.self_attn"),
    "excluded": ({"exclude_modules": ["v_proj"]}, "not-targeted", "v_proj"),
    "targeted-and-saved": ({"modules_to_save": ["q_proj"]}, "not-targeted", "q_proj"),
    "saved-without": ({"modules_to_save": ["lm_head"]}, "missing-tensors", "PEFT cannot load it without"),
    "parameter-without": ({"target_parameters": ["o_proj.weight"]}, "missing-tensors", "o_proj.weight"),
    "kasa-without": ({"kasa_config": {"beta": 0.1}}, "missing-tensors", "lora_diag"),
    "nested-file": ({"eva_config": {"x": {"cache_path": "/a"}}}, "refused-value", "eva_config.x.cache_path"),
    "nested-trust": ({"x": [{"trust_remote_code": "yes"}]}, "refused-value", "trust_remote_code"),
    "tokens-words": ({"trainable_token_indices": ["a"]}, "bad-config-value", "trainable_token_indices"),
    "prompt-without-tokens": ({"peft_type": "PROMPT_TUNING"}, "bad-config-value", "num_virtual_tokens"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_may_not_be_is_refused_by_field(name, tmp_path, lora_folder, llama_base):
    changes, code, fragment = CONFIGS[name]
    folder = copied(lora_folder, tmp_path / "a")
    changed_config(folder, **changes)
    expect(folder, llama_base, code, fragment)


TEXTS = {
    "empty": (b"", "Expecting value"),
    "half-a-character": (b'{"peft_type": "LORA", "x": "\\ud800"}', "half a surrogate pair"),
    "beyond-float": (b'{"peft_type": "LORA", "lora_alpha": 1e999}', "beyond what a float can hold"),
    "not-json": (b"r: 4", "Expecting value"),
    "list": (b"[]", "list"),
    "cut": (b'{"peft_type": "LORA"', "line 1"),
    "duplicate": (b'{"peft_type": "LORA", "r": 4, "r": 8}', "'r' stands twice"),
    "duplicate-inside": (b'{"peft_type": "LORA", "rank_pattern": {"a": 1, "a": 2}}', "'a' stands twice"),
    "nan": (b'{"peft_type": "LORA", "lora_alpha": NaN}', "NaN is not JSON"),
    "infinity": (b'{"peft_type": "LORA", "lora_alpha": -Infinity}', "-Infinity is not JSON"),
    "big-integer": (b'{"peft_type": "LORA", "r": 99999999999999999999999}', "beyond 2^53"),
    "deep": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nest"),
    "somewhat-deep": (b'{"a": ' + b"[" * 30 + b"]" * 30 + b"}", "nested too deeply"),
    "lfs-pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "byte-order-mark": (b'\xef\xbb\xbf{"peft_type": "LORA"}', "byte order mark"),
    "not-utf8": (b'{"peft_type": "\xff"}', "not UTF-8"),
    "large": (b'{"a": "' + b"x" * (1 << 20) + b'"}', "at most 1,048,576"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_config_that_is_no_strict_json_is_refused(name, tmp_path, lora_folder, llama_base):
    text, fragment = TEXTS[name]
    folder = copied(lora_folder, tmp_path / "a")
    (folder / CONFIG).write_bytes(text)
    expect(folder, llama_base, "bad-config", fragment)


def test_an_mlx_adapter_is_named_as_one(tmp_path, lora_folder, llama_base):
    folder = copied(lora_folder, tmp_path / "a")
    (folder / CONFIG).write_text('{"fine_tune_type": "lora", "lora_parameters": {"rank": 8}}')
    expect(folder, llama_base, "mlx-adapter", "an MLX adapter")
