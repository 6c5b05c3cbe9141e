"""A flattened adapter adds what its original adds, says nothing but r and alpha, and is refused where it cannot."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors import safe_open

from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.domain.errors import Unsupported
from adapter_registry.domain.lineage import ModuleFit
from adapter_registry.tensors import flatten
from adapter_registry.tensors.adapter_out import write_adapter
from adapter_registry.tensors.loaded import loaded
from tests.adapter_builders import CONFIG, WEIGHTS, changed_tensors
from tests.unit.tensors.test_compose import logits, lora
from tests.unit.tensors.test_layers import gpt2, mixtral, qwen3_moe

STACKS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
MIXED = {
    "target_modules": ["q_proj", "v_proj", "down_proj"],
    "rank_pattern": {"q_proj": 2, "down_proj": 7},
    "alpha_pattern": {"v_proj": 11},
}


def flat(base, source, out, **options):
    """Writes it flattened; how well each module fits."""
    known = read_base(base, cache=None, progress=lambda _: None)
    with loaded(source, known) as before:
        flatten.refuse(before)
        write_adapter(out, flatten.flattened(before, json.loads((source / CONFIG).read_bytes()), **options))
        with loaded(out, known) as after:
            return flatten.measured(before, after)


def config_of(folder):
    return json.loads((folder / CONFIG).read_bytes())


class TestFlattened:
    @pytest.mark.parametrize(
        "options",
        [
            {"target_modules": ["q_proj", "v_proj"], "use_rslora": True, "lora_alpha": 5},
            MIXED,
            {**MIXED, "use_rslora": True},
            {"target_modules": ["embed_tokens", "lm_head", "q_proj"], "rank_pattern": {"q_proj": 9}},
            {"target_modules": r".*\.1\..*(gate|up)_proj", "use_rslora": True},
            {"target_modules": ["q_proj", "o_proj"], "layers_to_transform": [1]},
            {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"], "use_rslora": True},
        ],
        ids=["rslora", "patterns", "both", "embeddings", "regex", "layers", "saved-modules"],
    )
    def test_it_adds_what_the_original_adds(self, tmp_path, llama_folder, options):
        source = lora(llama_folder, tmp_path / "source", **options)
        fits = flat(llama_folder, source, tmp_path / "flat")
        assert max(fit.error for fit in fits) < 1e-6
        assert min(fit.norm for fit in fits) > 0
        assert np.allclose(logits(llama_folder, tmp_path / "flat"), logits(llama_folder, source), atol=1e-4)

    @pytest.mark.parametrize(
        ("make", "options"),
        [
            (gpt2, {"target_modules": ["c_attn", "wte"], "rank_pattern": {"wte": 3}, "use_rslora": True}),
            (
                mixtral,
                {
                    "target_modules": ["q_proj"],
                    "target_parameters": ["mlp.experts.gate_up_proj"],
                    "rank_pattern": {"q_proj": 6},
                    "use_rslora": True,
                },
            ),
        ],
        ids=["transposed", "experts"],
    )
    def test_weights_of_every_orientation_are_padded_on_the_right_side(self, tmp_path, make, options):
        base = make(tmp_path / "base")
        source = lora(base, tmp_path / "source", **options)
        fits = flat(base, source, tmp_path / "flat")
        assert max(fit.error for fit in fits) < 1e-6
        assert np.allclose(logits(base, tmp_path / "flat"), logits(base, source), atol=1e-4)

    @pytest.mark.filterwarnings(
        "ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning"
    )  # PEFT's own
    @pytest.mark.parametrize(
        "options", [{}, {"use_rslora": True, "rank_pattern": {"q_proj": 6}}], ids=["plain", "rslora"]
    )
    @pytest.mark.parametrize(
        ("make", "kinds"),
        [(mixtral, ["q_proj", "w1", "w2", "w3"]), (qwen3_moe, ["down_proj", "gate_proj", "q_proj", "up_proj"])],
    )
    def test_stacks_of_experts_become_the_modules_that_the_base_has(self, tmp_path, make, kinds, options):
        base = make(tmp_path / "base")
        source = lora(base, tmp_path / "source", target_modules=["q_proj"], target_parameters=STACKS, **options)
        fits = flat(base, source, tmp_path / "flat")
        said = config_of(tmp_path / "flat")
        known = {each.name for each in read_base(base, cache=None, progress=lambda _: None).tensors}
        assert (said["target_modules"], said.get("target_parameters")) == (kinds, None)
        assert max(fit.error for fit in fits) < 1e-6
        with safe_open(tmp_path / "flat" / WEIGHTS, "np") as tensors:
            modules = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in tensors.keys()}  # noqa: SIM118
        assert {f"{module}.weight" for module in modules} <= known
        assert len([module for module in modules if ".experts." in module]) == 9
        assert np.allclose(logits(base, tmp_path / "flat"), logits(base, source), atol=1e-4)

    def test_modules_of_experts_beside_others_of_the_same_name_are_named_by_their_whole_paths(self, tmp_path):
        base = qwen3_moe(tmp_path / "base", num_hidden_layers=2, mlp_only_layers=[0])
        source = lora(base, tmp_path / "source", target_modules=["q_proj"], target_parameters=STACKS)
        assert max(fit.error for fit in flat(base, source, tmp_path / "flat")) < 1e-6
        named = config_of(tmp_path / "flat")["target_modules"]
        assert "model.layers.1.mlp.experts.0.gate_proj" in named
        assert not any(each.startswith("model.layers.0.mlp") for each in named)

    def test_its_config_says_one_rank_and_a_list_of_modules_and_nothing_else(self, tmp_path, llama_folder):
        flat(llama_folder, lora(llama_folder, tmp_path / "source", **MIXED, use_rslora=True), tmp_path / "flat")
        said = config_of(tmp_path / "flat")
        assert (said["r"], said["lora_alpha"], said["use_rslora"]) == (7, 7, False)
        assert (said["rank_pattern"], said["alpha_pattern"]) == ({}, {})
        assert said["target_modules"] == ["down_proj", "q_proj", "v_proj"]
        assert said["task_type"] == "CAUSAL_LM"

    def test_modules_of_some_layers_are_named_by_their_whole_paths(self, tmp_path, llama_folder):
        source = lora(llama_folder, tmp_path / "source", target_modules=["q_proj"], layers_to_transform=[1])
        flat(llama_folder, source, tmp_path / "flat")
        said = config_of(tmp_path / "flat")
        assert said["target_modules"] == ["model.layers.1.self_attn.q_proj"]
        assert "layers_to_transform" not in said

    def test_a_scale_that_is_a_power_of_two_costs_nothing_in_half_precision(self, tmp_path, llama_folder):
        source = self._in_bfloat16(
            lora(llama_folder, tmp_path / "source", r=4, lora_alpha=8, rank_pattern={"q_proj": 2})
        )
        fits = flat(llama_folder, self._in_bfloat16(source), tmp_path / "flat")
        assert max(fit.error for fit in fits) < 1e-14

    def test_rounding_in_half_precision_is_measured(self, tmp_path, llama_folder):
        source = self._in_bfloat16(lora(llama_folder, tmp_path / "source", use_rslora=True, lora_alpha=5))
        fits = flat(llama_folder, source, tmp_path / "flat")
        worst = max(fit.error for fit in fits)
        assert 1e-4 < worst < flatten.TOLERANCE
        assert max(fit.error for fit in flat(llama_folder, source, tmp_path / "wide", dtype="F32")) < 1e-6

    def test_what_becomes_too_large_for_float16_is_refused(self, tmp_path, llama_folder):
        source = lora(llama_folder, tmp_path / "source", lora_alpha=4_000_000, use_rslora=True)
        with np.errstate(invalid="ignore"):
            fits = flat(llama_folder, source, tmp_path / "flat", dtype="F16")
        with pytest.raises(Unsupported, match="--dtype float32"):
            flatten.require_near(fits, flatten.TOLERANCE)

    @staticmethod
    def _in_bfloat16(folder):
        import torch

        changed_tensors(folder, lambda tensors: tensors.update({k: v.to(torch.bfloat16) for k, v in tensors.items()}))
        assert (folder / WEIGHTS).exists()
        return folder


class TestRefusals:
    @pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_bias": True}])
    def test_what_is_no_product_of_factors_is_refused_by_name(self, tmp_path, llama_folder, options):
        source = lora(llama_folder, tmp_path / "source", target_modules=["q_proj"], **options)
        with pytest.raises(Unsupported, match=next(iter(options)).removeprefix("use_")):
            flat(llama_folder, source, tmp_path / "flat")
        assert not (tmp_path / "flat").exists()

    def test_an_error_beyond_the_tolerance_names_the_modules_worst_first(self):
        fits = [ModuleFit("a", 4, 1.0, 0.02), ModuleFit("b", 4, 1.0, 0.001), ModuleFit("c", 4, 1.0, 0.05)]
        with pytest.raises(Unsupported) as refused:
            flatten.require_near(fits, 0.01)
        assert refused.value.text.index("c: 0.05") < refused.value.text.index("a: 0.02")
        assert "b: " not in refused.value.text


class TestIsPlain:
    @pytest.mark.parametrize(
        ("options", "plain"),
        [
            ({"target_modules": ["q_proj"]}, True),
            ({"target_modules": ["q_proj"], "use_rslora": True}, False),
            ({"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 2}}, False),
            ({"target_modules": ["q_proj", "v_proj"], "alpha_pattern": {"q_proj": 2}}, False),
            ({"target_modules": ["q_proj"], "rank_pattern": {"nothing": 2}}, True),
            ({"target_modules": ".*q_proj"}, False),
        ],
    )
    def test_plain_is_what_r_alpha_and_a_list_say(self, tmp_path, llama_folder, llama_base, options, plain):
        source = lora(llama_folder, tmp_path / "source", **options)
        with loaded(source, llama_base) as found:
            assert flatten.is_plain(found) is plain
