"""`adapters compose`: versions made of versions, with their lineage."""

from __future__ import annotations

import pytest

from tests.adapter_builders import WEIGHTS, adapter, llama


def lora(folder, base, **options):
    from peft import LoraConfig

    return adapter(folder, base, LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, **options}))


@pytest.fixture(scope="module")
def folders(tmp_path_factory, llama_folder):
    """Adapters of one base."""
    made = tmp_path_factory.mktemp("compose")
    return {
        "sql": lora(made / "sql", llama_folder, target_modules=["q_proj", "v_proj"]),
        "chat": lora(made / "chat", llama_folder, target_modules=["q_proj"], r=2, use_rslora=True),
        "dora": lora(made / "dora", llama_folder, target_modules=["q_proj"], use_dora=True),
    }


@pytest.fixture
def registry(cli, llama_folder, folders):
    cli("base", "add", "llama", llama_folder)
    for name, folder in folders.items():
        cli("push", folder, "--base", "llama", "--name", name)
    return cli


class TestCompose:
    def test_the_result_is_a_version_that_says_what_it_is_made_of(self, registry, tmp_path):
        made = registry("compose", "sql@v1=0.7", "chat@v1=-0.3", "--method", "svd", "--name", "both", "--json").json
        assert made["reference"] == "default/both@v1"
        lineage = registry("show", "both@v1", "--json").json["version"]["lineage"]
        assert [(p["adapter"], p["number"], p["weight"]) for p in lineage["parents"]] == [
            ("default/sql", 1, 0.7),
            ("default/chat", 1, -0.3),
        ]
        assert (lineage["kind"], lineage["method"], lineage["dialect"]) == ("compose", "svd", "sum")
        assert {fit["name"] for fit in lineage["modules"]} == {
            f"model.layers.{i}.self_attn.{kind}" for i in (0, 1) for kind in ("q_proj", "v_proj")
        }
        assert 0 < lineage["error"] == made["error"] < 1
        shown = registry("show", "both@v1").out
        assert "default/sql@v1 x 0.7" in shown
        assert f"{lineage['error']:.3g} of the exact delta's norm" in shown
        pulled = registry("pull", "both@v1", "-o", tmp_path / "out", "--json").json
        assert pulled["version"]["digest"] == made["digest"]

    def test_the_same_recipe_is_the_same_version(self, registry):
        recipe = [
            "compose",
            "sql@v1=0.7",
            "chat@v1",
            "--method",
            "dare_ties:peft",
            "--density",
            "0.5",
            "--name",
            "both",
        ]
        first = registry(*recipe, "--json").json
        again = registry(*recipe, "--json").json
        assert first["created"]
        assert not again["created"]
        assert again["digest"] == first["digest"]
        other = registry(*recipe, "--seed", "1", "--json").json
        assert other["digest"] != first["digest"]

    def test_one_dora_at_weight_one_is_taken_over_as_it_is(self, registry, folders, tmp_path):
        registry("compose", "dora@v1", "--method", "linear", "-o", tmp_path / "out")
        assert (tmp_path / "out" / WEIGHTS).read_bytes() == (folders["dora"] / WEIGHTS).read_bytes()

    def test_a_dora_is_composed_with_the_bases_own_weights(self, registry):
        made = registry("compose", "dora@v1=0.5", "sql@v1", "--method", "linear", "--name", "both", "--json").json
        assert made["error"] > 0

    def test_a_dry_run_tells_the_error_and_stores_nothing(self, registry):
        told = registry("compose", "sql@v1", "chat@v1", "--method", "svd", "--rank", "1", "--dry-run").out
        assert "of the exact delta's norm" in told
        assert registry("show", "unnamed@v1", code=None).code != 0

    def test_auto_finds_the_rank_that_keeps_the_error(self, registry):
        options = ["--method", "linear", "--rank", "auto", "--tolerance", "0.05", "--dry-run", "--json"]
        made = registry("compose", "sql@v1", "chat@v1", *options).json
        assert all(fit["error"] <= 0.05 for fit in made["modules"])
        assert {fit["rank"] for fit in made["modules"]} != {6}

    @pytest.mark.parametrize(
        ("arguments", "code", "told"),
        [
            (["sql@v1=x", "--method", "svd"], 2, "is no weight"),
            (["sql@v1", "--method", "tise"], 2, "there is no method"),
            (["sql@v1", "chat@v1", "--method", "ties"], 2, "--density"),
            (["sql@v1", "chat@v1", "--method", "svd", "--density", "0.5"], 2, "takes no --density"),
            (["sql@v1=1", "chat@v1=2", "--method", "ties", "--density", "0.5"], 2, "Give equal weights"),
            (["sql@v1", "--method", "svd", "--rank", "auto"], 2, "--tolerance"),
            (["sql@v1", "--method", "svd", "--rank", "-3"], 2, "--rank is auto or"),
            (["sql@v1", "--method", "slerp"], 2, "slerp goes from one"),
            (["sql@v9", "--method", "svd"], 1, "sql"),
        ],
    )
    def test_what_cannot_be_is_said_before_anything_is_made(self, registry, arguments, code, told):
        failed = registry("compose", *arguments, "--name", "both", code=code)
        assert told in failed.err
        assert registry("ls", "both", code=None).code != 0


class TestBases:
    @pytest.fixture
    def two_bases(self, registry, tmp_path):
        other = llama(tmp_path / "other", seed=3)
        registry("base", "add", "other", other)
        registry("push", lora(tmp_path / "lora", other, target_modules=["q_proj"]), "--base", "other", "--name", "far")
        return registry

    def test_versions_of_different_bases_are_refused(self, two_bases):
        failed = two_bases("compose", "sql@v1", "far@v1", "--method", "svd", "--name", "both", code=6)
        assert "different bases" in failed.err

    def test_bases_declared_equivalent_take_the_flag(self, two_bases):
        two_bases("base", "equivalent", "llama", "other", "--because", "a copy")
        compose = ["compose", "sql@v1", "far@v1", "--method", "svd", "--name", "both"]
        assert "--equivalent" in two_bases(*compose, code=6).err
        made = two_bases(*compose, "--equivalent", "--json").json
        assert made["reference"] == "default/both@v1"


class TestExtract:
    def test_a_fine_tune_becomes_a_version(self, registry, llama_folder, tmp_path):
        from tests.unit.tensors.test_extract import low_rank, tuned

        fine = tuned(llama_folder, tmp_path / "fine", low_rank(3, ["q_proj", "down_proj"]))
        extract = ["extract", fine, "--base", "llama", "--rank", "3", "--name", "tuned"]
        made = registry(*extract, "--json").json
        assert made["error"] < 1e-5
        lineage = registry("show", made["reference"], "--json").json["version"]["lineage"]
        assert lineage["options"]["checkpoint"].startswith("sha256:")
        assert "already" in registry(*extract).out

    def test_a_base_alone_is_nothing_to_extract(self, registry, llama_folder):
        failed = registry("extract", llama_folder, "--base", "llama", "--rank", "3", "--name", "tuned", code=2)
        assert "nothing to extract" in failed.err
