"""A version's files in `ROOT/.store/sha256-...`: read-only, named by what they are, never anything else."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from adapter_registry.domain.adapter import File, Version
from adapter_registry.domain.digest import Digest, of_bytes
from adapter_registry.domain.errors import Conflict, StoreUnavailable
from adapter_registry.domain.lock import Lock
from adapter_registry.domain.manifest import manifest
from adapter_registry.local.pulled import Pulled, check_whole, copy_verified, holds

STORE = ".store"
SYNCED, DEPLOYED = ".adapters-sync.json", ".adapters-deploy.json"
"""What is kept in a root by those that keep it; each root is kept by one of them."""
CONFIG = "adapter_config.json"
_ASIDE = re.compile(r"\.[0-9a-f]{12}\.(partial|removed)")
"""Names under which things are made and taken away."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A version as a stack reads it.

    Attributes:
        version: what it is.
        digest: of the files as they were exported; the version's own where none was changed.
        files: as they were exported.
        changed: path -> bytes that differ from the version's.
    """

    version: Version
    digest: Digest
    files: tuple[File, ...]
    changed: dict[str, bytes]


def exported(pulled: Pulled, *, model: str | None) -> Exported:
    """A pulled version whose config names `model` as its base; None leaves it as it is."""
    version = pulled.version
    check_whole(version)
    config = (pulled.folder / CONFIG).read_bytes()
    document = json.loads(config)
    if model is None or document.get("base_model_name_or_path") == model:
        return Exported(version, version.digest, version.files, {})
    written = json.dumps({**document, "base_model_name_or_path": model}, indent=2).encode()
    config_file = File(CONFIG, len(written), of_bytes(written))
    files = tuple(config_file if file.path == CONFIG else file for file in version.files)
    digest = of_bytes(manifest(files, lock=Lock(version.base), lineage=version.lineage))
    return Exported(version, digest, files, {CONFIG: written})


def store(root: Path, export: Exported, source: Path) -> Path:
    """The folder of an export below `root`, written where it is not there; `source` holds the version's files.

    Raises:
        DigestMismatch: `source` does not hold what the version says; nothing was written.
        StoreUnavailable: the disk refused, or the folder is there and damaged: it may be in use and is left alone.
    """
    folder = root / STORE / export.digest.replace(":", "-")
    if folder.is_dir():
        _check(folder, export)
        return folder
    aside = folder.with_name(f".{secrets.token_hex(6)}.partial")
    try:
        for file in export.files:
            target = aside / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            with _open(file, export, source) as stream, target.open("xb") as sink:
                copy_verified(file, stream, sink)
                os.fchmod(sink.fileno(), 0o444)
        aside.rename(folder)
        folder.chmod(0o555)
    except OSError as error:
        raise StoreUnavailable(f"{folder} cannot be written ({error.strerror}); nothing was left behind.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def linked(stored: Path, folder: Path) -> None:
    """Make `folder` a plain directory of the files in `stored`, at no cost of space; it must not exist.

    Raises:
        StoreUnavailable: the disk refused; nothing was left behind.
    """
    aside = folder.with_name(f".{secrets.token_hex(6)}.partial")
    try:
        shutil.copytree(stored, aside, copy_function=os.link, dirs_exist_ok=False)
        aside.chmod(0o755)  # or it cannot be renamed
        aside.rename(folder)
        folder.chmod(0o555)
    except OSError as error:
        text = f"{folder} cannot be made of links to {stored} ({error.strerror}); nothing was left behind."
        raise StoreUnavailable(text) from error
    finally:
        removed(aside)


def check_links(stored: Path, folder: Path) -> None:
    """Whether `folder` has the files of `stored`, as far as names and sizes tell; those of a backup are no links.

    Raises:
        StoreUnavailable: it has not; it may be in use and is left alone.
    """
    files = [path.relative_to(stored) for path in stored.rglob("*") if path.is_file()]
    wrong = next((each for each in files if not _alike(stored / each, folder / each)), None)
    if wrong is not None or folder.is_symlink():
        what = f"{folder / wrong} is missing or has another size" if wrong else f"{folder} is a link"
        raise StoreUnavailable(
            f"{what}: the folder was changed since it was made. A server may be reading it, so it was left alone: "
            f"unload it there, remove {folder}, and sync again."
        )


def _alike(stored: Path, file: Path) -> bool:
    return file.is_file() and file.stat().st_size == stored.stat().st_size


def removed(folder: Path) -> None:
    """Take a read-only folder away, under another name first, so that nobody sees a half of it."""
    if not folder.is_dir():
        return
    folder.chmod(0o755)
    aside = folder.with_name(f".{secrets.token_hex(6)}.removed")
    folder.rename(aside)
    _cleared(aside)


def _cleared(aside: Path) -> None:
    for each in aside.rglob("*"):
        if each.is_dir():
            each.chmod(0o755)
    shutil.rmtree(aside)


def _swept(root: Path) -> None:
    """Take away what processes that were killed were making, or taking away, below a root that is held."""
    for folder in (root, root / STORE):
        for each in folder.iterdir():
            if _ASIDE.fullmatch(each.name) and each.is_dir():
                each.chmod(0o755)
                _cleared(each)
            elif _ASIDE.fullmatch(each.name):
                each.unlink()


def unwritable(root: Path, error: OSError) -> StoreUnavailable:
    """What to raise for a root that the disk refuses to have written, with what to do."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    mend = "make room there" if full else "it has to be a folder that this user may write"
    return StoreUnavailable(f"{root} cannot be written ({error.strerror}): {mend}.")


@contextmanager
def alone(root: Path, mine: str) -> Iterator[None]:
    """Hold a root for one process; raises Conflict when another has it, or another command keeps it.

    Args:
        root: made where it is not there.
        mine: SYNCED or DEPLOYED.
    """
    for other in {SYNCED, DEPLOYED} - {mine}:
        if (root / other).exists():
            raise Conflict(f"{root} holds {other}, which another command keeps; nothing was done. Choose another root.")
    (root / STORE).mkdir(parents=True, exist_ok=True)
    with (root / STORE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(f"{root} is being changed by another process; nothing was done.") from error
        _swept(root)
        yield


def write_whole(path: Path, text: bytes) -> None:
    """Replace a small file by a whole one, durably."""
    aside = path.with_name(f".{secrets.token_hex(6)}.partial")
    with aside.open("wb") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(path)


def _open(file: File, export: Exported, source: Path) -> BinaryIO:
    changed = export.changed.get(file.path)
    return BytesIO(changed) if changed is not None else (source / file.path).open("rb")


def _check(folder: Path, export: Exported) -> None:
    for file in export.files:
        path = folder / file.path
        if not holds(path, file):
            raise StoreUnavailable(
                f"{path} is not what {export.version.reference} says it is. A server may be reading it, so it was left "
                f"alone: unload it there, remove {folder}, and sync again."
            )
