"""The registry's own scanner: what in a version's files may run, or passes for something else, beyond intake.

Intake lets no pickle, program or archive in by its name or first bytes, and reads the adapter's own config and weights.
This looks at every file, also those that PEFT does not read with the adapter, and at what loaders and browsers would
make of them. It does not look for payloads hidden in tensor values, which nothing runs by itself.
"""

from __future__ import annotations

import json
import pickletools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from adapter_registry.checkpoints import header
from adapter_registry.checkpoints.file_rules import Named
from adapter_registry.domain.errors import Notice
from adapter_registry.domain.peft.fields import CONFIG

RELEASE = "1"
"""Of the rules below; it changes with them."""
LARGEST_TEXT = 64 << 20
"""Bytes of a text that are read; real vocabularies have half of that."""
_TAIL = 65_557
"""Bytes from which a zip archive is found: its last record, with the longest comment (APPNOTE 6.3.10, 4.3.16)."""
_PICKLED = 1 << 20
_CALLS = ("REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX")
_NAMES_CODE = ("auto_map", "custom_pipelines")
_REACHES = re.compile(
    r"__\w+__"  # Python's inner attributes
    r"|\|\s*attr\b|\\x5f|\\u005f|\\137"  # the same by other ways
    r"|\{%[-+]?\s*(?:include|import|from|extends)\b"  # other files
)
_ACTIVE = re.compile(rb"<script|<foreignobject|<!entity|javascript:|[\s\"']on[a-z]+\s*=", re.IGNORECASE)


def scanned(files: Sequence[Named]) -> tuple[Notice, ...]:
    """Everything found in the files of a version; nothing when it is clean."""
    return tuple(notice for file in files for notice in _found(file))


def _found(file: Named) -> Iterator[Notice]:
    name = file.path.lower()
    if _is_archive(file):
        text = "ends as a zip archive does, which programs that look for one open instead"
        yield Notice("hidden-archive", file.path, "", text)
    if name.endswith(".safetensors"):
        yield from _header(file)
        return
    if _is_calling_pickle(_start(file, _PICKLED)):
        yield Notice("hidden-pickle", file.path, "", "is a pickle that calls a function when it is read")
    if file.path.endswith(f"/{CONFIG}"):
        yield Notice("nested-adapter", file.path, "", "another adapter, which intake left unread: push it by itself")
    if not name.endswith((".json", ".jinja", ".svg")):
        return
    if file.size > LARGEST_TEXT:
        yield Notice("not-scanned", file.path, "", f"{file.size:,} bytes; at most {LARGEST_TEXT:,} of a text are read")
    else:
        yield from _text(file.path, name.rpartition(".")[2], _start(file, LARGEST_TEXT))


def _header(file: Named) -> Iterator[Notice]:
    try:
        with file.open() as stream:
            header.read(stream, size=file.size, file=file.path)
    except header.HeaderRefused as refused:
        yield Notice("bad-header", file.path, "", "; ".join(map(str, refused.problems[:3])))


def _text(path: str, kind: str, data: bytes) -> Iterator[Notice]:
    if kind == "svg":
        if active := _ACTIVE.search(data):
            what = active[0].decode("utf-8", "replace").strip(" \"'=<")
            yield Notice("active-image", path, "", f"holds {what}, which a browser that shows it runs")
    elif kind == "jinja":
        yield from _template(path, data.decode("utf-8", "replace"))
    else:
        try:
            yield from _settings(path, json.loads(data), "")
        except (ValueError, RecursionError):
            yield Notice("unreadable-json", path, "", "is not JSON, so that nobody knows what a loader makes of it")


def _settings(path: str, value: Any, field: str) -> Iterator[Notice]:
    """What names code, and templates, at any depth of a JSON document."""
    if isinstance(value, list):
        for each in value:
            yield from _settings(path, each, field)
    elif isinstance(value, dict):
        for key, each in value.items():
            place = f"{field}.{key}" if field else key
            if (key in _NAMES_CODE and each) or (key == "trust_remote_code" and each is True):
                yield Notice("names-code", path, place, "has a loader run code that is no part of the version")
            yield from _settings(path, each, place)
    elif isinstance(value, str) and "template" in field:
        yield from _template(path, value, field)


def _template(path: str, text: str, field: str = "") -> Iterator[Notice]:
    if found := _REACHES.search(text):
        what = f"the template reaches for {found[0][:40].strip()}, which only a sandbox keeps from doing harm"
        yield Notice("template-reaches", path, field, what)


def _is_archive(file: Named) -> bool:
    """Whether the directory of a zip archive stands where the record at the end of the file says."""
    with file.open() as stream:
        begin = max(file.size - _TAIL, 0)
        stream.seek(begin)
        tail = stream.read()
        last = tail.rfind(b"PK\x05\x06")
        if last < 0 or len(tail) - last < 22:
            return False
        if tail[max(last - 20, 0) : last].startswith(b"PK\x06\x07"):  # zip64
            return True
        directory = begin + last - int.from_bytes(tail[last + 12 : last + 16], "little")
        if not 0 <= directory < begin + last:
            return False
        stream.seek(directory)
        return stream.read(4) == b"PK\x01\x02"


def _is_calling_pickle(data: bytes) -> bool:
    """Whether unpickling these bytes gets as far as calling something, whatever comes after."""
    depth, marks = 0, list[int]()
    try:
        for opcode, _, _ in pickletools.genops(data):
            taken = opcode.stack_before
            if pickletools.markobject in taken:
                depth = marks.pop() - taken.index(pickletools.markobject)
            else:
                depth -= len(taken)
            if depth < 0:
                return False
            if opcode.name in _CALLS:
                return True
            if opcode.name == "MARK":
                marks.append(depth)
            else:
                depth += len(opcode.stack_after)
    except (ValueError, IndexError, OverflowError):
        return False
    return False


def _start(file: Named, size: int) -> bytes:
    with file.open() as stream:
        return stream.read(size)
