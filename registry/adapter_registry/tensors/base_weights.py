"""The tensors of a base's folder, read by rows as they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from adapter_registry.checkpoints.base_folder import open_checkpoint
from adapter_registry.tensors.arrays import Float32, WeightFile, as_float32


class StoredRows:
    """A tensor in a file, by rows; more than two dimensions count as rows and all the rest."""

    def __init__(self, file: WeightFile, name: str) -> None:
        self._dtype = file.entries[name].dtype
        stored = file.stored(name)
        self._stored = stored.reshape(stored.shape[0], -1) if stored.ndim > 1 else stored.reshape(1, -1)
        self.shape = (int(self._stored.shape[0]), int(self._stored.shape[1]))

    def block(self, start: int, stop: int) -> Float32:
        """See Rows."""
        return np.array(as_float32(self._stored[start:stop], self._dtype))


class BaseWeights:
    """The tensors of a checkpoint by the names it has for them."""

    def __init__(self, files: tuple[WeightFile, ...]) -> None:
        self._by_name = {name: file for file in files for name in file.entries}
        self.names = tuple(sorted(self._by_name))

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def file(self, name: str) -> WeightFile:
        """The file that holds a tensor."""
        return self._by_name[name]

    def rows(self, name: str) -> StoredRows:
        """A tensor by rows."""
        return StoredRows(self._by_name[name], name)

    def array(self, name: str) -> Float32:
        """A tensor as float32."""
        return self._by_name[name].array(name)


@contextmanager
def base_weights(folder: Path) -> Iterator[BaseWeights]:
    """Open the weight files of a checkpoint's folder."""
    with ExitStack() as stack:
        opened = open_checkpoint(folder)
        yield BaseWeights(tuple(stack.enter_context(WeightFile(path, header)) for path, header in opened.files))
