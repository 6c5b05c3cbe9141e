"""Pull: the bytes of a Version's files."""

from __future__ import annotations

from typing import BinaryIO

from adapter_registry.domain.adapter import File, Version
from adapter_registry.domain.errors import NotFound, Revoked
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.reference import parse
from adapter_registry.services.references import version_of

Stream = BinaryIO


def open_file(backend: Backend, *, reference: str, path: str) -> Stream:
    """The bytes of one file of a Version.

    Raises:
        NotFound: no such version, no such file in it, or the store lost the bytes.
        Revoked: the version was withdrawn.
    """
    return backend.blobs.open(find_file(backend, reference=reference, path=path).digest)


def find_file(backend: Backend, *, reference: str, path: str) -> File:
    """One file of a Version that may be served; errors as of `open_file`."""
    with backend.catalog.reading() as tx:
        version = served(version_of(tx, parse(reference, namespace=backend.namespace)))
    for file in version.files:
        if file.path == path:
            return file
    raise NotFound(f"{version.reference} has no file {path[:200]!r}; it has {len(version.files)}, `show` lists them.")


def served(version: Version) -> Version:
    """The same Version; raises Revoked when it was withdrawn."""
    if version.revoked_because is not None:
        raise Revoked(
            f"{version.reference} was revoked: {version.revoked_because} It is not served any more; "
            f"`adapters ls {version.adapter}` shows what is."
        )
    return version
