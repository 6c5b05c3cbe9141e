"""Where arithmetic is done: by numpy on the processor, or by torch on a device.

A formula is written once, with what arrays of numpy and tensors of torch have in common: `library` tells whose
functions take an array. Torch is imported when a device is asked for, and never before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapter_registry.domain.errors import InvalidInput, Unsupported

Array = Any
"""An array of numpy, or a tensor of torch on a device; float32 where nothing else is said."""

DEVICES = ("cpu", "cuda")
BLOCK = 1 << 18
"""Entries of a block on the processor: 1 MB of float32 stays in the cache while several steps pass over it."""
DEVICE_BLOCK = 1 << 22
"""On a device a step costs its launch, and there is no cache to stay in: 16 MB of float32."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device.

    Attributes:
        torch: what torch calls it; None: the processor, by numpy.
    """

    torch: str | None = None

    @property
    def name(self) -> str:
        """For people and lineage: the model of the GPU, or `cpu`."""
        if self.torch is None or not self.torch.startswith("cuda"):
            return "cpu"
        return str(_torch().cuda.get_device_name(self.torch))

    @property
    def pinned(self) -> bool:
        """Whether copies from and to pinned memory go on beside other work."""
        return self.torch is not None and self.torch.startswith("cuda")

    def buffer(self, size: int) -> NDArray[np.uint8]:
        """Bytes in memory, pinned where that makes copies to the device quick."""
        if not self.pinned:
            return np.empty(size, np.uint8)
        torch = _torch()
        made: NDArray[np.uint8] = torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
        return made

    def put(self, array: Any) -> Array:
        """An array of numpy, there."""
        if self.torch is None:
            return array
        return _torch().tensor(np.ascontiguousarray(array), device=self.torch)


CPU = Device()


def device_of(name: str) -> Device:
    """The device of a name of DEVICES, once it is known to be there.

    Raises:
        InvalidInput: no such name.
        Unsupported: torch is not installed, or finds no CUDA device.
    """
    check_name(name)
    if name == "cpu":
        return CPU
    try:
        torch = _torch()
    except ImportError as error:
        raise Unsupported(
            "--device cuda needs torch, which is not installed; nothing was done. Install 'adapter-registry[jobs]', "
            "or leave --device out."
        ) from error
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = f"torch {torch.__version__} finds none" if built else f"torch {torch.__version__} is built without CUDA"
        raise Unsupported(f"there is no CUDA device here: {why}; nothing was done. Leave --device out.")
    return Device("cuda")


def check_name(name: Any) -> None:
    """Refuse what is no name of DEVICES; whether the device is there is asked where the work is done.

    Raises:
        InvalidInput: it is none.
    """
    if name not in DEVICES:
        raise InvalidInput(f"--device is one of {', '.join(DEVICES)}, not {str(name)[:40]!r}.")


@contextmanager
def memory_explained(device: Device) -> Iterator[None]:
    """A device's memory that ran out, told as such.

    Raises:
        Unsupported: it did.
    """
    if device.torch is None:
        yield
        return
    try:
        yield
    except _torch().cuda.OutOfMemoryError as error:
        raise Unsupported(
            f"{device.name} ran out of memory; nothing was stored. Free some, or leave --device out."
        ) from error


def library(array: Array) -> Any:
    """The module whose functions take an array: numpy or torch."""
    return np if isinstance(array, np.ndarray) else _torch()


def beside(array: Array, other: Any) -> Array:
    """An array of numpy, where `array` is."""
    return other if isinstance(array, np.ndarray) else _torch().from_numpy(other).to(array.device)


def host(array: Array) -> Any:
    """An array of numpy with the same values."""
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


def wide(array: Array) -> Array:
    """In float64."""
    return array.astype(np.float64) if isinstance(array, np.ndarray) else array.double()


def narrow(array: Array) -> Array:
    """In float32."""
    return array.astype(np.float32, copy=False) if isinstance(array, np.ndarray) else array.float()


def empty(shape: tuple[int, int], where: Array) -> Array:
    """A float32 matrix where `where` is."""
    if isinstance(where, np.ndarray):
        return np.empty(shape, dtype=np.float32)
    return _torch().empty(shape, dtype=_torch().float32, device=where.device)


def _torch() -> Any:
    import torch  # noqa: PLC0415  slow, and absent without the extra

    return torch
