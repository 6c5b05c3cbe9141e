"""Folders that serving stacks read: one a version, links to bytes named by digest, none that is in use removed."""

from __future__ import annotations

import json
import os
import signal
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapter_cli.main import adapters
from adapter_registry.client import Registry
from adapter_registry.domain.errors import Conflict, InvalidInput, InvalidServing
from adapter_registry.serving import digest_folders, syncing
from adapter_registry.serving.sync_file import read_targets, target_of
from adapter_registry.serving.syncing import Syncing
from tests.adapter_builders import CONFIG, WEIGHTS
from tests.unit.serving.builders import experts
from tests.unit.serving.fake_servers import FakeVllm, running

MODEL = "org/llama"
DAY = 86_400


@dataclass
class Kept:
    """A root that is synced with a tag as what it follows."""

    registry: Registry
    root: Path
    base: str
    now: float = 1_000_000.0

    def step(self, reference="team/sql@v1", name="sql", **more):
        options = {"root": str(self.root), "layout": "vllm", "base": self.base, "model": MODEL, **more}
        target = target_of({**options, "serve": {name: reference}})
        return Syncing(target, self.registry, clock=lambda: self.now).step()

    def folders(self):
        return sorted(path.name for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("."))

    def stored(self):
        return sorted(path for path in (self.root / ".store").iterdir() if path.is_dir())


@pytest.fixture
def kept(registry, llama_folder, tmp_path):
    return Kept(registry, tmp_path / "root", str(llama_folder))


class TestPlacing:
    @pytest.mark.parametrize("layout", ["vllm", "nim", "ray", "tgi", "lorax"])
    def test_a_version_is_a_plain_read_only_folder_of_links_into_the_store(self, kept, layout):
        model = None if layout == "lorax" else MODEL
        [line] = kept.step("team/eight@v1", layout=layout, model=model)
        folder, [stored] = kept.root / "sql-v1", kept.stored()
        assert (line.outcome, line.folder) == ("placed", "sql-v1")
        assert stored.name == line.entry.exported.replace(":", "-")
        for name in (CONFIG, WEIGHTS):
            assert (folder / name).samefile(stored / name)
        modes = [path.stat().st_mode for path in (folder, stored, folder / CONFIG)]
        assert {stat.S_IMODE(mode) & 0o222 for mode in modes} == {0}

    def test_the_copys_config_names_the_servers_model_and_both_digests_are_recorded(self, kept, registry):
        [line] = kept.step()
        version = registry.resolve("team/sql@v1")
        assert json.loads((kept.root / "sql-v1" / CONFIG).read_text())["base_model_name_or_path"] == MODEL
        state = json.loads((kept.root / ".adapters-sync.json").read_text())["sql-v1"]
        assert (state["digest"], state["exported"]) == (version.digest, line.entry.exported)
        assert state["digest"] != state["exported"]

    def test_files_that_need_no_change_keep_the_versions_own_digest(self, kept, registry):
        [line] = kept.step(layout="nim", model=None)
        assert line.entry.exported == registry.resolve("team/sql@v1").digest

    def test_a_second_look_changes_nothing(self, kept):
        kept.step()
        before = (kept.root / "sql-v1").stat().st_ino
        assert [line.outcome for line in kept.step()] == ["there"]
        assert (kept.root / "sql-v1").stat().st_ino == before

    def test_the_next_version_gets_a_folder_of_its_own(self, kept):
        kept.step("team/sql@v1")
        kept.step("team/sql@v2")
        assert kept.folders() == ["sql-v1", "sql-v2"]

    def test_tgi_is_told_of_them_in_an_environment_file(self, kept):
        kept.step("team/eight@v1", layout="tgi", seen_as="/data/")
        assert (kept.root / "tgi.env").read_text() == "LORA_ADAPTERS=sql-v1=/data/sql-v1\n"


class TestRefusing:
    @pytest.mark.parametrize("damage", ["a file is gone", "a file was cut off", "it is a link to elsewhere"])
    def test_a_folder_that_was_changed_does_not_count_as_there(self, kept, tmp_path, damage):
        kept.step()
        folder = kept.root / "sql-v1"
        folder.chmod(0o755)
        if damage == "it is a link to elsewhere":
            folder.rename(tmp_path / "elsewhere")
            folder.symlink_to(tmp_path / "elsewhere")
        else:
            (folder / WEIGHTS).unlink()
            if damage == "a file was cut off":
                (folder / WEIGHTS).write_bytes(b"half")
        [line] = kept.step()
        assert (line.outcome, line.code) == ("refused", "store-unavailable")
        assert f"remove {folder}, and sync again" in line.why

    def test_a_version_for_another_base_is_refused_and_the_one_before_stays(self, kept):
        kept.step("team/sql@v1")
        [line] = kept.step("team/sql@v3")
        assert (line.outcome, line.code, line.exit_code, line.folder) == ("refused", "incompatible-base", 6, "sql-v1")
        kept.now += 100 * DAY
        kept.step("team/sql@v3", servers=["http://127.0.0.1:9"], remove_after="1m")
        assert kept.folders() == ["sql-v1"]

    @pytest.mark.parametrize("layout", ["vllm", "nim", "ray"])
    def test_what_takes_a_word_with_each_load_is_refused_for_nobody_says_it_of_a_folder(self, kept, tmp_path, layout):
        base, stacks = experts(tmp_path / "made")
        kept.registry.add_base("experts", base)
        kept.registry.push(stacks, base="experts", name="team/stacks")
        [line] = kept.step("team/stacks@v1", base=str(base), layout=layout)
        assert (line.outcome, "has to say is_3d_lora_weight" in line.why) == ("refused", True), line.why

    def test_what_the_stack_would_not_serve_right_is_refused_with_the_reason(self, kept):
        [line] = kept.step("team/dora@v1")
        assert (line.outcome, line.code, "DoRA" in line.why) == ("refused", "unsupported", True)
        assert kept.stored() == []

    def test_a_path_never_means_other_bytes(self, kept):
        kept.step("team/sql@v1")
        before = (kept.root / "sql-v1" / CONFIG).read_bytes()
        [line] = kept.step("team/sql@v1", model="org/renamed")
        assert (line.outcome, line.code) == ("refused", "conflict")
        assert (kept.root / "sql-v1" / CONFIG).read_bytes() == before

    def test_a_path_is_not_reused_even_after_its_folder_was_removed(self, kept):
        with running(FakeVllm()) as server:
            more = {"servers": [server.url], "remove_after": "1m"}
            kept.step("team/sql@v1")
            kept.step("team/sql@v2", **more)
            kept.now += DAY
            kept.step("team/sql@v2", **more)
            assert kept.folders() == ["sql-v2"]
            [line, *_] = kept.step("team/sql@v1", **more | {"model": "org/renamed"})
        assert (line.outcome, line.code) == ("refused", "conflict")

    def test_a_folder_that_somebody_else_made_is_left_alone(self, kept):
        (kept.root / "sql-v1").mkdir(parents=True)
        [line] = kept.step()
        assert (line.code, list((kept.root / "sql-v1").iterdir())) == ("conflict", [])

    def test_stored_bytes_that_were_damaged_are_told_and_left_alone(self, kept):
        kept.step("team/sql@v1")
        [stored] = kept.stored()
        (stored / CONFIG).chmod(0o644)
        (stored / CONFIG).write_text("{}")
        [line, *_] = kept.step("team/sql@v1", name="again")
        assert (line.code, "is not what team/sql@v1 says it is" in line.why) == ("store-unavailable", True)

    def test_two_processes_do_not_sync_one_root(self, kept):
        import fcntl

        kept.step()
        with (kept.root / ".store" / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(Conflict, match="by another process"):
                kept.step()


class TestRemoving:
    @pytest.fixture
    def server(self):
        with running(FakeVllm(key="secret")) as server:
            yield server

    @pytest.fixture
    def step(self, kept, server, tmp_path):
        """v1 was placed and v2 took its place long ago; what the next look says of v1."""
        key = tmp_path / "key"
        key.write_text("secret\n")
        more = {"servers": [server.url], "remove_after": "7d", "key_file": str(key)}
        kept.step("team/sql@v1")
        kept.step("team/sql@v2", **more)

        def look(*, after=8 * DAY, **changed):
            kept.now += after
            [line] = [each for each in kept.step("team/sql@v2", **more | changed) if not each.follows]
            return line.outcome, line.why

        return look

    def test_what_nothing_names_goes_once_its_time_is_over_with_its_bytes(self, kept, step):
        assert step() == ("removed", "")
        assert (kept.folders(), len(kept.stored())) == (["sql-v2"], 1)

    def test_it_stays_until_then(self, kept, step):
        assert step(after=6 * DAY) == ("kept", f"for another {DAY} s")
        assert kept.folders() == ["sql-v1", "sql-v2"]

    @pytest.mark.parametrize("named", ["sql-v1", "base:sql-v1", "a path", "a path into the store"])
    def test_it_stays_while_a_server_names_it(self, kept, server, step, named):
        exported = json.loads((kept.root / ".adapters-sync.json").read_text())["sql-v1"]["exported"]
        paths = {"a path": "/data/sql-v1", "a path into the store": f"/data/.store/{exported.replace(':', '-')}"}
        server.loaded |= {"x": paths[named]} if named in paths else {named: ""}
        assert step() == ("kept", "a server or a lease names it")
        server.forget()
        assert step(after=0) == ("removed", "")

    @pytest.mark.parametrize("named", ["sql-v1\n", "/loras/sql-v1/\n", "other\n  sql-v1"])
    def test_it_stays_while_a_lease_names_it(self, kept, step, named):
        (kept.root / ".leases").mkdir()
        (kept.root / ".leases" / "batch-7").write_text(named)
        assert step() == ("kept", "a server or a lease names it")

    def test_a_lease_that_cannot_be_read_may_name_anything(self, kept, step):
        (kept.root / ".leases").mkdir()
        (kept.root / ".leases" / "batch-7").write_bytes(b"\xff\xfe")
        assert step() == ("kept", f"{kept.root}/.leases/batch-7 cannot be read (not text)")

    def test_a_server_that_does_not_answer_may_be_using_anything(self, kept, step):
        outcome, why = step(servers=["http://127.0.0.1:9"])
        assert (outcome, "does not say what it serves" in why) == ("kept", True)

    def test_a_server_that_knows_another_key_may_be_using_anything(self, server, step):
        server.key = "changed"
        outcome, why = step()
        assert (outcome, "it answered 401" in why) == ("kept", True)

    def test_nothing_is_removed_unless_that_was_asked_for(self, kept, step):
        assert step(servers=None, remove_after=None)[0] == "kept"
        assert kept.folders() == ["sql-v1", "sql-v2"]

    @pytest.mark.parametrize(
        ("place", "step"),
        [(digest_folders, "copy_verified"), (syncing, "store"), (syncing, "linked"), (digest_folders, "_cleared")],
    )
    def test_killed_at_any_step_the_next_process_ends_it_and_leaves_nothing_beside(
        self, kept, server, tmp_path, monkeypatch, place, step
    ):
        kept.step()
        done = getattr(place, step)

        def killed(*arguments):
            done(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        (tmp_path / "key").write_text("secret\n")
        going = {"servers": [server.url], "remove_after": "1m", "key_file": str(tmp_path / "key")}
        child = os.fork()
        if not child:
            try:
                monkeypatch.setattr(place, step, killed)
                kept.step("team/sql@v2", **going)
                kept.now += DAY
                kept.step("team/sql@v2", **going)
            finally:
                os._exit(1)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        for _ in range(2):
            assert kept.step("team/sql@v2", **going)[0].outcome in ("placed", "there")
            kept.now += DAY
        kept.step("team/sql@v2", **going)
        assert kept.folders() == ["sql-v2"]
        assert sorted(path.name for path in kept.root.iterdir()) == [".adapters-sync.json", ".store", "sql-v2"]
        assert len(list((kept.root / ".store").iterdir())) == len(["lock", "sha256-..."])

    def test_what_is_meant_again_is_kept(self, kept, step):
        kept.step("team/sql@v1")
        kept.now += 100 * DAY
        kept.step("team/sql@v1")
        assert "sql-v1" in kept.folders()


class TestDocument:
    def test_a_document_says_targets(self):
        [target] = read_targets(
            "targets:\n  - {root: /mnt/a, layout: nim, base: llama, serve: {sql: team/sql@prod}}", "sync.yaml"
        )
        assert (target.layout, target.serve, target.grace_seconds) == ("nim", {"sql": "team/sql@prod"}, None)

    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"serve": {"a--b": "t/x@v1"}}, "a name of letters"),
            ({"serve": {"../a": "t/x@v1"}}, "  serve: expected a name of letters"),
            ({"serve": {"../a": "t/x@v1"}}, "found '../a'"),
            ({"serve": {"a": "t/x"}}, "says which version"),
            ({"serve": {}}, "1 or more entries"),
            ({"layout": "vllm"}, "  expected `model` with the layout vllm, whose resolver"),
            ({"layout": "vllm"}, "found none"),
            ({"model": "x", "layout": "lorax"}, "found 'x' with lorax"),
            ({"layout": "tgi", "seen_as": "/a,b"}, "TGI splits LORA_ADAPTERS there, found ',' in '/a,b'"),
            ({"layout": "tgi", "root": "/a@b"}, "found '@' in '/a@b'"),
            ({"layout": "tgi", "seen_as": "/a\nX=1"}, "found '\\n' in"),
            ({"remove_after": "7d"}, "`servers` with `remove_after`: they say what is still in use, found none"),
            ({"remove_after": "7 days", "servers": ["http://a"]}, "remove_after: expected a time span"),
            ({"servers": ["a:8000"]}, "the address of a server"),
            ({"rot": "/x"}, "did you mean root?"),
        ],
    )
    def test_what_is_wrong_is_told(self, changed, told):
        with pytest.raises(InvalidInput, match="what the options say is not a target") as refused:
            target_of({"root": "/mnt/a", "layout": "nim", "base": "llama", "serve": {"sql": "t/x@v1"}} | changed)
        assert told.lower() in str(refused.value).lower()

    def test_two_targets_do_not_share_a_root(self):
        one = "{root: /mnt/a, layout: nim, base: llama, serve: {sql: team/sql@prod}}"
        with pytest.raises(InvalidServing, match="a root of its own for each, found /mnt/a twice"):
            read_targets(f"targets: [{one}, {one}]", "sync.yaml")


class TestCommand:
    @pytest.fixture
    def ran(self, registry, environment, monkeypatch):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return lambda *arguments: CliRunner().invoke(adapters, ["sync", *map(str, arguments)])

    def test_once_prints_what_came_of_each_name_and_ends_with_the_first_refusal(self, ran, tmp_path, llama_folder):
        options = ("--root", tmp_path / "root", "--layout", "nim", "--base", llama_folder, "--once")
        told = ran("sql=team/sql@v1", "wrong=team/sql@v3", *options)
        assert told.exit_code == 6, told.output
        assert f"placed   {tmp_path}/root/sql-v1" in told.output
        assert "team/sql@v3 is locked to other@" in told.output

    def test_a_file_says_it_all(self, ran, tmp_path, llama_folder):
        file = tmp_path / "sync.yaml"
        file.write_text(
            f"targets:\n  - root: {tmp_path}/root\n    layout: ray\n    base: {llama_folder}\n"
            "    serve: {sql: team/sql@v1}\n"
        )
        told = ran("--file", file, "--once", "-q")
        assert (told.exit_code, told.output) == (0, f"{tmp_path}/root/sql-v1\n")
        assert ran("--file", file, "--once", "--root", "x").exit_code == 2

    def test_a_wrong_file_ends_it_with_a_code_of_its_own(self, ran, tmp_path):
        (tmp_path / "sync.yaml").write_text("targets: []\n")
        told = ran("--file", tmp_path / "sync.yaml", "--once")
        assert isinstance(told.exception, InvalidServing)
        assert told.exception.exit_code == 8

    def test_what_is_missing_is_named(self, ran):
        assert "--layout, --base" in ran("sql=team/sql@v1", "--root", "x", "--once").output
