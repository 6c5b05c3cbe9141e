"""The graph of what a version was made from and what was made from it."""

from __future__ import annotations

from adapter_registry.api.pages.page import Answer, Ask, Data, Page, Shown
from adapter_registry.api.pages.version import frame
from adapter_registry.services import kinship, show

STEPS = 2


def _steps(ask: Ask) -> int:
    return min(max(ask.before("steps") or STEPS, 1), kinship.MOST_STEPS)


def graph(ask: Ask) -> Answer:
    """The graph, and the same as tables."""
    version = ask.call(show.resolve, reference=ask.reference)
    found = ask.call(kinship.kinship, reference=ask.reference, steps=_steps(ask))
    nodes = {node.id: node for node in found.nodes}
    values = {
        "found": found,
        "nodes": nodes,
        "parents": [(nodes[e.source], e) for e in found.edges if e.target == found.middle and e.weight is not None],
        "children": [(nodes[e.target], e) for e in found.edges if e.source == found.middle and e.weight is not None],
        "blighted": [node for node in found.nodes if node.tainted],
        "most": kinship.MOST_STEPS,
    }
    return Shown("version-lineage.html", {**frame("lineage", version), **values})


def data(ask: Ask) -> Answer:
    """The graph for the script that draws it."""
    return Data(ask.call(kinship.kinship, reference=ask.reference, steps=_steps(ask)))


_PLACE = "/adapters/{adapter_namespace}/{adapter_name}/versions/{number}/lineage"
PAGES = (Page(_PLACE, graph), Page(f"{_PLACE}/data", data))
