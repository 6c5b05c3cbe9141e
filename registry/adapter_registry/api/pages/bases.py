"""Bases: what adapters are locked to, and one of them with its files, its tensors and what stands in for it."""

from __future__ import annotations

from collections import Counter

from adapter_registry.api.pages.confirming import Question, confirming
from adapter_registry.api.pages.page import LINES, Answer, Ask, Moved, Page, Shown, listed
from adapter_registry.domain.base import size_of
from adapter_registry.domain.digest import Digest, hex_of, short
from adapter_registry.domain.errors import NotFound
from adapter_registry.domain.stored_base import StoredBase
from adapter_registry.services import base, show, stored_base

TENSORS = 200
"""Rows of the table of tensors that are shown."""


def listing(ask: Ask) -> Answer:
    """Bases under their names, a page at a time."""
    wanted = ask.query.get("name", "").strip()
    shown = listed(ask, "/ui/bases", base.known, kept={"name": wanted}, search=wanted)
    return Shown("bases.html", {**shown, "name": wanted, "any": bool(shown["found"].items or wanted)})


def one(ask: Ask) -> Answer:
    """One base."""
    given = ask.places["digest"].removeprefix("sha256:")
    known = ask.call(base.find, reference=f"sha256:{given}")
    digest = known.base.digest
    locked = ask.call(show.adapters, base=digest, after=ask.query.get("after", ""), limit=LINES)
    names = ask.call(base.known).items
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
        "others": [each for each in names if each.base.digest != digest],
        "may": {"declare": ask.may("base.add"), "unstore": ask.who.may_somewhere("remove")},
    }
    return Shown("base.html", values)


def declared(ask: Ask) -> Answer:
    """Declare what may stand in for it."""
    digest, other, because = _digest(ask), ask.form.get("other", ""), ask.form.get("because", "").strip()
    ask.call(base.declare_equivalent, base=digest, other=other, because=because)
    return Moved(f"/ui/bases/{hex_of(digest)}", f"{other} may stand in for it; every load will say so.")


def _unstoring(ask: Ask) -> Question:
    digest, found = _digest(ask), _served(ask)
    return Question(
        f"Stop serving {found.name}" if found else f"Stop serving {short(digest)}",
        (("Base", digest), *((("Served as", found.name), ("Files", f"{len(found.files)}")) if found else ())),
        (
            "Hub clients do not find it here any more, and jobs need a folder with it. It stays registered, and so do "
            "the locks to it; its bytes are collected later.",
        ),
        f"Stop serving {short(digest)}",
        f"/ui/bases/{hex_of(digest)}",
        refused="" if found else "Its bytes are not stored under this name.",
    )


def _unstored(ask: Ask) -> Moved:
    found = _served(ask)
    if found is None:
        raise NotFound("its bytes are not stored under this name; nothing was changed.")
    ask.call(stored_base.unstore, name=f"{found.name}@{found.base}")
    return Moved(f"/ui/bases/{hex_of(found.base)}", f"{found.name} is served no more.")


def _served(ask: Ask) -> StoredBase | None:
    """What is served under the name that the address ends with."""
    named = (each for each in ask.call(stored_base.stored, base=_digest(ask)) if each.name == ask.query.get("name"))
    return next(named, None)


def _digest(ask: Ask) -> Digest:
    return ask.call(base.find, reference=f"sha256:{ask.places['digest'].removeprefix('sha256:')}").base.digest


PAGES = (
    Page("/bases", listing),
    Page("/bases/{digest}", one, declared),
    Page("/bases/{digest}/unstore", *confirming(_unstoring, _unstored)),
)
