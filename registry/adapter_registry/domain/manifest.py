"""Manifest: the canonical JSON that is a Version; its sha256 is the Version's digest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from adapter_registry.domain.adapter import File, Version
from adapter_registry.domain.digest import canonical_json
from adapter_registry.domain.lineage import Lineage
from adapter_registry.domain.lock import Lock

FORMAT = "adapters.manifest/1"


def manifest(files: Iterable[File], *, lock: Lock, lineage: Lineage | None = None) -> bytes:
    """The bytes whose digest is the Version's identity: what it holds, what it is locked to and what it was made of.

    Who pushed it, when, under which name and why are facts about the Version and live outside, so that the same
    bytes on the same Base are the same Version wherever they are pushed.
    """
    rows = [{"path": f.path, "size": f.size, "digest": f.digest} for f in sorted(files, key=lambda f: f.path)]
    document: dict[str, Any] = {"format": FORMAT, "files": rows, "lock": {"base": lock.base}}
    if lineage is not None:
        document["lineage"] = lineage.document()
    return canonical_json(document)


def manifest_of(version: Version) -> bytes:
    """The Manifest that a Version says it is."""
    return manifest(version.files, lock=Lock(version.base), lineage=version.lineage)
