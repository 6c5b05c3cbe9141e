"""The strict header reader: what it reads, what it refuses, and that the safetensors library agrees."""

from __future__ import annotations

import io
import json
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from adapter_registry.checkpoints.header import BITS, Header, HeaderRefused, agrees, parse, read


def raw(text: str | bytes, data: bytes = b"") -> bytes:
    """A file with this text as its header and `data` after it."""
    encoded = text if isinstance(text, bytes) else text.encode()
    return len(encoded).to_bytes(8, "little") + encoded + data


def one(**changes: object) -> str:
    """A header of one float32 vector of 2, with some fields changed; a field given as None is left out."""
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes
    return json.dumps({"x": {key: value for key, value in entry.items() if value is not None}})


def head_of(content: bytes) -> Header:
    return read(io.BytesIO(content), size=len(content), file="model.safetensors")


def refusal(content: bytes) -> str:
    with pytest.raises(HeaderRefused) as refused:
        head_of(content)
    assert all(problem.file == "model.safetensors" for problem in refused.value.problems)
    return str(refused.value)


class TestRead:
    def test_names_dtypes_shapes_and_absolute_offsets_in_the_order_of_the_bytes(self):
        content = save({"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.arange(2, dtype=np.int64)})
        header = head_of(content)
        assert {(e.name, e.dtype, e.shape) for e in header.tensors} == {("b", "F32", (2, 3)), ("a", "I64", (2,))}
        assert [e.start for e in header.tensors] == sorted(e.start for e in header.tensors)
        a = next(e for e in header.tensors if e.name == "a")
        assert np.frombuffer(content[a.start : a.end], dtype=np.int64).tolist() == [0, 1]
        assert (header.data_start, header.size) == (header.tensors[0].start, len(content))

    def test_reads_the_header_only(self):
        content = save({"x": np.zeros(100_000, dtype=np.float32)})
        stream = io.BytesIO(content)
        header = read(stream, size=len(content), file="model.safetensors")
        assert stream.tell() == header.data_start

    def test_metadata_is_text_to_text(self):
        assert head_of(save({"x": np.zeros(2)}, metadata={"format": "pt"})).metadata == {"format": "pt"}

    def test_scalars_and_empty_tensors_are_read(self):
        header = head_of(save({"scalar": np.array(1.0, dtype=np.float32), "empty": np.zeros((0, 4), dtype=np.float32)}))
        assert {e.name: e.shape for e in header.tensors} == {"scalar": (), "empty": (0, 4)}

    def test_a_file_without_tensors_is_read(self):
        assert head_of(raw("{}")).tensors == ()

    @pytest.mark.parametrize("dtype", sorted(BITS))
    def test_every_dtype_of_the_format_is_read_and_the_library_agrees(self, dtype: str):
        size = 8 * BITS[dtype] // 8
        content = raw(one(dtype=dtype, shape=[2, 4], data_offsets=[0, size]), bytes(size))
        header = head_of(content)
        assert header.tensors[0].dtype == dtype
        agrees(content[: header.data_start], header, file="model.safetensors")

    def test_a_header_padded_with_spaces_is_read(self):
        assert len(head_of(raw(one() + "   ", bytes(8))).tensors) == 1

    def test_limits_may_be_wider_for_bases(self):
        content = raw(json.dumps({"__metadata__": {"a": "b"}}) + " " * 3_000)
        with pytest.raises(HeaderRefused, match="at most 1,000 bytes"):
            parse(content, size=len(content), file="x", max_header=1_000)
        assert parse(content, size=len(content), file="x", max_header=4_000).tensors == ()


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("data.pkl", b"x" * 100)
    return stream.getvalue()


OTHER_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "an empty file"),
    "short": (b"\x02\0\0\0\0\0\0\0", "8 bytes"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5\n", "git lfs pull"),
    "zip": (_zip(), "a zip file, as torch.save writes"),
    "pickle 2": (pickle.dumps({"a": list(range(200))}, protocol=2), "a pickle"),
    "pickle 5": (pickle.dumps({"a": list(range(200))}, protocol=5), "a pickle"),
    "html": (b"\n<!DOCTYPE html><html><body>not found</body></html>", "an HTML or XML page"),
    "gguf": (b"GGUF" + bytes(100), "a GGUF file"),
    "gzip": (b"\x1f\x8b\x08\0" + bytes(100), "a gzip file"),
    "zeros": (bytes(1000), "nothing but zeros"),
    "text": (b"hello world, this is text", "not a safetensors file"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_another_kind_of_file_is_named_for_what_it_is(kind: str):
    content, found = OTHER_FILES[kind]
    assert found in refusal(content)


def test_a_header_length_that_looks_like_another_kind_is_still_a_header():
    # 0x80 0x02 begins a pickle, and is also a header of 640 bytes.
    content = raw(one().ljust(640), bytes(8))
    assert content.startswith(b"\x80\x02")
    assert len(head_of(content).tensors) == 1
    assert "1 bytes are missing" in refusal(content[:-1])


BREACHES: dict[str, tuple[bytes, str]] = {
    "header longer than the file": (raw(one(), bytes(8))[:40], "bytes of the header alone are missing"),
    "header length of 2^63": ((1 << 63).to_bytes(8, "little") + b"{}", "a number no file has"),
    "header over the limit": ((30_000_000).to_bytes(8, "little") + b"{}", "at most 25,000,000 bytes of header"),
    "leading blank": (raw(" " + one(), bytes(8)), "begins with '{'"),
    "array at the top": (raw("[]"), "begins with '{'"),
    "not UTF-8": (raw(b'{"\xff": 1}'), "not UTF-8"),
    "not JSON": (raw("{oops}"), "UTF-8 JSON"),
    "text after the object": (raw(one() + "{}", bytes(8)), "Extra data"),
    "NUL padding": (raw(one() + "\0\0", bytes(8)), "Extra data"),
    "control character in a name": (raw('{"a\tb": 1}'), "UTF-8 JSON"),
    "nested too deep": (raw('{"a":' * 30_000 + "1" + "}" * 30_000), "hundreds of levels"),
    "lists nested too deep": (raw('{"a":' + "[" * 30_000 + "]" * 30_000 + "}"), "hundreds of levels"),
    "five levels": (raw('{"a":{"b":{"c":{"d":1}}}}'), "exactly dtype, shape and data_offsets"),
    "duplicate name": (raw('{"x":1,"x":1}'), "'x' stands twice"),
    "duplicate name, escaped": (raw(r'{"x":1,"\u0078":1}'), "'x' stands twice"),
    "duplicate field": (raw('{"x":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}'), "'dtype' stands"),
    "duplicate metadata key": (raw('{"__metadata__":{"a":"1","a":"2"}}'), "'a' stands twice"),
    "duplicate metadata": (raw('{"__metadata__":{},"__metadata__":{}}'), "'__metadata__' stands twice"),
    "NaN": (raw('{"x":NaN}'), "NaN is not JSON"),
    "-Infinity": (raw('{"x":-Infinity}'), "-Infinity is not JSON"),
    "unknown field": (raw(one(extra=1), bytes(8)), "exactly dtype, shape and data_offsets"),
    "missing field": (raw(one(shape=None), bytes(8)), "exactly dtype, shape and data_offsets"),
    "entry is a list": (raw('{"x":[1]}'), "found list"),
    "unknown dtype": (raw(one(dtype="F16X"), bytes(8)), "'F16X'"),
    "dtype in lower case": (raw(one(dtype="f32"), bytes(8)), "'f32'"),
    "dtype is a list": (raw(one(dtype=["F32"]), bytes(8)), "a dtype of the safetensors format"),
    "float dimension": (raw(one(shape=[2.0]), bytes(8)), "2.0 is not an integer"),
    "exponent": (raw('{"x":{"dtype":"U8","shape":[1e1],"data_offsets":[0,10]}}', bytes(10)), "1e1 is not an integer"),
    "boolean dimension": (raw(one(shape=[True]), bytes(8)), "dimensions of 0 to 2^31"),
    "text dimension": (raw(one(shape=["2"]), bytes(8)), "dimensions of 0 to 2^31"),
    "negative dimension": (raw(one(shape=[-2]), bytes(8)), "-2 is not a size"),
    "minus zero": (raw('{"x":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}'), "-0 is not a size"),
    "dimension over 2^31": (raw(one(shape=[(1 << 31) + 1, 0], data_offsets=[0, 0])), "0 to 2^31"),
    "product that overflows 64 bits": (raw(one(shape=[1 << 31] * 8, data_offsets=[0, 0])), "bytes for F32"),
    "number of a million digits": (raw('{"x":' + "9" * 1_000_000 + "}"), "Exceeds the limit"),
    "nine dimensions": (raw(one(shape=[1] * 9, data_offsets=[0, 4]), bytes(4)), "at most 8 dimensions"),
    "shape is a number": (raw(one(shape=2), bytes(8)), "at most 8 dimensions"),
    "one offset": (raw(one(data_offsets=[0]), bytes(8)), "two integers"),
    "boolean offset": (raw(one(data_offsets=[False, 8]), bytes(8)), "two integers"),
    "offsets backwards": (raw(one(data_offsets=[8, 0]), bytes(8)), "8 bytes for F32 [2]"),
    "size other than shape and dtype": (raw(one(data_offsets=[0, 4]), bytes(4)), "8 bytes for F32 [2]"),
    "half a byte": (raw(one(dtype="F4", shape=[3], data_offsets=[0, 1]), bytes(1)), "found 12 bits"),
    "empty name": (raw('{"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', bytes(1)), "an empty name"),
    "long name": (raw('{"' + "n" * 513 + '":1}'), "513 characters"),
    "name of 300 two-byte letters": (raw('{"' + "ü" * 300 + '":1}'), "1 to 512 printable bytes"),
    "NUL in a name": (raw(r'{"a\u0000":1}'), r"a\x00"),
    "right-to-left mark in a name": (raw(r'{"a\u202e":1}'), r"a\u202e"),
    "half a surrogate pair in a name": (raw(r'{"\ud800":1}'), r"\ud800"),
    "metadata is a list": (raw('{"__metadata__":[]}'), "an object of texts"),
    "metadata is null": (raw('{"__metadata__":null}'), "an object of texts"),
    "metadata holds a number": (raw('{"__metadata__":{"a":1}}'), "an object of texts"),
    "metadata too long": (raw('{"__metadata__":{"a":"' + "ü" * 33_000 + '"}}'), "at most 65,536 bytes"),
    "half a surrogate pair in metadata": (raw(r'{"__metadata__":{"a":"\udc00"}}'), "half a surrogate pair"),
    "trailing bytes": (raw(one(), bytes(11)), "3 bytes too many"),
    "missing bytes": (raw(one(), bytes(5)), "3 bytes are missing"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_of_the_format_is_refused_with_what_was_found(breach: str):
    content, found = BREACHES[breach]
    text = refusal(content)
    assert found in text
    text.encode()


def table(*entries: tuple[str, int, int]) -> str:
    return json.dumps({name: {"dtype": "U8", "shape": [e - b], "data_offsets": [b, e]} for name, b, e in entries})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (table(("a", 1, 4)), "a: expected its bytes to begin at offset 0, found 1: a hole before it"),
        (table(("a", 0, 2), ("b", 3, 4)), "b: expected its bytes to begin at offset 2, found 3: a hole before it"),
        (table(("a", 0, 3), ("b", 2, 4)), "b: expected its bytes to begin at offset 3, found 2: an overlap"),
        (table(("a", 0, 4), ("b", 0, 4)), "b: expected its bytes to begin at offset 4, found 0: an overlap"),
        (table(("a", 0, 4), ("b", 1, 2)), "b: expected its bytes to begin at offset 4, found 1: an overlap"),
    ],
)
def test_tensors_lie_side_by_side(text: str, found: str):
    assert found in refusal(raw(text, bytes(4)))


def test_every_problem_is_told_at_once():
    entries = {f"t{i}": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]} for i in range(30)}
    with pytest.raises(HeaderRefused) as refused:
        head_of(raw(json.dumps(entries | {"__metadata__": 3})))
    assert len(refused.value.problems) == 31
    assert "and 11 more" in str(refused.value)


def test_too_many_tensors_are_refused():
    content = raw(json.dumps({f"t{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(11)}))
    with pytest.raises(HeaderRefused, match="at most 10 tensors"):
        parse(content, size=len(content), file="x", max_tensors=10)


def test_a_hostile_header_costs_little_memory():
    content = raw('{"a":[' + "[]," * 6_000_000 + "[]]}")
    tracemalloc.start()
    with pytest.raises(HeaderRefused, match="items of JSON"):
        parse(content, size=len(content), file="x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(content)


def test_a_stream_shorter_than_said_is_refused():
    content = raw(one(), bytes(8))
    with pytest.raises(HeaderRefused, match="the file changed"):
        read(io.BytesIO(content[:60]), size=len(content), file="model.safetensors")


class TestAgrees:
    def test_real_files_agree(self):
        content = save({"x": np.zeros((3, 2), dtype=np.float16)}, metadata={"format": "pt"})
        header = head_of(content)
        agrees(content[: header.data_start], header, file="model.safetensors")

    @pytest.mark.parametrize(
        "change",
        [
            lambda text: text.replace('"F32"', '"I32"'),
            lambda text: text.replace('"x"', '"y"'),
            lambda text: text.replace("[2]", "[1,2]"),
            lambda text: text.replace('{"x"', '{"__metadata__":{"a":"b"},"x"'),
        ],
        ids=["dtype", "name", "shape", "metadata"],
    )
    def test_a_header_that_reads_differently_is_refused(self, change: Callable[[str], str]):
        header = head_of(raw(one(), bytes(8)))
        other = raw(change(one()), bytes(8))
        with pytest.raises(HeaderRefused):
            agrees(other[:-8], header, file="model.safetensors")


REAL = [
    save({"a": np.zeros((2, 3), dtype=np.float32), "b": np.ones(5, dtype=np.int8)}, metadata={"format": "pt"}),
    save({f"layers.{i}.weight": np.full((i + 1, 2), i, dtype=np.float16) for i in range(6)}),
    raw(table(("a", 0, 2), ("b", 2, 2), ("c", 2, 4)), bytes(4)),
]
PIECES = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"0", b"1", b"-", b".", b"e9", b" ", b"\\u0061", b"\xff", b"\0",
          b"true", b"null", b"NaN", b'"F32"', b'"a":', b"__metadata__", b"18446744073709551616"]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real file with a few bytes of its header replaced, inserted or cut, its length field mended or not."""
    content = draw(st.sampled_from(REAL))
    length = int.from_bytes(content[:8], "little")
    text, data = bytearray(content[8 : 8 + length]), content[8 + length :]
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.integers(0, 6))
        text[at : at + cut] = draw(st.sampled_from(PIECES) | st.binary(max_size=3))
    data = data[: draw(st.integers(0, len(data)))] + draw(st.binary(max_size=2)) if draw(st.booleans()) else data
    return (raw(bytes(text), data)) if draw(st.integers(0, 9)) else content[:8] + bytes(text) + data


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated() | st.binary(max_size=80))
def test_anything_is_either_read_or_refused_and_what_is_read_the_library_reads_alike(content: bytes):
    try:
        header = head_of(content)
    except HeaderRefused:
        return
    try:
        library = deserialize(content)
    except SafetensorError as error:
        raise AssertionError(f"accepted here, refused by the library: {content!r}") from error
    assert {(name, each["dtype"], tuple(each["shape"])) for name, each in library} == {
        (entry.name, entry.dtype, entry.shape) for entry in header.tensors
    }
    agrees(content[: header.data_start], header, file="model.safetensors")
