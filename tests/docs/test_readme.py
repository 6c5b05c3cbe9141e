"""The session in the README runs, and prints what the README says; only digests and times may differ."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapter_builders import llama

README = Path(__file__).parents[2] / "README.md"


def session() -> list[tuple[str, str]]:
    """(command, what it prints) of the first console block."""
    block = re.search(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
    assert block is not None
    parts = re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]
    return [tuple(part.partition("\n")[::2]) for part in parts]


def told(text: str) -> str:
    """Without what is different every time: digests, times, trailing blanks."""
    text = re.sub(r"[0-9a-f]{64}", "<digest>", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "<short>", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "<time>", text)
    text = re.sub(r"\d+\.\d kB", "<size>", text)  # the config holds the path of the base
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.fixture
def shell(tmp_path, llama_folder, lora_folder):
    shutil.copytree(llama_folder, tmp_path / "tiny-llama")
    llama(tmp_path / "other-llama", seed=3)
    shutil.copytree(lora_folder, tmp_path / "lora-adapter")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    home = tmp_path / "home"
    given = {"ADAPTERS_HOME": str(home), "ADAPTERS_CACHE": str(home / "cache"), "ADAPTERS_ACTOR": "ann"}
    environment = {**os.environ, **given, "PATH": path, "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
    known: dict[str, str] = {}

    def run(command: str) -> str:
        for written, real in known.items():
            command = command.replace(written, real)
        done = subprocess.run(
            command,
            shell=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
        return done.stdout

    run.known = known
    return run


def test_the_session_in_the_readme_is_what_happens(shell):
    steps = session()
    assert len(steps) >= 6
    for command, printed in steps:
        found = shell(command)
        assert told(found) == told(printed), f"$ {command}\n{found}"
        for written, real in zip(
            re.findall(r"\b[0-9a-f]{12}\b", printed), re.findall(r"\b[0-9a-f]{12}\b", found), strict=False
        ):
            shell.known.setdefault(written, real)
