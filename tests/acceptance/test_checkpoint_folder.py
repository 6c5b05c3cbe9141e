"""Where the bytes of a registered base are taken from."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.errors import DigestMismatch, IncompatibleBase, InvalidInput
from adapter_registry.local.base_folders import permitted
from adapter_registry.settings import read_settings
from tests.adapter_builders import llama


@pytest.fixture
def registry(tmp_path, llama_folder):
    shutil.copytree(llama_folder, tmp_path / "base")
    registry = Registry(read_settings({"ADAPTERS_HOME": str(tmp_path / "home"), "ADAPTERS_CACHE": str(tmp_path / "c")}))
    registry.add_base("tiny", tmp_path / "base")
    return registry


class TestCheckpoint:
    def test_it_is_the_folder_that_was_registered(self, registry, tmp_path):
        assert registry.checkpoint("tiny") == tmp_path / "base"

    def test_a_folder_that_moved_has_to_be_named(self, registry, tmp_path):
        (tmp_path / "base").rename(tmp_path / "moved")
        with pytest.raises(InvalidInput, match=r"not on this machine.*--store.*--base-path"):
            registry.checkpoint("tiny")
        assert registry.checkpoint("tiny", tmp_path / "moved") == tmp_path / "moved"

    def test_another_checkpoint_of_the_same_shape_is_refused(self, registry, tmp_path):
        with pytest.raises(IncompatibleBase, match="is not tiny@"):
            registry.checkpoint("tiny", llama(tmp_path / "other", seed=5))


@pytest.fixture
def stored(registry, tmp_path):
    """The same with the base's files stored, and its folder gone."""
    copy = registry.copy_of(tmp_path / "base", name="tiny")
    registry.store_base(registry.add_base("tiny", tmp_path / "base"), copy)
    shutil.rmtree(tmp_path / "base")
    return registry


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestStoredBase:
    def test_its_files_are_placed_in_the_cache_once_and_its_weights_take_no_space(self, stored, llama_folder):
        folder = stored.checkpoint("tiny")
        assert files(folder) == files(llama_folder)
        assert (folder / "model.safetensors").stat().st_nlink == 2
        before = folder.stat().st_ino
        assert stored.checkpoint("tiny") == folder
        assert folder.stat().st_ino == before

    def test_weights_are_copied_where_they_cannot_be_linked(self, stored, llama_folder, monkeypatch):
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(18, "another disk")))
        assert files(stored.checkpoint("tiny")) == files(llama_folder)

    def test_a_folder_that_was_changed_since_is_left_for_the_stored_files(self, stored, tmp_path):
        llama(tmp_path / "base", seed=5)
        assert stored.checkpoint("tiny").parent.name == "bases"

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_files_of_the_cache_that_were_damaged_are_not_used(self, stored, llama_folder, name, monkeypatch):
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(18, "another disk")))
        path = stored.checkpoint("tiny") / name
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"\x00")
        if name.endswith(".safetensors"):  # their bytes are seen when the folder is read, which removes it
            with pytest.raises(DigestMismatch, match=name):
                stored.checkpoint("tiny")
        assert files(stored.checkpoint("tiny")) == files(llama_folder)

    def test_a_damaged_store_is_told_each_time(self, stored, llama_folder):
        [weights] = (f for each in stored.stored_base("tiny") for f in each.files if f.path == "model.safetensors")
        blob = stored._opened.blobs.path(weights.digest)
        blob.chmod(0o644)
        blob.write_bytes(blob.read_bytes()[:-1] + b"\x00")
        for _ in range(2):
            with pytest.raises(DigestMismatch, match=r"model\.safetensors"):
                stored.checkpoint("tiny")


class TestSources:
    @pytest.mark.parametrize(
        ("source", "sources", "allowed"),
        [
            ("/models/llama", None, True),
            ("/models/llama", (), False),
            ("/models/llama", ("/models",), True),
            ("/models/../etc", ("/models",), False),
            ("/models-of-others", ("/models",), False),
            ("relative", ("/",), True),
            ("hf://org/repo@0123456", ("/",), False),
            ("hf://org/repo@0123456", ("hf://",), True),
            ("hf://org/repo@0123456", ("hf://org",), True),
            ("hf://org/repo@0123456", ("hf://org/repo",), True),
            ("hf://organisation/repo@0123456", ("hf://org",), False),
            ("hf://org/repository@0123456", ("hf://org/repo",), False),
        ],
    )
    def test_what_lies_below_a_source_may_be_taken(self, source, sources, allowed):
        assert permitted(source, sources) is allowed

    def test_a_link_out_of_a_permitted_folder_is_not_followed(self, tmp_path):
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "link").symlink_to("/etc")
        assert not permitted(str(tmp_path / "models" / "link"), (str(tmp_path / "models"),))

    def test_a_folder_that_is_not_permitted_is_not_opened_and_not_told_of(self, registry, tmp_path):
        for sources in ((), (str(tmp_path / "models"),)):
            limited = Registry(replace(registry.settings, base_sources=sources))
            with pytest.raises(InvalidInput, match=r"ADAPTERS_BASE_SOURCES does not name it.*--store"):
                limited.checkpoint("tiny")
        limited = Registry(replace(registry.settings, base_sources=(str(tmp_path),)))
        assert limited.checkpoint("tiny") == tmp_path / "base"
