"""Workers share the pieces of files: every byte in its place, every digest right, errors told."""

from __future__ import annotations

import errno
import hashlib
import threading
from functools import partial

import numpy as np
import pytest

from adapter_registry.tensors.merging.crew import Crew
from adapter_registry.tensors.merging.layout import OutFile


class Made:
    """A file of random pieces that are kept in memory, in place of `merge_pieces.Pieces`."""

    def __init__(self, seed: int, pieces: int, largest: int) -> None:
        random = np.random.default_rng(seed)
        self.pieces = [random.integers(0, 256, int(random.integers(1, largest)), np.uint8) for _ in range(pieces)]
        self.file = OutFile(f"file{seed}", bytes(sum(map(len, self.pieces))), (), None)
        self.released, self.synced = 0, None

    def __iter__(self):
        for piece in self.pieces:
            yield len(piece), partial(self.make, piece)

    def make(self, piece):
        return piece, self.release

    def release(self):
        self.released += 1

    def close(self, *, sync):
        self.synced = sync

    @property
    def sha256(self):
        return hashlib.sha256(b"".join(piece.tobytes() for piece in self.pieces)).hexdigest()


def crew(workers, files, *, finish=None, progress=lambda _: None):
    """The digests that a crew tells of some files."""
    found, by_name = {}, {each.file.name: each for each in files}

    def told(file, digest):
        found[file.name] = digest

    made = Crew(workers, begin=lambda file: by_name[file.name], finish=finish or told, progress=progress)
    made.make([each.file for each in files])
    return found


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("files", [0, 1, 2, 3, 7])
def test_every_file_is_told_with_its_digest_and_is_on_the_disk(workers, files):
    made = [Made(seed, pieces=3 + 20 * (seed % 3), largest=300_000) for seed in range(files)]
    assert crew(workers, made) == {each.file.name: each.sha256 for each in made}
    assert all(each.released == len(each.pieces) and each.synced for each in made)


def test_progress_adds_up_to_all_bytes():
    counts, made = [], [Made(seed, pieces=9, largest=5_000) for seed in range(3)]
    crew(2, made, progress=counts.append)
    assert sum(counts) == sum(each.file.size for each in made)


def test_a_file_whose_digest_is_known_is_not_hashed():
    made = Made(1, pieces=3, largest=100)
    made.file = OutFile("file1", made.file.head, (), "as it was")
    assert crew(2, [made]) == {"file1": "as it was"}


@pytest.mark.parametrize("workers", [1, 4])
def test_the_first_error_stops_everyone_and_is_raised(workers):
    spoiled, fine = Made(1, pieces=50, largest=1_000), Made(2, pieces=50, largest=1_000)

    def make(piece):
        if piece is spoiled.pieces[20]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return piece, spoiled.release

    spoiled.make = make
    with pytest.raises(OSError, match="No space left"):
        crew(workers, [spoiled, fine])
    assert spoiled.synced is False
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("merge")]


def test_pieces_of_one_file_are_made_by_several_workers_at_once():
    meeting, made = threading.Barrier(3, timeout=30), Made(1, pieces=3, largest=1_000)

    def make(piece):
        meeting.wait()
        return piece, made.release

    made.make = make
    assert crew(3, [made]) == {"file1": made.sha256}
