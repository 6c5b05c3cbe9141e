"""The client's calls that keep a store sound; some are for who can reach the store itself only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_registry.calls.asking import Asking, every
from adapter_registry.domain.errors import Unsupported
from adapter_registry.services import collect as collecting
from adapter_registry.services import usage as using
from adapter_registry.services.access import NewToken
from adapter_registry.services.collect import GRACE_SECONDS, Collected, StoreReport
from adapter_registry.services.usage import Plan, Usage

if TYPE_CHECKING:
    from adapter_registry.backups import Copied

Progress = Callable[[int], None]


class StoreCalls(Asking):
    """Checks, collections and migrations, backups, and the administrator's way in."""

    def verify_store(self, *, read_data: bool = False, progress: Progress | None = None) -> StoreReport:
        """Hold the catalog against the blobs; with `read_data`, hash every byte."""
        return self._ask(collecting.check, read_data=read_data, progress=progress or _silent)

    def collect(self, *, grace_seconds: float = GRACE_SECONDS, dry_run: bool = False) -> Collected:
        """Remove bytes that no version refers to."""
        return self._ask(collecting.collect, grace_seconds=grace_seconds, dry_run=dry_run)

    def usage(self) -> Usage:
        """Bytes of each adapter, most first, and what they add up to."""
        first: Usage = self._ask(using.usage)
        rest = every(lambda after: self._ask(using.usage, after=after), first.next) if first.next else ()
        return replace(first, items=(*first.items, *rest), next=None)

    def collection_plan(self, *, grace_seconds: float = GRACE_SECONDS) -> Plan:
        """What a collection would free, and why the rest is kept."""
        return self._ask(using.plan, grace_seconds=grace_seconds)

    def migrate(self) -> str:
        """Bring the database to this version's schema; its name."""
        self._only_here("migrates a database")
        from adapter_registry import app  # noqa: PLC0415  importing a database is slow

        return app.migrate_embedded(self._settings)

    def admin_token(self) -> NewToken:
        """A new token of the administrator: the first one, or in place of a lost one."""
        self._only_here("makes a token for who has none")
        from adapter_registry import app  # noqa: PLC0415

        return app.admin_token(self._settings)

    def back_up(self, folder: str | Path, *, blobs_only: bool = False, progress: Progress | None = None) -> Copied:
        """Back the registry up into a folder, the database first; beside whatever else goes on."""
        self._only_here("copies a store")
        from adapter_registry import backups  # noqa: PLC0415

        return backups.back_up(self._settings, Path(folder), blobs_only=blobs_only, progress=progress or _silent)

    def restore(self, folder: str | Path, *, blobs_only: bool = False, progress: Progress | None = None) -> Copied:
        """Fill an empty registry from a backup."""
        self._only_here("fills a store")
        from adapter_registry import backups  # noqa: PLC0415

        return backups.restore(self._settings, Path(folder), blobs_only=blobs_only, progress=progress or _silent)

    def _only_here(self, what: str) -> None:
        if self._settings.url:
            raise Unsupported(
                f"this {what}, so it runs where the store is, not through a server: unset ADAPTERS_URL there."
            )


def _silent(_bytes: int) -> None:
    return
