"""Every command that a text tells people to type exists, options included."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from adapter_cli.main import adapters

ROOT = Path(__file__).parents[2]
PLACES = ("README.md", "docs/*.md", "docs/adr/*.md", "changes/unreleased/*.md", "web/templates/**/*.html")
CODE = ("registry/**/*.py", "cli/**/*.py", "serving/**/*.py", "deploy/**/*")
QUOTED = re.compile(r"(?:`|<code>|^    |^\$ )adapters ([^`<\n]+)", re.MULTILINE)
WORD = re.compile(r"--?[a-z][a-z-]*|[a-z][a-z-]*")


def told() -> Iterator[tuple[str, str]]:
    """(file, what follows `adapters`) of everything between backticks, in code tags, in indented or console blocks."""
    for pattern in (*PLACES, *CODE):
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and path.name != "test_commands_exist.py":
                for found in QUOTED.findall(path.read_text(errors="ignore")):
                    yield str(path.relative_to(ROOT)), found


def unknown(line: str) -> str:
    """What of a line is no command or option; empty for nothing."""
    command: click.Command = adapters
    for word in re.split(r"  +| [#|&]", line)[0].split():
        if isinstance(command, click.Group):
            if word.startswith("-"):
                continue
            if not WORD.fullmatch(word):
                return ""
            inner = command.get_command(click.Context(command), word)
            if inner is None:
                return word
            command = inner
        elif word.startswith("--"):
            options = {name for each in command.params for name in each.opts + each.secondary_opts}
            if word.partition("=")[0].rstrip(".,;:)") not in options | {"--help"}:
                return word
    return ""


def test_many_are_told():
    assert len(list(told())) > 300


@pytest.mark.parametrize(("file", "line"), sorted(set(told())))
def test_a_command_that_is_told_exists(file, line):
    assert unknown(line) == "", f"{file}: adapters {line}"
