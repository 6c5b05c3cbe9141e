"""Replay: what the audit log alone says of the registry's state, as the tables have to say it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from adapter_registry.domain.audit.event import Entry, Event, Outcome
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.evidence.score import Invalidation
from adapter_registry.domain.integrity.key import Key, Signature
from adapter_registry.domain.people.access import Grant
from adapter_registry.domain.policies.process import Mode, Sources
from adapter_registry.domain.promotions.override import Override
from adapter_registry.domain.promotions.passage import Hold, Window
from adapter_registry.domain.promotions.request import Approval, Binding, Objection, Request, State, request_id
from adapter_registry.domain.promotions.stage import Ladder, Stage
from adapter_registry.domain.promotions.verification import Verified

Place = tuple[str, str]
"""(adapter, stage)."""


@dataclass(frozen=True, slots=True)
class Pointed:
    """Where a stage points: number and digest of the version, and how often it moved; None in the oldest logs."""

    number: int
    digest: Digest
    sequence: int | None


@dataclass(slots=True)
class Known:
    """What the log says of an account: what it may do, whether it is shut out, and its tokens that were not revoked."""

    grants: tuple[Grant, ...] = ()
    disabled: bool = False
    tokens: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Replica:
    """Everything as it stands after the last event.

    Attributes:
        pointers: where stages point.
        verified: since when what they point to counts as good.
        requests: by number, with approvals and objections.
        holds: by place.
        freezes: by number.
        groups: their members.
        policies: stage -> (revision, digest).
        ladder: the stages.
        versions: reference -> digest, of those that were not removed.
        revoked: reference -> why.
        labels: reference -> labels; those of the push alone in logs that have them.
        tags: (adapter, tag) -> number of a version.
        scores: digest of what was measured -> (metric, value as text, whether it counts) -> how many. Of more than a
            hundred recorded or invalidated at once, the log has a hundred.
        accounts: by name.
        keys: whose signatures count or did, by name.
        signatures: of versions, those that were removed since included.
    """

    pointers: dict[Place, Pointed] = field(default_factory=dict)
    verified: dict[Place, Verified] = field(default_factory=dict)
    requests: dict[int, Request] = field(default_factory=dict)
    holds: dict[Place, Hold] = field(default_factory=dict)
    freezes: dict[int, Window] = field(default_factory=dict)
    groups: dict[str, set[str]] = field(default_factory=dict)
    policies: dict[str, tuple[int, Digest]] = field(default_factory=dict)
    ladder: Ladder = field(default_factory=Ladder)
    versions: dict[str, Digest] = field(default_factory=dict)
    revoked: dict[str, str] = field(default_factory=dict)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    tags: dict[tuple[str, str], int] = field(default_factory=dict)
    scores: dict[Digest, Counter[tuple[str, str, bool]]] = field(default_factory=dict)
    accounts: dict[str, Known] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    signatures: set[Signature] = field(default_factory=set)


def replayed(events: Iterable[Event]) -> Replica:
    """The state that the events lead to, from an empty registry on."""
    made = Replica()
    for event in events:
        entry = event.entry
        if entry.action.startswith("request."):
            _request(made, entry)
        elif entry.outcome is Outcome.DONE and entry.action in _DONE:
            _DONE[entry.action](made, entry)
    return made


def _lifted(made: Replica, entry: Entry) -> None:
    made.holds.pop((entry.subject, entry.detail["stage"]), None)


def _frozen(made: Replica, entry: Entry) -> None:
    made.freezes[entry.detail["freeze"]] = _window(entry)


def _thawed(made: Replica, entry: Entry) -> None:
    made.freezes.pop(entry.detail["freeze"], None)


def _grouped(made: Replica, entry: Entry) -> None:
    members = made.groups.setdefault(entry.detail["group"], set())
    (members.add if entry.detail["member"] else members.discard)(entry.subject)


def _judging(made: Replica, entry: Entry) -> None:
    made.policies[entry.subject] = (entry.detail["revision"], Digest(entry.detail["digest"]))


def _declared(made: Replica, entry: Entry) -> None:
    after = entry.detail["after"]
    made.ladder = made.ladder.declared(_stage(after)) if after else made.ladder.without(entry.subject)


def _verified(made: Replica, entry: Entry) -> None:
    adapter, number = _version(entry.subject)
    place, sequence = (adapter, entry.detail["stage"]), entry.detail["sequence_verified"]
    made.verified[place] = Verified(*place, sequence, number, entry.at)


def _pushed(made: Replica, entry: Entry) -> None:
    made.versions[entry.subject] = Digest(entry.detail["digest"])
    if labels := entry.detail.get("labels"):
        made.labels[entry.subject] = dict(labels)


def _removed(made: Replica, entry: Entry) -> None:
    for kept in (made.versions, made.labels, made.revoked):
        kept.pop(entry.subject, None)


def _revoked(made: Replica, entry: Entry) -> None:
    made.revoked[entry.subject] = entry.detail["because"]


def _labelled(made: Replica, entry: Entry) -> None:
    labels = {**made.labels.get(entry.subject, {}), **entry.detail["labels"]}
    made.labels[entry.subject] = {key: value for key, value in labels.items() if value is not None}


def _tagged(made: Replica, entry: Entry) -> None:
    adapter, number = _version(entry.subject)
    made.tags[adapter, entry.detail["tag"]] = number


def _untagged(made: Replica, entry: Entry) -> None:
    made.tags.pop((entry.subject, entry.detail["tag"]), None)


def _scored(made: Replica, entry: Entry) -> None:
    found = made.scores.setdefault(Digest(entry.detail["digest"]), Counter())
    found.update((each["metric"], each["value"], True) for each in entry.detail["scores"])


def _invalidated(made: Replica, entry: Entry) -> None:
    found = made.scores.setdefault(Digest(entry.detail["digest"]), Counter())
    for each in entry.detail["scores"]:
        found[each["metric"], each["value"], True] -= 1
        found[each["metric"], each["value"], False] += 1


def _admitted(made: Replica, entry: Entry) -> None:
    account = made.accounts.setdefault(entry.subject, Known())
    if token := entry.detail.get("token"):
        account.tokens.add(token)


def _token_revoked(made: Replica, entry: Entry) -> None:
    made.accounts.setdefault(entry.subject, Known()).tokens.discard(entry.detail["token"])


def _granted(made: Replica, entry: Entry) -> None:
    account, detail = made.accounts.setdefault(entry.subject, Known()), entry.detail
    if "grants" in detail:  # a sign-in by provider gives all of them
        account.grants = tuple(Grant(each["scope"], tuple(each["verbs"])) for each in detail["grants"])
        return
    given = (Grant(detail["scope"], tuple(detail["verbs"])),) if detail["verbs"] else ()
    account.grants = (*(each for each in account.grants if each.scope != detail["scope"]), *given)


def _disabled(made: Replica, entry: Entry) -> None:
    made.accounts.setdefault(entry.subject, Known()).disabled = entry.detail["disabled"]


def _stage(after: dict[str, Any]) -> Stage:
    told = after["sources"]
    sources = Sources(tuple(told["stages"]), Mode(told["mode"]), tuple(told["hotfix"])) if told else None
    return Stage(after["name"], tuple(after["after"]), sources, after["like"], tuple(after["lanes"]), after["scope"])


def _trusted(made: Replica, entry: Entry) -> None:
    detail, name = entry.detail, entry.detail["key"]
    given = (detail["id"], detail["public"], tuple(detail["scopes"]))
    made.keys[name] = Key(name, *given, entry.actor, entry.at, detail["expires_at"])


def _key_revoked(made: Replica, entry: Entry) -> None:
    gone = Invalidation(entry.detail["because"], entry.actor, entry.at)
    made.keys[entry.detail["key"]] = replace(made.keys[entry.detail["key"]], revoked=gone)


def _signed(made: Replica, entry: Entry) -> None:
    adapter, _ = _version(entry.subject)
    of, key = Digest(entry.detail["digest"]), Digest(entry.detail["key_id"])
    made.signatures.add(Signature(adapter, of, key, entry.detail["sig"], entry.actor, entry.at))


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
    if detail.get("sequence") is not None:
        made.verified[place] = Verified(*place, detail["sequence"], number, detail.get("at", entry.at))
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
        made.requests[number] = replace(there.said(given), changed=there.changed + 1)
    elif step == "decline" and detail.get("ends") is False:
        objection = Objection(entry.actor, detail["at"], detail["reason"])
        made.requests[number] = replace(there.said(objection), changed=there.changed + 1)
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


_DONE: Mapping[str, Callable[[Replica, Entry], None]] = {
    "promote": _moved,
    "rollback": _moved,
    "reverify": _verified,
    "hold.lift": _lifted,
    "freeze.add": _frozen,
    "freeze.remove": _thawed,
    "group.set": _grouped,
    "policy.set": _judging,
    "stage.set": _declared,
    "stage.remove": _declared,
    "push": _pushed,
    "remove": _removed,
    "revoke": _revoked,
    "label": _labelled,
    "tag.set": _tagged,
    "tag.remove": _untagged,
    "score.add": _scored,
    "score.invalidate": _invalidated,
    "account.create": _admitted,
    "account.sign-in": _admitted,
    "account.grant": _granted,
    "account.disable": _disabled,
    "token.create": _admitted,
    "token.exchange": _admitted,
    "token.revoke": _token_revoked,
    "key.trust": _trusted,
    "key.revoke": _key_revoked,
    "sign": _signed,
}
"""What each action does to the state, once it is done."""
