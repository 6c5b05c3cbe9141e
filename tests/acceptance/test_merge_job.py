"""The kind of work that merges: check, gather, compute and publish, as a worker calls them."""

from __future__ import annotations

import shutil

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.errors import InvalidInput, Unsupported
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs.compose import Compose
from adapter_registry.jobs.kind import INPUTS, OUT
from adapter_registry.jobs.merge import Merge
from adapter_registry.settings import read_settings
from tests.adapter_builders import adapter


@pytest.fixture
def registry(tmp_path, llama_folder, lora_folder):
    shutil.copytree(llama_folder, tmp_path / "base")
    registry = Registry(read_settings({"ADAPTERS_HOME": str(tmp_path / "home"), "ADAPTERS_CACHE": str(tmp_path / "c")}))
    registry.add_base("tiny", tmp_path / "base")
    registry.push(lora_folder, base="tiny", name="sql-lora")
    return registry


def done(registry, recipe, scratch):
    (scratch / INPUTS).mkdir(parents=True)
    (scratch / OUT).mkdir()
    kind, told = Merge(), []
    kind.gather(registry, recipe, scratch)
    outcome = kind.compute(recipe, scratch, told.append)
    assert told[-1].fraction == 1
    return kind.publish(registry, recipe, scratch, outcome)


def test_a_merge_done_twice_is_one_base_with_the_same_digest(registry, tmp_path):
    recipe = Recipe("merge", (Ingredient("sql-lora@v1"),), into="default/merged")
    checked = Merge().check(registry, recipe)
    assert checked.inputs[0].reference.startswith("default/sql-lora@sha256:")
    first = done(registry, checked, tmp_path / "one")
    assert done(registry, checked, tmp_path / "two")["digest"] == first["digest"]
    assert first["kept"] > 0.99
    assert "default/merged" in {name for base in registry.bases() for name in base.served_as}


def test_an_option_that_there_is_not_is_refused_at_submission(registry):
    recipe = Recipe("merge", (Ingredient("sql-lora@v1"),), into="default/merged", options={"colour": "red"})
    with pytest.raises(InvalidInput, match="no option 'colour'"):
        Merge().check(registry, recipe)


@pytest.mark.parametrize(("kind", "options"), [(Merge(), {}), (Compose(), {"method": "svd"})])
def test_replicated_layers_are_refused_at_submission(registry, tmp_path, kind, options):
    from peft import LoraConfig

    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], layer_replication=[[0, 2], [1, 2]])
    registry.push(adapter(tmp_path / "replicated", tmp_path / "base", config), base="tiny", name="replicated")
    recipe = Recipe(kind.name, (Ingredient("replicated@v1"),), into="default/out", options=options)
    with pytest.raises(Unsupported, match=r"replicated@v1 is .*share one weight of the base.*"):
        kind.check(registry, recipe)
