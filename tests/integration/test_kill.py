"""`kill -9` at any moment of a push or a promotion: nothing acknowledged is lost, nothing is half visible."""

from __future__ import annotations

import hashlib
import os
import random
import select
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapter_registry.client import Registry
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.settings import read_settings
from tests.adapter_builders import WEIGHTS, copied

TRIALS = 60

VERSIONS_WITHOUT_FILES = """
SELECT count(*) FROM versions v WHERE NOT EXISTS (SELECT 1 FROM version_files f WHERE f.version_id = v.id)
"""
POINTERS_WITHOUT_PROMOTION = """
SELECT count(*) FROM stages s WHERE NOT EXISTS (
  SELECT 1 FROM promotions p WHERE p.adapter_id = s.adapter_id AND p.stage = s.stage
  AND p.sequence = s.sequence AND p.version_id = s.version_id)
"""


def connect(home: Path) -> Registry:
    return Registry(read_settings({"ADAPTERS_HOME": str(home), "ADAPTERS_CACHE": str(home / "cache")}))


def pushed(home: Path, folder: Path) -> str:
    return connect(home).push(folder, base="llama", name="a").version.digest


def promoted(home: Path, number: int) -> str:
    return str(connect(home).promote(f"a@v{number}", "staging").version.number)


def killed(work: Callable[[], str], *, after: float) -> bytes:
    """Run `work` in a child of its own, kill it after a while; what it acknowledged before."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, work().encode())
        finally:
            os._exit(0)
    os.close(writer)
    select.select([reader], [], [], after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    acknowledged = os.read(reader, 100)
    os.close(reader)
    return acknowledged


def verify(home: Path) -> dict[str, int]:
    """Invariants, read without the registry's own code: version digest -> number."""
    database = sqlite3.connect(home / "registry.db")
    try:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        for digest, size in database.execute("SELECT digest, size FROM blobs"):
            data = (home / "blobs" / "sha256" / digest[7:9] / digest[7:]).read_bytes()
            assert len(data) == size
            assert hashlib.sha256(data).hexdigest() == digest[7:]
        versions = dict(database.execute("SELECT digest, number FROM versions"))
        for digest, manifest in database.execute("SELECT digest, manifest FROM versions"):
            assert hashlib.sha256(manifest.encode()).hexdigest() == digest[7:]
        assert database.execute(VERSIONS_WITHOUT_FILES).fetchone() == (0,)
        assert database.execute(POINTERS_WITHOUT_PROMOTION).fetchone() == (0,)
        events = [row[0] for row in database.execute("SELECT sequence FROM events ORDER BY sequence")]
        assert events == list(range(1, len(events) + 1))
        return versions
    finally:
        database.close()


@pytest.fixture
def home(tmp_path, llama_folder):
    connect(tmp_path / "home").add_base("llama", llama_folder)
    return tmp_path / "home"


def variant(source: Path, target: Path, i: int) -> Path:
    copied(source, target)
    tensors = load_file(target / WEIGHTS)
    save_file({name: tensor + np.float32(i + 1) for name, tensor in tensors.items()}, target / WEIGHTS)
    return target


def seconds_of(work: Callable[[Path], str], home: Path) -> float:
    """How long it takes such a child now, tried on a copy, so that kills fall before, into and after it.

    A child of a process that holds much memory is many times slower than its parent.
    """
    elsewhere = shutil.copytree(home, home.with_name("measured"))
    started = time.perf_counter()
    assert killed(lambda: work(elsewhere), after=60)
    return time.perf_counter() - started


def test_a_push_is_whole_or_absent_whenever_it_is_killed(home, lora_folder, tmp_path):
    chance, took = random.Random(7), seconds_of(lambda there: pushed(there, lora_folder), home)
    acknowledged = 0
    for i in range(TRIALS):
        folder = variant(lora_folder, tmp_path / f"v{i}", i)
        answer = killed(partial(pushed, home, folder), after=chance.uniform(0, 2 * took)).decode()
        versions = verify(home)
        if answer:
            acknowledged += 1
            assert answer in versions
        retried = connect(home).push(folder, base="llama", name="a")
        assert not answer or retried.version.digest == answer
        assert list(verify(home).values()).count(retried.version.number) == 1
    assert 0 < acknowledged < TRIALS
    assert sorted(verify(home).values()) == list(range(1, TRIALS + 1))


def test_a_promotion_is_whole_or_absent_whenever_it_is_killed(home, lora_folder, tmp_path):
    registry = connect(home)
    for i in (0, 1):
        registry.push(variant(lora_folder, tmp_path / f"v{i}", i), base="llama", name="a")
        registry.add_scores(f"a@v{i + 1}", (Score("x/acc", 0.5, Direction.HIGHER, n=1000),))
    chance, took = random.Random(8), seconds_of(lambda there: promoted(there, 1), home)
    acknowledged = 0
    for i in range(TRIALS):
        answer = killed(partial(promoted, home, i % 2 + 1), after=chance.uniform(0, 2 * took)).decode()
        verify(home)
        moves = connect(home).history("a", "staging").moves
        assert [move.sequence for move in moves] == list(range(len(moves), 0, -1))
        if answer:
            acknowledged += 1
            assert moves[0].number == int(answer)
    assert 0 < acknowledged < TRIALS


def test_what_a_killed_push_left_behind_is_swept(home, lora_folder):
    registry = connect(home)
    registry.push(lora_folder, base="llama", name="a")
    incoming = home / "blobs" / "incoming"
    (incoming / "half").write_bytes(b"half a blob")
    orphan = home / "blobs" / "sha256" / "ab" / ("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"bytes that no version refers to")
    assert registry.collect(grace_seconds=3600).blobs == 0
    collected = registry.collect(grace_seconds=0)
    assert (collected.blobs, collected.leftovers) == (1, 1)
    verify(home)


def test_bytes_are_on_disk_before_they_are_named_and_named_before_the_answer(home, lora_folder, monkeypatch):
    """A killed process proves atomicity; only the order of calls proves that a power cut loses nothing."""
    calls: list[str] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(descriptor):
        kind = "folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file"
        calls.append(f"fsync {kind}")
        real_fsync(descriptor)

    def rename(source, target, **options):
        calls.append("rename")
        real_rename(source, target, **options)

    registry = connect(home)
    registry.bases()
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    pushed = registry.push(lora_folder, base="llama", name="a")
    renames = [i for i, call in enumerate(calls) if call == "rename"]
    assert len(renames) == len({file.digest for file in pushed.version.files})
    for i in renames:
        assert calls[i - 1] == "fsync file"
        assert calls[i + 1] == "fsync folder"


def test_the_database_is_opened_so_that_a_commit_survives_a_power_cut(home):
    from adapter_registry.storage.database import open_sqlite

    with open_sqlite(home / "registry.db").connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
