"""From what people write to what is meant: adapter versions and bases."""

from __future__ import annotations

import re

from adapter_registry.domain import reference as grammar
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.base import RegisteredBase
from adapter_registry.domain.digest import hex_of
from adapter_registry.domain.errors import Ambiguous, Conflict, InvalidReference, NotFound
from adapter_registry.domain.names import DEFAULT_NAMESPACE, check_base_name
from adapter_registry.domain.ports import Transaction
from adapter_registry.domain.reference import Kind, Reference, no_version

SHORTEST_PREFIX = 7


def version_of(tx: Transaction, reference: Reference) -> Version:
    """The Version a reference selects now.

    Raises:
        InvalidReference: it names an adapter and no version.
        NotFound: nothing has that name; the text lists what there is.
    """
    if reference.kind is None:
        raise no_version(reference.adapter)
    version = _select(tx, reference, reference.kind)
    if version is None:
        raise _unknown(tx, reference)
    return version


def _select(tx: Transaction, reference: Reference, kind: Kind) -> Version | None:
    rows, adapter, selector = tx.versions, reference.adapter, reference.selector
    if kind is Kind.NUMBER:
        return rows.numbered(adapter, int(selector[1:]))
    if kind is Kind.SEMVER:
        return rows.labelled(adapter, selector)
    if kind is Kind.DIGEST:
        return rows.with_digest(adapter, selector)
    if kind is Kind.RANGE:
        highest = grammar.highest_in_range(selector, rows.semvers(adapter))
        return rows.labelled(adapter, highest) if highest else None
    return rows.named(adapter, selector)


def _unknown(tx: Transaction, reference: Reference) -> NotFound:
    latest = tx.versions.latest(reference.adapter)
    if latest is None:
        return no_adapter(tx, reference.adapter)
    pointers = tx.versions.pointers(reference.adapter)
    known = f"v1 to v{latest.number}" if latest.number > 1 else f"v{latest.number}"
    return NotFound(
        f"{reference}: {reference.adapter} has {known}"
        + (f" and the names {', '.join(pointers)}" if pointers else "; no stage or tag points to any of them yet")
        + f", nothing that {reference.selector!r} selects. `adapters ls {reference.adapter}` lists them."
    )


def refuse_base_name(tx: Transaction, adapter: str) -> None:
    """Refuse to make an adapter under an id that a stored base is served under.

    Raises:
        Conflict: there is one.
    """
    ids = [adapter]
    if adapter.startswith(f"{DEFAULT_NAMESPACE}/"):
        ids.append(adapter.partition("/")[2])
    for each in ids:
        spelled = tx.stored_bases.spelled(each)
        if spelled is not None:
            raise Conflict(f"{spelled} is a stored base, served under that name; give the adapter another name.")


def newest_of(tx: Transaction, adapter: str) -> Version:
    """The newest Version of an adapter.

    Raises:
        NotFound: there is no such adapter.
    """
    found = tx.versions.latest(adapter) if tx.versions.spelled(adapter) == adapter else None
    if found is None:
        raise no_adapter(tx, adapter)
    return found


def no_adapter(tx: Transaction, adapter: str) -> NotFound:
    """The error for an adapter that does not exist, with the nearest names in its namespace."""
    # difflib costs 10 ms to import and is needed only here.
    from difflib import get_close_matches  # noqa: PLC0415

    near = get_close_matches(adapter, tx.versions.names_near(adapter), n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`adapters ls` lists what there is."
    return NotFound(f"there is no adapter {adapter}. {hint}")


def nothing_there(adapter: str, stage: str) -> NotFound:
    """The error for a stage that no version of an adapter is in."""
    return NotFound(f"{stage} of {adapter} points to nothing yet; `adapters promote` moves it.")


def base_of(tx: Transaction, text: str) -> RegisteredBase:
    """The registered Base that `name`, `name@<commit or digest prefix>` or a digest means, without its tensors.

    Raises:
        InvalidReference: not of that grammar, or a prefix of fewer than 7 characters.
        NotFound: nothing matches; the text lists what there is.
        Ambiguous: several match; the text lists them.
    """
    name, separator, prefix = text.strip().partition("@")
    if name.startswith("sha256:") and not separator:
        name, prefix = "", name
    elif name:
        check_base_name(name)
    if separator and len(hex_of(prefix)) < SHORTEST_PREFIX:
        raise InvalidReference(
            f"{text!r}: after the '@' of a base stands a commit or digest, at least {SHORTEST_PREFIX} characters of it."
        )
    known = tx.bases.names()
    return _only(text, [each for each in known if _means(each, name, prefix)], known)


def _means(known: RegisteredBase, name: str, prefix: str) -> bool:
    if name and known.name != name:
        return False
    wanted = hex_of(prefix).lower()
    if not re.fullmatch(r"[0-9a-f]*", wanted):
        return False
    return hex_of(known.base.digest).startswith(wanted) or (known.base.commit or "").startswith(wanted or "-")


def _only(text: str, found: list[RegisteredBase], known: tuple[RegisteredBase, ...]) -> RegisteredBase:
    if len({each.base.digest for each in found}) == 1:
        return found[0]
    if found:
        raise Ambiguous(f"{text!r} means {len(found)} bases; write one of: {_candidates(found)}.")
    if not known:
        raise NotFound(f"no base {text!r}: none is registered yet. `adapters base add NAME FOLDER` registers one.")
    raise NotFound(f"no base {text!r} is registered. There are: {_candidates(known)}.")


def _candidates(bases: list[RegisteredBase] | tuple[RegisteredBase, ...]) -> str:
    return ", ".join(
        each.reference + (f" (commit {each.base.commit[:12]})" if each.base.commit else "") for each in bases
    )
