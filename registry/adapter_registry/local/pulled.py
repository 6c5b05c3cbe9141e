"""Place a Version's files in a folder: every digest verified, complete or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from adapter_registry.domain.adapter import File, Version
from adapter_registry.domain.digest import hex_of, of_bytes
from adapter_registry.domain.errors import (
    Conflict,
    DigestMismatch,
    IncompatibleBase,
    InvalidInput,
    Problem,
    StoreUnavailable,
)
from adapter_registry.domain.lock import Verdict
from adapter_registry.domain.manifest import manifest_of

LOCK_FILE = "adapter_lock.json"
BLOCK = 1 << 20
TOLD = 4
"""How many differences of a base an error tells; its `problems` hold them all."""
ABANDONED_SECONDS = 3_600
"""How long nothing changes in what a pull was writing before it counts as left behind by one that was killed."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """A Version on this machine's disk.

    Attributes:
        version: what was pulled.
        folder: where its files are; PEFT loads it as it is.
        verdict: how the base it is meant for fits; None when none was named.
        fetched: False when the folder held it already.
    """

    version: Version
    folder: Path
    verdict: Verdict | None
    fetched: bool

    def __fspath__(self) -> str:
        return str(self.folder)


def place(
    version: Version,
    folder: Path,
    *,
    verdict: Verdict | None,
    read: Callable[[File], BinaryIO],
    force: bool,
    keep: bool,
) -> Pulled:
    """Write the files of `version` and its lock file into `folder`.

    Args:
        version: what to write.
        folder: must not exist, be empty, or hold this same version; its parents are made.
        verdict: passed on.
        read: opens the bytes of a File.
        force: replace an earlier pull in `folder`; anything else there is never touched.
        keep: make the files read-only, for a folder that several processes share.

    Raises:
        Conflict: `folder` holds something else.
        DigestMismatch: bytes that are not what the Version says, or a Version that is not what its digest says; nothing
            is left behind.
    """
    check_whole(version)
    if _is_there(version, folder):
        return Pulled(version, folder, verdict, fetched=False)
    if _holds_something(folder) and not (force and _lock_in(folder)):
        raise Conflict(_occupied(folder, _lock_in(folder)))
    aside = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.partial"
    try:
        if keep:
            _sweep(folder.parent)
        _write(version, aside, read, 0o444 if keep else 0o644)
        fetched = _swap(aside, folder, version)
    except OSError as error:
        raise StoreUnavailable(f"{folder} cannot be written ({error.strerror}); nothing was left behind.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Pulled(version, folder, verdict, fetched=fetched)


def check_whole(version: Version) -> None:
    """Refuse a Version whose digest is not that of what it says it holds and is locked to, or whose paths lead outside.

    Raises:
        DigestMismatch: it is not what its digest names.
        InvalidInput: a path that no version may hold.
    """
    made = of_bytes(manifest_of(version))
    if made != version.digest:
        raise DigestMismatch("the manifest", declared=version.digest, received=made, size=version.size)
    for file in version.files:
        check_path(file.path, version.reference)


def check_path(path: str, of: str) -> None:
    """Refuse a file's path that leads out of the folder that it is placed in; raises InvalidInput."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path:
        raise InvalidInput(f"{of} has a file {path[:200]!r}, which lies outside; none was written.")


def lock_of(version: Version) -> dict[str, Any]:
    """What the lock file says: enough to verify the folder and its base without the registry."""
    return {
        "format": "adapters.lock/1",
        "adapter": version.adapter,
        "version": f"v{version.number}",
        "semver": version.semver,
        "digest": version.digest,
        "base": {"name": version.base_name, "digest": version.base},
        "files": [{"path": f.path, "size": f.size, "digest": f.digest} for f in version.files],
    }


def _lock_in(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / LOCK_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _holds_something(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return folder.exists()  # else one of its parents is a file: nothing can be there


def _occupied(folder: Path, earlier: dict[str, Any]) -> str:
    if earlier:
        holds = f"{earlier.get('adapter')}@{earlier.get('version')}"
        return f"{folder} holds {holds} from an earlier pull; add --force to replace it, or choose another folder."
    return f"{folder} is not empty and was not made by a pull; nothing was written. Choose another folder."


def _sweep(versions: Path) -> None:
    """Remove from a folder of kept versions what pulls that were killed left there."""
    for left in (*versions.glob(".*.partial"), *versions.glob(".*.old")):
        with suppress(OSError):  # gone meanwhile, or another user's
            changed = max(path.stat().st_mtime for path in (left, *left.rglob("*")))
            if time.time() - changed > ABANDONED_SECONDS:
                left.chmod(0o755)
                shutil.rmtree(left, ignore_errors=True)


def _write(version: Version, aside: Path, read: Callable[[File], BinaryIO], mode: int) -> None:
    aside.mkdir(parents=True)
    for file in version.files:
        target = aside / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with read(file) as source, target.open("xb") as sink:
            copy_verified(file, source, sink)
            os.fchmod(sink.fileno(), mode)
    with (aside / LOCK_FILE).open("x") as sink:
        json.dump(lock_of(version), sink, indent=2)
        os.fchmod(sink.fileno(), mode)
        sink.flush()
        os.fsync(sink.fileno())


def copy_verified(file: File, source: BinaryIO, sink: BinaryIO) -> None:
    """Write a file's bytes, durably; raises DigestMismatch when they are not what its digest says."""
    hasher, size = hashlib.sha256(), 0
    while block := source.read(BLOCK):
        hasher.update(block)
        sink.write(block)
        size += len(block)
    if hasher.hexdigest() != hex_of(file.digest):
        raise DigestMismatch(file.path, declared=file.digest, received=hasher.hexdigest(), size=size)
    sink.flush()
    os.fsync(sink.fileno())


def _swap(aside: Path, folder: Path, version: Version) -> bool:
    """Put `aside` in the place of `folder`, which is absent, empty or an earlier pull.

    False where another process that shares the folder was quicker.
    """
    old = aside.with_suffix(".old")
    try:
        while not _moved(aside, folder):
            if _is_there(version, folder):
                return False
            with suppress(FileNotFoundError):  # another process moved it
                folder.rename(old)
        return True
    finally:
        if old.exists():
            old.chmod(0o755)  # kept folders may be read-only
            shutil.rmtree(old)


def _moved(aside: Path, folder: Path) -> bool:
    """Whether `aside` is now `folder`: unless something is in the way."""
    try:
        aside.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _is_there(version: Version, folder: Path) -> bool:
    """Whether a folder holds this version, every byte of it."""
    if _lock_in(folder).get("digest") != version.digest:
        return False
    return all(holds(folder / file.path, file) for file in version.files)


def holds(path: Path, file: File) -> bool:
    """Whether a path has the bytes of a File."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == hex_of(file.digest)
    except OSError:
        return False


def require(verdict: Verdict, version: Version, onto: str) -> None:
    """Raise IncompatibleBase, with every difference, unless the verdict allows loading."""
    if verdict.accepted:
        return
    problems = [Problem("base-differs", onto, d.what, d.expected, d.found, "") for d in verdict.differences]
    told = [str(difference) for difference in verdict.differences]
    more = [f"... and {len(told) - TOLD} more; --json lists them"] if len(told) > TOLD else []
    listed = "".join(f"\n  {line}" for line in [*told[:TOLD], *more])
    raise IncompatibleBase(
        f"{version.reference} is locked to {version.base_name}@{version.base[7:19]}, and {onto} is {verdict}. "
        f"Nothing was written.{listed}\n"
        "Load it onto the base it was trained on, or pull a version that is locked to yours: adapters ls --base NAME.",
        problems=problems,
    )
