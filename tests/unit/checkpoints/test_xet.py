"""Xet uploads: what the real client sends is rebuilt byte for byte, and whatever else arrives is refused."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from typing import BinaryIO

import lz4.frame
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from adapter_registry.checkpoints import xet
from adapter_registry.checkpoints.xet import (
    GROUPED_LZ4,
    LZ4,
    MAX_CHUNK,
    MAX_CHUNKS,
    MAX_FILES,
    MAX_SEGMENTS,
    MAX_XORB,
    STORED,
    Chunk,
    XetFile,
    XetSegment,
    chunk_table,
    rebuild,
    shard_files,
    unpack,
)
from adapter_registry.domain.errors import InvalidInput, NotFound
from tests.xet_receiver import Received, push, receiver

RNG = np.random.default_rng(7)
WEIGHTS = RNG.normal(scale=0.02, size=(512, 1024)).astype(np.float32)


def bfloat16(values: np.ndarray) -> bytes:
    """A safetensors file of one bfloat16 tensor."""
    upper = (values.view(np.uint32) >> 16).astype(np.uint16)
    entry = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [0, upper.nbytes]}
    head = json.dumps({"w": entry}).encode()
    return len(head).to_bytes(8, "little") + head + upper.tobytes()


CONTENTS = {
    "random.bin": RNG.bytes(1_000_003),
    "zeros.bin": bytes(700_001),
    "f32.safetensors": save({"w": WEIGHTS}),
    "bf16.safetensors": bfloat16(WEIGHTS),
    "repeated.bin": RNG.bytes(200_000) * 8,
    "text.txt": "".join(f"line {number}: the cat sat on the mat\n" for number in range(30_000)).encode(),
    "one.bin": b"x",
    **{f"f32-and-{rest}.bin": WEIGHTS[rest * 50 :][:50].tobytes() + b"odd"[:rest] for rest in range(4)},
}
MANY_XORBS = {"large.bin": RNG.bytes(70_000_001)}


def pushed(contents: dict[str, bytes], home, way: str) -> Received:
    with receiver() as received:
        push(received, contents, home=home, way=way)
    return received


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Received:
    """All CONTENTS in one commit: one shard, one xorb."""
    return pushed(CONTENTS, tmp_path_factory.mktemp("together"), "bytes")


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory) -> Received:
    """A commit for each of CONTENTS, by one client process."""
    return pushed(CONTENTS, tmp_path_factory.mktemp("one-by-one"), "path")


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Received:
    return pushed(MANY_XORBS, tmp_path_factory.mktemp("large"), "path")


def opener(xorbs: dict[str, bytes]) -> Callable[[str], BinaryIO]:
    def open_xorb(name: str) -> BinaryIO:
        if name not in xorbs:
            raise NotFound(name)
        return io.BytesIO(xorbs[name])

    return open_xorb


def rebuilt(received: Received) -> dict[str, bytes]:
    """Every file of every shard, by the sha256 the shard declares for it."""
    files = [file for shard in received.shards for file in shard_files(shard)]
    return {str(file.sha256): b"".join(rebuild(file, opener(received.xorbs))) for file in files}


class TestUploadsOfTheRealClient:
    @pytest.mark.parametrize(
        ("way", "contents"), [("together", CONTENTS), ("one_by_one", CONTENTS), ("large", MANY_XORBS)]
    )
    def test_are_rebuilt_byte_for_byte_under_their_sha256(self, way, contents, request):
        received = request.getfixturevalue(way)
        files, committed = rebuilt(received), received.committed()
        assert committed == {name: sha256(content).hexdigest() for name, content in contents.items()}
        assert all(files[committed[name]] == content for name, content in contents.items())

    def test_use_every_packing_scheme_also_with_lengths_that_four_does_not_divide(self, one_by_one):
        tables = [chunk_table(io.BytesIO(xorb)) for xorb in one_by_one.xorbs.values()]
        seen = Counter((chunk.scheme, chunk.size % 4) for table in tables for chunk in table)
        assert {scheme for scheme, _ in seen} == {STORED, LZ4, GROUPED_LZ4}
        assert {rest for scheme, rest in seen if scheme == GROUPED_LZ4} == {0, 1, 2, 3}

    def test_of_one_file_may_span_several_xorbs(self, large):
        [file] = shard_files(large.shards[0])
        assert len({segment.xorb for segment in file.segments}) == len(large.xorbs) == 2
        assert file.size == len(MANY_XORBS["large.bin"])

    def test_share_chunks_between_files_and_within_one(self, together):
        assert len(together.xorbs) == 1
        assert sum(map(len, together.xorbs.values())) < sum(map(len, CONTENTS.values())) / 1.5

    def test_refer_to_nothing_of_another_push_while_each_has_its_own_address(self, one_by_one):
        address = {
            path.rpartition("/")[2]: path.split("/v1/")[0] for _, path, _, _ in one_by_one.log if "/xorbs/" in path
        }
        assert len(set(address.values())) == len(CONTENTS)
        for shard in one_by_one.shards:
            assert len({address[segment.xorb] for file in shard_files(shard) for segment in file.segments}) == 1

    def test_are_rebuilt_in_bounded_memory(self, large):
        [file] = shard_files(large.shards[0])
        open_xorb = opener(large.xorbs)
        tracemalloc.start()
        pieces = [len(piece) for piece in rebuild(file, open_xorb)]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert max(pieces) <= MAX_CHUNK
        assert peak < 4 * 1024 * 1024


def told(value: object) -> str:
    """The name of a case: the text expected, and not the bytes, which may be millions."""
    return value if isinstance(value, str) else "bytes"


def number(value: int) -> bytes:
    return struct.pack("<I", value)


def header(*, version: int = 2) -> bytes:
    tag = bytes.fromhex("48465265706f4d6574614461746100556967456a7b815783a5bdd95ccdd14aa9")
    return tag + struct.pack("<QQ", version, 0)


def file_record(*, flags: int = 0, segments: int = 1) -> bytes:
    return bytes(range(32)) + number(flags) + number(segments) + bytes(8)


def segment_record(*, size: int = 10, first: int = 0, end: int = 1) -> bytes:
    return b"\x01" * 32 + bytes(4) + number(size) + number(first) + number(end)


END = b"\xff" * 32 + bytes(16)


def refusal_of_shard(data: bytes) -> str:
    with pytest.raises(InvalidInput) as refused:
        shard_files(data)
    return refused.value.text


class TestShardFiles:
    def test_a_hash_is_spelled_as_four_little_endian_numbers(self):
        [file] = shard_files(header() + file_record() + segment_record() + END)
        assert file.xet_hash == "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918"
        assert file.segments == (XetSegment("01" * 32, 0, 1, 10),)
        assert file.sha256 is None

    def test_verification_is_skipped_and_the_sha256_read(self):
        flags = 1 << 31 | 1 << 30
        digest = bytes(range(32, 64)) + bytes(16)
        verification = b"\xee" * 48
        [file] = shard_files(header() + file_record(flags=flags) + segment_record() + verification + digest + END)
        assert file.sha256 == "27262524232221202f2e2d2c2b2a292837363534333231303f3e3d3c3b3a3938"

    def test_an_empty_file_has_no_segments(self):
        [file] = shard_files(header() + file_record(segments=0) + END)
        assert (file.size, list(rebuild(file, opener({})))) == (0, [])

    def test_what_follows_the_end_mark_is_not_read(self):
        assert shard_files(header() + END + b"anything") == ()

    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (b"", "0 bytes received do not start like a shard"),
            (header()[:47], "47 bytes received do not start"),
            (b"<html>" + bytes(100), "do not start like a shard"),
            (header(version=3) + END, "version 3, only 2"),
            (header(), "ends after 48 bytes, without the end mark"),
            (header() + file_record(segments=2) + segment_record(), "without all 2 segments of file 070605040302"),
            (header() + file_record(segments=2**32 - 1) + END, f"more than {MAX_SEGMENTS:,} segments"),
            (header() + file_record(flags=1 << 31) + segment_record(), "without the verification"),
            (header() + file_record(flags=1 << 30) + segment_record(), "without the sha256"),
            (header() + file_record(flags=1) + segment_record() + END, "flags 0x1, which are not known"),
            (header() + file_record() + segment_record(first=3, end=3) + END, "wants chunks 3 to 3"),
            (header() + file_record() + segment_record(end=MAX_CHUNKS + 1) + END, "there is no such run"),
            (header() + file_record() + segment_record(size=MAX_CHUNK + 1) + END, "wants 131,073 bytes of 1 chunks"),
            (header() + file_record() + segment_record(size=0) + END, "wants 0 bytes of 1 chunks"),
            (header() + file_record(segments=0) * (MAX_FILES + 1) + END, f"more than {MAX_FILES:,} files"),
        ],
        ids=told,
    )
    def test_refuses_what_is_no_shard(self, data, text):
        assert text in refusal_of_shard(data)

    def test_segments_are_counted_over_all_files(self, monkeypatch):
        monkeypatch.setattr(xet, "MAX_SEGMENTS", 10)
        one = file_record(segments=5) + segment_record() * 5
        assert len(shard_files(header() + one * 2 + END)) == 2
        assert "more than 10 segments" in refusal_of_shard(header() + one * 2 + file_record() + segment_record() + END)


def packed(data: bytes, *, size: int, scheme: int = STORED, version: int = 0, length: int | None = None) -> bytes:
    """A chunk: its header, which may lie, and its data."""
    told = len(data) if length is None else length
    return bytes([version]) + told.to_bytes(3, "little") + bytes([scheme]) + size.to_bytes(3, "little") + data


def refusal_of_xorb(data: bytes) -> str:
    with pytest.raises(InvalidInput) as refused:
        chunk_table(io.BytesIO(data))
    return refused.value.text


class TestChunkTable:
    def test_says_where_each_chunk_lies(self):
        xorb = packed(b"abc", size=3) + packed(b"defgh", size=100, scheme=LZ4)
        assert chunk_table(io.BytesIO(xorb)) == (Chunk(8, 3, STORED, 3), Chunk(19, 5, LZ4, 100))

    def test_stops_at_the_mark_of_a_footer(self):
        assert len(chunk_table(io.BytesIO(packed(b"abc", size=3) + b"XETBLOB\x01" + bytes(200)))) == 1

    def test_the_largest_chunk_itself_passes(self):
        assert chunk_table(io.BytesIO(packed(bytes(MAX_CHUNK), size=MAX_CHUNK)))[0].size == 131_072

    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (b"", "no chunk"),
            (b"XETBLOB\x01" + bytes(50), "no chunk"),
            (packed(b"abc", size=3)[:5], "5 stray bytes"),
            (packed(b"abc", size=3) + b"\0\0", "2 stray bytes after chunk 1"),
            (packed(b"abc", size=9, scheme=LZ4, length=4), "is cut off: it should end at 12, the xorb ends at 11"),
            (packed(b"abc", size=3, version=1), "chunk 0 at byte 0 has version 1"),
            (packed(b"abc", size=3, scheme=3), "scheme 3"),
            (packed(b"abc", size=0, scheme=LZ4), "declares 0 bytes unpacked"),
            (packed(b"abc", size=MAX_CHUNK + 1, scheme=LZ4), "declares 131,073 bytes unpacked"),
            (packed(b"", size=3, scheme=LZ4), "declares 0 bytes packed"),
            (packed(b"abc", size=4), "3 bytes packed for 4 unpacked"),
            (packed(bytes(200_000), size=MAX_CHUNK, scheme=LZ4), "200,000 bytes packed"),
            (packed(b"a", size=1) * (MAX_CHUNKS + 1), f"more than {MAX_CHUNKS:,} chunks"),
            (bytes(MAX_XORB + 1), "are taken"),
        ],
        ids=told,
    )
    def test_refuses_a_header_that_breaks_a_rule(self, data, text):
        assert text in refusal_of_xorb(data)


def unpacked(data: bytes, *, size: int, scheme: int = LZ4) -> bytes:
    return unpack(Chunk(8, len(data), scheme, size), data)


class TestUnpack:
    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, MAX_CHUNK - 1, MAX_CHUNK])
    def test_grouped_bytes_are_the_strided_ones_whatever_the_length(self, size):
        content = RNG.bytes(size)
        grouped = b"".join(content[place::4] for place in range(4))
        assert unpacked(lz4.frame.compress(grouped), size=size, scheme=GROUPED_LZ4) == content

    @pytest.mark.parametrize("scheme", [LZ4, GROUPED_LZ4])
    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"not a frame at all", id="not-a-frame"),
            pytest.param(lz4.frame.compress(bytes(101)), id="longer"),
            pytest.param(lz4.frame.compress(bytes(99)), id="shorter"),
            pytest.param(lz4.frame.compress(bytes(100))[:-4], id="no-end"),
            pytest.param(lz4.frame.compress(bytes(100)) + b"x", id="something-after"),
            pytest.param(lz4.frame.compress(bytes(50)) * 2, id="two-frames"),
            pytest.param(
                b"\x50\x2a\x4d\x18" + number(4) + b"skip" + lz4.frame.compress(bytes(100)), id="skipped-frame"
            ),
            pytest.param(lz4.frame.compress(bytes(100), content_checksum=True)[:-1] + b"?", id="checksum"),
        ],
    )
    def test_refuses_anything_but_one_frame_of_the_declared_length(self, data, scheme):
        with pytest.raises(InvalidInput, match="does not unpack"):
            unpacked(data, size=100, scheme=scheme)

    @pytest.mark.parametrize("size_told", [True, False])
    def test_a_bomb_is_stopped_at_the_declared_length(self, size_told):
        bomb = lz4.frame.compress(bytes(500_000_000), store_size=size_told, block_size=lz4.frame.BLOCKSIZE_MAX4MB)
        tracemalloc.start()
        with pytest.raises(InvalidInput):
            unpacked(bomb, size=MAX_CHUNK)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 * 1024 * 1024

    def test_stored_bytes_cut_off_are_refused(self):
        with pytest.raises(InvalidInput, match="is not of the 4 bytes"):
            unpack(Chunk(8, 4, STORED, 4), b"abc")


def rebuilding(*segments: XetSegment, xorbs: dict[str, bytes]) -> bytes:
    return b"".join(rebuild(XetFile("f" * 64, segments, None), opener(xorbs)))


XORBS = {"a": packed(b"abc", size=3) + packed(b"de", size=2), "b": packed(b"fgh", size=3)}


class TestRebuild:
    def test_segments_come_in_order_and_may_repeat(self):
        segments = [
            XetSegment("a", 1, 2, 2),
            XetSegment("b", 0, 1, 3),
            XetSegment("a", 0, 2, 5),
            XetSegment("a", 0, 1, 3),
        ]
        assert rebuilding(*segments, xorbs=XORBS) == b"defghabcdeabc"

    def test_a_xorb_never_received_is_refused_with_the_way_out(self):
        with pytest.raises(InvalidInput, match=r"was not sent with this push.*delete its folder `xet`"):
            rebuilding(XetSegment("c" * 64, 0, 1, 3), xorbs=XORBS)

    @pytest.mark.parametrize(("end", "size"), [(3, 5), (2, 4), (1, 5)])
    def test_chunks_or_sizes_that_disagree_are_refused_before_a_byte_is_unpacked(self, end, size):
        pieces = rebuild(XetFile("f" * 64, (XetSegment("a", 0, end, size),), None), opener(XORBS))
        with pytest.raises(InvalidInput, match=f"the shard wants {size} bytes in chunks 0 to {end}, the xorb has 2"):
            next(pieces)

    def test_every_stream_is_closed_also_when_the_reader_stops_early(self):
        opened: list[BinaryIO] = []

        def open_xorb(name: str) -> BinaryIO:
            opened.append(opener(XORBS)(name))
            return opened[-1]

        pieces = rebuild(XetFile("f" * 64, (XetSegment("a", 0, 2, 5),), None), open_xorb)
        assert next(pieces) == b"abc"
        pieces.close()
        assert opened
        assert all(stream.closed for stream in opened)


def mutate(data: bytes, changes: list[tuple[int, int]], cut: int | None) -> bytes:
    changed = bytearray(data)
    for place, value in changes:
        changed[place % len(changed)] = value
    return bytes(changed if cut is None else changed[: cut % (len(changed) + 1)])


CHANGES = st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 255)), max_size=4)
CUTS = st.none() | st.integers(0, 1 << 30)


class TestDamage:
    @settings(max_examples=1500, deadline=None)
    @given(CHANGES, CUTS)
    def test_a_damaged_shard_is_refused_or_describes_files_within_bounds(self, together, changes, cut):
        try:
            files = shard_files(mutate(together.shards[0], changes, cut))
        except InvalidInput:
            return
        assert all(0 <= s.first < s.end and len(s.xorb) == 64 for file in files for s in file.segments)

    @settings(max_examples=1500, deadline=None)
    @given(st.sampled_from(["one.bin", "f32-and-3.bin", "zeros.bin"]), CHANGES, CUTS)
    def test_a_damaged_xorb_is_refused_or_unpacks_to_the_lengths_it_declares(self, one_by_one, name, changes, cut):
        xorb = io.BytesIO(mutate(xorb_of(one_by_one, name), changes, cut))
        try:
            for chunk in chunk_table(xorb):
                xorb.seek(chunk.offset)
                assert len(unpack(chunk, xorb.read(chunk.packed))) == chunk.size
        except InvalidInput:
            return

    @settings(max_examples=300, deadline=None)
    @given(CHANGES, CHANGES)
    def test_a_damaged_push_never_rebuilds_to_another_length_than_declared(self, one_by_one, in_shard, in_xorb):
        index = sorted(CONTENTS).index("zeros.bin")
        xorbs = {name: mutate(xorb, in_xorb, None) for name, xorb in one_by_one.xorbs.items() if len(xorb) < 10_000}
        try:
            for file in shard_files(mutate(one_by_one.shards[index], in_shard, None)):
                assert sum(map(len, rebuild(file, opener(xorbs)))) == file.size
        except InvalidInput:
            return

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=400))
    def test_noise_is_refused(self, noise):
        with pytest.raises(InvalidInput):
            shard_files(noise)
        with pytest.raises(InvalidInput):
            chunk_table(io.BytesIO(b"\x01" + noise))


def xorb_of(received: Received, name: str) -> bytes:
    """The xorb of a file pushed alone."""
    [file] = shard_files(received.shards[sorted(CONTENTS).index(name)])
    return received.xorbs[file.segments[0].xorb]
