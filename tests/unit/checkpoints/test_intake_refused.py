"""Broken and hostile folders are refused, each with a code, the place, what was expected and found, and a way out."""

from __future__ import annotations

import json
import os
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from adapter_registry.checkpoints.adapter_files import read_folder
from adapter_registry.checkpoints.intake import examine, refuse
from adapter_registry.domain.errors import PushRefused
from adapter_registry.domain.problem_codes import CODES
from tests.adapter_builders import CONFIG, WEIGHTS, changed_config, changed_tensors, copied

Q0 = "base_model.model.model.layers.0.self_attn.q_proj"
A0, B0 = f"{Q0}.lora_A.weight", f"{Q0}.lora_B.weight"


def refusal(folder, base):
    """The PushRefused that pushing `folder` onto `base` ends with; it is built and printed."""
    with pytest.raises(PushRefused) as caught:
        refuse(examine(read_folder(folder)[0], base))
    problems = caught.value.problems
    assert str(caught.value).startswith(f"refused, {len(problems)} problem")
    for problem in problems:
        assert problem.code in CODES
        assert problem.file
        assert problem.expected
        assert problem.found
        assert problem.fix
    return caught.value


def expect(folder, base, code, fragment=""):
    refused = refusal(folder, base)
    assert code in {problem.code for problem in refused.problems}
    assert fragment in str(refused)


def value(name, number):
    def change(tensors):
        tensors[name].view(-1)[3] = number

    return change


def put(name, tensor):
    return lambda tensors: tensors.__setitem__(name, tensor)


def drop(*names):
    def change(tensors):
        for name in names:
            del tensors[name]

    return change


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


def names(*, add=(), remove=()):
    def change(folder):
        for name, data in add:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        for name in remove:
            (folder / name).unlink()

    return change


FOLDERS = {
    "no-config": (names(remove=[CONFIG]), "no-config", CONFIG),
    "no-weights": (names(remove=[WEIGHTS]), "no-weights", WEIGHTS),
    "pickled": (names(add=[("adapter_model.bin", b"PK")], remove=[WEIGHTS]), "pickled-weights", "adapters convert"),
    "other-pickle": (names(add=[("extra.pkl", b"\x80\x04")]), "pickled-file", "extra.pkl"),
    "program": (names(add=[("modeling.py", b"import os")]), "code-file", "modeling.py"),
    "native": (names(add=[("kernel.so", b"\x7fELF")]), "code-file", "kernel.so"),
    "disguised-program": (names(add=[("notes.txt", b"\x7fELF\x02\x01")]), "disguised-file", "a native program"),
    "disguised-pickle": (names(add=[("vocab.json", b"\x80\x04\x95\x00")]), "disguised-file", "a pickle"),
    "disguised-zip": (names(add=[("README.md", b"PK\x03\x04")]), "disguised-file", "zip"),
    "unknown": (names(add=[("weights.xyz", b"1")]), "unknown-file-type", "weights.xyz"),
    "case": (names(add=[("Notes.md", b"1"), ("notes.md", b"2")]), "names-differ-in-case", "notes.md"),
    "control": (names(add=[("a\x01.md", b"1")]), "bad-file-name", "control"),
    "direction": (names(add=[("a\u202egnp.md", b"1")]), "bad-file-name", "control or direction"),
    "backslash": (names(add=[("a\\b.md", b"1")]), "bad-file-name", ""),
    "trailing-dot": (names(add=[("a.md.", b"1")]), "bad-file-name", ""),
    "reserved": (names(add=[("con.md", b"1")]), "bad-file-name", ""),
    "long-name": (names(add=[("a" * 210 + ".md", b"1")]), "bad-file-name", "at most 200"),
    "deep": (names(add=[("/".join("abcdefghijklmnopqrst") + "/x.md", b"1")]), "path-too-deep", "16"),
    "large-readme": (names(add=[("README.md", b"x" * 5_000_001)]), "file-too-large", "5,000,000"),
    "broken-beside": (names(add=[("extra.safetensors", b"nonsense nonsense")]), "invalid-safetensors", "extra"),
    "nested": (
        lambda f: [(f / "en").mkdir(), (f / CONFIG).rename(f / "en" / CONFIG)],
        "no-config",
        "a folder of its own",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_with_what_adapters_never_hold_is_refused(name, tmp_path, lora_folder, llama_base):
    change, code, fragment = FOLDERS[name]
    folder = copied(lora_folder, tmp_path / "a")
    change(folder)
    expect(folder, llama_base, code, fragment)


def link(folder):
    (folder / "link.json").symlink_to("/etc/passwd")


def inner_link(folder):
    (folder / WEIGHTS).rename(folder / "real.safetensors")
    (folder / WEIGHTS).symlink_to("real.safetensors")


def pipe(folder):
    os.mkfifo(folder / "pipe.json")


def listener(folder):
    here = Path.cwd()
    os.chdir(folder)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.json")
    os.chdir(here)


@pytest.mark.parametrize("make", [link, inner_link, pipe, listener], ids=lambda make: make.__name__)
def test_anything_but_a_regular_file_is_refused_without_opening_it(make, tmp_path, lora_folder, llama_base):
    folder = copied(lora_folder, tmp_path / "a")
    make(folder)
    expect(folder, llama_base, "not-a-regular-file", "expected a regular file")


def test_too_many_files_are_refused(tmp_path, lora_folder, llama_base):
    folder = copied(lora_folder, tmp_path / "a")
    for i in range(2_001):
        (folder / f"{i}.txt").write_text("")
    expect(folder, llama_base, "too-many-files", "2,000")


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


def test_what_a_training_run_leaves_behind_is_left_out_with_a_notice(tmp_path, lora_folder):
    folder = copied(lora_folder, tmp_path / "a")
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "trainer_state.json"):
        (folder / name).write_bytes(b"PK\x03\x04")
    for name in ("checkpoint-500", "runs", ".git", "__pycache__"):
        (folder / name).mkdir()
        (folder / name / "x.bin").write_bytes(b"x")
    files, notices = read_folder(folder)
    assert {file.path for file in files} == {"README.md", CONFIG, WEIGHTS}
    assert len(notices) == 9


def test_a_snapshot_of_the_hub_cache_is_read_through_its_links(tmp_path, lora_folder):
    repository = tmp_path / "models--team--a"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for i, path in enumerate(sorted(lora_folder.iterdir())):
        (repository / "blobs" / str(i)).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(f"../../blobs/{i}")
    files, _ = read_folder(snapshot)
    assert {file.path for file in files} == {"README.md", CONFIG, WEIGHTS}
    (snapshot / "evil.json").symlink_to("/etc/passwd")
    with pytest.raises(PushRefused, match="symbolic link"):
        read_folder(snapshot)


def test_an_embedding_saved_in_float32_over_a_bfloat16_base_is_compared_by_value():
    from io import BytesIO

    from blake3 import blake3

    from adapter_registry.checkpoints.header import TensorEntry
    from adapter_registry.checkpoints.values import digest_as

    narrow = np.array([1.5, -2.25, 0.0], dtype=np.float32)
    entry = TensorEntry("e", "F32", (3,), 0, 12)
    stored = (narrow.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    assert digest_as(BytesIO(narrow.tobytes()), entry, "BF16") == blake3(stored).hexdigest()
    assert digest_as(BytesIO(np.array([0.1, 1, 1], dtype=np.float32).tobytes()), entry, "BF16") is None
