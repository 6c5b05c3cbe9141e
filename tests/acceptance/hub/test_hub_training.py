"""PEFT, transformers and the Trainer, unchanged, in a process whose hub is this server: today's, and those of 0.36."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.acceptance.hub.test_hub_clients import prepared, run

OLD = ("transformers==4.57.6", "peft==0.18.1", "huggingface_hub==0.36.2", "tokenizers==0.22.2", "accelerate==1.12.0")
BESIDE = ("hf_xet", "requests", "charset-normalizer", "urllib3", "idna", "certifi")
LEAST = 28


@pytest.fixture(scope="session")
def old_stack(tmp_path_factory) -> str:
    """A Python with the last libraries on the 0.36 line; torch is the one that runs this test."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip(f"the libraries of the 0.36 line cannot be installed: there is no uv beside {sys.executable}")
    folder = tmp_path_factory.mktemp("old-stack")
    python = folder / "bin" / "python"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder], check=True)
    command = [uv, "pip", "install", "-q", "--no-deps", "--python", python, *OLD, *BESIDE]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"the libraries of the 0.36 line cannot be installed: {done.stderr.decode()[-300:]}")
    [packages] = folder.glob("lib/python*/site-packages")
    [ours] = {str(Path(path)) for path in sys.path if (Path(path) / "torch" / "__init__.py").is_file()}
    (packages / "zz-torch.pth").write_text(ours)
    return str(python)


def trains(hub, interpreter, name, llama_folder, lora_folder, folder):
    pytest.importorskip("accelerate")
    folders = {key: str(lora_folder) for key in ("adapter", "other", "invalid", "first")}
    given = {**prepared(hub), **folders, "base": str(llama_folder), "new": f"team/{name}"}
    answer = run(hub, interpreter, "training", given, folder / "hf")
    assert answer["failed"] == []
    assert len(answer["held"]) >= LEAST
    print(json.dumps({"huggingface_hub": answer["version"], "training": len(answer["held"])}))


def test_todays_libraries_train_and_load(hub, llama_folder, lora_folder, tmp_path):
    trains(hub, sys.executable, f"stack-{version('peft').replace('.', '-')}", llama_folder, lora_folder, tmp_path)
    newest = hub.registry.versions(f"team/stack-{version('peft').replace('.', '-')}-trainer")[0]
    assert newest.base_name == "org/llama"


def test_the_libraries_of_the_0_36_line_train_and_load(hub, old_stack, llama_folder, lora_folder, tmp_path):
    trains(hub, old_stack, "stack-old", llama_folder, lora_folder, tmp_path)
