"""A name is served from one version on every replica, tested, or from what it was before."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapter_cli.deploy import _for_ever
from adapter_cli.main import adapters
from adapter_registry.client import Registry
from adapter_registry.domain.errors import (
    Conflict,
    IncompatibleBase,
    InvalidInput,
    InvalidReference,
    InvalidServing,
    StoreUnavailable,
    Unsupported,
)
from adapter_registry.serving import replicas
from adapter_registry.serving.fingerprint import Fingerprint, difference, rounded
from adapter_registry.serving.fleet_file import read_fleet
from adapter_registry.serving.spelling import plain
from tests.unit.serving.builders import experts
from tests.unit.serving.fake_servers import FakeSglang, FakeVllm
from tests.unit.serving.fleets import fleet_of


class TestDeploying:
    def test_every_replica_serves_it_from_a_folder_named_by_its_digest(self, fleet):
        assert fleet.deploy("team/sql@v1") == ["moved", "moved"]
        assert fleet.paths() == [fleet.path("team/sql@v1")] * 2

    def test_vllm_is_told_of_an_adapter_of_stacks_of_experts_and_of_no_other(self, registry, tmp_path):
        base, stacks = experts(tmp_path / "made")
        registry.add_base("experts", base)
        registry.push(stacks, base="experts", name="team/stacks")
        with fleet_of("vllm", registry, base, tmp_path) as fleet:
            assert fleet.deploy("team/stacks@v1") == ["moved", "moved"]
            fleet.one.forget()
            assert fleet.reconcile() == ["loaded again", "there"]
        loads = [body for path, body in fleet.one.asked if path == "/v1/load_lora_adapter"]
        assert [body.get("is_3d_lora_weight") for body in loads] == [True, True]

    def test_the_next_version_takes_its_place_and_the_folder_before_stays(self, fleet):
        fleet.deploy("team/sql@v1")
        assert fleet.deploy("team/sql@v2") == ["moved", "moved"]
        assert fleet.paths() == [fleet.path("team/sql@v2")] * 2
        assert Path(fleet.path("team/sql@v1")).is_dir()

    def test_what_is_there_is_tested_and_not_moved(self, fleet):
        fleet.deploy("team/sql@v1")
        assert not any("is_3d_lora_weight" in body for _, body in fleet.one.asked if body)
        fleet.one.asked.clear()
        assert fleet.deploy("team/sql@v1") == ["there", "there"]
        assert not [path for path, _ in fleet.one.asked if "load" in path]

    @pytest.mark.parametrize(("reference", "error"), [("team/sql@v3", IncompatibleBase), ("team/dora@v1", Unsupported)])
    def test_what_does_not_fit_is_refused_before_a_replica_is_asked_to_move(self, fleet, reference, error):
        with pytest.raises(error):
            fleet.deploy(reference)
        assert fleet.one.asked == []

    def test_a_base_that_is_no_folder_is_told_by_the_word_of_the_document(self, fleet):
        fleet.file.write_text(fleet.file.read_text().replace("base: ", "base: /nowhere"))
        with pytest.raises(InvalidInput, match="is no folder: `base` is the checkpoint folder"):
            fleet.deploy("team/sql@v1")

    def test_a_root_that_is_a_file_is_told(self, fleet):
        fleet.root.write_text("")
        with pytest.raises(StoreUnavailable, match="it has to be a folder that this user may write"):
            fleet.deploy("team/sql@v1")

    def test_a_full_disk_is_told_with_what_helps(self, fleet, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("adapter_registry.serving.deploy_record.write_whole", full)
        with pytest.raises(StoreUnavailable, match=r"cannot be written \(No space left on device\): make room there\."):
            fleet.deploy("team/sql@v1")
        assert fleet.paths() == [None, None]

    def test_a_replica_that_does_not_answer_stops_it_before_anything_moved(self, fleet):
        fleet.two.key = "changed"
        with pytest.raises(
            StoreUnavailable,
            match=r"answered 401 to /v1/models, and wants another key than it was sent\. Nothing was moved: mend that",
        ):
            fleet.deploy("team/sql@v1")
        assert fleet.one.loaded == {}

    def test_a_name_that_others_loaded_is_not_replaced(self, fleet):
        fleet.two.loaded["sql"] = "/somewhere/else"
        with pytest.raises(Conflict, match="which was not deployed from"):
            fleet.deploy("team/sql@v1")
        assert fleet.paths() == [None, "/somewhere/else"]

    def test_servers_may_see_the_folder_under_another_path(self, fleet):
        seen = fleet.root.parent / "seen"
        seen.symlink_to(fleet.root)
        fleet.file.write_text(fleet.file.read_text() + f"seen_as: {seen}/\n")
        assert fleet.deploy("team/sql@v1") == ["moved", "moved"]
        assert fleet.paths()[0].startswith(f"{seen}/.store/sha256-")

    def test_vllm_is_never_given_a_path_again_as_its_cache_is_by_name_and_path(self, fleet):
        for number in (1, 2, 1):
            fleet.deploy(f"team/sql@v{number}")
        fleet.two.ignores = True
        assert fleet.deploy("team/sql@v2") == ["restored", "restored"]
        given = [body["lora_path"] for path, body in fleet.one.asked if path.endswith("/load_lora_adapter")]
        assert len(set(given)) == (len(given) if isinstance(fleet.one, FakeVllm) else 2)
        assert len(given) == 5
        assert {Path(each).resolve().name for each in given} == {
            Path(fleet.path(f"team/sql@v{n}")).name for n in (1, 2)
        }


class TestPuttingBack:
    @pytest.mark.parametrize("before", [None, "team/sql@v1"])
    @pytest.mark.parametrize("trouble", ["refuses", "ignores"])
    def test_when_one_does_not_take_it_all_serve_what_they_served(self, fleet, before, trouble):
        if before:
            fleet.deploy(before)
        setattr(fleet.two, trouble, True)
        lines = fleet.deploying().deploy("team/sql@v2", "sql")
        # SGLang loads nothing in place: a server that refuses every load cannot take the old one back either.
        lost = trouble == "refuses" and before and isinstance(fleet.two, FakeSglang)
        assert [line.outcome for line in lines] == ["restored", "refused" if lost else "restored"]
        expected = fleet.path(before) if before else None
        assert fleet.paths() == [expected, None if lost else expected]
        assert fleet.status() == (["there", "missing" if lost else "there"] if before else [])
        assert {"refuses": "answered", "ignores": "has no effect"}[trouble] in lines[1].why

    def test_what_somebody_else_loads_meanwhile_is_left_alone(self, fleet, monkeypatch):
        answer = fleet.one.answer

        def meddling(method, path, body):
            if "load_lora" in path:
                fleet.two.loaded["sql"] = "/somewhere/else"
            return answer(method, path, body)

        monkeypatch.setattr(fleet.one, "answer", meddling)
        assert fleet.deploy("team/sql@v1") == ["restored", "refused"]
        assert fleet.paths() == [None, "/somewhere/else"]

    def test_a_deployment_that_was_cut_off_is_put_back_whole(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.deploy("team/sql@v2")
        fleet.deploy("team/sql@v1")
        fleet.one.put("sql", fleet.path("team/sql@v2"))
        fleet.two.ignores = True
        assert fleet.deploy("team/sql@v2") == ["restored", "restored"]
        assert fleet.paths() == [fleet.path("team/sql@v1")] * 2

    def test_replicas_after_the_one_that_failed_are_not_touched(self, fleet):
        fleet.one.refuses = True
        assert fleet.deploy("team/sql@v1") == ["restored", "untouched"]
        assert not [path for path, _ in fleet.two.asked if "load" in path]

    def test_a_replica_with_another_base_is_told_by_its_answer(self, fleet):
        fleet.two.weights = "other weights of the same shape"
        lines = fleet.deploying().deploy("team/sql@v1", "sql")
        assert [line.outcome for line in lines] == ["restored", "restored"]
        assert "the test prompt of its base: it answers the tokens" in lines[1].why
        assert fleet.paths() == [None, None]

    def test_what_was_answered_first_holds_until_new_answers_are_asked_for(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.one.weights = fleet.two.weights = "after an upgrade"
        assert fleet.deploy("team/sql@v1") == ["restored", "untouched"]
        assert fleet.deploy("team/sql@v1", anew=True) == ["there", "there"]
        assert fleet.deploy("team/sql@v1") == ["there", "there"]

    def test_answers_of_a_deployment_that_failed_are_not_kept(self, fleet):
        fleet.one.weights = "the wrong one"
        assert fleet.deploy("team/sql@v1") == ["restored", "restored"]
        fleet.one.weights = "base"
        assert fleet.deploy("team/sql@v1") == ["moved", "moved"]


class TestAttacks:
    """Servers that die, lie or answer nonsense, and people who deploy at once."""

    @pytest.mark.parametrize("name", ["../sql", "a/b", "base:sql", "", "a b", "sql--x"])
    def test_a_name_that_a_stack_would_read_as_something_else_is_refused(self, fleet, name):
        with pytest.raises(InvalidReference, match="say another with --to"):
            fleet.deploying().deploy("team/sql@v1", name)
        assert fleet.one.asked == []

    @pytest.mark.parametrize(
        "nonsense",
        [
            "<html>fine</html>",
            "[" * 100_000,
            [],
            {"choices": [], "meta_info": {}},
            {
                "choices": [{"logprobs": {"tokens": [], "token_logprobs": []}}],
                "meta_info": {"output_token_logprobs": []},
            },
            {
                "choices": [{"logprobs": {"tokens": ["token_id:1"], "token_logprobs": [float("nan")]}}],
                "meta_info": {"output_token_logprobs": [[float("nan"), 1, None]]},
            },
            {
                "choices": [{"logprobs": {"tokens": ["token_id:1"], "token_logprobs": [-0.1, -0.2]}}],
                "meta_info": {"output_token_logprobs": [["x", 1, None]]},
            },
        ],
        ids=["html", "deep", "list", "nothing", "no tokens", "no number", "uneven"],
    )
    def test_nonsense_for_an_answer_is_a_refusal(self, fleet, nonsense):
        fleet.two.says = {"/v1/completions": nonsense, "/generate": nonsense}
        lines = fleet.deploying().deploy("team/sql@v1", "sql")
        assert [line.outcome for line in lines] == ["restored", "restored"]
        assert "answered" in lines[1].why
        assert fleet.paths() == [None, None]

    @pytest.mark.parametrize("nonsense", ["", "null", "[" * 100_000, {"data": 7}, {"data": [7]}, {"data": [{}]}])
    def test_nonsense_for_what_is_served_is_silence(self, fleet, nonsense):
        fleet.two.says = {"/v1/models": nonsense}
        with pytest.raises(StoreUnavailable, match="does not say what it serves"):
            fleet.deploy("team/sql@v1")
        assert fleet.one.loaded == {}

    def test_an_address_that_goes_on_to_its_routes_is_told_where_to_end(self, fleet):
        text = fleet.file.read_text().replace(fleet.two.url, f"{fleet.two.url}/v1/")
        fleet.file.write_text(text)
        with pytest.raises(StoreUnavailable, match=r"404 to /v1/models: its address is to end before /v1\."):
            fleet.deploy("team/sql@v1")

    def test_a_key_that_is_wanted_and_not_named_is_told(self, fleet):
        fleet.file.write_text(fleet.file.read_text().replace("key_file", "# key_file"))
        with pytest.raises(StoreUnavailable, match="wants a key, and no key_file is named"):
            fleet.deploy("team/sql@v1")

    def test_an_answer_without_end_is_cut_off(self, fleet):
        fleet.two.says = {"/v1/models": "x" * (5 << 20)}
        with pytest.raises(StoreUnavailable, match=r"what it serves: its answer has more than [\d,]+ bytes"):
            fleet.deploy("team/sql@v1")

    def test_an_answer_whose_headers_trickle_is_cut_off(self, fleet, monkeypatch):
        monkeypatch.setattr(replicas, "SECONDS", 0.2)
        fleet.two.trickles_at = "/v1/models"
        with pytest.raises(StoreUnavailable, match=r"what it serves: its answer did not end within 0\.2 s"):
            fleet.deploy("team/sql@v1")

    def test_a_load_whose_answer_trickles_is_cut_off_and_all_are_put_back(self, fleet, monkeypatch):
        fleet.deploy("team/sql@v1")
        monkeypatch.setattr(replicas, "LOAD_SECONDS", 0.2)
        fleet.two.trickles_at = "/v1/completions" if isinstance(fleet.two, FakeVllm) else "/generate"
        lines = fleet.deploying().deploy("team/sql@v2", "sql")
        assert [line.outcome for line in lines] == ["restored", "restored"]
        assert "does not answer (its answer did not end within 0.2 s)" in lines[1].why
        assert fleet.paths() == [fleet.path("team/sql@v1")] * 2

    def test_a_load_that_only_says_it_was_done_is_a_refusal(self, fleet):
        fleet.two.says = {"/v1/load_lora_adapter": "Success", "/load_lora_adapter": {"success": True}}
        lines = fleet.deploying().deploy("team/sql@v1", "sql")
        assert [line.outcome for line in lines] == ["restored", "restored"]
        assert "took sql and serves it from nothing" in lines[1].why

    def test_a_replica_that_only_says_it_went_back_is_told(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.two.ignores = True
        answer = fleet.two.answer
        done = iter(["load"] if isinstance(fleet.two, FakeVllm) else ["unload", "load"])

        def lying(method, path, body):
            if "load_lora" in path and next(done, None) is None:
                return 200, {"success": True}
            return answer(method, path, body)

        fleet.two.answer = lying
        lines = fleet.deploying().deploy("team/sql@v2", "sql")
        assert [line.outcome for line in lines] == ["restored", "refused"]
        assert f"it serves sql from {fleet.path('team/sql@v2')} all the same" in lines[1].why

    def test_a_replica_that_dies_in_the_middle_leaves_the_others_as_they_were(self, fleet):
        fleet.deploy("team/sql@v1")
        answer = fleet.two.answer

        def dying(method, path, body):
            if "load_lora" in path:
                fleet.two.key = "of another process by now"
            return answer(method, path, body)

        fleet.two.answer = dying
        lines = fleet.deploying().deploy("team/sql@v2", "sql")
        assert [line.outcome for line in lines] == ["restored", "refused"]
        assert "it could not be put back" in lines[1].why
        assert fleet.paths()[0] == fleet.path("team/sql@v1")

    def test_two_who_deploy_from_one_root_do_not_meet(self, fleet):
        answer, met = fleet.one.answer, []

        def deploying_too(method, path, body):
            if "load_lora" in path and not met:
                met.append(path)
                with pytest.raises(Conflict, match="is being changed by another process"):
                    fleet.deploy("team/sql@v2")
            return answer(method, path, body)

        fleet.one.answer = deploying_too
        assert fleet.deploy("team/sql@v1") == ["moved", "moved"]
        assert met

    def test_who_deploys_from_another_root_is_told_and_left_alone(self, fleet):
        fleet.deploy("team/sql@v1")
        elsewhere = fleet.file.with_name("elsewhere.yaml")
        elsewhere.write_text(fleet.file.read_text().replace("/root\n", "/elsewhere\n"))
        other = replace(fleet, file=elsewhere)
        with pytest.raises(Conflict, match="was not deployed from"):
            other.deploy("team/sql@v2")
        assert fleet.status() == ["there", "there"]

    def test_one_version_under_two_names_is_two_things(self, fleet):
        fleet.deploy("team/sql@v1")
        assert [line.outcome for line in fleet.deploying().deploy("team/sql@v1", "chat")] == ["moved", "moved"]
        fleet.deploy("team/sql@v2")
        loaded = {name: plain(path) for name, path in fleet.one.loaded.items()}
        assert loaded == {"sql": fleet.path("team/sql@v2"), "chat": fleet.path("team/sql@v1")}

    def test_bytes_that_were_changed_in_the_store_are_not_deployed(self, fleet):
        fleet.deploy("team/sql@v1")
        weights = Path(fleet.path("team/sql@v1")) / "adapter_model.safetensors"
        weights.chmod(0o644)
        weights.write_bytes(b"another")
        with pytest.raises(StoreUnavailable, match="is not what team/sql@v1 says it is"):
            fleet.deploy("team/sql@v1")
        fleet.two.forget()
        assert fleet.reconcile() == ["there", "restored"]

    def test_a_key_of_two_lines_is_none(self, fleet):
        (fleet.file.parent / "key").write_text("one\ntwo\n")
        with pytest.raises(InvalidInput, match="more than one line"):
            fleet.deploying()


class TestSglang:
    @pytest.fixture
    def fleet(self, registry, llama_folder, tmp_path):
        (tmp_path / "admin").write_text("admin\n")
        with fleet_of("sglang", registry, llama_folder, tmp_path, f"admin_key_file: {tmp_path}/admin\n") as made:
            made.one.admin_key = made.two.admin_key = "admin"
            yield made

    def test_what_loads_takes_the_admin_key_and_what_serves_the_other(self, fleet):
        assert fleet.deploy("team/sql@v1") == ["moved", "moved"]

    def test_a_name_that_another_was_dropped_for_is_not_taken(self, fleet):
        fleet.two.most = 1
        fleet.deploy("team/sql@v1")
        lines = fleet.deploying().deploy("team/sql@v2", "chat")
        assert [line.outcome for line in lines] == ["restored", "restored"]
        assert "took chat and dropped sql for it" in lines[1].why
        assert fleet.reconcile() == ["there", "loaded again"]

    def test_a_load_that_one_of_its_processes_refused_is_cleared_away(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.two.refuses = fleet.two.half = True
        assert fleet.deploy("team/sql@v2") == ["restored", "refused"]
        fleet.two.refuses = False
        assert fleet.reconcile() == ["there", "loaded again"]
        assert fleet.paths() == [fleet.path("team/sql@v1")] * 2


class TestDrift:
    def test_a_replica_that_was_restarted_gets_it_back(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.two.forget()
        assert fleet.status() == ["there", "missing"]
        assert fleet.reconcile() == ["there", "loaded again"]
        assert fleet.paths() == [fleet.path("team/sql@v1")] * 2

    def test_that_needs_no_registry(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.two.forget()
        fleet.registry = Registry(replace(fleet.registry.settings, url="http://127.0.0.1:9", token="x"))
        assert fleet.reconcile() == ["there", "loaded again"]

    def test_what_others_loaded_is_told_and_left_alone(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.two.loaded["sql"] = "/somewhere/else"
        assert fleet.reconcile() == ["there", "drifted"]
        assert fleet.paths()[1] == "/somewhere/else"

    def test_a_replica_that_came_back_with_another_base_does_not_get_it(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.two.forget()
        fleet.two.weights = "another"
        assert fleet.reconcile() == ["there", "restored"]
        assert fleet.paths()[1] is None

    def test_a_replica_that_does_not_answer_is_told(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.two.key = "changed"
        assert fleet.reconcile() == ["there", "silent"]

    def test_what_came_of_each_replica_is_recorded(self, fleet):
        fleet.deploy("team/sql@v1")
        record = json.loads((fleet.root / ".adapters-deploy.json").read_text())
        assert record["last"][fleet.two.url] == {"sql": "moved"}
        assert record["names"]["sql"]["version"] == "team/sql@v1"

    def test_a_folder_that_is_synced_is_not_deployed_from(self, fleet):
        fleet.root.mkdir()
        (fleet.root / ".adapters-sync.json").write_text("{}")
        with pytest.raises(Conflict, match="which another command keeps"):
            fleet.deploy("team/sql@v1")


class TestFingerprint:
    @pytest.mark.parametrize(
        ("found", "told"),
        [
            (Fingerprint((1, 2), (-0.1, -0.24)), ""),
            (Fingerprint((1, 3), (-0.1, -0.2)), "the tokens"),
            (Fingerprint((1,), (-0.1,)), "the tokens"),
            (Fingerprint((1, 2), (-0.1, -0.26)), "token 2 has"),
        ],
    )
    def test_tokens_are_equal_and_their_probabilities_nearly(self, found, told):
        assert told in difference(Fingerprint((1, 2), (-0.1, -0.2)), found)
        assert bool(told) == bool(difference(Fingerprint((1, 2), (-0.1, -0.2)), found))

    def test_probabilities_are_kept_to_four_decimals(self):
        assert rounded([1], [-0.123456]).logprobs == (-0.1235,)


class TestCommand:
    @pytest.fixture
    def ran(self, fleet, environment, monkeypatch):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return lambda *arguments: CliRunner().invoke(adapters, ["deploy", *arguments, "--fleet", str(fleet.file)])

    def test_the_exit_code_says_whether_every_replica_serves_it(self, ran, fleet):
        assert (ran("team/sql@v1").exit_code, fleet.paths()[0]) == (0, fleet.path("team/sql@v1"))
        fleet.two.forget()
        told = ran("--status")
        assert (told.exit_code, "team/sql@v1 was deployed" in told.output) == (1, True), told.output
        assert ran("--reconcile", "-q").output.splitlines()[1] == f"{fleet.two.url} sql loaded again"

    def test_that_a_replica_forgot_is_news_each_time_and_that_all_is_well_once(self, fleet, capsys):
        fleet.deploy("team/sql@v1")
        looks, deploying = iter([fleet.two.forget, fleet.two.forget, lambda: None, None]), fleet.deploying()

        def wait(seconds):
            happens = next(looks)
            if happens is None:
                raise KeyboardInterrupt
            happens()

        with pytest.raises(KeyboardInterrupt):
            _for_ever(deploying.reconcile, wait, 1, as_json=False, quiet=True)
        there, again = f"{fleet.one.url} sql there", f"{fleet.two.url} sql loaded again"
        assert capsys.readouterr().out.splitlines() == [there, f"{fleet.two.url} sql there", again, again]

    @pytest.mark.parametrize(
        "arguments", [[], ["x@v1", "--status"], ["--status", "--to", "x"], ["x@v1", "--every", "5"]]
    )
    def test_options_that_say_nothing_together_are_refused(self, ran, arguments):
        assert ran(*arguments).exit_code == 2


class TestDocument:
    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("stack: tgi\nroot: /x\nbase: b\nreplicas: [http://a]", "1:8: stack: expected 'vllm'"),
            ("stack: vllm\nroot: /x\nbase: b\nreplicas: []", "4:11: replicas: expected 1 or more entries, found []"),
            ("stack: vllm\nroot: /x\nbase: b\nreplicas:\n- http://a\n- b", "6:3: replicas.1: expected the address"),
            ("stack: vllm\nroot: /x\nbase: b\nreplicas: ['http://[::1']", "4:12: replicas.0: expected the address"),
            ("stack: vllm\nroot: /x\nbase: b\nreplicas: ['http://a..b']", "4:12: replicas.0: expected the address"),
            ("stack: vllm\nroot: /x\nbase: b\nreplicas: ['http://a:99999']", "4:12: replicas.0: expected the address"),
            ("stack: vllm\nroot: /x\nbase: b\nreplica: [http://a]", "4:10: replica: expected a known key"),
            ("stack: vllm\nroot: ''\nbase: b\nreplicas: [http://a]", "2:7: root: expected a path, found ''"),
            ("stack: vllm\nroot: /x\nbase: ''\nreplicas: [http://a]", "3:7: base: expected 1 or more characters"),
            ("stack: vllm\nroot: /x\nbase: b", "1:1: replicas: expected a value for replicas, found nothing"),
            ("stack: [vllm\nroot: /x", "fleet.yaml:2:5: expected YAML, found"),
            ("stack: &a vllm\n", "line 1: expected no anchors and aliases"),
            ("[]", "expected a mapping"),
            ('stack = "tgi"\nroot = "/x"\nbase = "b"\nreplicas = ["http://a"]', "fleet.yaml: stack: expected 'vllm'"),
        ],
    )
    def test_what_is_wrong_is_told_with_its_place(self, text, told):
        with pytest.raises(InvalidServing, match="is not a fleet") as refused:
            read_fleet(text, "fleet.yaml")
        assert told in str(refused.value)
        assert {problem.code for problem in refused.value.problems} == {"serving-invalid"}
