"""`adapters diff` as people run it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from tests.acceptance.conftest import Cli
from tests.adapter_builders import changed_config, changed_tensors, copied


@pytest.fixture(scope="module")
def two(tmp_path_factory, llama_folder, lora_folder):
    """A registry with two versions, of which the second moved one module."""
    root = tmp_path_factory.mktemp("diff")
    (root / "work").mkdir()
    cli = Cli(root / "home", root / "work")
    cli("base", "add", "tiny", llama_folder)
    cli("push", lora_folder, "--base", "tiny", "--name", "sql-lora")
    second = copied(lora_folder, cli.folder / "second")

    def change(tensors):
        name = next(name for name in sorted(tensors) if "layers.1" in name and "lora_B" in name)
        tensors[name] = tensors[name] * 1.5

    changed_tensors(second, change)
    changed_config(second, lora_dropout=0.25)
    cli("push", second, "--base", "tiny", "--name", "sql-lora")
    return cli


def test_a_difference_is_told_to_people(two):
    for version, value in (("v1", 0.80), ("v2", 0.86)):
        two("score", "add", version, "--metric", "sql/accuracy", "--value", value, "--better", "higher", "--n", 500)
    told = two("diff", "v1", "v2").out
    first, verdict = told.splitlines()[:2]
    assert first == "default/sql-lora@v1 -> default/sql-lora@v2"
    assert verdict.startswith("changed by ")
    assert " in 1 of " in verdict
    assert "lora_dropout" in told
    assert "sql/accuracy    0.8    0.86      +0.06" in told
    changed = told.split("changed most")[1].splitlines()[1]
    assert changed.startswith("model.layers.1.")
    assert " 50 %" in changed


def test_programs_get_the_same_and_a_verdict_alone(two):
    found = two("diff", "v1", "v2", "--json").json
    assert found["format"] == "adapters.diff/1"
    assert found["verdict"] == "changed"
    assert len(two("diff", "v1", "v2", "--json", "--only-changed").json["modules"]) == 1
    assert two("diff", "v1", "v1", "-q").out == "identical\n"


def test_a_folder_is_compared_with_a_version_on_its_base(two):
    found = two("diff", "./second", "sql-lora@v2", "--json").json
    assert found["verdict"] == "identical"
    assert (found["first"]["name"], found["first"]["digest"]) == ("./second", None)


def test_a_picture_is_drawn(two):
    two("diff", "v1", "v2", "--plot", "out.svg", "-q")
    assert ET.parse(two.folder / "out.svg").getroot().tag.endswith("svg")


def test_the_base_is_held_beside_the_deltas(two, llama_folder):
    found = two("diff", "v1", "v2", "--base-path", llama_folder, "--intruders", "--json").json
    assert all(module["first_base"]["relative"] > 0 for module in found["modules"])
    assert all(module["first_base"]["top"] == 10 for module in found["modules"])


def test_a_device_is_for_intruders(two):
    assert "--device is for --intruders" in two("diff", "v1", "v2", "--device", "cuda", code=2).err


def test_two_folders_without_a_base_are_refused_with_the_way_out(two):
    refused = two("diff", "./second", "./second", code=2)
    assert "--base NAME" in refused.err


def test_what_is_no_adapter_is_refused(two):
    (two.folder / "empty").mkdir()
    assert "it is no adapter" in two("diff", "./empty", "v1", code=None).err
    assert two("diff", "v9", "v1", code=None).code == 1
