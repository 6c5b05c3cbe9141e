"""Replay: what the audit log alone says of stages, pointers, requests, holds, windows and groups, as tables have to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.event import Entry, Event, Outcome
from adapter_registry.domain.override import Override
from adapter_registry.domain.passage import Hold, Window
from adapter_registry.domain.process import Mode, Sources
from adapter_registry.domain.request import Approval, Binding, Request, State, request_id
from adapter_registry.domain.stage import Ladder, Stage

Place = tuple[str, str]
"""(adapter, stage)."""


@dataclass(frozen=True, slots=True)
class Pointed:
    """Where a stage points: number and digest of the version, and how often it moved; None in the oldest logs."""

    number: int
    digest: Digest
    sequence: int | None


@dataclass(slots=True)
class Replica:
    """Everything as it stands after the last event."""

    pointers: dict[Place, Pointed] = field(default_factory=dict)
    requests: dict[int, Request] = field(default_factory=dict)
    holds: dict[Place, Hold] = field(default_factory=dict)
    freezes: dict[int, Window] = field(default_factory=dict)
    groups: dict[str, set[str]] = field(default_factory=dict)
    policies: dict[str, tuple[int, Digest]] = field(default_factory=dict)
    ladder: Ladder = field(default_factory=Ladder)


def replayed(events: Iterable[Event]) -> Replica:
    """The state that the events lead to, from an empty registry on."""
    made = Replica()
    for event in events:
        _apply(made, event.entry)
    return made


def _apply(made: Replica, entry: Entry) -> None:
    action, detail, done = entry.action, entry.detail, entry.outcome is Outcome.DONE
    if action in ("promote", "rollback") and done:
        _moved(made, entry)
    elif action.startswith("request."):
        _request(made, entry)
    elif not done:
        return
    elif action == "hold.lift":
        made.holds.pop((entry.subject, detail["stage"]), None)
    elif action == "freeze.add":
        made.freezes[detail["freeze"]] = _window(entry)
    elif action == "freeze.remove":
        made.freezes.pop(detail["freeze"], None)
    elif action == "group.set":
        members = made.groups.setdefault(detail["group"], set())
        (members.add if detail["member"] else members.discard)(entry.subject)
    elif action == "policy.set":
        made.policies[entry.subject] = (detail["revision"], Digest(detail["digest"]))
    elif action in ("stage.set", "stage.remove"):
        after = detail["after"]
        made.ladder = made.ladder.declared(_stage(after)) if after else made.ladder.without(entry.subject)


def _stage(after: dict[str, Any]) -> Stage:
    told = after["sources"]
    sources = Sources(tuple(told["stages"]), Mode(told["mode"]), tuple(told["hotfix"])) if told else None
    return Stage(after["name"], tuple(after["after"]), sources, after["like"], tuple(after["lanes"]), after["scope"])


def _window(entry: Entry) -> Window:
    detail = entry.detail
    return Window(
        id=detail["freeze"],
        scope=entry.subject,
        stage=detail["stage"],
        begins=detail["begins"],
        ends=detail["ends"],
        zone=detail["zone"],
        reason=detail["reason"],
        by=entry.actor,
    )


def _moved(made: Replica, entry: Entry) -> None:
    adapter, number = _version(entry.subject)
    detail, place = entry.detail, (adapter, entry.detail["stage"])
    sequence = detail.get("sequence")
    if sequence is None and place in made.pointers:
        sequence = made.pointers[place].sequence  # It pointed there already.
    made.pointers[place] = Pointed(number, Digest(detail["digest"]), sequence)
    if detail.get("holds"):
        made.holds[place] = Hold(*place, entry.actor, entry.at, detail["reason"])
    elif detail.get("lifts_hold"):
        made.holds.pop(place, None)


def _version(subject: str) -> tuple[str, int]:
    adapter, _, number = subject.partition("@v")
    return adapter, int(number)


def _request(made: Replica, entry: Entry) -> None:
    detail, step = entry.detail, entry.action.removeprefix("request.")
    if entry.outcome is Outcome.REFUSED and "state" not in detail:
        return
    number = request_id(detail["request"]) if "request" in detail else 0
    if step == State.DRAFT:
        made.requests[number] = _drafted(number, entry)
        return
    there = made.requests.get(number)
    if there is None:
        return
    if step == "reason":
        made.requests[number] = replace(there, reason=detail["reason"], changed=there.changed + 1)
    elif step == "take":
        made.requests[number] = replace(
            there,
            requester=detail["requester"],
            machine=False,
            auto=False,
            reason=detail["reason"],
            changed=there.changed + 1,
        )
    elif step == "approve":
        binding = Binding(**detail["binding"])
        given = Approval(entry.actor, detail["at"], binding, detail["comment"])
        others = tuple(each for each in there.approvals if each.by != entry.actor)
        made.requests[number] = replace(there, approvals=(*others, given), changed=there.changed + 1)
    elif "state" in detail:
        made.requests[number] = replace(
            there,
            state=State(detail["state"]),
            blockers=tuple(detail["blockers"]),
            ended=detail["ended"],
            changed=there.changed + 1,
        )


def _drafted(number: int, entry: Entry) -> Request:
    detail: dict[str, Any] = entry.detail
    adapter, version = _version(entry.subject)
    override = detail.get("override")
    return Request(
        *(number, adapter, detail["stage"], version, Digest(detail["digest"]), detail["requester"]),
        machine=detail["machine"],
        hotfix=detail["hotfix"],
        reason=detail["reason"],
        opened_at=detail["opened_at"],
        auto=detail.get("auto", False),
        override=Override(**{**override, "rules": tuple(override["rules"])}) if override else None,
    )
