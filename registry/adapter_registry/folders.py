"""Local folders as people name them on a command line."""

from __future__ import annotations

import hashlib
from pathlib import Path

from adapter_registry.checkpoints.adapter_files import FolderFile
from adapter_registry.domain import reference
from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import InvalidInput, InvalidReference


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
    with source.open() as stream:
        return File(source.path, source.size, Digest(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"))
