"""Jobs of a store that others write to: bases come from the store itself, so what one merge made goes into the next."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.job import State
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.services.first_admin import bootstrap
from tests.adapter_builders import copied
from tests.job_builders import ADAPTER, workshop
from tests.unit.tensors.merging import adapted


@pytest.fixture
def shop(tmp_path, llama_folder, lora_folder):
    with workshop(tmp_path / "home", copied(llama_folder, tmp_path / "base"), lora_folder) as made:
        bootstrap(made.registry._opened)
        yield made


def merged(shop, reference: str, into: str):
    recipe = Recipe("merge", (Ingredient(reference),), into=into)
    return shop.ended(shop.registry.submit(recipe))


def test_a_job_opens_no_path_of_the_catalog_and_merges_into_a_merge(shop, tmp_path, llama_folder, lora_folder):
    registry, base = shop.registry, tmp_path / "base"
    with pytest.raises(InvalidInput, match=r"which jobs may not open.*nothing was queued.*--store"):
        merged(shop, f"{ADAPTER}@v1", "default/once")
    with shop.worker():
        registry.store_base(registry.add_base("tiny", base), registry.copy_of(base, name="tiny"))
        once = merged(shop, f"{ADAPTER}@v1", "default/once")
        assert once.state is State.SUCCEEDED, once.error
        registry.push(lora_folder, base="default/once", name="again")
        twice = merged(shop, "default/again@v1", "default/twice")
        assert twice.state is State.SUCCEEDED, twice.error
        assert any("this base is itself a merge" in each for each in twice.result["notices"])

    name = "model.layers.0.self_attn.q_proj.weight"
    before = load_file(llama_folder / "model.safetensors")[name]
    delta = adapted(llama_folder, lora_folder).merge_and_unload().state_dict()[name].numpy() - before
    after = load_file(registry.checkpoint("default/twice") / "model.safetensors")[name]
    assert np.allclose(after, before + 2 * delta, atol=1e-6)
