"""How an adapter's module names are found in a checkpoint that names them otherwise."""

from __future__ import annotations

import pytest

from adapter_registry.checkpoints.naming import namings, prefix_changes
from adapter_registry.domain.base import Base, Tensor


def base_of(*names: str, model_type: str | None = None) -> Base:
    tensors = tuple(Tensor(name, "F32", (4, 4)) for name in names)
    empty = dict.fromkeys(["config", "tokenizer", "architecture", "vocab_size", "root", "repository", "commit"])
    rest = {"quantization": None, "spot": None, "source": "x", "tied": False, "files": ()}
    return Base("sha256:" + "0" * 64, tensors=tensors, model_type=model_type, **empty, **rest)


LANGUAGE = "language_model.model.layers.0.q_proj"
VISION = "vision_tower.layers.0.q_proj"


@pytest.mark.parametrize(
    ("modules", "paths", "changes"),
    [
        ({"model.layers.0.q_proj"}, {"model.layers.0.q_proj"}, ()),
        ({"h.0.attn", "wte"}, {"transformer.h.0.attn"}, (("", "transformer."),)),
        ({"h.0.attn", "ln_f"}, {"transformer.h.0.attn", "lm_head"}, (("", "transformer."),)),
        ({"transformer.h.0.attn"}, {"h.0.attn"}, (("transformer.", ""),)),
        (
            {LANGUAGE, VISION},
            {"model.language_model.layers.0.q_proj"},
            (("language_model.model.", "model.language_model."),),
        ),
        (
            {LANGUAGE, VISION},
            {"model.language_model.layers.0.q_proj", "model.vision_tower.layers.0.q_proj"},
            (("language_model.model.", "model.language_model."), ("vision_tower.", "model.vision_tower.")),
        ),
        (
            {"model.layers.0.q_proj", "visual.blocks.0.qkv"},
            {"model.language_model.layers.0.q_proj", "model.visual.blocks.0.qkv"},
            (("visual.", "model.visual."), ("model.", "model.language_model.")),
        ),
        (
            {"language_model.model.embed_tokens"},
            {"model.language_model.embed_tokens"},
            (("language_model.model.", "model.language_model."),),
        ),
        ({"lm_head.dense"}, {"classifier.dense"}, ()),
        ({"model.layers.0.q_proj"}, {"evil.model.layers.0.q_proj"}, ()),
        ({"model.layers.0.q_proj"}, {"model.layers.7.q_proj"}, ()),
        ({"model.layers.0.q_proj"}, {"model.layers.0.q_proj", "decoder.layers.0.q_proj"}, ()),
    ],
)
def test_one_consistent_change_of_prefixes_is_found(modules, paths, changes):
    words = {"model", "transformer", "language_model", "visual", "vision_tower", "decoder"}
    assert prefix_changes(modules, paths, words.__contains__) == changes


def test_parts_that_transformers_renames_are_an_alternative():
    base = base_of("model.layers.0.block_sparse_moe.gate.weight", "lm_head.weight")
    stored, renamed, *_ = namings(base, ["model.layers.0.mlp.gate"])
    assert "model.layers.0.block_sparse_moe.gate.weight" in stored.tensors
    assert "model.layers.0.mlp.gate.weight" in renamed.tensors
    assert "transformers 5 renames" in renamed.told


def test_old_names_of_norms_are_read_as_new_ones():
    [naming] = namings(base_of("bert.LayerNorm.gamma", "bert.LayerNorm.beta"), [])
    assert set(naming.tensors) == {"bert.LayerNorm.weight", "bert.LayerNorm.bias"}


def test_replicated_layers_are_those_they_repeat():
    base = base_of("model.layers.0.q_proj.weight", "model.layers.1.q_proj.weight", "model.norm.weight")
    [naming] = namings(base, [], [(0, 1), (0, 2)])
    originals = {name: tensor.name for name, tensor in naming.tensors.items()}
    assert originals == {
        "model.layers.0.q_proj.weight": "model.layers.0.q_proj.weight",
        "model.layers.1.q_proj.weight": "model.layers.0.q_proj.weight",
        "model.layers.2.q_proj.weight": "model.layers.1.q_proj.weight",
        "model.norm.weight": "model.norm.weight",
    }


def test_a_prefix_may_bear_the_name_of_the_model():
    [naming] = namings(base_of("layer.0.query.weight", model_type="xlm-roberta"), ["roberta.layer.0.query"])
    assert set(naming.tensors) == {"roberta.layer.0.query.weight"}
