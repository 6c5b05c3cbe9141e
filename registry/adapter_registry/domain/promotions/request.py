"""Promotion requests: the way of one version into one stage, as states and steps; and the approvals that count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import Conflict, InvalidReference
from adapter_registry.domain.policies.process import Approvals
from adapter_registry.domain.promotions.override import Override


class State(StrEnum):
    """Where a request stands; what is not open stays as it is."""

    DRAFT = "draft"
    EVALUATING = "evaluating"
    WAITING = "waiting"
    READY = "ready"
    APPLYING = "applying"
    APPLIED = "applied"
    REFUSED = "refused"
    DECLINED = "declined"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def is_open(self) -> bool:
        """Whether it can still end in a promotion."""
        return self in (State.DRAFT, State.EVALUATING, State.WAITING, State.READY, State.APPLYING)


class Step(StrEnum):
    """What happens to a request."""

    EVALUATE = "evaluate"
    BLOCK = "block"
    CLEAR = "clear"
    APPLY = "apply"
    FINISH = "finish"
    REFUSE = "refuse"
    DECLINE = "decline"
    EXPIRE = "expire"
    SUPERSEDE = "supersede"
    CANCEL = "cancel"
    FAIL = "fail"


_ENDS = {Step.SUPERSEDE: State.SUPERSEDED, Step.CANCEL: State.CANCELLED}
_WAITS = {**_ENDS, Step.EVALUATE: State.EVALUATING, Step.DECLINE: State.DECLINED, Step.EXPIRE: State.EXPIRED}
EDGES: Mapping[State, Mapping[Step, State]] = {
    State.DRAFT: {**_ENDS, Step.EVALUATE: State.EVALUATING},
    State.EVALUATING: {
        Step.BLOCK: State.WAITING,
        Step.CLEAR: State.READY,
        Step.REFUSE: State.REFUSED,
        Step.FAIL: State.FAILED,
    },
    State.WAITING: _WAITS,
    State.READY: {**_WAITS, Step.APPLY: State.APPLYING},
    State.APPLYING: {Step.FINISH: State.APPLIED, Step.EVALUATE: State.EVALUATING, Step.FAIL: State.FAILED},
}
"""State -> step -> the state after it; a state that is no key here is the end."""


def after(state: State, step: Step) -> State:
    """The state that `step` leads to.

    Raises:
        Conflict: there is no such step from there.
    """
    reached = EDGES.get(state, {}).get(step)
    if reached is None:
        raise Conflict(f"a request that is {state} cannot {step}; nothing was changed.")
    return reached


@dataclass(frozen=True, slots=True)
class Binding:
    """Exactly what an approval is about; a change of any of it makes the approval stale.

    Attributes:
        version: digest of the Version.
        base: digest of its Base.
        policy: digest of the policy.
        evidence: over all that the gates look at: verdict, labels, message and every score on all sides.
        generation: how often the stage had moved: another incumbent is another number.
    """

    version: Digest
    base: Digest
    policy: Digest
    evidence: Digest
    generation: int

    def moved(self, now: Binding) -> tuple[str, ...]:
        """What is not as it was."""
        names = {"generation": "incumbent"}
        changed = [each.name for each in fields(self) if getattr(self, each.name) != getattr(now, each.name)]
        if len(changed) > 1 and "evidence" in changed:
            changed.remove("evidence")  # it is over the others too
        return tuple(names.get(name, name) for name in changed)


@dataclass(frozen=True, slots=True)
class Approval:
    """One person's consent to exactly one Binding."""

    by: str
    at: str
    binding: Binding
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Objection:
    """One person's no, where the policy lets a request go on without them."""

    by: str
    at: str
    reason: str


@dataclass(frozen=True, slots=True)
class Request:
    """The way of one version into one stage.

    Attributes:
        id: 214, written P-214; 0 before it is stored.
        adapter: `namespace/name`.
        stage: where to.
        number: the version's number.
        version: its digest.
        requester: who asked.
        machine: whether that is a service account.
        hotfix: whether it takes the hotfix path.
        reason: why, in their words.
        opened_at: when, ISO 8601 in UTC.
        state: where it stands.
        changed: counts its changes, so that one can wait for the next.
        approvals: those given, the newest of each person.
        objections: of those who declined while the policy lets it go on, the newest of each person.
        blockers: what stood in the way when it was last judged, a line each.
        ended: why it ended, in a sentence; empty while open.
        auto: whether the registry itself asks, because the stage's policy has auto_promote.
        override: the rules that it passes over.
    """

    id: int
    adapter: str
    stage: str
    number: int
    version: Digest
    requester: str
    machine: bool
    hotfix: bool
    reason: str
    opened_at: str
    state: State = State.DRAFT
    changed: int = 0
    approvals: tuple[Approval, ...] = ()
    blockers: tuple[str, ...] = ()
    ended: str = ""
    auto: bool = False
    override: Override | None = None
    objections: tuple[Objection, ...] = ()

    @property
    def name(self) -> str:
        """`P-214`."""
        return f"P-{self.id}"

    @property
    def reference(self) -> str:
        """`namespace/name@v3`."""
        return f"{self.adapter}@v{self.number}"

    def said(self, word: Approval | Objection) -> Request:
        """The request with what somebody says of it, in place of what they said before."""
        approvals = tuple(each for each in self.approvals if each.by != word.by)
        objections = tuple(each for each in self.objections if each.by != word.by)
        if isinstance(word, Approval):
            return replace(self, approvals=(*approvals, word), objections=objections)
        return replace(self, approvals=approvals, objections=(*objections, word))


def request_id(text: str) -> int:
    """The number in `P-214`; raises InvalidReference for anything else."""
    number = text[2:] if text[:2] in ("P-", "p-") else ""
    if not (number.isascii() and number.isdigit() and 0 < len(number) <= 9 and int(number)):
        raise InvalidReference(
            f"{text[:40]!r} is not a request; it is written P-214. `adapters requests ls` lists them."
        )
    return int(number)


@dataclass(frozen=True, slots=True)
class Person:
    """What is known now of somebody who approved, or may.

    Attributes:
        name: their account.
        groups: they are in.
        unfit: why their approval does not count; empty when it does.
    """

    name: str
    groups: frozenset[str] = frozenset()
    unfit: str = ""


@dataclass(frozen=True, slots=True)
class Reckoning:
    """Which approvals count, and what is missing.

    Attributes:
        needed: how many in all.
        counted: who approved, with approvals that count.
        void: (who, why theirs does not count).
        missing: groups that still have to approve.
    """

    needed: int
    counted: tuple[str, ...]
    void: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]

    @property
    def enough(self) -> bool:
        """Whether nothing is missing."""
        return len(self.counted) >= self.needed and not self.missing


def reckoned(
    asked: Approvals,
    given: Sequence[Approval],
    *,
    binding: Binding,
    now: str,
    people: Mapping[str, Person],
) -> Reckoning:
    """Hold the approvals given against those asked for.

    Args:
        asked: by the policy.
        given: so far.
        binding: as things stand now.
        now: ISO 8601 in UTC.
        people: everybody who approved.
    """
    void = tuple((each.by, why) for each in given if (why := _void(asked, each, binding, now, people)))
    bad = {by for by, _ in void}
    counted = tuple(dict.fromkeys(each.by for each in given if each.by not in bad))
    groups = {name: people[name].groups for name in counted}
    missing = unfilled([group for group in asked.groups for _ in range(asked.each_group)], groups)
    return Reckoning(asked.count, counted, void, missing)


def _void(asked: Approvals, each: Approval, binding: Binding, now: str, people: Mapping[str, Person]) -> str:
    if moved := each.binding.moved(binding):
        return f"stale: {' and '.join(moved)} changed since"
    age = (datetime.fromisoformat(now) - datetime.fromisoformat(each.at)).total_seconds()
    if age > asked.expire_seconds:
        return "expired"
    return people[each.by].unfit


def unfilled(places: Sequence[str], people: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """The groups whose places stay empty when everybody takes at most one."""
    taken = _seated(places, people).values()
    return tuple(dict.fromkeys(group for place, group in enumerate(places) if place not in taken))


def _seated(places: Sequence[str], people: Mapping[str, frozenset[str]]) -> dict[str, int]:
    """Who takes which place, earlier places first: a largest matching (Kuhn)."""
    taken: dict[str, int] = {}

    def seat(place: int, tried: set[str]) -> bool:
        for name, groups in people.items():
            if places[place] in groups and name not in tried:
                tried.add(name)
                if name not in taken or seat(taken[name], tried):
                    taken[name] = place
                    return True
        return False

    for place in range(len(places)):
        seat(place, set())
    return taken


_ANY, _EXTRA = "any:", "extra:"


def beside(extra: Reckoning, first: Reckoning, asked: Approvals, people: Mapping[str, Person]) -> Reckoning:
    """The approvals that an override needs beside others, without the people whom those take: one each.

    Args:
        extra: the override's, on its own.
        first: the stage's, on its own.
        asked: what `first` was held against.
        people: everybody who approved.
    """
    named = [group for group in asked.groups for _ in range(asked.each_group)]
    places = [*named, *[_ANY] * (first.needed - len(named)), *[_EXTRA] * extra.needed]
    fits = {
        name: (person.groups | {_ANY} if name in first.counted else frozenset())
        | ({_EXTRA} if name in extra.counted else frozenset())
        for name, person in people.items()
    }
    seats = _seated(places, fits)
    counted = tuple(name for name in extra.counted if name in seats and places[seats[name]] == _EXTRA)
    busy = tuple((n, "it counts for the stage's own approvals") for n in extra.counted if n not in counted)
    return replace(extra, counted=counted, void=(*extra.void, *(busy if len(counted) < extra.needed else ())))
