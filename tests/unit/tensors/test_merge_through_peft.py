"""Every method that PEFT has is merged as PEFT merges it, or refused by name: none is left over."""

from __future__ import annotations

import warnings

import peft
import peft.tuners.lora.config as variants
import pytest
import torch

from adapter_registry.checkpoints.adapter_files import read_folder
from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.checkpoints.intake import examine
from adapter_registry.domain.errors import Unsupported
from adapter_registry.tensors import torch_child
from adapter_registry.tensors.merging.merge import Ingredient, Options
from adapter_registry.tensors.merging.methods import NATIVE, NOT_A_WEIGHT, check_mergeable
from tests.adapter_builders import adapter
from tests.unit.tensors.merging import adapted, base_of, by_us, different, loaded, logits

QUERIES = {"target_modules": ["q_proj"]}
BLOCKS = variants.BdLoraConfig(target_modules_bd_a=["o_proj"], target_modules_bd_b=["q_proj"], nblocks=2)
METHODS = {
    "ADALORA": {**QUERIES, "total_step": 1},
    "ADAMSS": QUERIES,
    "BEFT": QUERIES,
    "BOFT": {**QUERIES, "boft_block_size": 8},
    "C3A": {**QUERIES, "block_size": 8},
    "DEFT": QUERIES,
    "DELORA": QUERIES,
    "FOURIERFT": {**QUERIES, "n_frequency": 20},
    "FROD": QUERIES,
    "GLORA": QUERIES,
    "GRALORA": {**QUERIES, "r": 8},
    "HIRA": QUERIES,
    "HRA": {**QUERIES, "r": 4},
    "LN_TUNING": {"target_modules": ["input_layernorm"]},
    "LOHA": QUERIES,
    "LOKR": QUERIES,
    "MISS": {**QUERIES, "r": 4},
    "OFT": {**QUERIES, "oft_block_size": 8},
    "OSF": QUERIES,
    "PEANUT": QUERIES,
    "PSOFT": {**QUERIES, "r": 4},
    "PVERA": QUERIES,
    "RANDLORA": QUERIES,
    "ROAD": {**QUERIES, "group_size": 8},
    "SHIRA": {**QUERIES, "r": 2},
    "SUPERTUNING": QUERIES,
    "TINYLORA": QUERIES,
    "TRAINABLE_TOKENS": {"token_indices": [3, 9]},
    "UNILORA": QUERIES,
    "VBLORA": {**QUERIES, "vector_length": 8},
    "VERA": QUERIES,
    "WAVEFT": {**QUERIES, "n_frequency": 20},
}
VARIANTS = {
    "kasa": {**QUERIES, "kasa_config": variants.KasaConfig()},
    "velora": {**QUERIES, "velora_config": variants.VeloraConfig(num_groups=8)},
    "monteclora": {**QUERIES, "monteclora_config": variants.MontecloraConfig()},
    "block-diagonal": {"target_modules": ["q_proj", "o_proj"], "use_bdlora": BLOCKS},
}
REFUSED = {
    "CARTRIDGE": {"num_virtual_tokens": 3},
    "CPT": {"cpt_token_ids": [1], "cpt_mask": [1], "cpt_tokens_type_mask": [1]},
    "MULTITASK_PROMPT_TUNING": {"num_virtual_tokens": 3, "num_tasks": 2},
    "PREFIX_TUNING": {"num_virtual_tokens": 3},
    "PROMPT_TUNING": {"num_virtual_tokens": 3},
    "P_TUNING": {"num_virtual_tokens": 3},
    "XLORA": {"hidden_size": 32, "adapters": {"a": "there"}},
}
KINDS = {kind.value: config for kind, config in peft.PEFT_TYPE_TO_CONFIG_MAPPING.items()}


def test_no_method_of_peft_is_left_over():
    assert NATIVE | METHODS.keys() | NOT_A_WEIGHT.keys() == KINDS.keys()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """With biases, as BEFT trains them."""
    return base_of(tmp_path_factory.mktemp("base") / "base", "float32", attention_bias=True)


@pytest.fixture
def here(monkeypatch):
    """PEFT in this process: a child would import torch again for each method; test_merge_peft starts real ones."""
    monkeypatch.setattr(
        "adapter_registry.tensors.through_peft.asked", lambda question, _limits: torch_child.merge(question)
    )


def merged_alike(base, folder, out):
    examination = examine(read_folder(folder)[0], read_base(base, cache=None, progress=lambda _: None))
    assert [str(problem) for problem in examination.problems] == []
    before, model = loaded(base), adapted(base, folder)
    said = logits(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = model.merge_and_unload()
        by_us(base, out, folder)
    ours = loaded(out)
    assert different(ours, theirs) == []
    assert different(ours, before) != []
    assert torch.allclose(logits(ours), said, atol=1e-6)


@pytest.mark.parametrize("kind", METHODS)
def test_a_method_is_merged_as_peft_merges_it_and_says_what_base_and_adapter_say(tmp_path, base, here, kind):
    if kind == "ADAMSS":
        pytest.importorskip("sklearn", reason="PEFT'S ADAMSS NEEDS scikit-learn, which is not installed")
    folder = adapter(tmp_path / "adapter", base, KINDS[kind](task_type="CAUSAL_LM", **METHODS[kind]))
    merged_alike(base, folder, tmp_path / "out")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_of_lora_whose_arithmetic_is_pefts_alone(tmp_path, base, here, variant):
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, **VARIANTS[variant])
    merged_alike(base, adapter(tmp_path / "adapter", base, config), tmp_path / "out")


@pytest.mark.parametrize("kind", sorted(NOT_A_WEIGHT))
def test_a_method_that_changes_no_weights_is_refused_by_its_name(tmp_path, base, kind):
    KINDS[kind](task_type="CAUSAL_LM", **REFUSED.get(kind, {})).save_pretrained(tmp_path)
    record = read_base(base, cache=None, progress=lambda _: None)
    with pytest.raises(Unsupported, match=f"{kind}: its? .*Load it beside its base"):
        check_mergeable(record, [Ingredient(tmp_path)], Options())
