"""What derived versions need from the catalog: which version was made of which, and marks of withdrawn ancestors."""

from __future__ import annotations

from typing import Protocol

from adapter_registry.domain.adapter import Version


class AncestryRows(Protocol):
    """Versions and the versions they were made of, and what those were made of in turn."""

    def made(self, version: Version) -> None:
        """Record the parents that a stored Version's lineage names; it inherits the marks of withdrawn ones."""

    def descendants(self, version: Version) -> tuple[Version, ...]:
        """What was made of it, directly or not, and was not removed; by adapter and number."""

    def mark(self, version: Version) -> tuple[Version, ...]:
        """Mark every descendant of a version that is withdrawn (`Version.revoked_ancestors`); those that are left."""
