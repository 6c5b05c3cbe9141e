"""Digests of weight files: right whatever the threads do, cached by the identity of the file."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from safetensors import safe_open
from safetensors.numpy import save_file

from adapter_registry.checkpoints import fingerprint
from adapter_registry.checkpoints.fingerprint import Fingerprint, fingerprints
from adapter_registry.checkpoints.header import Header, read
from adapter_registry.domain.errors import InvalidInput

Files = list[tuple[Path, Header]]


def opened(path: Path) -> tuple[Path, Header]:
    with path.open("rb") as stream:
        return path, read(stream, size=path.stat().st_size, file=path.name)


def shards(folder: Path, count: int) -> Files:
    """Shards of different sizes, one of them several blocks long."""
    random = np.random.default_rng(0)
    files = []
    for shard in range(count):
        path = folder / f"model-{shard}.safetensors"
        rows = 70 if shard == 0 else 3 + shard
        tensors = {f"{shard}.weight": random.random((rows, 10_007), dtype=np.float32), f"{shard}.bias": np.ones(shard)}
        save_file(tensors, path)
        files.append(opened(path))
    return files


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Change times cannot be set, so the clock of the cache is put a minute ahead."""
    now = time.time_ns
    monkeypatch.setattr("adapter_registry.checkpoints.fingerprint_cache.time.time_ns", lambda: now() + 60 * 10**9)


def expected(path: Path) -> Fingerprint:
    with safe_open(path, framework="numpy") as file:
        names = file.keys()
        tensors = {name: blake3(file.get_tensor(name).tobytes()).hexdigest() for name in names}
    return Fingerprint(hashlib.sha256(path.read_bytes()).hexdigest(), tensors)


@pytest.mark.parametrize("threads", [1, 2, 3, 8, None])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_digests_do_not_depend_on_how_the_work_is_shared_out(tmp_path: Path, count: int, threads: int | None):
    files = shards(tmp_path, count)
    found = fingerprints(files, cache=None, progress=lambda _: None, threads=threads)
    assert found == tuple(expected(path) for path, _ in files)


@pytest.mark.parametrize("threads", [1, 8])
def test_progress_adds_up_to_the_size_of_the_files_and_comes_in_the_calling_thread(tmp_path: Path, threads: int):
    files = shards(tmp_path, 3)
    seen: list[tuple[int, str]] = []
    fingerprints(
        files, cache=None, progress=lambda n: seen.append((n, threading.current_thread().name)), threads=threads
    )
    assert sum(n for n, _ in seen) == sum(header.size for _, header in files)
    assert {name for _, name in seen} == {threading.current_thread().name}


def test_progress_is_complete_when_everything_is_cached(tmp_path: Path):
    files, cache = shards(tmp_path, 2), tmp_path / "cache"
    seen: list[int] = []
    fingerprints(files, cache=cache, progress=lambda _: None)
    fingerprints(files, cache=cache, progress=seen.append)
    assert sum(seen) == sum(header.size for _, header in files)


def test_no_files_have_no_fingerprints():
    assert fingerprints([], cache=None, progress=lambda _: None) == ()


def test_an_error_in_progress_stops_the_reading(tmp_path: Path):
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fingerprints(shards(tmp_path, 3), cache=None, progress=interrupted, threads=2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


class TestAFileThatChanges:
    def during(self, files: Files, change, monkeypatch: pytest.MonkeyPatch) -> str:
        """The refusal when `change` happens after the first block was read."""
        hasher, done = fingerprint.hashlib.sha256, threading.Event()

        def sha256():
            if not done.is_set():
                done.set()
                change()
            return hasher()

        monkeypatch.setattr("adapter_registry.checkpoints.fingerprint.hashlib.sha256", sha256)
        with pytest.raises(InvalidInput) as refused:
            fingerprints(files, cache=None, progress=lambda _: None, threads=1)
        return str(refused.value)

    def test_is_refused_when_written_to(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        files = shards(tmp_path, 1)
        assert "changed while it was read" in self.during(files, files[0][0].touch, monkeypatch)

    def test_is_refused_when_cut_short(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        files = shards(tmp_path, 1)
        assert "changed while it was read" in self.during(files, lambda: os.truncate(files[0][0], 100), monkeypatch)

    def test_is_refused_when_replaced(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        files = shards(tmp_path, 1)
        other = tmp_path / "other"
        other.write_bytes(files[0][0].read_bytes())
        assert "changed while" in self.during(files, lambda: other.replace(files[0][0]), monkeypatch)


class TestCache:
    def unread(self, files: Files, cache: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Fingerprint, ...]:
        """Fingerprints, where opening a weight file is a failure."""
        with monkeypatch.context() as patched:
            patched.setattr("adapter_registry.checkpoints.fingerprint.mmap.mmap", None)
            return fingerprints(files, cache=cache, progress=lambda _: None)

    def test_the_second_time_nothing_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        files, cache = shards(tmp_path, 2), tmp_path / "cache"
        first = fingerprints(files, cache=cache, progress=lambda _: None)
        assert self.unread(files, cache, monkeypatch) == first

    def test_a_file_edited_in_place_under_its_old_modification_time_is_read_again(self, tmp_path: Path):
        files, cache = shards(tmp_path, 1), tmp_path / "cache"
        path, header = files[0]
        before = fingerprints(files, cache=cache, progress=lambda _: None)
        status = path.stat()
        with path.open("r+b") as stream:
            stream.seek(header.size - 1)
            stream.write(b"\xff")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        after = fingerprints(files, cache=cache, progress=lambda _: None)
        assert after[0].sha256 != before[0].sha256
        assert after == (expected(path),)

    def test_a_file_changed_within_the_last_two_seconds_is_not_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.undo()
        files, cache = shards(tmp_path, 1), tmp_path / "cache"
        fingerprints(files, cache=cache, progress=lambda _: None)
        assert not list(cache.rglob("*.json"))

    @pytest.mark.parametrize(
        "damage",
        [
            lambda entry: entry.write_bytes(b""),
            lambda entry: entry.write_text("[]"),
            lambda entry: entry.write_text("[" * 100_000),
            lambda entry: entry.write_text(entry.read_text()[:-20]),
            lambda entry: entry.write_text(json.dumps(json.loads(entry.read_text()) | {"tensors": {}})),
            lambda entry: entry.write_text(json.dumps(json.loads(entry.read_text()) | {"tensors": {"x": "0" * 64}})),
            lambda entry: entry.write_text(json.dumps(json.loads(entry.read_text()) | {"sha256": "zz"})),
            lambda entry: entry.write_text(json.dumps(json.loads(entry.read_text()) | {"sha256": None})),
            lambda entry: entry.write_text(json.dumps(json.loads(entry.read_text()) | {"format": "other"})),
            lambda entry: entry.write_bytes(b"\xff\xfe"),
        ],
        ids=["empty", "list", "deep", "cut", "no tensors", "other tensors", "no hex", "null", "format", "binary"],
    )
    def test_a_damaged_entry_is_ignored_and_written_anew(self, tmp_path: Path, damage, monkeypatch):
        files, cache = shards(tmp_path, 1), tmp_path / "cache"
        first = fingerprints(files, cache=cache, progress=lambda _: None)
        [entry] = cache.rglob("*.json")
        damage(entry)
        assert fingerprints(files, cache=cache, progress=lambda _: None) == first
        assert self.unread(files, cache, monkeypatch) == first

    def test_a_cache_that_cannot_be_written_costs_nothing_but_time(self, tmp_path: Path):
        files, cache = shards(tmp_path, 1), tmp_path / "cache"
        cache.write_text("a file where the folder should be")
        assert fingerprints(files, cache=cache, progress=lambda _: None) == (expected(files[0][0]),)

    def test_nothing_is_left_aside(self, tmp_path: Path):
        files, cache = shards(tmp_path, 3), tmp_path / "cache"
        fingerprints(files, cache=cache, progress=lambda _: None)
        assert {path.suffix for path in cache.rglob("*") if path.is_file()} == {".json"}
