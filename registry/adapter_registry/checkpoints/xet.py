"""What a Xet client uploads, read strictly: the shard that says how files are put together, the xorbs that hold them.

A file arrives as runs of chunks. Chunks (at most 128 KiB unpacked) lie back to back in xorbs (at most 64 MiB as sent);
a shard lists, per file, which chunks of which xorbs make it. Nothing here trusts a length it was told: every count is
bounded by the bytes that are there, and no chunk unpacks to more than it declared. What is not checked is the hash that
names a xorb or a file: it is a key here and no more, and the sha256 of the rebuilt bytes decides.

Source: the layouts are those of the public protocol description (huggingface.co/docs/xet, its pages on shards and
xorbs), which also allows a xorb to end with a footer. Uploads by hf_xet 1.8.0, recorded with tests/xet_receiver.py,
settled the rest: shards and xorbs come without a footer; a chunk that repeats is named by a new segment each time; a
file may come without sha256, and an empty one without segments; the four groups of scheme 2 are the strided bytes, the
first `length mod 4` of them one byte longer.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import BinaryIO

import numpy as np

from adapter_registry.domain.errors import InvalidInput, NotFound

MAX_SHARD = 64 * 1024 * 1024
MAX_FILES = 10_000
MAX_SEGMENTS = 200_000
"""Of all files in a shard together. A file of zeros needs one for every 128 KiB."""

MAX_CHUNK = 128 * 1024
MAX_PACKED = MAX_CHUNK + 4096
"""A chunk that LZ4 cannot shrink still carries its frame."""

MAX_XORB = 64 * 1024 * 1024 + 1024 * 1024
"""The documented 64 MiB, and what the headers of 8,192 chunks and a footer about them may add."""

MAX_CHUNKS = 8192
TABLES_KEPT = 32

STORED, LZ4, GROUPED_LZ4 = 0, 1, 2

_TAG = b"HFRepoMetaData\x00"
_SHARD_VERSION = 2
_FOOTER_MARK = b"XETBLOB"
_RECORD = 48
_END = b"\xff" * 32
_WITH_VERIFICATION, _WITH_SHA256 = 1 << 31, 1 << 30


@dataclass(frozen=True, slots=True)
class XetSegment:
    """A run of chunks of one xorb: its hash (64 hex), first chunk, end chunk (exclusive), bytes when unpacked."""

    xorb: str
    first: int
    end: int
    size: int


@dataclass(frozen=True, slots=True)
class XetFile:
    """How one file is put together.

    Attributes:
        xet_hash: 64 hex, the client's name for the content; not verified.
        segments: in the order of the bytes; none for an empty file.
        sha256: 64 hex, of the content, as the client declares it; None where the shard carries none.
    """

    xet_hash: str
    segments: tuple[XetSegment, ...]
    sha256: str | None

    @property
    def size(self) -> int:
        """Bytes of the file, as declared; `rebuild` yields exactly as many or raises. Compare with a limit first."""
        return sum(segment.size for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where one chunk lies in its xorb: offset and length of the packed bytes, packing scheme, length unpacked."""

    offset: int
    packed: int
    scheme: int
    size: int


def shard_files(data: bytes) -> tuple[XetFile, ...]:
    """The files that an uploaded shard describes, in its order.

    Raises:
        InvalidInput: not a shard, cut off, or with counts beyond what is read here. Nothing was kept.
    """
    if len(data) > MAX_SHARD:
        raise InvalidInput(f"Xet shard: {len(data):,} bytes, at most {MAX_SHARD:,} are read.")
    if len(data) < _RECORD or not data.startswith(_TAG):
        raise InvalidInput(f"Xet shard: the {len(data):,} bytes received do not start like a shard.")
    (version,) = struct.unpack_from("<Q", data, 32)
    if version != _SHARD_VERSION:
        raise InvalidInput(f"Xet shard: version {version}, only {_SHARD_VERSION} is read here. Update the server.")
    files: list[XetFile] = []
    records, segments_left = _Records(data, at=_RECORD), MAX_SEGMENTS
    while (header := records.take(1, "the end mark of its files"))[:32] != _END:
        if len(files) == MAX_FILES:
            raise InvalidInput(f"Xet shard: more than {MAX_FILES:,} files. Push them in several commits.")
        files.append(_file(header, records, segments_left=segments_left))
        segments_left -= len(files[-1].segments)
    return tuple(files)


def chunk_table(xorb: BinaryIO) -> tuple[Chunk, ...]:
    """Where the chunks of a xorb lie: every header checked, nothing unpacked.

    Args:
        xorb: seekable; read from its beginning, to its end or to the mark of a footer.

    Raises:
        InvalidInput: no chunk, a header that breaks a rule, or bytes cut off.
    """
    total = xorb.seek(0, os.SEEK_END)
    if total > MAX_XORB:
        raise InvalidInput(f"xorb: {total:,} bytes, at most {MAX_XORB:,} are taken.")
    chunks: list[Chunk] = []
    at = 0
    while at < total:
        xorb.seek(at)
        header = xorb.read(8)
        if header.startswith(_FOOTER_MARK):
            break
        chunk = _chunk(header, number=len(chunks), at=at, total=total)
        chunks.append(chunk)
        at = chunk.offset + chunk.packed
    if not chunks:
        raise InvalidInput("xorb: no chunk in it.")
    return tuple(chunks)


def unpack(chunk: Chunk, data: bytes) -> bytes:
    """The bytes of a chunk, exactly `chunk.size` of them.

    Args:
        chunk: from `chunk_table`.
        data: the `chunk.packed` bytes at `chunk.offset`.

    Raises:
        InvalidInput: they do not unpack, or not to the declared length.
    """
    if chunk.scheme == STORED:
        content = data
    elif chunk.scheme == LZ4:
        content = _unpack_lz4(data, limit=chunk.size)
    elif chunk.scheme == GROUPED_LZ4:
        content = _ungroup(_unpack_lz4(data, limit=chunk.size))
    else:
        raise InvalidInput(f"xorb: packing scheme {chunk.scheme} is not known here.")
    if len(data) != chunk.packed or len(content) != chunk.size:
        raise InvalidInput(f"xorb: the chunk at byte {chunk.offset:,} is not of the {chunk.size:,} bytes it declares.")
    return content


def rebuild(file: XetFile, open_xorb: Callable[[str], BinaryIO]) -> Iterator[bytes]:
    """The file's bytes in order, in pieces of at most 128 KiB; one piece and a few chunk tables are held at a time.

    A few bytes of shard can name terabytes, because segments may repeat: compare `file.size` with a limit first. The
    sizes of a segment are compared before any of it is unpacked. Hash what comes out: only a sha256 says it is right.

    Args:
        file: from `shard_files`.
        open_xorb: hash → a seekable stream, closed here; raises NotFound for a xorb that was not received.

    Raises:
        InvalidInput: a xorb is missing or malformed, or has other chunks than the shard says.
    """

    @lru_cache(maxsize=TABLES_KEPT)
    def table(xorb: str) -> tuple[Chunk, ...]:
        with _opened(xorb, open_xorb) as stream:
            return chunk_table(stream)

    for xorb, segments in groupby(file.segments, key=lambda segment: segment.xorb):
        chunks = table(xorb)
        with _opened(xorb, open_xorb) as stream:
            for segment in segments:
                for chunk in _run(segment, chunks):
                    stream.seek(chunk.offset)
                    yield unpack(chunk, stream.read(chunk.packed))


class _Records:
    """The 48-byte records of a shard, taken in order and never past the end."""

    def __init__(self, data: bytes, *, at: int) -> None:
        self._data, self._at = data, at

    def take(self, count: int, what: str) -> bytes:
        """The next `count` records, or InvalidInput saying that `what` is missing."""
        end = self._at + count * _RECORD
        if end > len(self._data):
            raise InvalidInput(f"Xet shard: ends after {len(self._data):,} bytes, without {what}. Push again.")
        taken = self._data[self._at : end]
        self._at = end
        return taken


def _file(header: bytes, records: _Records, *, segments_left: int) -> XetFile:
    """The file that starts with this record; takes the records that belong to it."""
    name = _hex(header[:32])
    flags, count = struct.unpack_from("<II", header, 32)
    if flags & ~(_WITH_VERIFICATION | _WITH_SHA256):
        raise InvalidInput(f"Xet shard: file {name[:12]} has flags {flags:#x}, which are not known here.")
    if count > segments_left:
        raise InvalidInput(f"Xet shard: more than {MAX_SEGMENTS:,} segments. Push the files in several commits.")
    listed = records.take(count, f"all {count:,} segments of file {name[:12]}")
    if flags & _WITH_VERIFICATION:
        records.take(count, f"the verification of file {name[:12]}")
    sha256 = None
    if flags & _WITH_SHA256:
        sha256 = _hex(records.take(1, f"the sha256 of file {name[:12]}")[:32])
    segments = tuple(_segment(fields, file=name) for fields in struct.iter_unpack("<32sIIII", listed))
    return XetFile(name, segments, sha256)


def _segment(fields: tuple[bytes, int, int, int, int], *, file: str) -> XetSegment:
    """A segment whose counts are possible: some chunks, and no more bytes than so many chunks can hold."""
    xorb, _flags, size, first, end = fields
    if not first < end <= MAX_CHUNKS:
        raise InvalidInput(
            f"Xet shard: file {file[:12]} wants chunks {first:,} to {end:,} of a xorb; there is no such run."
        )
    if not end - first <= size <= (end - first) * MAX_CHUNK:
        raise InvalidInput(
            f"Xet shard: file {file[:12]} wants {size:,} bytes of {end - first:,} chunks; they hold no such."
        )
    return XetSegment(_hex(xorb), first, end, size)


def _hex(stored: bytes) -> str:
    """The usual spelling of a stored hash: its four little-endian numbers, each most significant digit first."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", stored))


def _chunk(header: bytes, *, number: int, at: int, total: int) -> Chunk:
    """The chunk that the header at byte `at` announces, every field in its bounds."""
    if len(header) < 8:
        raise InvalidInput(f"xorb: {len(header)} stray bytes after chunk {number}. Push again.")
    if number == MAX_CHUNKS:
        raise InvalidInput(f"xorb: more than {MAX_CHUNKS:,} chunks.")
    version, scheme = header[0], header[4]
    packed, size = int.from_bytes(header[1:4], "little"), int.from_bytes(header[5:8], "little")
    where = f"xorb: chunk {number} at byte {at:,}"
    if version != 0 or scheme not in (STORED, LZ4, GROUPED_LZ4):
        raise InvalidInput(f"{where} has version {version}, scheme {scheme}; version 0 and schemes 0 to 2 are read.")
    if not 0 < size <= MAX_CHUNK:
        raise InvalidInput(f"{where} declares {size:,} bytes unpacked; 1 to {MAX_CHUNK:,} are allowed.")
    if not 0 < packed <= MAX_PACKED or (scheme == STORED and packed != size):
        raise InvalidInput(f"{where} declares {packed:,} bytes packed for {size:,} unpacked, which cannot be.")
    if at + 8 + packed > total:
        raise InvalidInput(f"{where} is cut off: it should end at {at + 8 + packed:,}, the xorb ends at {total:,}.")
    return Chunk(at + 8, packed, scheme, size)


def _unpack_lz4(data: bytes, *, limit: int) -> bytes:
    """One whole LZ4 frame of exactly `limit` bytes; stops unpacking one byte after the limit."""
    from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped] # noqa: PLC0415  an extra

    frame = LZ4FrameDecompressor()
    try:
        content: bytes = frame.decompress(data, max_length=limit + 1)
    except RuntimeError as error:
        raise InvalidInput(f"xorb: a chunk does not unpack ({error}).") from error
    if len(content) != limit or not frame.eof or frame.unused_data:
        raise InvalidInput(f"xorb: a chunk does not unpack to the {limit:,} bytes it declares.")
    return content


def _ungroup(grouped: bytes) -> bytes:
    """The bytes in order again: grouped are all at 0 mod 4, then 1 mod 4, 2 mod 4, 3 mod 4."""
    source = np.frombuffer(grouped, dtype=np.uint8)
    content = np.empty_like(source)
    start = 0
    for place in range(4):
        strided = content[place::4]
        strided[:] = source[start : start + len(strided)]
        start += len(strided)
    return content.tobytes()


def _run(segment: XetSegment, chunks: tuple[Chunk, ...]) -> tuple[Chunk, ...]:
    """The chunks of a segment, if the xorb has them and they are as long together as the shard says."""
    run = chunks[segment.first : segment.end]
    size = sum(chunk.size for chunk in run)
    if segment.end > len(chunks) or size != segment.size:
        raise InvalidInput(
            f"xorb {segment.xorb[:12]}: the shard wants {segment.size:,} bytes in chunks {segment.first} to "
            f"{segment.end}, the xorb has {len(chunks)} chunks and {size:,} bytes there. Push again."
        )
    return run


def _opened(xorb: str, open_xorb: Callable[[str], BinaryIO]) -> BinaryIO:
    """The xorb, or InvalidInput with the way out when it never came."""
    try:
        return open_xorb(xorb)
    except NotFound as missing:
        raise InvalidInput(
            f"xorb {xorb[:12]} was not sent with this push. The client may believe that it sent it before: "
            "delete its folder `xet` ($HF_HOME/xet), then push again."
        ) from missing
