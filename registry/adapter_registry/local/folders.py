"""Local folders as people name them on a command line."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapter_registry.checkpoints.adapter_files import FolderFile, survey
from adapter_registry.domain import reference
from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import InvalidInput, InvalidReference

BLOCK = 1 << 18
HASHERS = 2


def is_folder(text: str) -> bool:
    """Whether people mean a folder and not a name."""
    return not text.startswith("sha256:") and (text.startswith((".", "/", "~")) or Path(text).is_dir())


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
    return _hashed(source, threading.Event())


@dataclass(frozen=True, slots=True)
class Hashing:
    """Files that are being hashed.

    Attributes:
        running: each of them, and its File to be.
    """

    running: Mapping[FolderFile, Future[File]]

    def __call__(self, sources: Sequence[FolderFile]) -> list[File]:
        """Those of `sources` with their digests, in order, when they are hashed."""
        return [self.running[each].result() if each in self.running else hashed(each) for each in sources]


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


def _hashed(source: FolderFile, stop: threading.Event) -> File:
    hasher, buffer = hashlib.sha256(), bytearray(BLOCK)
    with source.open() as stream:
        while not stop.is_set() and (size := stream.readinto(buffer)):
            hasher.update(memoryview(buffer)[:size])
    return File(source.path, source.size, Digest(f"sha256:{hasher.hexdigest()}"))
