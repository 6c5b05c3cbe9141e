"""Weights looked at while they pass: what the intake asks of their bytes is known when they have arrived.

What was seen belongs to the digest of the bytes that passed, so it holds wherever they are. It is kept for a while in
this process; any other reads the bytes again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from adapter_registry.checkpoints.header import MAX_HEADER, Header, HeaderRefused, agrees, parse
from adapter_registry.checkpoints.values import CACHED, FLOATS, Look, Values
from adapter_registry.domain.digest import Digest

REMEMBERED = 50_000
"""Tensors of all files together: some 20 MB."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A sound safetensors file.

    Attributes:
        header: what it says about itself; the safetensors library reads it alike.
        values: what each float tensor holds, by name.
    """

    header: Header
    values: Mapping[str, Values]


class Passing:
    """Looks at a safetensors file of `size` bytes that is given in order, in pieces of any length."""

    def __init__(self, size: int) -> None:
        self._size, self._at, self._tensor = size, 0, 0
        self._head = bytearray()
        self._header: Header | None = None
        self._looks: dict[str, Look] = {}
        self._unsound = False
        # Values have to lie where numpy reads them fast, which pieces of a connection do not.
        self._held = 0
        self._bytes, self._room = bytearray(CACHED), np.empty(CACHED, dtype=np.uint8)

    def update(self, piece: bytes | memoryview) -> None:
        """The next bytes. Never raises for what is in them."""
        if self._header is None and not self._unsound:
            piece = self._begun(piece)
        if self._header is not None:
            self._look(memoryview(piece), self._header)

    def weights(self) -> Weights | None:
        """What passed; None when it was not a whole and sound file."""
        if self._header is None or self._unsound or self._at != self._size:
            return None
        return Weights(self._header, {name: look.values() for name, look in self._looks.items()})

    def _begun(self, piece: bytes | memoryview) -> bytes:
        """Read the header once all of it is there; the bytes behind it."""
        self._head += piece
        length = int.from_bytes(self._head[:8], "little")
        if len(self._head) < 8 or (length <= MAX_HEADER and len(self._head) < 8 + length):
            return b""
        head, rest = bytes(self._head[: 8 + length]), bytes(self._head[8 + length :])
        self._head.clear()
        try:
            header = parse(head, size=self._size, file="")
            agrees(head, header, file="")
        except HeaderRefused:
            self._unsound = True
            return b""
        self._header, self._at = header, header.data_start
        self._looks = {entry.name: Look(entry.dtype) for entry in header.tensors if entry.dtype in FLOATS}
        return rest

    def _look(self, piece: memoryview, header: Header) -> None:
        while len(piece):
            while self._tensor < len(header.tensors) and header.tensors[self._tensor].end == self._at:
                self._tensor += 1
            if self._tensor == len(header.tensors):
                self._unsound = True
                return
            entry = header.tensors[self._tensor]
            taken = min(len(piece), entry.end - self._at, CACHED - self._held)
            self._bytes[self._held : self._held + taken] = piece[:taken]
            self._held, self._at, piece = self._held + taken, self._at + taken, piece[taken:]
            if self._held == CACHED or self._at == entry.end:
                if entry.name in self._looks:
                    self._looks[entry.name].at(memoryview(self._bytes)[: self._held], room=self._room)
                self._held = 0


_remembered: OrderedDict[Digest, Weights] = OrderedDict()
_lock = threading.Lock()


def remember(digest: Digest, weights: Weights) -> None:
    """Keep what was seen of the bytes with this digest, at the cost of what was seen longest ago."""
    with _lock:
        _remembered[digest] = weights
        _remembered.move_to_end(digest)
        while sum(len(each.header.tensors) for each in _remembered.values()) > REMEMBERED:
            _remembered.popitem(last=False)


def remembered(digest: Digest) -> Weights | None:
    """What was seen of the bytes with this digest, if it is still known."""
    with _lock:
        return _remembered.get(digest)
