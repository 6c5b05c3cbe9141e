"""Weights by bitsandbytes as the floats they stand for, and merges onto those.

`bitsandbytes.safetensors` was written with bitsandbytes 0.50.2: quantised weights under its names, what it dequantises
them to as `expected.NAME`, and for `blocks` (several blocks of scales) the sha256 of that.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adapter_registry.checkpoints.base_folder import open_checkpoint, read_base
from adapter_registry.domain.errors import IncompatibleBase, Unsupported
from adapter_registry.tensors.dequantized import dequantized
from adapter_registry.tensors.merging.apart import apart_from
from adapter_registry.tensors.merging.merge import Ingredient
from tests.unit.tensors.merging import base_of, by_peft, by_us, different, loaded
from tests.unit.tensors.quantising import THEIRS, folder_with, in_nf4, state


def seen(folder: Path):
    base = read_base(folder, cache=None, progress=lambda _: None)
    return dequantized(base, open_checkpoint(folder), dtype="float16")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return base_of(tmp_path_factory.mktemp("original") / "base", "bfloat16")


@pytest.fixture(scope="module")
def pair(tmp_path_factory, original):
    """A base in NF4, and the same with floats."""
    return in_nf4(original, tmp_path_factory.mktemp("pair"))


@pytest.mark.parametrize("name", ["nf4", "nf4-double", "fp4", "fp4-double", "int8"])
def test_weights_stand_for_what_bitsandbytes_makes_of_them(tmp_path, name):
    tensors = load_file(THEIRS)
    found = seen(folder_with(tmp_path / "base", tensors)).decoders[f"{name}.weight"]()
    expected = tensors[f"expected.{name}"]
    # Equal but for the sign of zero, which FP4 has two of and bitsandbytes' own table one.
    assert torch.equal(torch.frombuffer(bytearray(found), dtype=expected.dtype).reshape(expected.shape), expected)


def test_scales_that_are_quantised_in_several_blocks_are_each_their_own_blocks(tmp_path):
    from safetensors import safe_open

    found = seen(folder_with(tmp_path / "base", load_file(THEIRS))).decoders["blocks.weight"]()
    with safe_open(THEIRS, "np") as file:
        assert hashlib.sha256(found.tobytes()).hexdigest() == file.metadata()["blocks"]


def test_a_checkpoint_is_seen_with_the_sizes_and_types_that_it_stands_for(pair):
    packed, floats = pair
    rows = {(row.name, row.dtype, row.shape) for row in seen(packed).base.tensors}
    expected = read_base(floats, cache=None, progress=lambda _: None).tensors
    assert rows == {(row.name, row.dtype, row.shape) for row in expected}


class TestMerging:
    def test_onto_dequantised_weights_is_merging_onto_the_floats_they_stand_for(self, tmp_path, pair, lora_folder):
        packed, floats = pair
        by_us(packed, tmp_path / "one", lora_folder, onto="dequantized")
        by_us(floats, tmp_path / "other", lora_folder)
        one, other = (load_file(tmp_path / each / "model.safetensors") for each in ("one", "other"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one)

    def test_the_result_is_an_unquantised_checkpoint_that_has_the_bits_of_peft(self, tmp_path, pair, lora_folder):
        packed, floats = pair
        by_us(packed, tmp_path / "out", lora_folder, onto="dequantized")
        told = json.loads((tmp_path / "out/config.json").read_bytes())
        assert "quantization_config" not in told
        assert told["dtype"] == "bfloat16"
        assert different(loaded(tmp_path / "out"), by_peft(floats, lora_folder)) == []

    def test_dtype_float32_keeps_the_whole_change(self, tmp_path, pair, lora_folder):
        made = by_us(pair[0], tmp_path / "out", lora_folder, onto="dequantized", dtype="float32")
        assert made.kept > 0.9999
        assert json.loads((tmp_path / "out/config.json").read_bytes())["dtype"] == "float32"
        assert {t.dtype for t in load_file(tmp_path / "out/model.safetensors").values()} == {torch.float32}

    def test_without_being_asked_for_it_is_refused_and_named(self, tmp_path, pair, lora_folder):
        with pytest.raises(Unsupported, match="--onto dequantized"):
            by_us(pair[0], tmp_path / "out", lora_folder)
        assert not (tmp_path / "out").exists()

    def test_a_base_of_floats_has_nothing_to_dequantise(self, tmp_path, pair, lora_folder):
        with pytest.raises(Unsupported, match="without --onto"):
            by_us(pair[1], tmp_path / "out", lora_folder, onto="dequantized")

    def test_peft_s_own_arithmetic_is_refused(self, tmp_path, pair, lora_folder):
        with pytest.raises(Unsupported, match="a method whose arithmetic is here"):
            by_us(pair[0], tmp_path / "out", lora_folder, onto="dequantized", accumulate="peft")


class TestComparedWithTheOriginal:
    def test_the_difference_of_both_merges_is_told_for_each_kind_of_module(self, pair, original, lora_folder):
        packed, floats = pair
        base = read_base(packed, cache=None, progress=lambda _: None)
        kinds = {each.kind: each for each in apart_from(base, packed, original, [Ingredient(lora_folder)])}
        assert {kind: each.modules for kind, each in kinds.items()} == {"q_proj": 2, "v_proj": 2}
        one, other = (by_peft(at, lora_folder, dtype="float32") for at in (floats, original))
        before = loaded(original, dtype="float32").state_dict()
        for kind, each in kinds.items():
            names = [name for name in before if kind in name]
            apart, weights, change = (
                sum(float((left[n].double() - right[n].double()).square().sum()) for n in names) ** 0.5
                for left, right in (
                    (one.state_dict(), other.state_dict()),
                    (other.state_dict(), {n: torch.zeros(()) for n in names}),
                    (other.state_dict(), before),
                )
            )
            assert each.of_weights == pytest.approx(apart / weights, rel=1e-4)
            assert each.of_change == pytest.approx(apart / change, rel=1e-4)
            assert each.of_weights > 0.01

    def test_another_model_than_the_original_is_refused(self, tmp_path, pair, lora_folder):
        base = read_base(pair[0], cache=None, progress=lambda _: None)
        other = base_of(tmp_path / "other", "bfloat16", hidden_size=64)
        with pytest.raises(IncompatibleBase, match="is not what the base was quantised from"):
            apart_from(base, pair[0], other, [Ingredient(lora_folder)])


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("nf4.weight.absmax", torch.zeros(3)),
        ("nf4.weight.quant_map", torch.zeros(15)),
        ("nf4.weight", torch.zeros(5, 1, dtype=torch.uint8)),
        ("nf4.weight.quant_state.bitsandbytes__nf4", torch.zeros(9, dtype=torch.uint8)),
        ("nf4.weight.quant_state.bitsandbytes__nf4", {"dtype": "int4"}),
        ("nf4.weight.quant_state.bitsandbytes__nf4", {"blocksize": 0}),
        ("nf4.weight.quant_state.bitsandbytes__nf4", {"shape": [12, -22]}),
        ("nf4-double.weight.nested_absmax", None),
        ("int8.SCB", None),
        ("int8.weight_format", torch.tensor(1, dtype=torch.uint8)),
    ],
)
def test_what_is_not_as_the_format_has_it_is_refused_by_name(tmp_path, part, wrong):
    tensors = load_file(THEIRS)
    if isinstance(wrong, dict):
        wrong = state(tensors[part].numpy().tobytes().decode(), **wrong)
    if wrong is None:
        del tensors[part]
    else:
        tensors[part] = wrong
    with pytest.raises(Unsupported, match=part.partition(".")[0]):
        seen(folder_with(tmp_path / "base", tensors))
