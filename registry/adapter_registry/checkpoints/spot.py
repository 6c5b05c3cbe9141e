"""The spot check: a few keyed slices of every tensor, enough to tell another checkpoint of the same shape.

What it tells. Each tensor is read at `slices` places that a random key decides, `length` bytes each; a tensor smaller
than that is read whole. Another training run, or a fine-tuned copy, differs in a good part of the bytes of many
tensors. If a fraction f of one tensor's bytes differs, all its slices miss that with a probability of at most about
(1 - f)^slices when the change is one connected piece, and far less when it is scattered; over many changed tensors
these multiply: 100 tensors changed in a tenth of their bytes go unseen with 10^-18.

What it does not tell. A change confined to bytes that were not read is not seen, such as a few rows of an embedding.
Whoever knows the key can hide a change between the slices: it is no proof against an adversary. The full check reads
everything and has neither limit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from blake3 import blake3

from adapter_registry.checkpoints.header import Header, TensorEntry
from adapter_registry.domain.base import SpotCheck

SLICES = 4
LENGTH = 512


def make_spot(files: Sequence[tuple[Path, Header]], *, key: str) -> SpotCheck:
    """The slices of these files' tensors.

    Args:
        files: path and header of each weight file.
        key: 32 hex digits, random.
    """
    return SpotCheck(key, SLICES, LENGTH, _digests(files, key=key, slices=SLICES, length=LENGTH))


def spot_differences(files: Sequence[tuple[Path, Header]], spot: SpotCheck) -> list[str]:
    """Names of tensors whose slices are not those of `spot`, or that only one side has; empty when all match."""
    found = _digests(files, key=spot.key, slices=spot.slices, length=spot.length)
    return sorted(name for name in found.keys() | spot.digests.keys() if found.get(name) != spot.digests.get(name))


def _digests(files: Sequence[tuple[Path, Header]], *, key: str, slices: int, length: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for path, header in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            for entry in header.tensors:
                found[entry.name] = _slices(descriptor, entry, key=bytes.fromhex(key), slices=slices, length=length)
        finally:
            os.close(descriptor)
    return found


def _slices(descriptor: int, entry: TensorEntry, *, key: bytes, slices: int, length: int) -> str:
    size = entry.end - entry.start
    hasher = blake3(f"{entry.dtype}{entry.shape}".encode())
    if size <= slices * length:
        hasher.update(os.pread(descriptor, size, entry.start))
        return str(hasher.hexdigest(length=16))
    places = blake3(key + entry.name.encode()).digest(length=8 * slices)
    for i in range(slices):
        offset = int.from_bytes(places[8 * i : 8 * i + 8], "little") % (size - length + 1)
        hasher.update(os.pread(descriptor, length, entry.start + offset))
    return str(hasher.hexdigest(length=16))
