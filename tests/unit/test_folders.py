"""Folders are hashed while they are looked at."""

from __future__ import annotations

import hashlib
import os

import pytest

from adapter_registry.checkpoints.adapter_files import survey
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.local.folders import hashed, hashing


@pytest.fixture
def folder(tmp_path):
    for name, size in (("empty.txt", 0), ("a.txt", 5), ("b.txt", 3_000_000)):
        (tmp_path / name).write_bytes(os.urandom(size))
    return tmp_path


def test_every_file_gets_the_digest_that_any_sha256_tool_gives_it(folder):
    sources = survey(folder).files
    with hashing(folder) as results:
        files = results(sources)
    assert files == [hashed(source) for source in sources]
    for file in files:
        data = (folder / file.path).read_bytes()
        assert (file.size, file.digest) == (len(data), f"sha256:{hashlib.sha256(data).hexdigest()}")


def test_a_file_that_appeared_since_is_hashed_too(folder):
    with hashing(folder) as results:
        (folder / "late.txt").write_bytes(b"late")
        assert [file.path for file in results(survey(folder).files)] == ["a.txt", "b.txt", "empty.txt", "late.txt"]


def test_a_file_that_changed_since_is_refused(folder):
    with hashing(folder):
        pass
    sources = survey(folder).files
    (folder / "a.txt").write_bytes(b"longer than before")
    with hashing(folder) as results, pytest.raises(InvalidInput, match="changed while it was read"):
        results(sources)


def test_what_nobody_asks_for_ends_soon_and_a_folder_that_is_none_is_nobodys_business(folder):
    with pytest.raises(KeyError), hashing(folder):
        raise KeyError
    with hashing(folder / "missing") as results:
        assert results(()) == []
