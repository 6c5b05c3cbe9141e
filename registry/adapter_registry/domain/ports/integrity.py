"""IntegrityRows: what services need of a catalog to keep trusted keys, signatures and scans."""

from __future__ import annotations

from typing import Protocol

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.integrity.key import Key, Signature
from adapter_registry.domain.integrity.scan import Scan


class IntegrityRows(Protocol):
    """Trusted keys; signatures and scans of a Version under the name of its adapter."""

    def all_keys(self) -> tuple[Key, ...]:
        """Every key, revoked ones included, in the order they were added."""

    def add_key(self, key: Key) -> None: ...

    def change_key(self, key: Key) -> None: ...

    def sign(self, signature: Signature) -> None:
        """Store the one signature of a version that its key has."""

    def signatures(self, adapter: str, version: Digest) -> tuple[tuple[Signature, Key], ...]:
        """In the order they were received, each with its key as it is now."""

    def add_scan(self, scan: Scan) -> None: ...

    def scans(self, adapter: str, version: Digest) -> tuple[Scan, ...]:
        """In the order they were recorded."""
