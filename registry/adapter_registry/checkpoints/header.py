"""The safetensors header, read strictly: bounded, every rule of the format checked, every breach told at once.

Stricter than the reference parser on purpose (it takes duplicate names that cover the same bytes, leading blanks and
shapes no memory holds): what two readers understand differently is refused. Source: the format's README.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

from adapter_registry.checkpoints.json_strict import no_constant, unique_keys
from adapter_registry.domain.base import size_of
from adapter_registry.domain.errors import Problem, RegistryError

MAX_HEADER = 25_000_000
MAX_TENSORS = 100_000
MAX_DIMENSIONS = 8
MAX_DIMENSION = 1 << 31
MAX_NAME = 512
MAX_METADATA = 64 * 1024
LISTED = 20
ITEMS_PER_TENSOR = 16
"""Brackets, braces and commas that one tensor's entry needs at most, so that a hostile header's memory is bounded."""

BITS: dict[str, int] = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}
"""Bits of one element of each dtype of the format."""

_CONVERT = "Convert it: `adapters convert FOLDER -o OUT` for an adapter, save_pretrained for a base; renaming won't do."

_MAGIC = (
    (b"version https://git-lfs", "a Git LFS pointer, not the tensors", "Run `git lfs pull` where it was cloned."),
    (b"PK\x03\x04", "a zip file, as torch.save writes", _CONVERT),
    *((bytes((0x80, protocol)), "a pickle", _CONVERT) for protocol in range(6)),
    (b"GGUF", "a GGUF file", "Convert it to safetensors with transformers (`gguf_file=`), then use that folder."),
    (b"<", "an HTML or XML page, probably a failed download", "Download the file again."),
    (b"\x1f\x8b", "a gzip file", "Unpack it first."),
)


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a file: name, dtype, shape, and where its bytes lie (absolute offsets, end exclusive)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says about itself.

    Attributes:
        tensors: in the order of their bytes.
        metadata: `__metadata__`; text only.
        data_start: offset of the first tensor's bytes.
        size: of the whole file.
    """

    tensors: tuple[TensorEntry, ...]
    metadata: dict[str, str]
    data_start: int
    size: int


class HeaderRefused(RegistryError):
    """A file that is not safetensors by the letter; `problems` lists every breach."""

    code: ClassVar[str] = "invalid-safetensors"
    status: ClassVar[int] = 422
    exit_code: ClassVar[int] = 7

    def __init__(self, problems: list[Problem]) -> None:
        more = f"; and {len(problems) - LISTED:,} more" if len(problems) > LISTED else ""
        super().__init__("; ".join(str(problem) for problem in problems[:LISTED]) + more, problems=problems)


def read(
    stream: BinaryIO, *, size: int, file: str, max_header: int = MAX_HEADER, max_tensors: int = MAX_TENSORS
) -> Header:
    """The header of a safetensors file of `size` bytes; only the header is read.

    Raises:
        HeaderRefused: with every breach of the format.
    """
    prefix = stream.read(8)
    length = _length(prefix, size=size, file=file, peek=stream.read(64), max_header=max_header)
    stream.seek(8)
    return parse(prefix + stream.read(length), size=size, file=file, max_header=max_header, max_tensors=max_tensors)


def parse(head: bytes, *, size: int, file: str, max_header: int = MAX_HEADER, max_tensors: int = MAX_TENSORS) -> Header:
    """The header in `head` (the 8 bytes of its length, then its JSON) of a file of `size` bytes.

    Raises:
        HeaderRefused: with every breach of the format.
    """
    length = _length(head[:8], size=size, file=file, peek=head[8:72], max_header=max_header)
    if len(head) < 8 + length:
        raise HeaderRefused([_bad(file, "header", f"{length:,} bytes", f"{len(head) - 8:,}: the file changed")])
    document = _document(head[8 : 8 + length], file, max_tensors=max_tensors)
    metadata = document.pop("__metadata__", {})
    problems = list(_metadata_problems(metadata, file))
    if len(document) > max_tensors:
        raise HeaderRefused([_bad(file, "header", f"at most {max_tensors:,} tensors", f"{len(document):,}")])
    entries = _entries(document, problems, start=8 + length, file=file)
    if not problems:
        problems = list(_layout_problems(entries, start=8 + length, size=size, file=file))
    if problems:
        raise HeaderRefused(problems)
    return Header(tuple(entries), dict(metadata), 8 + length, size)


def _entries(document: dict[str, Any], problems: list[Problem], *, start: int, file: str) -> list[TensorEntry]:
    """The sound entries in the order of their bytes; what is wrong with the others goes to `problems`."""
    entries = []
    for name, value in document.items():
        found = list(_entry_problems(name, value, file))
        problems.extend(found)
        if not found:
            begin, end = value["data_offsets"]
            entries.append(TensorEntry(name, value["dtype"], tuple(value["shape"]), start + begin, start + end))
    return sorted(entries, key=lambda entry: (entry.start, entry.end))


def agrees(head: bytes, header: Header, *, file: str) -> None:
    """Require that the safetensors library reads the same table.

    The library gets a sparse file with the same header and size: it reads no tensor bytes to list names and shapes.

    Args:
        head: the file's bytes up to `header.data_start`.
        header: what `parse` read in them.
        file: for the error.

    Raises:
        HeaderRefused: the library refuses the header, or understands it differently.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415  needed by the intake only

    with tempfile.NamedTemporaryFile(suffix=".safetensors") as sparse:
        sparse.write(head)
        sparse.flush()
        sparse.truncate(header.size)
        try:
            with safe_open(sparse.name, framework="numpy") as opened:
                slices = ((name, opened.get_slice(name)) for name in opened.keys())  # noqa: SIM118  no mapping
                listed = {(name, each.get_dtype(), tuple(each.get_shape())) for name, each in slices}
                metadata = opened.metadata() or {}
        except SafetensorError as error:
            found = str(error)[:200]
            raise HeaderRefused([_bad(file, "header", "a header the safetensors library accepts", found)]) from error
    same = listed == {(entry.name, entry.dtype, entry.shape) for entry in header.tensors}
    if not same or metadata != header.metadata:
        raise HeaderRefused([_bad(file, "header", "one reading of it", "the safetensors library reads another")])


def _length(prefix: bytes, *, size: int, file: str, peek: bytes, max_header: int) -> int:
    length = int.from_bytes(prefix, "little")
    if not peek.startswith(b"{"):
        raise HeaderRefused([_other_kind(prefix + peek, size=size, file=file)])
    if length > max_header:
        found = f"{length:,}" if length < 1 << 40 else "a number no file has"
        raise HeaderRefused([_bad(file, "header", f"at most {max_header:,} bytes of header", found)])
    if length > size - 8:
        found = f"{size:,}: it is cut short, {length + 8 - size:,} bytes of the header alone are missing"
        raise HeaderRefused([_bad(file, "", f"a header of {length:,} bytes, as it says, and the tensors", found)])
    return length


def _other_kind(start: bytes, *, size: int, file: str) -> Problem:
    """What a file is that has no JSON where the header should be."""
    for magic, what, fix in _MAGIC:
        if start.lstrip(b"\r\n\t ").startswith(magic):
            return Problem("invalid-safetensors", file, "", "a safetensors file", what, fix)
    if size < 9:
        found = "an empty file" if size == 0 else f"{size} bytes"
        return _bad(file, "", "a safetensors file of at least 9 bytes", found)
    if not any(start):
        return _bad(file, "", "a safetensors file", "nothing but zeros at its start, as a broken download leaves")
    return _bad(file, "header", "JSON that begins with '{'", f"{start[8:16]!r}: not a safetensors file")


def _document(text: bytes, file: str, *, max_tensors: int) -> dict[str, Any]:
    expected = "UTF-8 JSON without duplicate keys, floats or NaN, padded with spaces only"
    items = sum(text.count(sign) for sign in (b"{", b"[", b","))
    if items > ITEMS_PER_TENSOR * max_tensors + MAX_METADATA:
        raise HeaderRefused([_bad(file, "header", f"at most {max_tensors:,} tensors", f"{items:,} items of JSON")])
    try:
        document = json.loads(
            text.decode("utf-8").rstrip(" "),
            object_pairs_hook=unique_keys,
            parse_constant=no_constant,
            parse_float=_no_float,
            # Only a minus sign can make an integer wrong here (-0 is 0 to Python); the hook costs a third of the time.
            parse_int=_count if b"-" in text else None,
        )
    except UnicodeDecodeError as error:
        raise HeaderRefused([_bad(file, "header", expected, f"byte {error.start} is not UTF-8")]) from error
    except RecursionError as error:
        raise HeaderRefused([_bad(file, "header", expected, "hundreds of levels of nesting")]) from error
    except ValueError as error:
        raise HeaderRefused([_bad(file, "header", expected, str(error)[:300])]) from error
    if not isinstance(document, dict):
        raise HeaderRefused([_bad(file, "header", "a JSON object", type(document).__name__)])
    return document


def _no_float(text: str) -> None:
    raise ValueError(f"{text[:40]} is not an integer")


def _count(text: str) -> int:
    if text.startswith("-"):
        raise ValueError(f"{text[:40]} is not a size or an offset")
    return int(text)


def _metadata_problems(metadata: Any, file: str) -> Iterator[Problem]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        yield _bad(file, "__metadata__", "an object of texts", "something else")
        return
    try:
        size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    except UnicodeEncodeError:
        yield _bad(file, "__metadata__", "Unicode texts", "half a surrogate pair, which is no character")
        return
    if size > MAX_METADATA:
        yield _bad(file, "__metadata__", f"at most {MAX_METADATA:,} bytes", f"{size:,}")


def _entry_problems(name: str, value: Any, file: str) -> Iterator[Problem]:
    shown = name if len(name) <= 100 else f"{name[:100]}..."
    if not name or not name.isprintable() or len(name.encode()) > MAX_NAME:
        found = "an empty name" if not name else f"{len(name)} characters" if name.isprintable() else ascii(shown)
        yield _bad(file, ascii(shown), f"a tensor name of 1 to {MAX_NAME} printable bytes", found)
        return
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        found = str(sorted(value)) if isinstance(value, dict) else type(value).__name__
        yield _bad(file, shown, "exactly dtype, shape and data_offsets", found[:200])
        return
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        yield _bad(file, shown, "a dtype of the safetensors format", repr(dtype)[:60])
        return
    if not _is_shape(shape):
        rule = f"at most {MAX_DIMENSIONS} dimensions of 0 to 2^31"
        yield _bad(file, shown, rule, f"shape {str(shape)[:120]}")
        return
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(number) for number in offsets):
        yield _bad(file, shown, "data_offsets of two integers", str(offsets)[:120])
        return
    bits = size_of(shape) * BITS[dtype]
    if bits % 8:
        yield _bad(file, shown, f"{dtype} {shape} to fill whole bytes", f"{bits:,} bits")
    elif offsets[1] - offsets[0] != bits // 8:
        found = f"{offsets[1] - offsets[0]:,} between its offsets"
        yield _bad(file, shown, f"{bits // 8:,} bytes for {dtype} {shape}", found)


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) <= MAX_DIMENSIONS
        and all(_is_count(dimension) and dimension <= MAX_DIMENSION for dimension in shape)
    )


def _is_count(number: Any) -> bool:
    return type(number) is int and number >= 0


def _layout_problems(entries: list[TensorEntry], *, start: int, size: int, file: str) -> Iterator[Problem]:
    position = start
    for entry in entries:
        if entry.start != position:
            kind = "a hole before it" if entry.start > position else "an overlap with the tensor before"
            at = entry.start - start
            yield _bad(file, entry.name, f"its bytes to begin at offset {position - start:,}", f"{at:,}: {kind}")
            return
        position = entry.end
    if position > size:
        missing = position - size
        yield _bad(file, "", f"{position:,} bytes, as its header says", f"{size:,}: {missing:,} bytes are missing")
    elif position < size:
        extra = size - position
        yield _bad(file, "", f"{position:,} bytes, as its header says", f"{size:,}: {extra:,} bytes too many")


def _bad(file: str, field: str, expected: str, found: str) -> Problem:
    fix = "Save it again with save_pretrained, or download it again."
    return Problem("invalid-safetensors", file, field, expected, found, fix)
