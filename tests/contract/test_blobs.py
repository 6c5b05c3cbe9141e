"""What every BlobStore promises; run on each implementation."""

import hashlib
import io
import os
import resource
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapter_registry.domain.digest import Digest, of_bytes
from adapter_registry.domain.errors import (
    Conflict,
    DigestMismatch,
    InvalidReference,
    NotFound,
    StoreFull,
    StoreUnavailable,
    Unsupported,
)
from adapter_registry.domain.sketch import sketch_of
from adapter_registry.storage.blobs_local import LocalBlobs
from adapter_registry.storage.blobs_memory import MemoryBlobs

DATA = b"weights" * 300_000
DIGEST = of_bytes(DATA)
SESSION = "5" * 64


@pytest.fixture(params=["local", "memory", "s3"])
def store(request, tmp_path):
    if request.param == "s3":
        return request.getfixturevalue("s3_server").fresh_blobs()
    return LocalBlobs(tmp_path / "blobs") if request.param == "local" else MemoryBlobs()


@pytest.fixture
def local(tmp_path):
    return LocalBlobs(tmp_path / "blobs")


def stored_path(tmp_path: Path, digest: Digest) -> Path:
    return tmp_path / "blobs" / "sha256" / digest[7:9] / digest[7:]


def read(store, digest):
    with store.open(digest) as stream:
        return stream.read()


@contextmanager
def small_files(limit: int):
    """No file of this process grows beyond `limit` bytes: a full disk, as far as the code can see."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


class TestPut:
    def test_what_was_put_is_read_back(self, store):
        assert store.put(DIGEST, io.BytesIO(DATA), name="w") == len(DATA)
        assert read(store, DIGEST) == DATA
        assert store.size(DIGEST) == len(DATA)

    @pytest.mark.parametrize("data", [b"", b"x", os.urandom(1 << 20), os.urandom((1 << 20) + 1)])
    def test_any_size_is_stored_whole(self, store, data):
        store.put(of_bytes(data), io.BytesIO(data), name="w")
        assert read(store, of_bytes(data)) == data

    def test_bytes_that_are_not_what_they_claim_are_refused_and_nothing_is_kept(self, store):
        with pytest.raises(DigestMismatch, match=r"w: declared sha256 .* nothing was stored"):
            store.put(DIGEST, io.BytesIO(DATA[:-1]), name="w")
        assert store.size(DIGEST) is None
        assert list(store.each()) == []
        assert store.sweep(older_than=0) == 0

    def test_the_same_bytes_again_are_a_success(self, store):
        assert store.put(DIGEST, io.BytesIO(DATA), name="w") == len(DATA)
        assert store.put(DIGEST, io.BytesIO(DATA), name="w") == len(DATA)
        assert [digest for digest, _ in store.each()] == [DIGEST]

    def test_bytes_may_arrive_in_pieces_before_their_digest_is_known(self, store):
        with store.incoming(name="w") as incoming:
            incoming.write(DATA[:10], b"", DATA[10:1000])
            incoming.write(DATA[1000:])
            assert list(store.each()) == []
            assert incoming.publish(DIGEST) == len(DATA)
        assert read(store, DIGEST) == DATA

    def test_pieces_that_are_something_else_are_refused_and_nothing_is_kept(self, store):
        with store.incoming(name="w") as incoming:
            incoming.write(DATA[:10])
            with pytest.raises(DigestMismatch, match="w: declared sha256"):
                incoming.publish(DIGEST)
        assert list(store.each()) == []

    def test_whoever_names_bytes_that_are_there_has_to_have_them(self, store):
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        for other in (b"", DATA[:-1], b"damage" + DATA[6:]):
            with store.incoming(name="w") as incoming:
                incoming.write(other)
                with pytest.raises(DigestMismatch):
                    incoming.publish(DIGEST)
            with pytest.raises(DigestMismatch):
                store.put(DIGEST, io.BytesIO(other), name="w")
        assert read(store, DIGEST) == DATA

    def test_what_arrived_has_the_sketch_that_its_sender_knows_it_by(self, local):
        with local.incoming(name="w") as incoming:
            incoming.write(DATA[:1000], DATA[1000:])
            assert incoming.sketch == sketch_of(len(DATA), lambda size, at: DATA[at : at + size])

    @pytest.mark.parametrize("store", ["memory", "s3"], indirect=True)
    def test_a_store_that_has_to_be_told_a_digest_first_makes_no_sketch(self, store):
        with store.incoming(name="w") as incoming:
            incoming.write(DATA)
            assert incoming.sketch is None

    def test_no_bytes_arrived_that_were_not_sent(self, store):
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        assert not store.arrived(DIGEST, len(DATA), proof=SESSION)

    def test_bytes_that_are_not_published_are_forgotten(self, store):
        with store.incoming(name="w") as incoming:
            incoming.write(DATA)
        assert list(store.each()) == []
        assert store.sweep(older_than=0) == 0

    def test_a_name_that_is_no_digest_is_refused(self, store):
        with pytest.raises(InvalidReference, match="not a digest"):
            store.put("sha256:../../etc/passwd", io.BytesIO(DATA), name="w")


@pytest.mark.parametrize("store", ["memory", "s3"], indirect=True)
def test_a_store_that_takes_up_no_upload_says_so(store):
    assert store.received(SESSION) is None
    with pytest.raises(Unsupported, match="send the file whole"), store.partial(SESSION, name="w"):
        pass


class TestUploadsInPieces:
    @pytest.fixture
    def resuming(self, local):
        return local

    def write(self, store, data: bytes) -> None:
        with store.partial(SESSION, name="w") as partial:
            partial.write(data)

    def test_what_was_cut_off_goes_on_where_it_ended(self, resuming):
        for start in range(0, len(DATA), 1_000_000):
            assert resuming.received(SESSION) == start
            self.write(resuming, DATA[start : start + 1_000_000])
            assert list(resuming.each()) == []
        with resuming.partial(SESSION, name="w") as partial:
            assert (partial.received, partial.digest) == (len(DATA), DIGEST)
            assert partial.publish(DIGEST) == len(DATA)
        assert read(resuming, DIGEST) == DATA
        assert resuming.received(SESSION) == 0

    def test_pieces_that_make_something_else_are_refused_and_nothing_is_kept(self, resuming):
        self.write(resuming, DATA[:10])
        with resuming.partial(SESSION, name="w") as partial:
            partial.write(b"damage" + DATA[16:])
            with pytest.raises(DigestMismatch):
                partial.publish(DIGEST)
        assert resuming.received(SESSION) == 0
        assert list(resuming.each()) == []

    def test_bytes_that_somebody_else_stored_meanwhile_end_the_upload_too(self, resuming):
        self.write(resuming, DATA)
        resuming.put(DIGEST, io.BytesIO(DATA), name="w")
        with resuming.partial(SESSION, name="w") as partial:
            partial.publish(DIGEST)
        assert resuming.received(SESSION) == 0

    def test_one_at_a_time_goes_on_with_an_upload(self, resuming):
        with resuming.partial(SESSION, name="w") as partial:
            partial.write(DATA[:10])
            with pytest.raises(Conflict, match="another request is sending it"), resuming.partial(SESSION, name="w"):
                pass
        assert resuming.received(SESSION) == 10

    def test_uploads_do_not_know_each_other(self, resuming):
        self.write(resuming, DATA[:10])
        assert resuming.received("6" * 64) == 0

    def test_a_name_that_is_no_session_is_refused(self, resuming):
        with pytest.raises(InvalidReference):
            resuming.received("../../etc/passwd")

    def test_what_may_be_taken_up_is_not_swept(self, resuming):
        self.write(resuming, DATA[:10])
        assert resuming.sweep(older_than=0) == 0
        assert resuming.received(SESSION) == 10


class TestRead:
    def test_bytes_that_are_not_there_are_not_found(self, store):
        with pytest.raises(NotFound, match="pushing the same files again restores them"):
            store.open(DIGEST)
        assert store.size(DIGEST) is None
        assert not store.holds(DIGEST, len(DATA))

    def test_reading_starts_anywhere(self, store):
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        with store.open(DIGEST) as stream:
            assert stream.seekable()
            assert stream.seek(0, io.SEEK_END) == len(DATA)
            assert stream.read() == b""
            for start in (len(DATA) - 3, 0, 1_500_000, 7):
                stream.seek(start)
                assert stream.tell() == start
                assert stream.read(20) == DATA[start : start + 20]
            stream.seek(-5, io.SEEK_CUR)
            assert stream.read(5) == DATA[22:27]

    def test_bytes_of_another_size_are_not_held(self, store):
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        assert store.holds(DIGEST, len(DATA))
        assert not store.holds(DIGEST, len(DATA) + 1)


class TestKeep:
    def test_each_lists_what_is_stored(self, store):
        blobs = {of_bytes(bytes([i])): bytes([i]) for i in range(5)}
        for digest, data in blobs.items():
            store.put(digest, io.BytesIO(data), name="w")
        found = dict(store.each())
        assert found.keys() == blobs.keys()
        assert all(0 <= age < 60 for age in found.values())

    def test_deleting_twice_is_fine(self, store):
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        store.delete(DIGEST)
        store.delete(DIGEST)
        assert store.size(DIGEST) is None

    def test_sweeping_leaves_what_is_whole(self, store):
        store.put(DIGEST, io.BytesIO(DATA), name="w")
        assert store.sweep(older_than=0) == 0
        assert store.size(DIGEST) == len(DATA)


class TestFolder:
    def test_nothing_of_refused_bytes_stays_on_disk(self, local, tmp_path):
        with pytest.raises(DigestMismatch):
            local.put(DIGEST, io.BytesIO(DATA[:-1]), name="w")
        assert [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()] == []

    def test_the_same_bytes_again_are_stored_once(self, local, tmp_path):
        local.put(DIGEST, io.BytesIO(DATA), name="w")
        before = stored_path(tmp_path, DIGEST).stat().st_ino
        local.put(DIGEST, io.BytesIO(DATA), name="w")
        assert stored_path(tmp_path, DIGEST).stat().st_ino == before

    def test_putting_the_bytes_again_heals_a_damaged_blob(self, local, tmp_path):
        local.put(DIGEST, io.BytesIO(DATA), name="w")
        path = stored_path(tmp_path, DIGEST)
        path.chmod(0o644)
        path.write_bytes(b"damage" + DATA[6:])
        assert not local.holds(DIGEST, len(DATA))
        local.put(DIGEST, io.BytesIO(DATA), name="w")
        assert local.holds(DIGEST, len(DATA))

    def test_a_full_disk_is_said_and_leaves_nothing(self, local, tmp_path):
        with small_files(1 << 20), pytest.raises(StoreFull, match="nothing was stored"):
            local.put(DIGEST, io.BytesIO(DATA), name="w")
        assert list((tmp_path / "blobs" / "incoming").iterdir()) == []

    def test_a_folder_that_cannot_be_written_is_said(self, tmp_path):
        (tmp_path / "blobs").write_text("a file where the folder should be")
        with pytest.raises(StoreUnavailable, match="nothing was stored"):
            LocalBlobs(tmp_path / "blobs").put(DIGEST, io.BytesIO(DATA), name="w")

    def test_a_stored_blob_cannot_be_written_by_accident(self, local, tmp_path):
        local.put(DIGEST, io.BytesIO(DATA), name="w")
        assert stored_path(tmp_path, DIGEST).stat().st_mode & 0o222 == 0

    def test_what_an_interrupted_write_left_is_swept(self, local, tmp_path):
        local.put(DIGEST, io.BytesIO(DATA), name="w")
        (tmp_path / "blobs" / "incoming" / "leftover").write_bytes(b"half")
        assert local.sweep(older_than=3600) == 0
        assert local.sweep(older_than=0) == 1
        assert local.size(DIGEST) == len(DATA)

    def test_what_somebody_is_writing_is_not_swept(self, local):
        with local.incoming(name="w") as incoming:
            incoming.write(DATA)
            assert local.sweep(older_than=0) == 0
            incoming.publish(DIGEST)
        assert read(local, DIGEST) == DATA

    def test_an_upload_that_was_cut_off_a_day_ago_begins_anew_and_is_swept(self, local, tmp_path):
        for session in ("5" * 64, "6" * 64):
            with local.partial(session, name="w") as partial:
                partial.write(DATA[:10])
            os.utime(tmp_path / "blobs" / "partial" / session, (0, 0))
        assert local.received(SESSION) == 0
        with local.partial(SESSION, name="w") as partial:
            assert partial.received == 0
            partial.write(DATA)
            partial.publish(DIGEST)
        assert local.sweep(older_than=0) == 1
        assert read(local, DIGEST) == DATA

    def test_a_full_disk_keeps_nothing_of_an_upload_in_pieces(self, local):
        with small_files(1 << 20), pytest.raises(StoreFull), local.partial(SESSION, name="w") as partial:
            partial.write(DATA)
        assert local.received(SESSION) == 0

    def test_asking_whether_a_blob_is_there_makes_it_young_again(self, local, tmp_path):
        local.put(DIGEST, io.BytesIO(DATA), name="w")
        os.utime(stored_path(tmp_path, DIGEST), (0, 0))
        assert dict(local.each())[DIGEST] > 3600
        local.holds(DIGEST, len(DATA))
        assert dict(local.each())[DIGEST] < 3600


def test_the_digest_is_that_of_any_sha256_tool(local, tmp_path):
    local.put(DIGEST, io.BytesIO(DATA), name="w")
    assert hashlib.sha256(stored_path(tmp_path, DIGEST).read_bytes()).hexdigest() == DIGEST[7:]


class TestReachable:
    def test_a_store_that_answers_is_silent(self, store):
        store.reachable()

    def test_a_folder_that_cannot_be_used_is_said(self, tmp_path):
        (tmp_path / "blobs").write_text("a file where the folder should be")
        with pytest.raises(StoreUnavailable):
            LocalBlobs(tmp_path / "blobs").reachable()
