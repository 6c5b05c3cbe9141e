"""Where the bytes of a registered base are taken from."""

from __future__ import annotations

import shutil

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.errors import IncompatibleBase, InvalidInput
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
        with pytest.raises(InvalidInput, match=r"not on this machine.*--base-path"):
            registry.checkpoint("tiny")
        assert registry.checkpoint("tiny", tmp_path / "moved") == tmp_path / "moved"

    def test_another_checkpoint_of_the_same_shape_is_refused(self, registry, tmp_path):
        with pytest.raises(IncompatibleBase, match="is not tiny@"):
            registry.checkpoint("tiny", llama(tmp_path / "other", seed=5))
