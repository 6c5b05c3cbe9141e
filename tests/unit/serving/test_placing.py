"""A serving process gets what its running base is locked by, in a folder that never changes; all else is refused."""

from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.client import Registry
from adapter_registry.domain.base import files_root, identity
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.services import base as base_service
from adapter_registry.serving.placing import Missing, Placing, Refused
from adapter_registry.serving.running_base import BaseUnknown, RunningBase, folder_of, only_folder_of
from adapter_registry.settings import read_settings
from tests.adapter_builders import copied, llama


@pytest.fixture(scope="module")
def registry(tmp_path_factory, llama_folder, lora_folder):
    """One version, locked to the Llama."""
    home = tmp_path_factory.mktemp("placing")
    there = Registry(read_settings({"ADAPTERS_HOME": str(home / "home"), "ADAPTERS_CACHE": str(home / "cache")}))
    there.add_base("llama", llama_folder)
    there.push(lora_folder, base="llama", name="team/sql")
    return there


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Bases that the adapter is not for."""
    made = tmp_path_factory.mktemp("others")
    return {
        "other weights of the same shape": llama(made / "other", seed=7),
        "narrower": llama(made / "narrow", hidden_size=16),
        "wider": llama(made / "wide", hidden_size=64),
        "deeper": llama(made / "deep", num_hidden_layers=3),
        "shallower": llama(made / "shallow", num_hidden_layers=1),
    }


OTHERS = ["other weights of the same shape", "narrower", "wider", "deeper", "shallower"]


def on(registry, folder, check="spot"):
    return Placing(registry, lambda: RunningBase(folder, registry, check=check))


class TestPlacing:
    def test_a_version_lies_in_a_read_only_folder_named_by_its_digest(self, registry, llama_folder):
        placed = on(registry, llama_folder).place("team/sql@v1")
        assert placed.folder.name == placed.version.digest.replace(":", "-")
        modes = [stat.S_IMODE(path.stat().st_mode) for path in placed.folder.iterdir()]
        assert {mode & 0o222 for mode in [*modes, stat.S_IMODE(placed.folder.stat().st_mode)]} == {0}

    @pytest.mark.parametrize("check", ["spot", "full"])
    @pytest.mark.parametrize("name", OTHERS)
    def test_another_base_is_refused_before_a_byte_travels(self, registry, others, name, check, tmp_path):
        fresh = Registry(replace(registry.settings, cache=tmp_path / "cache"))
        with pytest.raises(Refused, match=r"^team/sql@v1 is not for the base model that runs here$"):
            on(fresh, others[name], check).place("team/sql@v1")
        assert not (tmp_path / "cache" / "versions").exists()

    def test_what_is_told_has_neither_path_nor_digest_and_the_log_has_both(self, registry, others, caplog):
        with pytest.raises(Refused) as refused:
            on(registry, others["narrower"]).place("team/sql@v1")
        assert "/" not in str(refused.value).removeprefix("team/sql@v1")
        assert "incompatible-base" in caplog.text
        assert "expected" in caplog.text

    @pytest.mark.parametrize("reference", ["team/sql@v9", "team/none@v1", "team/sql@prod"])
    def test_what_is_not_there_is_missing(self, registry, llama_folder, reference):
        with pytest.raises(Missing):
            on(registry, llama_folder).place(reference)

    def test_a_registry_that_is_down_may_be_up_again(self, registry, llama_folder):
        gone = Registry(replace(registry.settings, url="http://127.0.0.1:9", token="x"))
        with pytest.raises(Refused, match="does not answer") as refused:
            on(gone, llama_folder).place("team/sql@v1")
        assert refused.value.passing

    def test_a_cache_that_cannot_be_written_is_told_as_this_servers(self, registry, llama_folder, tmp_path):
        (tmp_path / "cache").write_text("a file where the folder should be")
        fresh = Registry(replace(registry.settings, cache=tmp_path / "cache"))
        with pytest.raises(Refused, match="could not be placed on the server's disk"):
            on(fresh, llama_folder).place("team/sql@v1")

    def test_what_killed_pulls_left_is_removed_once_nothing_changes_in_it(self, registry, llama_folder, tmp_path):
        fresh = Registry(replace(registry.settings, cache=tmp_path / "cache"))
        left, written = (tmp_path / "cache" / "versions" / f".sha256-{each}.0a1b2c3d.partial" for each in (1, 2))
        for folder in (left, written):
            folder.mkdir(parents=True)
            (folder / "adapter_model.safetensors").write_bytes(b"half")
        for path in (left / "adapter_model.safetensors", left, written):
            os.utime(path, (1, 1))
        on(fresh, llama_folder).place("team/sql@v1")
        assert (left.exists(), written.exists()) == (False, True)

    @pytest.mark.parametrize("round_", range(5))
    @pytest.mark.parametrize("before", ["nothing", "damaged"])
    def test_several_that_bring_the_same_version_at_once_all_have_it(
        self, registry, llama_folder, tmp_path, before, round_
    ):
        settings = replace(registry.settings, cache=tmp_path / "cache")
        together = threading.Barrier(6)
        if before == "damaged":
            file = on(Registry(settings), llama_folder).place("team/sql@v1").folder / "adapter_config.json"
            file.chmod(0o644)
            file.write_text("{}")

        def place(_):
            mine = on(Registry(settings), llama_folder)
            together.wait(30)
            return mine.place("team/sql@v1").folder

        with ThreadPoolExecutor(6) as threads:
            [folder] = set(threads.map(place, range(6)))
        assert list((tmp_path / "cache" / "versions").iterdir()) == [folder]

    def test_a_folder_that_was_damaged_is_made_again(self, registry, llama_folder):
        placed = on(registry, llama_folder).place("team/sql@v1")
        file = placed.folder / "adapter_config.json"
        before = file.read_bytes()
        file.chmod(0o644)
        file.write_text("{}")
        assert (on(registry, llama_folder).place("team/sql@v1").folder / file.name).read_bytes() == before


class Counting(Registry):
    """Counts how often a checkpoint is looked at."""

    looks = 0

    def verdict(self, *arguments, **options):
        self.looks += 1
        return super().verdict(*arguments, **options)


class TestRunningBase:
    def test_a_checkpoint_is_looked_at_once_until_its_files_change(self, registry, llama_folder, tmp_path):
        counting, folder = Counting(registry.settings), copied(llama_folder, tmp_path / "base")
        version = counting.resolve("team/sql@v1")
        running = RunningBase(folder, counting)
        assert running.verdict(version).accepted
        assert running.verdict(version).accepted
        assert counting.looks == 1
        weights = next(folder.glob("*.safetensors"))
        weights.write_bytes((llama(tmp_path / "other", seed=7) / weights.name).read_bytes())
        assert not running.verdict(version).accepted
        assert counting.looks == 2

    def test_what_a_process_loaded_runs_on_whatever_its_files_become(self, registry, llama_folder, tmp_path):
        counting, folder = Counting(registry.settings), copied(llama_folder, tmp_path / "base")
        version, weights = counting.resolve("team/sql@v1"), next(folder.glob("*.safetensors"))
        seen, linked, unseen = (RunningBase(folder, counting, loaded=True) for _ in range(3))
        assert seen.verdict(version).accepted
        weights.chmod(0o600)
        os.link(weights, tmp_path / "backup")
        assert linked.verdict(version).accepted
        before = weights.read_bytes()
        weights.write_bytes((llama(tmp_path / "other", seed=7) / weights.name).read_bytes())
        assert seen.verdict(version).accepted
        for running, other in [(seen, replace(version, base=f"sha256:{'0' * 64}")), (unseen, version)]:
            with pytest.raises(BaseUnknown, match="until this server is started anew"):
                running.verdict(other)
        weights.write_bytes(before)  # the same again, under another time
        seen._found["sha256:another"] = seen._found.pop(version.base)
        assert seen.verdict(version).accepted

    def test_files_that_are_gone_are_told_as_the_bases(self, registry, llama_folder, tmp_path):
        folder = copied(llama_folder, tmp_path / "base")
        (folder / "model-2.safetensors").symlink_to("nowhere")
        with pytest.raises(BaseUnknown, match=r"model-2\.safetensors is not there .*ADAPTERS_SERVING_BASE"):
            RunningBase(folder, registry)
        with pytest.raises(Refused, match="which base model runs here cannot be told"):
            on(registry, folder).place("team/sql@v1")

    def test_digests_that_were_recorded_before_are_taken_before_a_few_slices(self, registry, llama_folder, tmp_path):
        settings, folder = replace(registry.settings, cache=tmp_path / "cache"), copied(llama_folder, tmp_path / "base")
        for path in folder.iterdir():  # files that changed just now are not recorded
            os.utime(path, (1, 1))
        there = Registry(settings)
        version = there.resolve("team/sql@v1")
        assert "spot check" in RunningBase(folder, there).verdict(version).notes[0]
        self._record(folder, settings.cache)
        assert RunningBase(folder, there).verdict(version).notes == ()

    @staticmethod
    def _record(folder, cache):
        import time

        time.sleep(2.1)  # the change time cannot be set back
        read_base(folder, cache=cache, progress=lambda _: None)

    def test_a_base_known_by_file_digests_is_held_against_the_names_of_the_hubs_cache(
        self, llama_folder, lora_folder, tmp_path
    ):
        home, cache = str(tmp_path / "home"), str(tmp_path / "cache")
        registry = Registry(read_settings({"ADAPTERS_HOME": home, "ADAPTERS_CACHE": cache}))
        read = read_base(llama_folder, cache=None, progress=lambda _: None)
        digest = identity(weights=files_root(read.files), tokenizer=read.tokenizer)
        tensors = tuple(replace(tensor, digest=None) for tensor in read.tensors)
        known = replace(read, digest=digest, root=None, spot=None, tensors=tensors)
        registry._ask(base_service.register, name="by-files", base=known)
        version = registry.push(lora_folder, base="by-files", name="team/by-files").version
        snapshot = self._hub_cache(llama_folder, tmp_path / "hub", {f.path: f.sha256 for f in read.files})
        assert folder_of("org/llama", cache=str(tmp_path / "hub")) == snapshot
        verdict = RunningBase(snapshot, registry).verdict(version)
        assert (verdict.accepted, "names its files by" in verdict.notes[0]) == (True, True)
        wrong = self._hub_cache(llama_folder, tmp_path / "wrong", {f.path: "0" * 64 for f in read.files})
        assert not RunningBase(wrong, registry).verdict(version).accepted

    @staticmethod
    def _hub_cache(source, cache, digests):
        """The layout that huggingface_hub downloads into."""
        repository = cache / "models--org--llama"
        snapshot = repository / "snapshots" / ("a" * 40)
        for folder in (snapshot, repository / "blobs", repository / "refs"):
            folder.mkdir(parents=True)
        (repository / "refs" / "main").write_text("a" * 40)
        for path in source.iterdir():
            blob = repository / "blobs" / digests.get(path.name, path.name)
            blob.write_bytes(path.read_bytes())
            (snapshot / path.name).symlink_to(blob)
        return snapshot


class TestFolderOf:
    def test_of_several_revisions_none_is_taken_where_nobody_says_which_was_loaded(self, tmp_path, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        repository = tmp_path / "models--org--llama"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("b" * 40)
        for commit in ("a" * 40, "b" * 40):
            (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / ("b" * 40) / "model.safetensors").touch()
        assert only_folder_of("org/llama").name == "b" * 40
        (repository / "snapshots" / ("a" * 40) / "model.safetensors").touch()
        with pytest.raises(BaseUnknown, match=r"2 revisions of org/llama .*ADAPTERS_SERVING_BASE"):
            only_folder_of("org/llama")
        assert folder_of("org/llama", revision="a" * 40).name == "a" * 40

    @pytest.mark.parametrize("model", ["org/nowhere", "../../etc", "/no/such/folder", "a//b"])
    def test_files_that_are_not_here_are_asked_for(self, tmp_path, model, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(InvalidInput, match="ADAPTERS_SERVING_BASE"):
            folder_of(model, cache=str(tmp_path))
