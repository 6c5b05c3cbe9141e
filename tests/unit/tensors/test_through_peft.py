"""The child process that PEFT merges in, asked outside a job, has a job's limits and no network."""

from __future__ import annotations

import pytest

from adapter_registry.checkpoints.confined import Limits
from adapter_registry.domain.errors import JobFailed, Unsupported
from adapter_registry.tensors import through_peft
from adapter_registry.tensors.through_peft import asked, merged

GENEROUS = Limits(16 << 30, 600)


def test_it_answers_within_its_limits_with_its_network_cut(tmp_path, llama_folder, lora_folder):
    prompts = {"prompts": [[1, 2, 3]], "out": str(tmp_path / "logits.npy")}
    question = {"do": "logits", "base": str(llama_folder), "adapter": str(lora_folder), **prompts}
    assert asked(question, GENEROUS)["network"] in ("namespace", "python")
    assert (tmp_path / "logits.npy").is_file()


def test_a_merge_by_peft_that_takes_longer_than_it_may_is_ended(tmp_path, llama_folder, lora_folder):
    with pytest.raises(JobFailed, match=r"longer than the 0 s that it may \(ADAPTERS_JOB_SECONDS\)"):
        merged(llama_folder, lora_folder, tmp_path / "out", limits=Limits(16 << 30, 0.3))
    assert not (tmp_path / "out").exists()


def test_a_merge_by_peft_that_takes_more_memory_than_it_may_is_ended(tmp_path, monkeypatch, llama_folder, lora_folder):
    child = tmp_path / "child.py"
    hungry = "def merge(question):\n    bytearray(3 << 30)\n\n\ndef main()"
    child.write_text(through_peft.CHILD.read_text().replace("def main()", hungry))
    monkeypatch.setattr(through_peft, "CHILD", child)
    with pytest.raises(JobFailed, match=r"more than the 1 GB of memory that it may \(ADAPTERS_JOB_MEMORY_GB\)"):
        merged(llama_folder, lora_folder, tmp_path / "out", limits=Limits(10**9, 600))


def test_what_peft_refuses_is_told_as_that(tmp_path, llama_folder):
    with pytest.raises(Unsupported, match="PEFT cannot do this"):
        merged(llama_folder, tmp_path, tmp_path / "out", limits=GENEROUS)
