"""Register Bases, find them, and declare that one may stand in for another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.base import Base, RegisteredBase
from adapter_registry.domain.digest import short
from adapter_registry.domain.errors import InvalidInput, NotFound
from adapter_registry.domain.lock import Equivalence
from adapter_registry.domain.names import check_base_name
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.views.listing import BasePage, parts_of
from adapter_registry.services.references import base_of

PAGE = 1_000


class Registered(StrEnum):
    """What registering a Base found."""

    ADDED = "added"
    NAMED = "named"
    ALREADY = "already"
    LEARNED = "learned"


@dataclass(frozen=True, slots=True)
class Registration:
    """The answer to `base add`.

    Attributes:
        base: the Base under the name asked for.
        outcome: `added` (new here), `named` (a Base known by another name got this one), `already`,
            `learned` (it was known by file digests alone; now its bytes are known too).
        also: other names of the same Base.
        resharded: whether the folder holds the same tensors in other files than the registered ones.
    """

    base: RegisteredBase
    outcome: Registered
    also: tuple[str, ...]
    resharded: bool


def register(backend: Backend, *, name: str, base: Base) -> Registration:
    """Store `base` under `name`, or recognise it as one that is known.

    The same tensors in other files, with the same tokenizer, are the same Base.

    Raises:
        InvalidReference: `name` is not a base name.
    """
    check_base_name(name)
    with backend.catalog.writing() as tx:
        known = _recognise(tx, base)
        digest = known.digest if known else base.digest
        before = [each for each in tx.bases.names() if each.base.digest == digest]
        learned = known is not None and known.root is None and base.root is not None
        if learned:
            tx.bases.learn(digest, base)
        stored = replace(base, digest=digest)
        tx.bases.add(stored, name=name, by=backend.actor, at=backend.clock())
        outcome = _outcome(known, learned=learned, named=any(each.name == name for each in before))
        registered = next(each for each in tx.bases.names() if each.base.digest == digest and each.name == name)
        detail = {"digest": digest, "outcome": str(outcome), "source": base.source}
        tx.events.append(Entry("base.add", name, Outcome.DONE, backend.actor, backend.clock(), detail))
    also = tuple(sorted(each.name for each in before if each.name != name))
    return Registration(registered, outcome, also, bool(known and known.files != base.files))


def _recognise(tx: Transaction, base: Base) -> Base | None:
    same = (tx.bases.get(digest) for digest in tx.bases.with_weights_of(base))
    known = [each for each in same if each is not None]
    agreeing = [each for each in known if each.tokenizer == base.tokenizer]
    unsaid = [each for each in known if each.tokenizer is None or base.tokenizer is None]
    return next(iter([*agreeing, *unsaid]), None)


def _outcome(known: Base | None, *, learned: bool, named: bool) -> Registered:
    if known is None:
        return Registered.ADDED
    if learned:
        return Registered.LEARNED
    return Registered.ALREADY if named else Registered.NAMED


@dataclass(frozen=True, slots=True)
class KnownBase:
    """A Base with all that a comparison needs.

    Attributes:
        registered: with its whole table of tensors.
        equivalences: stand-ins declared for it.
        versions: how many adapter versions are locked to it.
    """

    registered: RegisteredBase
    equivalences: tuple[Equivalence, ...]
    versions: int

    @property
    def base(self) -> Base:
        """The Base itself."""
        return self.registered.base


def find(backend: Backend, *, reference: str) -> KnownBase:
    """The Base that `name`, `name@prefix` or a digest means, with its table of tensors.

    Raises:
        InvalidReference, NotFound, Ambiguous: see `references.base_of`.
    """
    with backend.catalog.reading() as tx:
        registered = base_of(tx, reference)
        base = tx.bases.get(registered.base.digest)
        if base is None:
            raise NotFound(f"base {reference} has a name and no record: run `adapters admin check`.")
        digest = base.digest
        return KnownBase(replace(registered, base=base), tx.bases.equivalences(digest), tx.versions.locked_to(digest))


def recognise(backend: Backend, *, base: Base) -> KnownBase:
    """The registered Base that a checkpoint at hand is.

    Raises:
        NotFound: none; the text lists what is registered.
    """
    with backend.catalog.reading() as tx:
        same = _recognise(tx, base)
        names = tx.bases.names()
    if same is None:
        there = ", ".join(each.reference for each in names) or "none yet"
        raise NotFound(
            f"the checkpoint in {base.source} is no registered base (registered: {there}). "
            f"`adapters base add NAME {base.source}` registers it."
        )
    return find(backend, reference=same.digest)


def known(backend: Backend, *, search: str = "", after: str = "", limit: int = PAGE) -> BasePage:
    """Bases under their names, by name, a page at a time; tables of tensors left empty.

    Args:
        backend: the registry.
        search: only names that contain this, in any case.
        after: `next` of the page before.
        limit: at most this many, and at most 1,000.
    """
    most, place = min(max(limit, 1), PAGE), parts_of(after, 3)
    with backend.catalog.reading() as tx:
        found = tx.bases.names(search=search, after=place, limit=most + 1)
    last = found[most - 1] if len(found) > most else None
    return BasePage(found[:most], f"{last.name} {last.added_at} {last.base.digest}" if last else None)


def declare_equivalent(backend: Backend, *, base: str, other: str, because: str) -> Equivalence:
    """Record that `other` may stand in for `base`, e.g. as its quantised copy; every load will say so.

    Raises:
        InvalidInput: no reason, or both are the same Base.
    """
    if not because.strip():
        raise InvalidInput("an equivalence needs a reason that a reader can check: --because TEXT.")
    with backend.catalog.writing() as tx:
        first, second = base_of(tx, base), base_of(tx, other)
        if first.base.digest == second.base.digest:
            raise InvalidInput(
                f"{base} and {other} are the same base ({short(first.base.digest)}): nothing to declare."
            )
        declared = Equivalence(first.base.digest, second.base.digest, because, backend.actor, backend.clock())
        tx.bases.declare(declared)
        detail = {"base": declared.base, "other": declared.other, "because": because}
        entry = Entry("base.equivalent", first.name, Outcome.DONE, backend.actor, backend.clock(), detail)
        tx.events.append(entry)
    return declared
