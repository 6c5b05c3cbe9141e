"""The client's calls about where stages stand; what one points to is believed only when signed, newer and fresh."""

from __future__ import annotations

from datetime import UTC, datetime

from adapter_registry.calls.asking import Asking
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.digest import hex_of
from adapter_registry.domain.errors import UntrustedPointer
from adapter_registry.domain.names import STAGE_NAMES
from adapter_registry.domain.promotions.pointer import Pointer
from adapter_registry.domain.promotions.stage import of_place
from adapter_registry.domain.reference import Kind, Reference, parse
from adapter_registry.domain.views.overview import Overview, Standing, VersionTable
from adapter_registry.local.believed import Pointers
from adapter_registry.services import overview, pointer, show


class PointerCalls(Asking):
    """Pointers, of the embedded registry or a server."""

    def pointer(self, adapter: str, stage: str, *, after: int | None = None, wait_seconds: float = 0.0) -> Pointer:
        """What a stage points to now, or as soon as it moved on.

        Args:
            adapter: `namespace/name`.
            stage: `prod`.
            after: wait for a move above this sequence.
            wait_seconds: how long, up to 60; what is true then is answered, moved or not.

        Raises:
            NotFound: the stage points to nothing.
            UntrustedPointer: the server's answer is forged, expired, or older than one seen before.
        """
        given = self._ask(pointer.pointer, adapter=adapter, stage=stage, after=after, wait_seconds=wait_seconds)
        if not self._settings.url:
            return given.pointer
        known = Pointers(self._settings.pointers, server=self._settings.url, key=self._settings.pointer_key)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return known.believe(given, adapter=adapter, stage=stage, now=now)

    def overview(self, adapter: str) -> Overview:
        """An adapter at a glance: card, stages, how its versions did by the metric recorded last."""
        return self._ask(overview.overview, adapter=adapter)

    def stages(self, adapter: str) -> tuple[Standing, ...]:
        """Where each stage of an adapter stands, with open requests, holds and freezes."""
        return self._ask(overview.stages, adapter=adapter)

    def versions_table(self, adapter: str, *, before: int | None = None, limit: int = 50) -> VersionTable:
        """A page of an adapter's versions beside the incumbent."""
        return self._ask(overview.versions, adapter=adapter, before=before, limit=limit)

    def pointer_key(self) -> str:
        """The public key, in hex, that the registry signs pointers with."""
        return self._ask(pointer.key)

    def _resolved(self, wanted: Reference) -> Version:
        """The Version a reference selects; a stage of a server by its pointer."""
        exact, version = wanted, None
        if self._settings.url and wanted.kind is Kind.NAME:
            if not self._is_stage(wanted):
                version = self._ask(show.resolve, reference=str(wanted))
            if version is None or wanted.selector in version.stages:
                exact = parse(self.pointer(wanted.adapter, wanted.selector).reference)
        if version is None or exact != wanted:
            version = self._ask(show.resolve, reference=str(exact))
        if exact.kind is Kind.DIGEST and not hex_of(version.digest).startswith(hex_of(exact.selector)):
            raise UntrustedPointer(
                f"{wanted}: {exact.selector} was asked for, and the server answers with {version.digest}; nothing was "
                "pulled. Somebody may stand between you and the registry."
            )
        return version

    def _is_stage(self, wanted: Reference) -> bool:
        """Whether a name is known here to be a stage, whatever a server says: one of the first ones, or seen before."""
        known = Pointers(self._settings.pointers, server=self._settings.url or "", key=None)
        return of_place(wanted.selector) in STAGE_NAMES or known.seen(wanted.adapter, wanted.selector)
