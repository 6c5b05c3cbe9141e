"""One line of the list of adapters."""

from __future__ import annotations

from dataclasses import dataclass

from adapter_registry.domain.digest import Digest


@dataclass(frozen=True, slots=True)
class AdapterLine:
    """What `adapters ls` says of one adapter.

    Attributes:
        adapter: `namespace/name`.
        versions: how many versions it has, removed ones not counted.
        latest: number of the newest.
        semver: label of the newest.
        method: of the newest, e.g. `LORA (rslora)`.
        rank: of the newest.
        base: digest of the Base the newest is locked to.
        base_name: a name of it.
        size: bytes of the newest.
        pushed_at: when the newest was pushed.
        stages: stage -> version number it points to.
    """

    adapter: str
    versions: int
    latest: int
    semver: str
    method: str
    rank: int | None
    base: Digest
    base_name: str
    size: int
    pushed_at: str
    stages: dict[str, int]
