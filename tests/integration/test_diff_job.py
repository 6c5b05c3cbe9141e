"""A difference as a kind of job: exact inputs, gathered whole, computed without the registry, told in its record."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs.diff import KEPT, Diff
from adapter_registry.settings import read_settings
from tests.adapter_builders import changed_config, copied, llama


@pytest.fixture(scope="module")
def registry(tmp_path_factory, llama_folder, lora_folder):
    root = tmp_path_factory.mktemp("diff-job")
    registry = Registry(read_settings({"ADAPTERS_HOME": str(root / "home"), "ADAPTERS_CACHE": str(root / "cache")}))
    registry.add_base("tiny", llama_folder)
    registry.push(lora_folder, base="tiny", name="sql-lora")
    other = copied(lora_folder, root / "other")
    changed_config(other, lora_alpha=24)
    registry.push(other, base="tiny", name="sql-lora")
    registry.add_base("other", llama(root / "elsewhere", seed=9))
    registry.push(lora_folder, base="other", name="elsewhere")
    return registry


def recipe(*references: str, **options) -> Recipe:
    return Recipe("diff", tuple(map(Ingredient, references)), options=options, into="default/sql-lora")


def carried_out(registry, given, scratch):
    kind = Diff()
    exact = kind.check(registry, given)
    (scratch / "inputs").mkdir(parents=True)
    (scratch / "out").mkdir()
    kind.gather(registry, exact, scratch)
    outcome = kind.compute(exact, scratch, lambda _: None)
    return kind.publish(registry, exact, scratch, outcome)["diff"]


def test_it_tells_what_changed(registry, tmp_path):
    made = carried_out(registry, recipe("sql-lora@v1", "sql-lora@v2"), tmp_path / "s")
    assert made["verdict"] == "changed"
    assert made["first"]["name"] == "default/sql-lora@v1"
    assert json.loads((tmp_path / "s/out/diff.json").read_bytes())["verdict"] == "changed"
    ET.parse(tmp_path / "s/out/diff.svg")


def test_its_record_is_json_of_a_bounded_size(registry, tmp_path):
    made = carried_out(registry, recipe("sql-lora@v1", "sql-lora@v2"), tmp_path / "s")
    assert json.loads(json.dumps(made, allow_nan=False))
    assert all(len(module["difference"]["values"]) <= KEPT for module in made["modules"])


def test_the_bases_weights_are_gathered_when_they_are_asked_for(registry, tmp_path):
    made = carried_out(registry, recipe("sql-lora@v1", "sql-lora@v2", intruders=True), tmp_path / "s")
    assert all(module["first_base"]["intruders"] is not None for module in made["modules"])
    shutil.rmtree(tmp_path / "s")
    plain = carried_out(registry, recipe("sql-lora@v1", "sql-lora@v2"), tmp_path / "s")
    assert all(module["first_base"] is None for module in plain["modules"])


def test_references_become_digests(registry):
    exact = Diff().check(registry, recipe("sql-lora@v1", "sql-lora@v2"))
    assert all("@sha256:" in each.reference for each in exact.inputs)
    assert exact.base == registry.resolve("sql-lora@v1").base
    assert Diff().check(registry, exact) == exact


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (recipe("sql-lora@v1"), "two versions"),
        (recipe("sql-lora@v1", "sql-lora@v2", deep=True), "no option 'deep'"),
        (recipe("sql-lora@v1", "sql-lora@v2", exact="yes"), "true or false"),
        (recipe("sql-lora@v1", "sql-lora@v2", device="cuda"), "--device is for --intruders"),
        (recipe("sql-lora@v1", "sql-lora@v2", intruders=True, device="gpu"), "--device is one of cpu, cuda"),
        (recipe("sql-lora@v1", "elsewhere@v1", intruders=True), "different bases"),
    ],
)
def test_what_cannot_come_to_anything_is_refused_before(registry, given, said):
    with pytest.raises(InvalidInput, match=said):
        Diff().check(registry, given)


def test_versions_on_different_bases_are_compared_and_that_is_told_first(registry, tmp_path):
    made = carried_out(registry, recipe("sql-lora@v1", "elsewhere@v1"), tmp_path / "s")
    assert "different bases" in made["notes"][0]
    assert made["verdict"] == "identical"
