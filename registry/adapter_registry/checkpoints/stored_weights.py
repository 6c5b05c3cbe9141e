"""The tensors of weight files that are read as streams, wherever they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

from blake3 import blake3

from adapter_registry.checkpoints.checkpoint import MAX_BASE_HEADER, MAX_BASE_TENSORS
from adapter_registry.checkpoints.file_rules import Named
from adapter_registry.checkpoints.header import TensorEntry, read
from adapter_registry.domain.base import Tensor, weights_root
from adapter_registry.domain.digest import Digest

BLOCK = 1 << 20


def root_of(files: Sequence[Named]) -> Digest:
    """The digest over every tensor in the files, every byte read: equal for the same tensors in other files.

    Raises:
        HeaderRefused: a file breaks the safetensors format.
    """
    return weights_root(tensor for file in files for tensor in _tensors(file))


def _tensors(file: Named) -> Iterator[Tensor]:
    limits = {"max_header": MAX_BASE_HEADER, "max_tensors": MAX_BASE_TENSORS}
    with file.open() as stream:
        for entry in read(stream, size=file.size, file=file.path, **limits).tensors:
            yield Tensor(entry.name, entry.dtype, entry.shape, _digest(stream, entry))


def _digest(stream: BinaryIO, entry: TensorEntry) -> str:
    hasher = blake3()
    stream.seek(entry.start)
    left = entry.end - entry.start
    while left > 0 and (block := stream.read(min(BLOCK, left))):
        hasher.update(block)
        left -= len(block)
    return str(hasher.hexdigest())
