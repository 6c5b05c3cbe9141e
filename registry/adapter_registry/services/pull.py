"""Pull: the bytes of a Version's files."""

from __future__ import annotations

from typing import BinaryIO

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.ports import Backend

Stream = BinaryIO


def open_file(backend: Backend, *, digest: Digest) -> Stream:
    """The bytes under `digest`; raises NotFound when the store lost them."""
    return backend.blobs.open(digest)
