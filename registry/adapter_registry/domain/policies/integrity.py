"""What a policy asks of the files of a Version: their format, who signed them, what scanners said of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from adapter_registry.domain.integrity.scan import OWN
from adapter_registry.domain.policies.process import span

ANY_KEY = "any-trusted-key"
CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Signers:
    """Whose signatures are asked for.

    Attributes:
        keys: names of keys; empty: every key that is trusted for the adapter.
        count: how many of them have to have signed.
    """

    keys: tuple[str, ...] = ()
    count: int = 1


@dataclass(frozen=True, slots=True)
class Scanners:
    """Whose scans are asked for. What any scanner found last stands in the way, also of one that is not named.

    Attributes:
        by: scanners that have to have found nothing.
        max_age: seconds since they did; None: ever.
    """

    by: tuple[str, ...] = (OWN,)
    max_age: int | None = None


@dataclass(frozen=True, slots=True)
class Integrity:
    """What must be true of the files themselves.

    Attributes:
        safetensors: every file of weights is one, so that loading it runs nothing.
        signature: who has to have signed; None asks nothing.
        scan: who has to have scanned; None asks nothing.
    """

    safetensors: bool = True
    signature: Signers | None = None
    scan: Scanners | None = None

    @property
    def ageless(self) -> Integrity:
        """What going back asks: the same of a scan however old, because who has to go back has to do so now."""
        return replace(self, scan=replace(self.scan, max_age=None) if self.scan else None)


def document(asked: Integrity) -> dict[str, Any]:
    """The rules as a policy's document has them."""
    written: dict[str, Any] = {"format": "safetensors"} if asked.safetensors else {}
    if asked.signature is not None:
        keys = {"keys": list(asked.signature.keys)} if asked.signature.keys else {}
        plain = asked.signature == Signers()
        written["signature"] = ANY_KEY if plain else {**keys, "count": asked.signature.count}
    if asked.scan is not None:
        age = {"max_age": span(asked.scan.max_age)} if asked.scan.max_age is not None else {}
        written["scan"] = CLEAN if asked.scan == Scanners() else {"by": list(asked.scan.by), **age}
    return written
