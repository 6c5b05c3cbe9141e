"""A fine-tune comes back as an adapter: whole where its changes have the rank, else with the error that is told."""

from __future__ import annotations

import numpy as np
import pytest

from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.domain.errors import InvalidInput, Unsupported
from adapter_registry.tensors.adapter_out import write_adapter
from adapter_registry.tensors.base_weights import base_weights
from adapter_registry.tensors.composing.module import Wanted
from adapter_registry.tensors.extract import extract
from tests.adapter_builders import llama
from tests.unit.tensors.test_compose import logits
from tests.unit.tensors.test_layers import gpt2


def tuned(base, folder, change):
    """The model in `base` with its parameters changed, saved whole."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            change(name, parameter)
    model.save_pretrained(folder)
    return folder


def low_rank(rank, kinds):
    def change(name, parameter):
        import torch

        if parameter.ndim == 2 and any(kind in name for kind in kinds):
            parameter += 0.1 * torch.randn(parameter.shape[0], rank) @ torch.randn(rank, parameter.shape[1])

    return change


def noise(kinds):
    def change(name, parameter):
        import torch

        if any(kind in name for kind in kinds):
            parameter += 0.05 * torch.randn(parameter.shape)

    return change


def extracted(base, fine, out, wanted, **options):
    table = read_base(base, cache=None, progress=lambda _: None)
    with base_weights(fine) as new, base_weights(base) as old:
        made = extract(new, old, table, wanted, **options)
        write_adapter(out, made.adapter)
    return made


class TestExtract:
    @pytest.mark.parametrize(
        ("make", "kinds"), [(llama, ["q_proj", "down_proj", "lm_head"]), (gpt2, ["c_attn", "c_fc"])]
    )
    def test_a_change_of_that_rank_comes_back_whole(self, tmp_path, make, kinds):
        base = make(tmp_path / "base")
        fine = tuned(base, tmp_path / "fine", low_rank(3, kinds))
        made = extracted(base, fine, tmp_path / "out", Wanted(rank=3))
        assert {fit.name.rpartition(".")[2] for fit in made.fits} == set(kinds)
        assert max(fit.error for fit in made.fits) < 1e-5
        assert np.allclose(logits(base, tmp_path / "out"), logits(fine), atol=1e-4)

    def test_the_error_is_that_of_the_best_approximation_and_is_told(self, tmp_path, llama_folder):
        fine = tuned(llama_folder, tmp_path / "fine", noise(["q_proj"]))
        made = extracted(llama_folder, fine, tmp_path / "out", Wanted(rank=5))
        from safetensors.numpy import load_file

        one, other = (load_file(folder / "model.safetensors") for folder in (fine, llama_folder))
        for fit in made.fits:
            change = (one[f"{fit.name}.weight"] - other[f"{fit.name}.weight"]).astype(np.float64)
            values = np.linalg.svd(change, compute_uv=False)
            assert fit.norm == pytest.approx(np.linalg.norm(change), rel=1e-5)
            assert fit.error == pytest.approx(np.linalg.norm(values[5:]) / np.linalg.norm(values), rel=1e-3)

    def test_auto_keeps_the_error_of_each_module(self, tmp_path, llama_folder):
        fine = tuned(llama_folder, tmp_path / "fine", noise(["q_proj", "v_proj"]))
        made = extracted(llama_folder, fine, tmp_path / "out", Wanted(tolerance=0.4))
        assert all(0 < fit.error <= 0.4001 for fit in made.fits)
        assert len({fit.rank for fit in made.fits}) > 1

    def test_norms_embeddings_and_biases_that_changed_are_kept(self, tmp_path):
        base = llama(tmp_path / "base", attention_bias=True)
        fine = tuned(base, tmp_path / "fine", noise(["input_layernorm", "embed_tokens", "k_proj.bias", "q_proj.bias"]))
        both = tuned(fine, tmp_path / "both", low_rank(2, ["q_proj"]))
        made = extracted(base, both, tmp_path / "out", Wanted(rank=2))
        assert sum("saved" in each for each in made.notices) == 7
        assert np.allclose(logits(base, tmp_path / "out"), logits(both), atol=1e-4)

    def test_a_tied_embedding_is_refused_or_left_out_and_told(self, tmp_path):
        base = llama(tmp_path / "base", tie_word_embeddings=True)
        fine = tuned(base, tmp_path / "fine", noise(["embed_tokens", "q_proj"]))
        with pytest.raises(Unsupported, match=r"embed_tokens\.weight.*--leave-out"):
            extracted(base, fine, tmp_path / "no", Wanted(rank=2))
        made = extracted(base, fine, tmp_path / "out", Wanted(rank=2), leave_out=True)
        assert made.notices == ("model.embed_tokens.weight: changed, and left out",)

    def test_the_base_itself_and_another_model_are_refused(self, tmp_path, llama_folder):
        with pytest.raises(InvalidInput, match="nothing to extract"):
            extracted(llama_folder, llama_folder, tmp_path / "no", Wanted(rank=2))
        other = llama(tmp_path / "other", vocab_size=70)
        with pytest.raises(InvalidInput, match=r"lm_head\.weight is \[70, 32\], not \[64, 32\]"):
            extracted(llama_folder, other, tmp_path / "no", Wanted(rank=2))

    def test_a_checkpoint_in_another_type_is_compared_by_value(self, tmp_path, llama_folder):
        import torch

        fine = tuned(llama_folder, tmp_path / "fine", low_rank(2, ["q_proj"]))
        from transformers import AutoModelForCausalLM

        AutoModelForCausalLM.from_pretrained(fine, dtype=torch.float64).save_pretrained(tmp_path / "wide")
        made = extracted(llama_folder, tmp_path / "wide", tmp_path / "out", Wanted(rank=2))
        assert {fit.name.rpartition(".")[2] for fit in made.fits} == {"q_proj"}
        assert max(fit.error for fit in made.fits) < 1e-5

    def test_tensors_that_the_base_does_not_have_are_refused_or_left_out_and_told(self, tmp_path, llama_folder):
        import numpy as np
        from safetensors.numpy import load_file, save_file

        fine = tuned(llama_folder, tmp_path / "fine", low_rank(2, ["q_proj"]))
        weights = load_file(fine / "model.safetensors")
        more = {"model.rotary.inv_freq": np.ones(4, np.float32), "position_ids": np.arange(4)}
        save_file({**weights, **more}, fine / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(InvalidInput, match=r"model\.rotary.inv_freq is not in the base; .*--leave-out"):
            extracted(llama_folder, fine, tmp_path / "no", Wanted(rank=2))
        made = extracted(llama_folder, fine, tmp_path / "out", Wanted(rank=2), leave_out=True)
        assert "position_ids: not in the base, and left out" in made.notices
        assert max(fit.error for fit in made.fits) < 1e-5

    def test_a_base_with_tensors_that_are_no_floats(self, tmp_path, llama_folder):
        import shutil

        import numpy as np
        from safetensors.numpy import load_file, save_file

        base = shutil.copytree(llama_folder, tmp_path / "base")
        fine = tuned(llama_folder, tmp_path / "fine", low_rank(2, ["q_proj"]))
        for folder, first in ((base, 0), (fine, 0)):
            weights = load_file(folder / "model.safetensors")
            weights["model.position_ids"] = np.arange(first, 4)
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        made = extracted(base, fine, tmp_path / "out", Wanted(rank=2))
        assert max(fit.error for fit in made.fits) < 1e-5
