"""The life of an adapter, from the command line, as a new user lives it."""

from __future__ import annotations

import os
import sqlite3
import stat

import pytest

from tests.adapter_builders import WEIGHTS, adapter, changed_config, changed_tensors, copied, llama


@pytest.fixture
def registry(cli, llama_folder, lora_folder):
    """A registry with one base and one version."""
    cli("base", "add", "llama", llama_folder)
    cli("push", lora_folder, "--base", "llama", "--name", "sql-lora", "-m", "first")
    return cli


def retrained(source, target, factor):
    """Other weights of the same shape."""
    copied(source, target)
    changed_tensors(target, lambda tensors: [tensor.mul_(factor) for tensor in tensors.values()])
    return target


class TestBase:
    def test_a_base_is_added_named_and_found_by_prefix(self, cli, llama_folder):
        added = cli("base", "add", "llama", llama_folder, "--json").json
        digest = added["base"]["base"]["digest"]
        assert added["outcome"] == "added"
        assert cli("base", "add", "llama", llama_folder, "--json").json["outcome"] == "already"
        assert cli("base", "add", "llama-2", llama_folder, "--json").json["outcome"] == "named"
        shown = cli("base", "show", f"llama@{digest[7:14]}", "--json").json
        assert shown["registered"]["base"]["digest"] == digest
        assert {file["path"] for file in shown["registered"]["base"]["files"]} == {"model.safetensors"}

    def test_the_same_tensors_in_other_shards_are_the_same_base(self, cli, llama_folder, tmp_path):
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(llama_folder)
        model.save_pretrained(tmp_path / "shards", max_shard_size="20kB")
        first = cli("base", "add", "llama", llama_folder, "--json").json
        second = cli("base", "add", "llama", tmp_path / "shards", "--json").json
        assert second["outcome"] == "already"
        assert second["resharded"]
        assert second["base"]["base"]["digest"] == first["base"]["base"]["digest"]

    def test_an_ambiguous_name_lists_the_candidates(self, cli, llama_folder, tmp_path):
        cli("base", "add", "llama", llama_folder)
        cli("base", "add", "llama", llama(tmp_path / "other", seed=7))
        failed = cli("base", "show", "llama", code=2)
        assert failed.err.count("llama@") >= 2

    @pytest.mark.parametrize("prefix", ["", "abc", "zzzzzzz", "0000000"])
    def test_a_wrong_prefix_says_what_there_is(self, registry, prefix):
        failed = registry("base", "show", f"llama@{prefix}", code=None)
        assert failed.code in (1, 2)
        assert "llama" in failed.err

    def test_a_quantised_copy_is_declared_and_every_load_says_so(self, registry, llama_folder, tmp_path):
        other = llama(tmp_path / "other", seed=5)
        refused = registry("pull", "sql-lora@v1", "-o", tmp_path / "out", "--base", other, code=6)
        assert "structural" in refused.err
        registry("base", "add", "llama-nf4", other)
        registry("base", "equivalent", "llama", "llama-nf4", "--because", "NF4 copy of it")
        pulled = registry("pull", "sql-lora@v1", "-o", tmp_path / "out", "--base", other)
        assert "declared equivalent by ann" in pulled.out


class TestPush:
    def test_versions_count_up_and_the_rule_labels_them(self, registry, lora_folder, llama_folder, tmp_path):
        import peft

        registry("push", retrained(lora_folder, tmp_path / "b", 2.0), "--base", "llama", "--name", "sql-lora")
        config = peft.LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["q_proj"])
        registry("push", adapter(tmp_path / "c", llama_folder, config), "--base", "llama", "--name", "sql-lora")
        versions = registry("ls", "sql-lora", "--json").json
        assert [(v["number"], v["semver"]) for v in versions] == [(3, "1.1.0"), (2, "1.0.1"), (1, "1.0.0")]

    def test_the_same_bytes_on_the_same_base_are_the_same_version(self, registry, lora_folder):
        again = registry("push", lora_folder, "--base", "llama", "--name", "sql-lora")
        assert again.out.startswith("already v1")

    def test_the_name_is_remembered_for_the_folder_it_was_pushed_from(self, registry, lora_folder):
        assert registry("push", lora_folder, "--base", "llama").out.startswith("already v1: default/sql-lora@v1")

    def test_a_pulled_folder_pushed_again_is_the_same_version(self, registry, tmp_path):
        registry("pull", "sql-lora@v1", "-o", tmp_path / "out")
        again = registry("push", tmp_path / "out", "--base", "llama", "--name", "sql-lora")
        assert again.out.startswith("already v1")

    def test_a_label_is_chosen_bumped_and_never_reused(self, registry, lora_folder, tmp_path):
        push = ("--base", "llama", "--name", "sql-lora")
        registry("push", retrained(lora_folder, tmp_path / "b", 2.0), *push, "--bump", "major")
        registry("push", retrained(lora_folder, tmp_path / "c", 3.0), *push, "--version", "4.2.0")
        refused = registry("push", retrained(lora_folder, tmp_path / "d", 4.0), *push, "--version", "4.2.0", code=1)
        assert "never reused" in refused.err
        assert registry("resolve", "sql-lora@^2", "--json").json["number"] == 2
        assert registry("resolve", "sql-lora@4.x", "--json").json["number"] == 3

    def test_a_refused_push_stores_nothing_and_check_agrees(self, registry, lora_folder, tmp_path):
        folder = copied(lora_folder, tmp_path / "bad")
        changed_config(folder, r=16)
        refused = registry("push", folder, "--base", "llama", "--name", "sql-lora", code=7)
        assert "rank-mismatch" in refused.err
        checked = registry("check", folder, "--base", "llama", "--json", code=7).json
        assert not checked["accepted"]
        assert {p["code"] for p in checked["examination"]["problems"]} == {"rank-mismatch"}
        assert len(registry("ls", "sql-lora", "--json").json) == 1

    def test_problems_of_files_and_of_their_contents_are_told_together(self, registry, lora_folder, tmp_path):
        folder = copied(lora_folder, tmp_path / "bad")
        changed_config(folder, r=16)
        (folder / "modeling.py").write_text("import os")
        checked = registry("check", folder, "--base", "llama", "--json", code=7).json
        assert {p["code"] for p in checked["examination"]["problems"]} == {"rank-mismatch", "code-file"}
        refused = registry("push", folder, "--base", "llama", "--name", "sql-lora", code=7)
        assert "code-file" in refused.err
        assert "rank-mismatch" in refused.err

    def test_errors_are_json_when_json_was_asked_for(self, registry, lora_folder, tmp_path):
        folder = copied(lora_folder, tmp_path / "bad")
        changed_config(folder, r=16)
        error = registry("push", folder, "--base", "llama", "--name", "sql-lora", "--json", code=7).json["error"]
        assert error["code"] == "push-refused"
        assert error["problems"][0]["fix"]

    def test_a_name_that_differs_only_in_case_is_refused(self, registry, lora_folder, tmp_path):
        other = retrained(lora_folder, tmp_path / "b", 2.0)
        assert "upper and lower case" in registry("push", other, "--base", "llama", "--name", "SQL-lora", code=1).err

    def test_a_pickled_adapter_is_refused_with_the_command_that_converts_it(self, registry, lora_folder, tmp_path):
        import torch
        from safetensors.torch import load_file

        folder = copied(lora_folder, tmp_path / "pickled")
        torch.save(load_file(folder / WEIGHTS), folder / "adapter_model.bin")
        (folder / WEIGHTS).unlink()
        refused = registry("push", folder, "--base", "llama", "--name", "sql-lora", code=7)
        assert "adapters convert" in refused.err
        registry("convert", folder, "-o", tmp_path / "converted")
        checked = registry("check", tmp_path / "converted", "--base", "llama", "--json").json
        assert checked["accepted"]

    def test_a_pickle_that_would_run_code_is_not_run(self, registry, lora_folder, tmp_path):
        import pickle

        class Payload:
            def __reduce__(self):
                return os.system, (f"touch {tmp_path / 'owned'}",)

        folder = copied(lora_folder, tmp_path / "pickled")
        (folder / WEIGHTS).unlink()
        (folder / "adapter_model.bin").write_bytes(pickle.dumps(Payload()))
        refused = registry("convert", folder, "-o", tmp_path / "converted", code=2)
        assert "weights-only loading" in refused.err
        assert not (tmp_path / "owned").exists()
        assert not (tmp_path / "converted").exists()


class TestNames:
    def test_a_bare_version_is_of_the_adapter_in_use(self, registry):
        assert registry("resolve", "v1", "-q").out == registry("resolve", "sql-lora@v1", "-q").out
        assert registry("use").out.strip() == "default/sql-lora"

    def test_a_tag_moves_and_can_never_be_a_stage(self, registry):
        registry("tag", "v1", "candidate")
        assert registry("resolve", "sql-lora@candidate", "--json").json["tags"] == ["candidate"]
        assert "adapters promote" in registry("tag", "v1", "prod", code=2).err
        registry("tag", "--delete", "sql-lora", "candidate")
        assert registry("resolve", "sql-lora@candidate", code=1).err

    def test_labels_are_set_and_removed(self, registry):
        registry("label", "v1", "license=mit", "draft=yes")
        registry("label", "v1", "draft-")
        assert registry("show", "v1", "--json").json["version"]["labels"] == {"license": "mit"}

    def test_a_version_is_removed_only_by_its_exact_name_and_only_when_nothing_points_at_it(
        self, registry, lora_folder, tmp_path
    ):
        registry("tag", "v1", "candidate")
        assert "exact version" in registry("rm", "-y", "sql-lora@candidate", code=2).err
        assert "tag candidate" in registry("rm", "-y", "sql-lora@v1", code=1).err
        registry("tag", "--delete", "sql-lora", "candidate")
        registry("rm", "-y", "sql-lora@v1")
        assert registry("show", "sql-lora@v1", code=1)
        registry("push", retrained(lora_folder, tmp_path / "b", 2.0), "--base", "llama", "--name", "sql-lora")
        assert registry("ls", "sql-lora", "--json").json[0]["number"] == 2
        assert registry("admin", "collect", "--grace", "0", "--json").json["blobs"] >= 1
        registry("admin", "check", "--read-data")


class TestPromote:
    @pytest.fixture
    def two(self, registry, lora_folder, tmp_path):
        registry("push", retrained(lora_folder, tmp_path / "b", 2.0), "--base", "llama", "--name", "sql-lora")
        return registry

    def score(self, cli, reference, value):
        cli("score", "add", reference, "--metric", "sql/acc", "--value", value, "--n", 1000)

    def test_a_version_without_scores_waits_and_says_what_to_do(self, two):
        waiting = two("promote", "v1", "prod", code=4)
        assert "score" in waiting.err
        assert two("history", "sql-lora", "prod", "--json").json["moves"] == []

    def test_better_is_promoted_worse_is_refused_and_noise_is_undecided(self, two, lora_folder, tmp_path):
        two("push", retrained(lora_folder, tmp_path / "c", 3.0), "--base", "llama", "--name", "sql-lora")
        self.score(two, "v1", 0.80)
        self.score(two, "v2", 0.60)
        self.score(two, "v3", 0.79)
        two("promote", "v1", "prod")
        assert "worse" in two("promote", "v2", "prod", code=3).out
        assert "INCONCLUSIVE" in two("promote", "v3", "prod", code=5).out
        assert two("resolve", "sql-lora@prod", "--json").json["number"] == 1

    def test_explain_judges_and_moves_nothing(self, two):
        self.score(two, "v1", 0.8)
        explained = two("promote", "v1", "prod", "--explain", "--json").json
        assert (explained["outcome"], explained["moved"]) == ("promote", False)
        assert two("resolve", "sql-lora@prod", code=1)

    def test_an_adapter_that_changes_nothing_is_stored_and_not_promoted(self, registry, llama_folder, tmp_path):
        import peft

        config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
        fresh = adapter(tmp_path / "fresh", llama_folder, config, fresh=True)
        assert "changes nothing" in registry("push", fresh, "--base", "llama", "--name", "fresh").err
        registry("score", "add", "fresh@v1", "--metric", "x/acc", "--value", 1, "--n", 9)
        assert "health" in registry("promote", "fresh@v1", "staging", code=3).out

    def test_rollback_goes_back_and_history_remembers_everything(self, two):
        self.score(two, "v1", 0.5)
        self.score(two, "v2", 0.8)
        two("promote", "v1", "prod")
        two("promote", "v2", "prod", "--reason", "better")
        between = two("history", "sql-lora", "prod", "--json").json["moves"][0]["at"]
        two("rollback", "sql-lora", "prod", "--reason", "wrong joins")
        assert two("resolve", "sql-lora@prod", "--json").json["number"] == 1
        then = two("history", "sql-lora", "prod", "--at", between, "--json").json
        assert then["pointing"] == {"prod": 2}
        attempts = two("history", "sql-lora", "--all", "--json").json
        assert [e["entry"]["action"] for e in attempts].count("promote") == 2
        assert attempts[-1]["entry"]["action"] == "rollback"

    def test_refusals_are_recorded_with_their_blockers(self, two):
        two("promote", "v1", "prod", code=4)
        last = two("history", "sql-lora", "--all", "--json").json[-1]["entry"]
        assert last["outcome"] == "refused"
        assert last["detail"]["blockers"]

    def test_a_policy_is_owned_by_the_stage_and_kept_by_revision(self, two, tmp_path):
        policy = tmp_path / "policy.yaml"
        policy.write_text(
            "apiVersion: adapters/v1\nkind: StagePolicy\nstage: staging\nrequire:\n"
            "  metadata: [license]\n  evals:\n  - {metric: sql/acc, min: 0.7}\n"
        )
        two("policy", "set", "staging", policy)
        self.score(two, "v1", 0.6)
        refused = two("promote", "v1", "staging", code=3).out
        assert "license" in refused
        assert "0.7" in refused
        two("label", "v1", "license=mit")
        self.score(two, "v1", 0.75)
        two("promote", "v1", "staging")
        assert two("policy", "show", "staging", "--json").json["revision"] == 1
        assert two("policy", "set", "prod", policy, code=2).err

    @pytest.mark.parametrize("stage", ["production", "", "../x", "latest"])
    def test_a_stage_that_does_not_exist_is_told_with_those_that_do(self, registry, stage):
        assert "dev, staging, prod" in registry("promote", "v1", stage, code=2).err


class TestPull:
    def test_the_files_are_the_ones_that_were_pushed(self, registry, lora_folder, tmp_path):
        registry("pull", "sql-lora@v1", "-o", tmp_path / "out")
        for path in lora_folder.iterdir():
            assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()

    def test_peft_loads_it_and_the_logits_are_the_trained_models(self, registry, lora_folder, llama_folder, tmp_path):
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        registry("pull", "sql-lora@v1", "-o", tmp_path / "out", "--base", llama_folder)
        tokens = torch.arange(12).reshape(1, 12)
        logits = []
        for folder in (lora_folder, tmp_path / "out"):
            model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama_folder), folder).eval()
            with torch.no_grad():
                logits.append(model(tokens).logits)
        assert torch.equal(*logits)

    def test_another_base_is_refused_with_the_differences_and_nothing_is_written(self, registry, tmp_path):
        for name, changes, fragment in (
            ("seed", {"seed": 3}, "tensors with equal bytes"),
            ("wider", {"hidden_size": 64}, "incompatible"),
            ("deeper", {"num_hidden_layers": 3}, "absent"),
        ):
            other = llama(tmp_path / name, **changes)
            refused = registry("pull", "sql-lora@v1", "-o", tmp_path / "out", "--base", other, code=6)
            assert fragment in refused.err
            assert not (tmp_path / "out").exists()

    def test_a_spot_check_tells_another_checkpoint_of_the_same_shape(self, registry, llama_folder, tmp_path):
        other = llama(tmp_path / "other", seed=3)
        registry("pull", "sql-lora@v1", "-o", tmp_path / "out", "--base", other, "--spot", code=6)
        spotted = registry("pull", "sql-lora@v1", "-o", tmp_path / "out", "--base", llama_folder, "--spot")
        assert "spot check" in spotted.out

    def test_what_lies_in_the_way_is_never_overwritten(self, registry, lora_folder, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("years of work")
        registry("pull", "sql-lora@v1", "-o", tmp_path / "mine", "--force", code=1)
        assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
        registry("push", retrained(lora_folder, tmp_path / "b", 2.0), "--base", "llama", "--name", "sql-lora")
        registry("pull", "sql-lora@v1", "-o", tmp_path / "out")
        assert "--force" in registry("pull", "sql-lora@v2", "-o", tmp_path / "out", code=1).err
        registry("pull", "sql-lora@v2", "-o", tmp_path / "out", "--force")

    def test_damaged_bytes_are_never_handed_out_and_pushing_again_heals_them(self, registry, lora_folder, tmp_path):
        blobs = [path for path in (registry.home / "blobs" / "sha256").rglob("*") if path.is_file()]
        largest = max(blobs, key=lambda path: path.stat().st_size)
        largest.chmod(stat.S_IRUSR | stat.S_IWUSR)
        data = bytearray(largest.read_bytes())
        data[-1] ^= 1
        largest.write_bytes(data)
        registry("pull", "sql-lora@v1", "-o", tmp_path / "out", code=7)
        assert not (tmp_path / "out").exists()
        assert "sql-lora@v1" in registry("admin", "check", "--read-data", code=7).out
        registry("push", lora_folder, "--base", "llama", "--name", "sql-lora")
        registry("admin", "check", "--read-data")
        registry("pull", "sql-lora@v1", "-o", tmp_path / "out")


class TestStore:
    def test_a_changed_audit_log_is_found(self, registry):
        with sqlite3.connect(registry.home / "registry.db") as database:
            database.execute("UPDATE events SET entry = replace(entry, 'ann', 'eve') WHERE sequence = 1")
        database.close()
        assert "audit log" in registry("admin", "check", code=7).out

    def test_a_store_of_a_newer_version_is_refused_unchanged(self, registry):
        with sqlite3.connect(registry.home / "registry.db") as database:
            database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.close()
        assert "newer adapter-registry" in registry("ls", code=1).err

    def test_a_home_that_cannot_be_made_is_told(self, cli, tmp_path):
        cli.home.write_text("a file where the folder should be")
        assert "ADAPTERS_HOME" in cli("ls", code=1).err

    def test_a_database_that_is_none_is_told(self, cli):
        cli.home.mkdir()
        (cli.home / "registry.db").write_bytes(b"not a database" * 100)
        assert cli("ls", code=1).err
