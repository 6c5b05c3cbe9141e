"""Where the bytes of a Base are taken from: the folder it was registered from, or its stored files, placed here."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from adapter_registry.domain.adapter import File
from adapter_registry.domain.base import Base
from adapter_registry.domain.digest import hex_of
from adapter_registry.domain.errors import DigestMismatch, StoreFull, StoreUnavailable
from adapter_registry.domain.stored_base import StoredBase, derived_commit
from adapter_registry.local.pulled import check_path, copy_verified

HUB = "hf://"
WEIGHTS = ".safetensors"
Bytes = Callable[[File], Path | BinaryIO]
"""Where the bytes of a stored file are: a path on this machine, or a stream that ends with the last of them."""


def permitted(source: str, sources: tuple[str, ...] | None) -> bool:
    """Whether bases may be taken from `source`.

    Args:
        source: a folder or `hf://org/repo@<commit>`, as whoever registered the base named it.
        sources: folders with all that is below them, `hf://` for every repository, `hf://org` or `hf://org/repo`; None
            permits everything.
    """
    if sources is None:
        return True
    if source.startswith(HUB):
        named = source.partition("@")[0] + "/"
        return any(each.startswith(HUB) and named.startswith(f"{each.rstrip('/')}/") for each in sources)
    there = Path(source).expanduser().resolve()
    return any(there.is_relative_to(Path(each).resolve()) for each in sources if not each.startswith(HUB))


def folder_of(stored: StoredBase, cache: Path) -> Path:
    """Where `place` puts the files: equal files of several bases, or ids, are one folder."""
    return cache / "bases" / derived_commit(stored.files)


def place(stored: StoredBase, folder: Path, bytes_of: Bytes) -> None:
    """Have the files of a stored base in `folder`: whole or not at all, and not twice.

    Weights in files of this machine's store are linked, or copied where the cache lies on another disk; that they are
    what they are said to be is seen by `require_whole`, from a reading of the folder. All else is verified here.

    Raises:
        DigestMismatch: bytes that are not what the store says; nothing is left behind.
        StoreFull, StoreUnavailable: the folder cannot be written.
        InvalidInput: a path that leads outside.
    """
    for file in stored.files:
        check_path(file.path, stored.name)
    if _is_there(stored, folder):
        return
    shutil.rmtree(folder, ignore_errors=True)
    aside = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.partial"
    try:
        for file in stored.files:
            target = aside / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            _put(file, bytes_of(file), target)
        with suppress(FileExistsError):
            _moved(aside, folder)
    except OSError as error:
        kind = StoreFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreUnavailable
        raise kind(
            f"{folder} cannot be written ({error.strerror}); nothing was left behind. It takes {stored.size:,} bytes; "
            "ADAPTERS_CACHE names another place."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def require_whole(stored: StoredBase, folder: Path, found: Base) -> None:
    """Refuse weights in `folder` that are not those stored, and remove the folder, so that it is made anew.

    Args:
        stored: what was placed there.
        folder: where.
        found: what reading it found.

    Raises:
        DigestMismatch: naming the first file.
    """
    wanted = {file.path: file for file in stored.files}
    for each in found.files:
        file = wanted[each.path]
        if each.sha256 != hex_of(file.digest):
            shutil.rmtree(folder, ignore_errors=True)
            raise DigestMismatch(each.path, declared=file.digest, received=each.sha256, size=each.size)


def _put(file: File, source: Path | BinaryIO, target: Path) -> None:
    if isinstance(source, Path):
        if file.path.endswith(WEIGHTS):
            try:
                os.link(source, target)
            except OSError:  # another disk, or one that has no links
                shutil.copyfile(source, target)
            return
        source = source.open("rb")
    with source, target.open("xb") as sink:
        copy_verified(file, source, sink)
        os.fchmod(sink.fileno(), 0o444)


def _moved(aside: Path, folder: Path) -> None:
    try:
        aside.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another process was faster
            raise FileExistsError from error
        raise


def _is_there(stored: StoredBase, folder: Path) -> bool:
    try:
        return all(_holds(folder / file.path, file) for file in stored.files)
    except OSError:
        return False


def _holds(path: Path, file: File) -> bool:
    if file.path.endswith(WEIGHTS):
        return path.stat().st_size == file.size
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == hex_of(file.digest)
