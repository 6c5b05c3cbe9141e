"""What `merge_kernel.merge_rows` does, by torch on a device: weights plus low-rank deltas, rounded once.

Each thread has a stream and a pinned buffer of its own, so that copies in, arithmetic and copies out of the blocks of
several threads overlap. The order is the kernel's but for the sum over the ranks, which is `torch.matmul`'s: on a
processor the bits are the same; on a GPU a delta may differ in its last digits, and a weight in its last bit.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from adapter_registry.tensors.devices import Array, Device
from adapter_registry.tensors.merging.edits import Part

Bytes = NDArray[np.uint8]
Placed = tuple[tuple[Array, Array, float], ...]
"""(up, down, scale) of each adapter, on the device."""

BLOCK = 16 << 20
"""Bytes of a block: large beside what a launch costs, small beside the memory of a device."""
_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


class Lanes:
    """A stream and a pinned buffer for each thread that asks."""

    def __init__(self, device: Device) -> None:
        import torch  # noqa: PLC0415  slow, and absent without the extra

        self._torch, self._device, self._own = torch, device, threading.local()

    def placed(self, parts: Sequence[Part]) -> Placed:
        """The factors of some parts on the device."""
        pairs = [(part.weight, part.pair()) for part in parts]
        return tuple((self._put(p.up), self._put(p.down), float(np.float32(w * p.scale))) for w, p in pairs)

    def _put(self, factor: NDArray[np.float32]) -> Array:
        return self._device.put(factor.astype(np.float32, copy=False))

    def buffer(self, size: int) -> Bytes:
        """For a result: see `Device.buffer`."""
        return self._device.buffer(size)

    def merge_rows(
        self, source: Bytes, target: Bytes, kinds: tuple[str, str], factors: Placed, place: tuple[int, int]
    ) -> NDArray[np.float64]:
        """Rows of `round(W + Σ s · (up @ down))`.

        Args:
            source: bytes of the rows of W.
            target: bytes to write the rows to; pinned where the device has it.
            kinds: types of both, as safetensors names them.
            factors: of the whole matrix.
            place: number of the first of these rows in the matrix; each row whose number the second divides is tallied.

        Returns:
            The figures of `merge_kernel.SUMS`.
        """
        torch, (first, every) = self._torch, place
        kind, stored = (getattr(torch, _TYPES[each]) for each in kinds)
        columns = factors[0][1].shape[1]
        with self._lane(source.size) as staged:
            staged[:] = source
            there = torch.from_numpy(staged).to(self._device.torch, non_blocking=True)
            weights = there.view(kind).view(-1, columns).float()
            total = _delta(factors, first, first + len(weights))
            merged = (weights + total).to(stored)
            torch.from_numpy(target).copy_(merged.view(torch.uint8).view(-1), non_blocking=True)
            looked = slice(-first % every, None, every)
            sums: NDArray[np.float64] = (
                torch.stack(_figures(weights[looked], total[looked], merged[looked])).cpu().numpy()
            )
        return sums

    @contextmanager
    def _lane(self, size: int) -> Iterator[Bytes]:
        """Work on this thread's stream, done when it ends; `size` bytes to bring weights in by."""
        own = self._own
        if getattr(own, "staged", np.empty(0)).size < size:
            own.staged = self._device.buffer(size)
        if not self._device.pinned:
            yield own.staged[:size]
            return
        if not hasattr(own, "stream"):
            own.stream = self._torch.cuda.Stream(self._device.torch)
        with self._torch.cuda.stream(own.stream):
            yield own.staged[:size]
        own.stream.synchronize()


def _delta(factors: Placed, first: int, last: int) -> Array:
    (up, down, scale), *others = factors
    total = (up[first:last] @ down) * scale
    for up, down, scale in others:
        total += (up[first:last] @ down) * scale
    return total


def _figures(weights: Array, delta: Array, merged: Array) -> tuple[Array, ...]:
    """Σ D², Σ (kept - D)², weights that moved, Σ W², in float64."""
    before, added = weights.double(), delta.double()
    moved = merged.double() - before
    return ((added**2).sum(), ((moved - added) ** 2).sum(), (moved != 0).sum().double(), (before**2).sum())
