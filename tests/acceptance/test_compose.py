"""`adapters compose`: versions made of versions, with their lineage."""

from __future__ import annotations

import json

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.errors import NotFound
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs.compose import Compose
from adapter_registry.jobs.kind import INPUTS, OUT
from adapter_registry.settings import read_settings
from tests.acceptance.conftest import Cli
from tests.acceptance.hub.conftest import hub  # noqa: F401  the fixture
from tests.acceptance.test_rights import ask
from tests.adapter_builders import WEIGHTS, adapter, llama


def lora(folder, base, **options):
    from peft import LoraConfig

    return adapter(folder, base, LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, **options}))


def ia3():
    from peft import IA3Config

    return IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory, llama_folder):
    """Adapters of one base."""
    made = tmp_path_factory.mktemp("compose")
    return {
        "sql": lora(made / "sql", llama_folder, target_modules=["q_proj", "v_proj"]),
        "chat": lora(made / "chat", llama_folder, target_modules=["q_proj"], r=2, use_rslora=True),
        "ia3": adapter(made / "ia3", llama_folder, ia3()),
        "dora": lora(made / "dora", llama_folder, target_modules=["q_proj"], use_dora=True),
    }


@pytest.fixture(scope="module")
def registry(tmp_path_factory, llama_folder, folders):
    """The command on a registry with one version of each; every test composes into a name of its own."""
    folder = tmp_path_factory.mktemp("registry")
    cli = Cli(folder / "home", folder)
    there = Registry(read_settings(cli.environment))
    there.add_base("llama", llama_folder)
    for name, each in folders.items():
        there.push(each, base="llama", name=name)
    return cli


class TestCompose:
    def test_the_result_is_a_version_that_says_what_it_is_made_of(self, registry, tmp_path):
        made = registry("compose", "sql@v1=0.7", "chat@v1=-0.3", "--method", "svd", "--name", "said", "--json").json
        assert made["reference"] == "default/said@v1"
        lineage = registry("show", "said@v1", "--json").json["version"]["lineage"]
        assert [(p["adapter"], p["number"], p["weight"]) for p in lineage["parents"]] == [
            ("default/sql", 1, 0.7),
            ("default/chat", 1, -0.3),
        ]
        assert (lineage["kind"], lineage["method"], lineage["dialect"]) == ("compose", "svd", "sum")
        assert {fit["name"] for fit in lineage["modules"]} == {
            f"model.layers.{i}.self_attn.{kind}" for i in (0, 1) for kind in ("q_proj", "v_proj")
        }
        assert 0 < lineage["error"] == made["error"] < 1
        shown = registry("show", "said@v1").out
        assert "default/sql@v1 x 0.7" in shown
        assert f"{lineage['error']:.3g} of the exact delta's norm" in shown
        pulled = registry("pull", "said@v1", "-o", tmp_path / "out", "--json").json
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
        made = registry("compose", "dora@v1=0.5", "sql@v1", "--method", "linear", "--name", "of-dora", "--json").json
        assert made["error"] > 0

    def test_versions_of_ia3_are_composed_without_an_error(self, registry):
        made = registry("compose", "ia3@v1=0.5", "ia3@v1=0.25", "--method", "linear", "--name", "calm", "--json").json
        assert (made["reference"], made["error"]) == ("default/calm@v1", 0)
        assert registry("show", "calm@v1", "--json").json["version"]["description"]["peft_type"] == "IA3"

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
            (["sql@v1", "chat@v1", "--method", "ties", "--density", "0.5", "--normalise"], 2, "takes no --normalise"),
            (["sql@v1", "--method", "svd", "--rank", "4", "--one-rank"], 2, "--one-rank is for"),
            (["sql@v1=1", "chat@v1=2", "--method", "ties", "--density", "0.5"], 2, "Give equal weights"),
            (["sql@v1", "--method", "svd", "--rank", "auto"], 2, "--tolerance"),
            (["sql@v1", "--method", "svd", "--rank", "-3"], 2, "--rank is auto or"),
            (["sql@v1", "--method", "slerp"], 2, "slerp goes from one"),
            (["sql@v9", "--method", "svd"], 1, "sql"),
            (["ia3@v1", "--method", "ties", "--density", "0.5"], 1, "Take --method linear"),
            (["ia3@v1", "--method", "linear", "--rank", "3"], 2, "have no rank"),
            (["ia3@v1", "sql@v1", "--method", "linear"], 1, "one method for all"),
            (["sql@v1", "chat@v1", "--method", "slerp", "--device", "cuda", "--submit"], 2, "leave --device out"),
            (["sql@v1", "chat@v1", "--method", "ties", "--device", "gpu"], 2, "'gpu' is not one of 'cpu', 'cuda'"),
        ],
    )
    def test_what_cannot_be_is_said_before_anything_is_made(self, registry, arguments, code, told):
        failed = registry("compose", *arguments, "--name", "refused", code=code)
        assert told in failed.err
        with pytest.raises(NotFound):
            Registry(read_settings(registry.environment)).versions("refused")


@pytest.fixture(scope="module")
def two_bases(registry, tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    there = Registry(read_settings(registry.environment))
    other = llama(folder / "other", seed=3)
    there.add_base("other", other)
    there.push(lora(folder / "lora", other, target_modules=["q_proj"]), base="other", name="far")
    return registry


class TestBases:
    def test_versions_of_different_bases_are_refused(self, two_bases):
        failed = two_bases("compose", "sql@v1", "far@v1", "--method", "svd", "--name", "across", code=6)
        assert "different bases" in failed.err

    def test_bases_declared_equivalent_take_the_flag(self, two_bases):
        two_bases("base", "equivalent", "llama", "other", "--because", "a copy")
        compose = ["compose", "sql@v1", "far@v1", "--method", "svd", "--name", "across"]
        assert "--equivalent" in two_bases(*compose, code=6).err
        made = two_bases(*compose, "--equivalent", "--json").json
        assert made["reference"] == "default/across@v1"


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


class TestServer:
    def test_a_worker_makes_a_version_of_a_servers_versions(self, hub, folders, tmp_path):  # noqa: F811
        registry, kind = hub.registry, Compose()
        registry.push(folders["chat"], base="org/llama", name="team/chat")
        inputs = (Ingredient("team/sql-lora@prod"), Ingredient("team/chat@v1", 0.5))
        recipe = kind.check(registry, Recipe("compose", inputs, options={"method": "svd"}, into="team/both"))
        assert recipe.inputs[0].reference == f"team/sql-lora@{registry.resolve('team/sql-lora@v1').digest}"
        for name in (INPUTS, OUT):
            (tmp_path / name).mkdir()
        kind.gather(registry, recipe, tmp_path)
        told = []
        outcome = kind.compute(recipe, tmp_path, told.append)
        assert told[-1].fraction == 1
        first = kind.publish(registry, recipe, tmp_path, json.loads(json.dumps(outcome)))
        again = kind.publish(registry, recipe, tmp_path, outcome)
        assert (first["created"], again["created"], again["digest"]) == (True, False, first["digest"])
        version = registry.resolve("team/both@v1")
        assert [parent.reference for parent in version.lineage.parents] == ["team/sql-lora@v1", "team/chat@v1"]
        assert registry.pull("team/both@v1", tmp_path / "pulled").version == version

    def test_nothing_is_made_of_what_one_may_not_read(self, hub):  # noqa: F811
        parent = hub.registry.resolve("team/sql-lora@v1")
        lineage = {
            **{name: "" for name in ("kind", "method", "dialect", "device")},
            "parents": [{"adapter": parent.adapter, "number": 1, "digest": parent.digest, "weight": 1.0}],
            "options": {},
            "libraries": {},
            "modules": [],
            "seed": 0,
            "error": 0.0,
        }
        body = json.dumps({"base": "org/llama", "files": [], "lineage": lineage})
        stranger = hub.token_of("compose-stranger", ("other/*", "maintainer"))
        status, told = ask(hub, "POST", "/api/v1/adapters/other/x/versions", stranger, body)
        assert (status, b"there is no version team/sql-lora@v1" in told) == (404, True)
        status, told = ask(hub, "POST", "/api/v1/adapters/other/x/versions", hub.token, body)
        assert b"there is no version" not in told
