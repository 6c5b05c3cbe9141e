"""Bases: what adapters are locked to, and one of them with its files, its tensors and what stands in for it."""

from __future__ import annotations

from collections import Counter

from adapter_registry.api.pages.page import Answer, Ask, Page, Shown
from adapter_registry.domain.base import size_of
from adapter_registry.domain.digest import hex_of
from adapter_registry.services import base, show, stored_base

LINES = 50
TENSORS = 200
"""Rows of the table of tensors that are shown."""


def listing(ask: Ask) -> Answer:
    """Every base under every name."""
    wanted = ask.query.get("name", "").strip()
    known = ask.call(base.known)
    found = [each for each in known if wanted.casefold() in each.name.casefold()]
    return Shown("bases.html", {"found": found, "name": wanted, "any": bool(known)})


def one(ask: Ask) -> Answer:
    """One base."""
    given = ask.places["digest"].removeprefix("sha256:")
    known = ask.call(base.find, reference=f"sha256:{given}")
    digest = known.base.digest
    locked = ask.call(show.adapters, base=digest, after=ask.query.get("after", ""), limit=LINES)
    names = ask.call(base.known)
    kinds, sizes = Counter[str](), Counter[str]()
    for tensor in known.base.tensors:
        kinds[tensor.dtype] += 1
        sizes[tensor.dtype] += size_of(tensor.shape)
    values = {
        "known": known,
        "base": known.base,
        "names": [each for each in names if each.base.digest == digest],
        "called": {each.base.digest: each.name for each in names},
        "kinds": [(kind, count, sizes[kind]) for kind, count in kinds.most_common()],
        "tensors": known.base.tensors[:TENSORS],
        "stored": ask.call(stored_base.stored, base=digest),
        "locked": locked,
        "first": not ask.query.get("after"),
        "address": f"/ui/bases/{hex_of(digest)}",
    }
    return Shown("base.html", values)


PAGES = (Page("/bases", listing), Page("/bases/{digest}", one))
