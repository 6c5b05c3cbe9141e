"""llama.cpp: adapters as GGUF files, by its own converter, and a server that adds one of those it was started with.

What is converted here is converted by a stand-in that writes the factors behind GGUF's first bytes; the real converter
and a real server are run by `benchmarks/serving_llamacpp.py`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
from click.testing import CliRunner

from adapter_cli.main import adapters
from adapter_registry.client import Registry
from adapter_registry.domain.errors import Conflict, InvalidInput, Unsupported
from adapter_registry.serving.deploying import Deploying
from adapter_registry.serving.fleet_file import read_fleet
from adapter_registry.serving.sync_file import target_of
from adapter_registry.serving.syncing import Syncing
from tests.unit.serving.fake_servers import FakeLlamaCpp, running

CONVERTER = """
import argparse, pathlib, sys
asked = argparse.ArgumentParser()
asked.add_argument("--base", type=pathlib.Path)
asked.add_argument("--outfile", type=pathlib.Path)
asked.add_argument("lora", type=pathlib.Path)
given = asked.parse_args()
assert (given.base / "config.json").is_file()
if "refuse" in sys.argv[0]:
    sys.exit("ERROR:lora-to-gguf:Model NoSuchModel is not supported")
given.outfile.write_bytes(b"GGUF" + (given.lora / "adapter_model.safetensors").read_bytes())
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    home = tmp_path_factory.mktemp("llamacpp")
    for name in ("convert_lora_to_gguf.py", "refuse.py"):
        (home / name).write_text(CONVERTER)
    converter = f"{sys.executable} {home}/convert_lora_to_gguf.py"
    folders = {"ADAPTERS_HOME": str(home / "home"), "ADAPTERS_CACHE": str(home / "cache")}
    return {**folders, "ADAPTERS_GGUF_CONVERTER": converter}


def with_converter(registry, converter):
    settings = registry.settings
    return Registry(replace(settings, serving=replace(settings.serving, gguf_converter=converter)))


class TestSync:
    @pytest.fixture
    def step(self, registry, llama_folder, tmp_path):
        def stepping(reference, *, registry=registry, base=llama_folder, now=1.0, **more):
            options = {"root": str(tmp_path / "root"), "layout": "llama.cpp", "base": str(base), **more}
            return Syncing(target_of({**options, "serve": {"sql": reference}}), registry, clock=lambda: now).step()

        return stepping

    def test_a_version_is_one_file_of_a_digest_of_its_own(self, step, registry, tmp_path):
        [line] = step("team/sql@v1")
        file = tmp_path / "root" / "sql-v1" / "adapter.gguf"
        assert (line.outcome, file.read_bytes()[:4]) == ("placed", b"GGUF")
        assert line.entry.digest == registry.resolve("team/sql@v1").digest != line.entry.exported
        assert [line.outcome for line in step("team/sql@v1")] == ["there"]

    def test_without_the_converter_it_is_said_what_to_install(self, step, registry, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        [line] = step("team/sql@v1", registry=with_converter(registry, None))
        assert (line.outcome, line.code) == ("refused", "unsupported")
        assert "requirements-convert_lora_to_gguf.txt" in line.why
        assert "set ADAPTERS_GGUF_CONVERTER" in line.why
        [line] = step("team/sql@v1", registry=with_converter(registry, "/no/where.py"))
        assert "/no/where.py is not there" in line.why

    def test_what_the_converter_refuses_is_told_in_its_words(self, step, registry):
        refusing = registry.settings.serving.gguf_converter.replace("convert_lora_to_gguf", "refuse")
        [line] = step("team/sql@v1", registry=with_converter(registry, refusing))
        assert "Model NoSuchModel is not supported" in line.why

    def test_what_the_format_cannot_say_is_refused_before(self, step):
        [line] = step("team/dora@v1")
        assert (line.code, "DoRA" in line.why) == ("unsupported", True)

    def test_what_a_server_was_started_with_is_not_removed(self, step, tmp_path):
        step("team/sql@v1")
        with running(FakeLlamaCpp()) as server:
            server.start(str(tmp_path / "root" / "sql-v1" / "adapter.gguf"))
            more = {"servers": [server.url], "remove_after": "1m"}
            step("team/sql@v2", **more)
            lines = step("team/sql@v2", now=1_000.0, **more)
            assert [(each.outcome, each.why) for each in lines][1] == ("kept", "a server or a lease names it")
            server.start(str(tmp_path / "root" / "sql-v2" / "adapter.gguf"))
            assert [each.outcome for each in step("team/sql@v2", now=1_000.0, **more)] == ["there", "removed"]


class TestDeploy:
    @pytest.fixture
    def fleet(self, registry, llama_folder, tmp_path):
        with running(FakeLlamaCpp()) as one, running(FakeLlamaCpp()) as two:
            document = {"stack": "llama.cpp", "root": str(tmp_path / "root"), "base": str(llama_folder)}
            fleet = read_fleet(json.dumps({**document, "replicas": [one.url, two.url]}), "fleet.yaml")
            yield Deploying(fleet, registry, clock=lambda: 1.0), one, two, tmp_path / "root"

    @pytest.fixture
    def started(self, fleet):
        """Both servers with v1 and v2, of which they add none."""
        deploying, one, two, root = fleet
        for version in ("team/sql@v1", "team/sql@v2"):
            assert [line.outcome for line in deploying.deploy(version, "sql")] == ["restored", "untouched"]
        for each in (one, two):
            each.start(*map(str, sorted(root.glob(".store/*/adapter.gguf"))))
        return fleet

    def test_what_a_server_was_started_without_is_staged_and_told(self, fleet):
        deploying, _, _, root = fleet
        [line, _] = deploying.deploy("team/sql@v1", "sql")
        [staged] = root.glob(".store/*/adapter.gguf")
        assert f"start it again with --lora-scaled {staged}:0" in line.why

    def test_one_adapter_is_added_at_a_time(self, started):
        deploying, one, _, _ = started
        for version in ("team/sql@v1", "team/sql@v2"):
            assert [line.outcome for line in deploying.deploy(version, "sql")] == ["moved", "moved"]
            assert sorted(each["scale"] for each in one.known) == [0.0, 1.0]
        assert [line.outcome for line in deploying.status()] == ["there", "there"]

    def test_a_server_that_was_restarted_adds_it_again(self, started):
        deploying, _, two, _ = started
        deploying.deploy("team/sql@v1", "sql")
        two.forget()
        assert [line.outcome for line in deploying.reconcile()] == ["there", "loaded again"]

    @pytest.mark.parametrize("trouble", ["refuses", "ignores"])
    def test_when_one_does_not_take_it_both_add_what_they_added(self, started, trouble):
        deploying, one, two, _ = started
        deploying.deploy("team/sql@v1", "sql")
        before = [dict(each) for each in one.known]
        setattr(two, trouble, True)
        first, _ = deploying.deploy("team/sql@v2", "sql")
        assert first.outcome == "restored"
        assert one.known == before

    def test_a_second_name_has_no_place(self, started):
        deploying, *_ = started
        deploying.deploy("team/sql@v1", "sql")
        with pytest.raises(Conflict, match="was not deployed from"):
            deploying.deploy("team/sql@v2", "chat")


class TestExport:
    @pytest.fixture
    def ran(self, registry, environment, monkeypatch):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return lambda *arguments: CliRunner().invoke(adapters, ["export", *map(str, arguments)])

    def test_a_file_is_written(self, ran, llama_folder, tmp_path):
        told = ran("team/sql@v1", "--gguf", "--base", llama_folder, "-o", tmp_path / "sql.gguf")
        assert (told.exit_code, (tmp_path / "sql.gguf").read_bytes()[:4]) == (0, b"GGUF"), told.output

    def test_what_is_there_is_not_written_over(self, ran, llama_folder, tmp_path):
        (tmp_path / "sql.gguf").write_text("mine")
        told = ran("team/sql@v1", "--gguf", "--base", llama_folder, "-o", tmp_path / "sql.gguf")
        assert (told.exit_code, (tmp_path / "sql.gguf").read_text()) != (0, "mine")

    def test_the_wrong_base_and_none_are_refused(self, ran, tmp_path, llama_folder):
        assert isinstance(
            ran("team/dora@v1", "--gguf", "--base", llama_folder, "-o", tmp_path / "x").exception, Unsupported
        )
        assert isinstance(
            ran("team/sql@v1", "--gguf", "--base", tmp_path, "-o", tmp_path / "x").exception, InvalidInput
        )
        assert ran("team/sql@v1", "--gguf", "-o", tmp_path / "x").exit_code == 2
        assert ran("team/sql@v1", "--gguf", "--flatten", "--base", llama_folder, "-o", tmp_path / "x").exit_code == 2
