"""The audit log as a file: a line of canonical JSON for each event, and a last line with length and head."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from adapter_registry.domain.audit.event import GENESIS, Entry, Event, Outcome, chained
from adapter_registry.domain.digest import Digest, canonical_json
from adapter_registry.domain.errors import BrokenChain


@dataclass(frozen=True, slots=True)
class Verified:
    """A whole chain: how many events, and the digest of the last."""

    events: int
    head: Digest


def exported(events: Iterable[Event]) -> str:
    """The log as text."""
    count, head, lines = 0, GENESIS, []
    for event in events:
        lines.append(canonical_json(asdict(event)).decode())
        count, head = count + 1, event.digest
    return "\n".join([*lines, canonical_json({"events": count, "head": head}).decode()]) + "\n"


def verified(text: str, *, head: str = "") -> Verified:
    """Follow the chain from its first event.

    Args:
        text: what `exported` wrote.
        head: what the last digest must be; empty for what the file itself says.

    Raises:
        BrokenChain: an event was changed, removed, inserted or reordered, or the file is cut short.
    """
    *lines, last = _lines(text)
    count, previous = 0, GENESIS
    for event in _events(lines):
        if event != chained(event.entry, sequence=count + 1, previous=previous):
            raise BrokenChain(
                f"event {count + 1} does not follow from the one before: it or an earlier one was changed, removed, "
                f"inserted or moved (the line says sequence {event.sequence}). What stands before it is whole."
            )
        count, previous = count + 1, event.digest
    end = _object(last, count + 1)
    if end.keys() != {"events", "head"}:
        raise BrokenChain(f"the file ends after {count:,} events without saying that this is all: it was cut short.")
    if end != {"events": count, "head": previous}:
        raise BrokenChain(
            f"the last line says {end['events']} events that end with {end['head']}, and there are {count:,} that end "
            f"with {previous}: the file was cut or changed."
        )
    if head and head != previous:
        raise BrokenChain(f"the last of {count:,} events is {previous}, not {head}: the log was cut or written anew.")
    return Verified(count, previous)


def events_of(text: str) -> tuple[Event, ...]:
    """The events of a file that `verified` found whole.

    Raises:
        BrokenChain: it is not.
    """
    verified(text)
    return tuple(_events(_lines(text)[:-1]))


def _lines(text: str) -> list[str]:
    """The lines of a file. `splitlines` also breaks at U+2028 and its like, which may stand inside of a text."""
    return text.removesuffix("\n").split("\n")


def _events(lines: Iterable[str]) -> Iterator[Event]:
    for number, line in enumerate(lines, 1):
        found = _object(line, number)
        try:
            event = _event(found)
        except (KeyError, TypeError, ValueError) as error:
            raise BrokenChain(f"line {number} is no event of an audit log.") from error
        # What a reader of the line sees has to be what the digest is over: no key beside, none in another form.
        if asdict(event) != found or type(found["sequence"]) is not int:
            raise BrokenChain(f"line {number} holds more, or other, than its digest is over: it was changed.")
        yield event


def _event(found: dict[str, Any]) -> Event:
    entry = found["entry"]
    told = Entry(**{**entry, "outcome": Outcome(entry["outcome"])})
    return Event(int(found["sequence"]), told, Digest(found["previous"]), Digest(found["digest"]))


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line, object_pairs_hook=_each_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BrokenChain(f"line {number} is no JSON of an audit log: {error}.") from error
    return found if isinstance(found, dict) else {}


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that stands twice would be read in one way here and in another elsewhere."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
