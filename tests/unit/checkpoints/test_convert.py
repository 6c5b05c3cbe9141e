"""Pickled weights become safetensors in a process of their own, or nothing is written at all."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from safetensors.torch import load_file

from adapter_registry.checkpoints.convert import convert
from adapter_registry.checkpoints.intake import examine_folder
from adapter_registry.domain.errors import Conflict, InvalidInput
from tests.adapter_builders import CONFIG, WEIGHTS, copied

PICKLED = "adapter_model.bin"


@pytest.fixture
def pickled(tmp_path, lora_folder):
    folder = copied(lora_folder, tmp_path / "pickled")
    torch.save(load_file(folder / WEIGHTS), folder / PICKLED)
    (folder / WEIGHTS).unlink()
    return folder


def test_the_same_tensors_come_out_and_pass_intake(pickled, tmp_path, lora_folder, llama_base):
    convert(pickled, tmp_path / "out")
    before, after = load_file(lora_folder / WEIGHTS), load_file(tmp_path / "out" / WEIGHTS)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert examine_folder(tmp_path / "out", llama_base)[1].problems == ()


def test_tensors_that_share_or_skip_memory_are_written_whole(pickled, tmp_path):
    shared = torch.arange(12.0).reshape(3, 4)
    torch.save({"a": shared, "b": shared.T, "c": shared[1:]}, pickled / PICKLED)
    convert(pickled, tmp_path / "out")
    found = load_file(tmp_path / "out" / WEIGHTS)
    assert torch.equal(found["b"], shared.T)
    assert torch.equal(found["c"], shared[1:])


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def hostile(folder):
    torch.save({"a": Hostile(folder / "ran")}, folder / PICKLED)


def plain_pickle(folder):
    (folder / PICKLED).write_bytes(pickle.dumps(Hostile(folder / "ran")))


def truncated(folder):
    data = (folder / PICKLED).read_bytes()
    (folder / PICKLED).write_bytes(data[: len(data) // 2])


def no_table(folder):
    torch.save([torch.ones(2)], folder / PICKLED)


def no_tensor(folder):
    torch.save({"a": 1}, folder / PICKLED)


def pointer(folder):
    (folder / PICKLED).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def no_config(folder):
    (folder / CONFIG).unlink()


def safe_already(folder):
    (folder / WEIGHTS).write_bytes(b"x")


def link(folder):
    (folder / PICKLED).rename(folder / "real.bin")
    (folder / PICKLED).symlink_to("real.bin")


REFUSED = {
    hostile: "was refused by weights-only loading",
    plain_pickle: "was refused by weights-only loading",
    truncated: "was refused by weights-only loading",
    no_table: "not a table of tensors",
    no_tensor: "no named tensor",
    pointer: "git lfs pull",
    no_config: "no PEFT adapter",
    safe_already: "push it as it is",
    link: "nothing to convert",
}


@pytest.mark.parametrize("spoil", REFUSED, ids=lambda spoil: spoil.__name__)
def test_what_cannot_be_read_safely_is_refused_and_leaves_nothing(spoil, pickled, tmp_path):
    spoil(pickled)
    with pytest.raises(InvalidInput, match=REFUSED[spoil]):
        convert(pickled, tmp_path / "out")
    assert not (pickled / "ran").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"pickled"}


def test_a_folder_that_holds_something_is_never_written_to(pickled, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("1")
    with pytest.raises(Conflict, match="not empty"):
        convert(pickled, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mine"}


def test_what_is_not_copied_is_told(pickled, tmp_path):
    (pickled / "run.sh").write_text("1")
    assert [notice.file for notice in convert(pickled, tmp_path / "out")] == ["run.sh"]
