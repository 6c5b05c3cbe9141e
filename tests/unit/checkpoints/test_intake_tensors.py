"""Tensors that do not belong, do not fit or hold no numbers are refused by name."""

from __future__ import annotations

import json
import struct
from io import BytesIO

import numpy as np
import peft
import pytest
import torch
from blake3 import blake3

from adapter_registry.checkpoints.header import TensorEntry
from adapter_registry.checkpoints.values import digest_as
from tests.adapter_builders import WEIGHTS, adapter, changed_config, changed_tensors, copied
from tests.unit.checkpoints.refusals import A0, B0, Q0, drop, expect, put, refusal, value

E = "base_model.model.model.embed_tokens"
E_BASE = f"{E}.base_layer.weight"


def ia3():
    return peft.IA3Config(task_type="CAUSAL_LM")


def prompt():
    return peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)


def prefix():
    return peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)


def loha():
    return peft.LoHaConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])


def head():
    return peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], modules_to_save=["lm_head"])


def embedding():
    return peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "embed_tokens"])


TENSORS = {
    "nan": (value(A0, float("nan")), "not-finite", "1 of 128 values NaN or infinite"),
    "infinity": (value(B0, float("inf")), "not-finite", B0),
    "missing-a": (drop(A0), "missing-tensors", "lora_A beside lora_B"),
    "missing-b": (drop(B0), "missing-tensors", "lora_B beside lora_A"),
    "missing-module": (drop(A0, B0), "missing-tensors", "layers.0.self_attn.q_proj"),
    "wider": (put(A0, torch.ones(4, 48)), "shape-mismatch", "lora_A (r, 32)"),
    "narrower": (put(A0, torch.ones(4, 16)), "shape-mismatch", ""),
    "taller": (put(B0, torch.ones(33, 4)), "shape-mismatch", "lora_B (32, r)"),
    "swapped": (put(A0, torch.ones(32, 4)), "shape-mismatch", ""),
    "ranks-differ": (put(A0, torch.ones(2, 32)), "shape-mismatch", "same rank"),
    "vector": (put(A0, torch.ones(32)), "shape-mismatch", "two dimensions"),
    "size-zero": (put(A0, torch.ones(0, 32)), "shape-mismatch", ""),
    "integer": (put(A0, torch.ones(4, 32, dtype=torch.int32)), "not-float", "I32"),
    "base-weight": (
        put("base_model.model.model.layers.0.mlp.gate_proj.weight", torch.ones(48, 32)),
        "would-overwrite-base",
        "that PEFT would write over the base's model.layers.0.mlp.gate_proj.weight",
    ),
    "base-layer": (put(f"{Q0}.base_layer.weight", torch.ones(32, 32)), "would-overwrite-base", "q_proj"),
    "base-norm": (put("base_model.model.model.norm.weight", torch.ones(32)), "would-overwrite-base", "model.norm"),
    "base-embedding": (
        put("base_model.model.model.embed_tokens.weight", torch.ones(64, 32)),
        "would-overwrite-base",
        "byte for byte",
    ),
    "base-head": (put("base_model.model.lm_head.weight", torch.ones(64, 32)), "would-overwrite-base", "lm_head"),
    "base-bias": (put(f"{Q0}.bias", torch.ones(32)), "would-overwrite-base", "belongs to no declared part"),
    "own-name-inside": (
        lambda t: t.update({name.replace(".weight", ".default.weight"): t.pop(name) for name in list(t)}),
        "would-overwrite-base",
        "take the adapter's name out",
    ),
    "unknown-wrapper": (
        lambda t: t.update(
            {name.replace("base_model.model.", "base_model.model.evil."): t.pop(name) for name in list(t)}
        ),
        "module-not-in-base",
        "evil",
    ),
    "wrapped-twice": (
        lambda t: t.update({f"base_model.model.{name}": t.pop(name) for name in list(t)}),
        "module-not-in-base",
        "base_model.model",
    ),
    "other-stack": (
        lambda t: t.update(
            {
                "base_model.model.decoder.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(4, 32),
                "base_model.model.decoder.layers.0.self_attn.q_proj.lora_B.weight": torch.ones(32, 4),
            }
        ),
        "module-not-in-base",
        "decoder.layers.0",
    ),
    "embedding-factors-of-a-linear": (
        lambda t: t.update({f"{Q0}.lora_embedding_A": t.pop(A0), f"{Q0}.lora_embedding_B": t.pop(B0)}),
        "not-targeted",
        "expected lora_A, as its kind has",
    ),
    "embedding-nowhere": (
        put("base_model.model.model.layers.0.embeddings.weight", torch.ones(64, 32)),
        "would-overwrite-base",
        "layers.0.embeddings",
    ),
    "bias-of-a-factor": (put(f"{Q0}.lora_A.bias", torch.ones(4)), "not-targeted", "no lora_A.bias"),
    "diagonal-undeclared": (put(f"{Q0}.lora_diag", torch.ones(4)), "not-targeted", "no lora_diag"),
    "bool": (put(A0, torch.ones(4, 32, dtype=torch.bool)), "not-float", "BOOL"),
    "foreign-name": (put("evil", torch.ones(3)), "foreign-tensor", "evil"),
    "other-wrapper": (put("model.layers.0.self_attn.q_proj.lora_A.weight", torch.ones(4, 32)), "foreign-tensor", ""),
    "prompt-in-lora": (put("prompt_embeddings", torch.ones(4, 32)), "foreign-tensor", "prompt_embeddings"),
    "vector-in-lora": (put(f"{Q0}.ia3_l", torch.ones(32, 1)), "foreign-tensor", "ia3_l"),
    "magnitude-undeclared": (put(f"{Q0}.lora_magnitude_vector", torch.ones(32)), "not-targeted", "use_dora"),
    "bias-undeclared": (put(f"{Q0}.lora_B.bias", torch.ones(32)), "not-targeted", "lora_bias"),
    "tokens-undeclared": (
        put("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", torch.ones(2, 32)),
        "not-targeted",
        "trainable_token_indices",
    ),
    "deeper": (
        lambda t: t.update(
            {
                "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight": torch.ones(4, 32),
                "base_model.model.model.layers.9.self_attn.q_proj.lora_B.weight": torch.ones(32, 4),
            }
        ),
        "module-not-in-base",
        "layers.9",
    ),
    "untargeted": (
        lambda t: t.update(
            {
                "base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight": torch.ones(4, 32),
                "base_model.model.model.layers.0.self_attn.k_proj.lora_B.weight": torch.ones(16, 4),
            }
        ),
        "not-targeted",
        "k_proj",
    ),
    "all-zero": (lambda t: [tensor.zero_() for tensor in t.values()], "zero-weights", "zeros in every tensor"),
    "no-tensor": (lambda t: t.clear(), "no-weights", "without any"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_do_not_belong_are_refused_by_name(name, tmp_path, lora_folder, llama_base):
    change, code, fragment = TENSORS[name]
    folder = copied(lora_folder, tmp_path / "a")
    changed_tensors(folder, change)
    expect(folder, llama_base, code, fragment)


def header(document, data=b""):
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return struct.pack("<Q", len(text)) + text + data


FILES = {
    "empty": (b"", "an empty file"),
    "short": (b"1234", "4 bytes"),
    "lfs-pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "pickle": (b"\x80\x04\x95" + b"\x00" * 40, "a pickle"),
    "zip": (b"PK\x03\x04" + b"\x00" * 40, "zip file"),
    "page": (b"<!DOCTYPE html><html></html>", "failed download"),
    "header-too-long": (struct.pack("<Q", 1 << 60) + b"{}", "a number no file has"),
    "header-cut": (struct.pack("<Q", 1000) + b"{}" + b" " * 20, "cut short"),
    "hole": (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"\0" * 8), "a hole"),
    "tail": (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 9), "5 bytes too many"),
    "missing": (
        header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, b"\0" * 9),
        "7 bytes are missing",
    ),
    "dtype": (header({"a": {"dtype": "F31", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4), "F31"),
    "size": (header({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 4]}}, b"\0" * 4), "12 bytes for F32"),
    "extra-field": (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "x": 1}}, b"\0" * 4), "'x'"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_weight_file_that_breaks_the_format_is_refused(name, tmp_path, lora_folder, llama_base):
    data, fragment = FILES[name]
    folder = copied(lora_folder, tmp_path / "a")
    (folder / WEIGHTS).write_bytes(data)
    expect(folder, llama_base, "invalid-safetensors", fragment)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F64", "F8_E4M3", "F8_E5M2"])
def test_a_nan_is_found_in_every_float_type(dtype, tmp_path, lora_folder, llama_base):
    folder = copied(lora_folder, tmp_path / "a")
    kinds = {
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F64": torch.float64,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
    }

    def change(tensors):
        for name in list(tensors):
            tensor = tensors[name]
            if name == A0:
                tensor[0, 0] = float("nan")
            tensors[name] = tensor.to(kinds[dtype])

    changed_tensors(folder, change)
    expect(folder, llama_base, "not-finite", f"{A0}: expected finite values, found 1 of 128")


def as_linear(tensors):
    del tensors[f"{E}.lora_embedding_A"], tensors[f"{E}.lora_embedding_B"]
    tensors[f"{E}.lora_A.weight"], tensors[f"{E}.lora_B.weight"] = torch.ones(4, 32), torch.ones(64, 4)


METHODS = {
    "ia3-turned": (ia3, lambda t: t.update({name: tensor.T for name, tensor in t.items()}), "shape-mismatch"),
    "ia3-missing": (ia3, lambda t: t.pop(min(t)), "missing-tensors"),
    "ia3-zero": (ia3, lambda t: [tensor.zero_() for tensor in t.values()], "zero-weights"),
    "ia3-base-weight": (ia3, put("base_model.model.model.norm.weight", torch.ones(32)), "would-overwrite-base"),
    "ia3-factor": (ia3, put(f"{Q0}.lora_A.weight", torch.ones(4, 32)), "foreign-tensor"),
    "prompt-narrow": (prompt, put("prompt_embeddings", torch.ones(4, 31)), "wrong-dimension"),
    "prompt-short": (prompt, put("prompt_embeddings", torch.ones(3, 32)), "wrong-dimension"),
    "prompt-vector": (prompt, put("prompt_embeddings", torch.ones(32)), "wrong-dimension"),
    "prompt-zero": (prompt, lambda t: t["prompt_embeddings"].zero_(), "zero-weights"),
    "prompt-integers": (prompt, put("prompt_embeddings", torch.ones(4, 32, dtype=torch.int64)), "not-float"),
    "prompt-missing": (prompt, lambda t: t.update(x=t.pop("prompt_embeddings")), "missing-tensors"),
    "prompt-base-weight": (prompt, put("base_model.model.norm.weight", torch.ones(32)), "would-overwrite-base"),
    "prompt-head": (prompt, put("base_model.score.weight", torch.ones(2, 32)), "would-overwrite-base"),
    "prompt-factor": (prompt, put(f"{Q0}.lora_A.weight", torch.ones(4, 32)), "foreign-tensor"),
    "prefix-uneven": (prefix, put("prompt_embeddings", torch.ones(4, 62)), "wrong-dimension"),
    "prefix-wide": (prefix, put("prompt_embeddings", torch.ones(4, 256)), "wrong-dimension"),
    "loha-tall": (loha, put(f"{Q0}.hada_w1_a", torch.ones(48, 8)), "shape-mismatch"),
    "loha-nan": (loha, value(f"{Q0}.hada_w1_a", float("nan")), "not-finite"),
    "loha-base-weight": (loha, put("base_model.model.model.norm.weight", torch.ones(32)), "would-overwrite-base"),
    "loha-base-layer": (loha, put(f"{Q0}.base_layer.weight", torch.ones(32, 32)), "would-overwrite-base"),
    "loha-foreign": (loha, put("evil", torch.ones(3)), "foreign-tensor"),
    "loha-deeper": (
        loha,
        put("base_model.model.model.layers.7.self_attn.q_proj.hada_w1_a", torch.ones(32, 8)),
        "module-not-in-base",
    ),
    "head-missing": (head, drop("base_model.model.lm_head.weight"), "missing-tensors"),
    "head-narrow": (head, put("base_model.model.lm_head.weight", torch.ones(64, 16)), "shape-mismatch"),
    "head-nan": (head, value("base_model.model.lm_head.weight", float("nan")), "not-finite"),
    "head-more": (head, put("base_model.model.lm_head.evil", torch.ones(3)), "foreign-tensor"),
    "embedding-changed": (embedding, value(E_BASE, 9.0), "would-overwrite-base"),
    "embedding-rounded": (embedding, lambda t: t.update({E_BASE: t[E_BASE].bfloat16()}), "would-overwrite-base"),
    "embedding-as-linear": (embedding, as_linear, "not-targeted"),
}


@pytest.fixture(scope="session")
def made(tmp_path_factory, llama_folder):
    """Folders of the other methods, each made once."""
    folders = {}

    def make(config):
        if config not in folders:
            folders[config] = adapter(tmp_path_factory.mktemp("other") / "a", llama_folder, config())
        return folders[config]

    return make


@pytest.mark.parametrize("name", METHODS)
def test_tensors_of_other_methods_that_do_not_belong_are_refused(name, tmp_path, made, llama_base):
    config, change, code = METHODS[name]
    folder = copied(made(config), tmp_path / "a")
    changed_tensors(folder, change)
    expect(folder, llama_base, code)


def test_a_slow_pattern_of_any_method_is_refused(tmp_path, made, llama_base):
    for config, field in ((ia3, "feedforward_modules"), (loha, "target_modules"), (loha, "exclude_modules")):
        folder = copied(made(config), tmp_path / field / str(config))
        changed_config(folder, **{field: r"((.*)*)*X"})
        expect(folder, llama_base, "pattern-too-expensive", field)


def test_a_stack_that_the_config_leaves_to_peft_must_be_whole(tmp_path, lora_folder, llama_base):
    folder = copied(lora_folder, tmp_path / "a")
    changed_config(folder, target_modules=None)
    changed_tensors(folder, drop(A0, B0))
    expect(folder, llama_base, "missing-tensors", "layers.0.self_attn.q_proj")


def test_all_problems_are_told_at_once(tmp_path, lora_folder, llama_base):
    folder = copied(lora_folder, tmp_path / "a")
    changed_config(folder, r=8, megatron_core="os", bias="some")
    changed_tensors(folder, lambda t: (value(A0, float("nan"))(t), put("evil", torch.ones(2))(t)))
    codes = {problem.code for problem in refusal(folder, llama_base).problems}
    assert codes >= {"rank-mismatch", "refused-value", "bad-config-value", "not-finite", "foreign-tensor"}


def test_many_like_problems_are_grouped(tmp_path, lora_folder, llama_base):
    folder = copied(lora_folder, tmp_path / "a")
    changed_tensors(folder, lambda t: t.update({f"stray.{i}": torch.ones(2) for i in range(500)}))
    refused = refusal(folder, llama_base)
    assert len(refused.problems) == 4
    assert "497 more" in str(refused)


def test_an_embedding_saved_in_float32_over_a_bfloat16_base_is_compared_by_value():
    narrow = np.array([1.5, -2.25, 0.0], dtype=np.float32)
    entry = TensorEntry("e", "F32", (3,), 0, 12)
    stored = (narrow.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    assert digest_as(BytesIO(narrow.tobytes()), entry, "BF16") == blake3(stored).hexdigest()
    assert digest_as(BytesIO(np.array([0.1, 1, 1], dtype=np.float32).tobytes()), entry, "BF16") is None
