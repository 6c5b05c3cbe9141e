"""The installed command, as a process of its own on a registry of its own."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.warm_command import adapters


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Cli:
    """`adapters` with a home and a working folder."""

    home: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("ADAPTERS_")}
        mine = {"ADAPTERS_HOME": self.home, "ADAPTERS_CACHE": self.home / "cache", "ADAPTERS_ACTOR": "ann"}
        return {**kept, **{k: str(v) for k, v in mine.items()}, "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}

    @property
    def command(self) -> list[str]:
        return [str(Path(sys.executable).with_name("adapters"))]

    def __call__(self, *arguments: object, code: int | None = 0) -> Ran:
        done = adapters([str(word) for word in arguments], environment=self.environment, cwd=self.folder)
        assert "Traceback" not in done.stderr, done.stderr
        assert "a defect of this program" not in done.stderr, done.stderr
        if code is not None:
            assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def cli(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    return Cli(tmp_path / "home", work)
