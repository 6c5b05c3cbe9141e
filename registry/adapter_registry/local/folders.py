"""Local folders as people name them on a command line."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_registry.checkpoints.adapter_files import FolderFile, survey
from adapter_registry.domain import reference
from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import InvalidInput, InvalidReference, RegistryError
from adapter_registry.domain.peft.fields import WEIGHTS

if TYPE_CHECKING:
    from adapter_registry.checkpoints.passing import Weights

BLOCK = 1 << 18
HASHERS = 2


def is_folder(text: str) -> bool:
    """Whether people mean a folder and not a name."""
    return not text.startswith("sha256:") and (text.startswith((".", "/", "~")) or Path(text).is_dir())


def file_digest(path: Path) -> Digest:
    """The digest of a file's bytes."""
    with path.open("rb") as stream:
        return Digest(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}")


def name_of(folder: Path) -> str:
    """The adapter name that a folder's own name is; raises InvalidInput when it is none."""
    name = folder.absolute().name
    try:
        reference.split_adapter(name)
    except InvalidReference as error:
        raise InvalidInput(f"the folder's name {name!r} is no adapter name; give one with --name NAME.") from error
    return name


def hashed(source: FolderFile) -> File:
    """A file of the folder with its digest."""
    return _hashed(source, threading.Event()).file


@dataclass(frozen=True, slots=True)
class Hashed:
    """A file with its digest, and what was seen of its bytes meanwhile if it is the weights."""

    file: File
    weights: Weights | None


@dataclass(frozen=True, slots=True)
class Hashing:
    """Files that are being hashed.

    Attributes:
        running: each of them, and what comes of it.
    """

    running: Mapping[FolderFile, Future[Hashed]]

    def __call__(self, sources: Sequence[FolderFile]) -> list[File]:
        """Those of `sources` with their digests, in order, when they are hashed."""
        return [self.running[each].result().file if each in self.running else hashed(each) for each in sources]

    def weights(self, source: FolderFile) -> Weights | None:
        """What was seen of the weights when all of them were; None where they were not, or cannot be read."""
        running = self.running.get(source)
        with suppress(RegistryError, OSError):
            return running.result().weights if running else None
        return None


@contextmanager
def hashing(folder: Path) -> Iterator[Hashing]:
    """Begin to hash the files of a folder.

    Leaving ends what still runs: a folder may turn out to be none that anybody wanted hashed.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(HASHERS, thread_name_prefix="hash") as pool:
        found = survey(folder).files if folder.is_dir() else ()
        try:
            yield Hashing({source: pool.submit(_hashed, source, stop) for source in found})
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _hashed(source: FolderFile, stop: threading.Event) -> Hashed:
    # numpy is needed for values only, and most commands name no folder to push.
    from adapter_registry.checkpoints.passing import Passing, remember  # noqa: PLC0415

    hasher, buffer = hashlib.sha256(), bytearray(BLOCK)
    passing = Passing(source.size) if source.path == WEIGHTS else None
    with source.open() as stream:
        while not stop.is_set() and (size := stream.readinto(buffer)):
            block = memoryview(buffer)[:size]
            hasher.update(block)
            if passing is not None:
                passing.update(block)
    digest = Digest(f"sha256:{hasher.hexdigest()}")
    weights = passing.weights() if passing else None
    if weights is not None:
        remember(digest, weights)
    return Hashed(File(source.path, source.size, digest), weights)
