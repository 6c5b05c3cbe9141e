"""Kinship: what a Version was made from and what was made from it, as a graph, and what a revoked one taints."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.lineage import Parent


class Kin(StrEnum):
    """What a node stands for: `gone` was removed, `hidden` is not for whoever asks to see."""

    BASE = "base"
    VERSION = "version"
    STAGE = "stage"
    GONE = "gone"
    HIDDEN = "hidden"


@dataclass(frozen=True, slots=True)
class Node:
    """One thing in the graph.

    Attributes:
        id: what edges name: a Base's digest, a version's reference, `namespace/name:prod`.
        kind: what it is.
        name: for people: a base's name, a reference, a stage.
        adapter: `namespace/name`; empty for a Base.
        number: of a version; 0 for others.
        digest: of a Base or a version; empty for a stage.
        method: how a version came about: `ties:peft`, or its PEFT method where it was trained.
        made: whether it was made of other versions, or of a checkpoint.
        revoked: why it was withdrawn; None while it may be served.
        tainted: references of the revoked versions that went into it.
        steps: how far it is from the middle of the graph.
        more: whether it has kin beyond the graph that was asked for.
    """

    id: str
    kind: Kin
    name: str
    adapter: str = ""
    number: int = 0
    digest: str = ""
    method: str = ""
    made: bool = False
    revoked: str | None = None
    tainted: tuple[str, ...] = ()
    steps: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """From what goes in to what comes of it; `weight` of a parent, None for bases and stages."""

    source: str
    target: str
    weight: float | None = None
    method: str = ""


@dataclass(frozen=True, slots=True)
class Kinship:
    """The graph around one Version.

    Attributes:
        middle: the id of that version's node.
        nodes: the middle first.
        edges: between them.
        steps: how far it was followed.
        whole: False where it would have become too large and something was left out.
    """

    middle: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    steps: int
    whole: bool


def node_of(version: Version, *, steps: int) -> Node:
    """The node of a Version."""
    lineage = version.lineage
    return Node(
        id=version.reference,
        kind=Kin.VERSION,
        name=version.reference,
        adapter=version.adapter,
        number=version.number,
        digest=version.digest,
        method=f"{lineage.method}:{lineage.dialect}".rstrip(":") if lineage else version.description.method,
        made=lineage is not None,
        revoked=version.revoked_because,
        tainted=version.revoked_ancestors,
        steps=steps,
    )


def absent(parent: Parent, *, kind: Kin, steps: int) -> Node:
    """The node of a parent of which only the lineage tells."""
    return Node(parent.reference, kind, parent.reference, parent.adapter, parent.number, parent.digest, steps=steps)
