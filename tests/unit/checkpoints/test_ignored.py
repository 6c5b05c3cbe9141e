"""A pusher's `.gitignore` is read as git reads it, and cannot keep the server busy."""

from __future__ import annotations

import pytest

from adapter_registry.checkpoints.ignored import MAX_BYTES, ignored
from adapter_registry.checkpoints.limited_child import PatternTooExpensive
from adapter_registry.domain.errors import InvalidInput

PATHS = ["a.log", "keep.log", "b/c.log", "build/x.txt", "src/build/y.txt", "d.txt", "docs/e.md", "ünï.txt"]


@pytest.mark.parametrize(
    ("lines", "left_out"),
    [
        ("", set()),
        ("# a comment\n\n", set()),
        ("*.log", {"a.log", "keep.log", "b/c.log"}),
        ("*.log\n!keep.log", {"a.log", "b/c.log"}),
        ("/a.log", {"a.log"}),
        ("build/", {"build/x.txt", "src/build/y.txt"}),
        ("/build/", {"build/x.txt"}),
        ("**/build/**", {"build/x.txt", "src/build/y.txt"}),
        ("docs/*.md\nd.txt", {"docs/e.md", "d.txt"}),
        ("ün?.txt", {"ünï.txt"}),
        ("[ab].log", {"a.log"}),
    ],
)
def test_a_gitignore_is_read_as_git_reads_it(lines, left_out):
    assert ignored(lines, PATHS) == left_out


def test_a_pattern_that_never_ends_is_given_up():
    with pytest.raises(PatternTooExpensive):
        ignored("*a" * 40 + "b", ["a" * 500])


def test_a_file_that_is_too_long_is_not_read():
    with pytest.raises(InvalidInput, match="characters"):
        ignored("x\n" * MAX_BYTES, PATHS)
