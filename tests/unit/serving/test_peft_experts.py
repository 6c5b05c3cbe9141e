"""What PEFT itself does with experts that are adapted one by one, beside the verdict; transformers 5 has stacks."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Qwen2MoeConfig, Qwen2MoeForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.domain.servable import Servable, judged
from adapter_registry.domain.servable_experts import PEFT_LEAVES, experts_of
from adapter_registry.domain.servable_facts import Facts
from adapter_registry.domain.servable_rules import parse
from tests.unit.tensors.test_layers import qwen3_moe

KINDS = ("down_proj", "gate_proj", "up_proj")


def qwen2_moe(folder):
    torch.manual_seed(0)
    shape = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "moe_intermediate_size": 12}
    more = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "num_experts": 3}
    Qwen2MoeForCausalLM(Qwen2MoeConfig(**shape, **more, shared_expert_intermediate_size=8)).save_pretrained(folder)
    return folder


def with_a_dense_layer(folder):
    return qwen3_moe(folder, num_hidden_layers=2, mlp_only_layers=[0])


def singly(folder, base, beside=()):
    """An adapter of all modules of all experts and of some beside them; (paths of what it adapts, the base)."""
    known = read_base(base, cache=None, progress=lambda _: None)
    shapes = {each.name.removesuffix(".weight"): each.shape for each in known.tensors}
    modules = [path for path in shapes if ".experts." in path or path.endswith(("q_proj", *beside))]
    tensors = {}
    for path in modules:
        rows, columns = shapes[path]
        tensors[f"base_model.model.{path}.lora_A.weight"] = torch.ones(2, columns)
        tensors[f"base_model.model.{path}.lora_B.weight"] = torch.ones(rows, 2)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 2}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["q_proj", *KINDS]}))
    return modules, known


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning")
@pytest.mark.parametrize(
    ("make", "beside", "stacks", "dense", "verdict"),
    [
        (qwen3_moe, (), True, False, Servable.LOADS),
        (with_a_dense_layer, KINDS, True, False, Servable.WRONG),
        (qwen2_moe, KINDS, False, True, Servable.WRONG),
    ],
    ids=["experts", "and their namesakes", "of an architecture that it does not know"],
)
def test_the_verdict_is_what_peft_does(tmp_path, make, beside, stacks, dense, verdict):
    modules, known = singly(tmp_path / "adapter", make(tmp_path / "base"), beside)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter")
    adapted = {name.partition(".lora_")[0] for name, _ in model.named_parameters() if ".lora_A." in name}
    assert any(".experts" in name for name in adapted) is stacks
    assert any(name.endswith(KINDS) for name in adapted) is dense
    experts = experts_of(modules, [each.name for each in known.tensors])
    [found] = judged(Facts("LORA", architecture=known.architecture, experts=experts), [parse("peft")])
    assert found.verdict is verdict


def test_the_architectures_are_none_that_peft_makes_stacks_for():
    conversion = pytest.importorskip("transformers.conversion_mapping")._MODEL_TO_CONVERSION_PATTERN
    stacked = {kind for kind, pattern in conversion.items() if pattern in ("mixtral", "qwen2_moe")} | {"mixtral"}
    types = {kind for kind, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items() if name in PEFT_LEAVES}
    assert len(types) == len(PEFT_LEAVES)
    assert not types & stacked
