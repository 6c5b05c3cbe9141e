"""`adapters export`: a version for a serving stack, as it is or flattened, in a folder or as a version of its own."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from adapter_cli.main import adapters
from adapter_registry.client import Registry
from adapter_registry.settings import read_settings
from tests.acceptance.conftest import Cli
from tests.adapter_builders import CONFIG, WEIGHTS
from tests.unit.tensors.test_compose import lora


@pytest.fixture(scope="module")
def folders(tmp_path_factory, llama_folder):
    made = tmp_path_factory.mktemp("export")
    mixed = {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 2}, "use_rslora": True}
    return {
        "stable": lora(llama_folder, made / "stable", **mixed),
        "plain": lora(llama_folder, made / "plain", target_modules=["q_proj"]),
    }


@pytest.fixture(scope="module")
def registry(tmp_path_factory, llama_folder, folders):
    """The command on a registry with one version of each."""
    folder = tmp_path_factory.mktemp("registry")
    cli = Cli(folder / "home", folder)
    there = Registry(read_settings(cli.environment))
    there.add_base("llama", llama_folder)
    for name, each in folders.items():
        there.push(each, base="llama", name=name)
    return cli


class TestExport:
    def test_a_version_is_written_as_it_is(self, registry, folders, tmp_path):
        told = registry("export", "plain@v1", "-o", tmp_path / "out")
        assert "default/plain@v1 as it is" in told.out
        assert (tmp_path / "out" / WEIGHTS).read_bytes() == (folders["plain"] / WEIGHTS).read_bytes()

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["--push"], "--push goes with --flatten"),
            (["--dtype", "float16", "-o", "x"], "--dtype goes with --flatten"),
            ([], "name the folder"),
            (["--flatten"], "name a folder to write (-o), or store a version (--push)"),
            (["--flatten", "-o", "x", "--name", "y"], "--name is the adapter of the version that --push stores"),
        ],
    )
    def test_options_that_say_nothing_together_are_refused(self, registry, arguments, told):
        ran = CliRunner().invoke(adapters, ["export", "plain@v1", *arguments], env=registry.environment)
        assert (ran.exit_code, told in ran.output) == (2, True), ran.output


class TestFlattened:
    def test_it_is_a_version_of_its_own_that_says_what_it_was_made_of(self, registry, tmp_path):
        arguments = ["export", "stable@v1", "--flatten", "--push", "--name", "stable-plain"]
        made = registry(*arguments, "-o", tmp_path / "out", "--json").json
        assert made["reference"] == "default/stable-plain@v1"
        assert 0 < made["error"] < 1e-6
        version = registry("show", "stable-plain@v1", "--json").json["version"]
        lineage = version["lineage"]
        assert (lineage["kind"], [p["adapter"] for p in lineage["parents"]]) == ("flatten", ["default/stable"])
        assert (version["description"]["variant"], version["description"]["ranks"]) == ([], {"4": 4})
        assert json.loads((tmp_path / "out" / CONFIG).read_bytes())["lora_alpha"] == 4
        again = registry(*arguments, "--json").json
        assert (again["created"], again["digest"]) == (False, made["digest"])

    def test_a_rank_may_be_said_that_a_stack_does_not_pad_itself(self, registry, tmp_path):
        out = tmp_path / "out"
        made = registry("export", "plain@v1", "--flatten", "--rank", "8", "-o", out, "--json").json
        assert made["error"] < 1e-6
        config = json.loads((out / CONFIG).read_bytes())
        assert (config["r"], config["lora_alpha"]) == (8, 8)

    @pytest.mark.parametrize("rank", ["3", "16385"])
    def test_a_rank_below_the_largest_or_beyond_measure_is_refused(self, registry, rank):
        ran = CliRunner().invoke(
            adapters, ["export", "plain@v1", "--flatten", "--rank", rank, "-o", "x"], env=registry.environment
        )
        assert str(ran.exception) == f"--rank is a whole number from 4, its largest, to 16384, not {rank}."

    def test_what_is_plain_already_stays_what_it_is(self, registry, folders, tmp_path):
        told = registry("export", "plain@v1", "--flatten", "--push", "-o", tmp_path / "out")
        assert "already default/plain@v1" in told.out
        assert "it is plain already" in told.err
        assert (tmp_path / "out" / WEIGHTS).read_bytes() == (folders["plain"] / WEIGHTS).read_bytes()

    def test_an_error_beyond_the_tolerance_leaves_nothing_behind(self, registry, tmp_path):
        arguments = ["--flatten", "--dtype", "bfloat16", "--tolerance", "0.00001", "-o", tmp_path / "out"]
        told = registry("export", "stable@v1", *arguments, code=1)
        assert "--dtype float32" in told.err
        assert list(tmp_path.iterdir()) == []


class TestServable:
    def test_what_was_pushed_decides(self, registry):
        there = Registry(read_settings(registry.environment))
        found = {each.stack: each.verdict for each in there.servable("stable@v1", "vllm:0.33,sglang")}
        assert found == {"vllm:0.33": "loads", "sglang:0.5": "loads after flattening"}

    @pytest.mark.parametrize(("stacks", "code"), [(["vllm"], 0), (["vllm", "sglang"], 3), ([], 0), (["vllm:9"], 2)])
    def test_a_named_stack_that_does_not_serve_it_is_told_by_the_exit_code(self, registry, stacks, code, monkeypatch):
        for name, value in registry.environment.items():
            monkeypatch.setenv(name, value)
        ran = CliRunner().invoke(adapters, ["servable", "stable@v1", *(f"--for={stack}" for stack in stacks)])
        if code == 2:
            assert "was not examined" in str(ran.exception)
            return
        assert ran.exit_code == code
        assert "--enable-lora --max-lora-rank 8" in ran.output
