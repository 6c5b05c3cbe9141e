"""`adapters merge` as a process: lock checked first, a checkpoint that loads, registered with what it was made of."""

from __future__ import annotations

import shutil

import pytest
import torch

from tests.adapter_builders import adapter, llama
from tests.unit.tensors.merging import adapted, base_of, loaded, logits
from tests.unit.tensors.quantising import in_nf4


@pytest.fixture
def stored(cli, llama_folder, lora_folder):
    """A registry with a base and a version of an adapter on it."""
    shutil.copytree(llama_folder, cli.folder / "base")
    cli("base", "add", "tiny", "base")
    cli("push", lora_folder, "--base", "tiny", "--name", "sql-lora")
    return cli


def test_a_version_is_merged_verified_and_registered_with_its_lineage(stored, lora_folder, llama_folder):
    cli = stored
    told = cli("merge", "sql-lora@v1", "-o", "out", "--verify", "--as", "tiny-sql", "--store", "--json").json
    assert told["verified"]["largest"] < 1e-5
    assert {module["sampled"] for module in told["merged"]["modules"]} == {1.0}
    assert told["merged"]["kept"] > 0.999999
    assert torch.allclose(logits(loaded(cli.folder / "out")), logits(adapted(llama_folder, lora_folder)), atol=1e-5)
    shown = cli("base", "show", "tiny-sql").out
    assert "sql-lora@v1 (sha256:" in shown
    assert "merged into sha256:" in shown


def test_a_wrong_base_is_refused_before_anything_is_written(stored):
    llama(stored.folder / "wrong", seed=7)
    refused = stored("merge", "sql-lora@v1", "-o", "out", "--base-path", "wrong", code=6)
    assert "is not tiny@" in refused.err
    assert not (stored.folder / "out").exists()


def test_adapters_of_two_bases_are_refused(stored):
    from peft import LoraConfig

    base = llama(stored.folder / "second", seed=9)
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    stored("base", "add", "second", base)
    stored("push", adapter(stored.folder / "other", base, config), "--base", "second", "--name", "other")
    refused = stored("merge", "sql-lora@v1", "other@v1", "-o", "out", code=6)
    assert "adapters of several bases cannot be merged" in refused.err


def test_a_dry_run_tells_space_and_writes_nothing(stored):
    told = stored("merge", "sql-lora@v1=0.5", "-o", "out", "--dry-run").out
    assert "would merge 0.5 x default/sql-lora@v1" in told
    assert not (stored.folder / "out").exists()
    assert "no size" in stored("merge", "sql-lora@v1", "-o", "out", "--max-shard-size", "big", code=2).err
    assert "finite number" in stored("merge", "sql-lora@v1=much", "-o", "out", code=2).err


def test_a_version_on_a_quantised_base_is_merged_onto_what_its_weights_stand_for(cli, lora_folder):
    packed, floats = in_nf4(base_of(cli.folder / "original", "bfloat16"), cli.folder)
    cli("base", "add", "packed", packed)
    cli("push", lora_folder, "--base", "packed", "--name", "qlora")
    refused = cli("merge", "qlora@v1", "-o", "out", code=1)
    assert "--onto dequantized" in refused.err
    llama(cli.folder / "other", hidden_size=64)
    cli("merge", "qlora@v1", "-o", "out", "--onto", "dequantized", "--original", "other", code=6)
    assert not (cli.folder / "out").exists()
    asked = ("merge", "qlora@v1", "-o", "out", "--onto", "dequantized", "--original", "original", "--as", "whole")
    told = cli(*asked, "--json").json
    assert {each["kind"]: each["modules"] for each in told["apart"]} == {"q_proj": 2, "v_proj": 2}
    assert "merged into dequantized sha256:" in cli("base", "show", "whole").out
    theirs = logits(adapted(floats, lora_folder, dtype="float32"))
    assert torch.allclose(logits(loaded(cli.folder / "out")), theirs, atol=0.02)
