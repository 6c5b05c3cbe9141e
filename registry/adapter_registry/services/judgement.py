"""Judgement: everything that gates and process say of a version on its way into a stage, at one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.digest import Digest, of_json
from adapter_registry.domain.errors import Conflict, InvalidInput, InvalidReference, NotFound, Revoked
from adapter_registry.domain.people.access import Principal
from adapter_registry.domain.people.account import Account, AccountKind
from adapter_registry.domain.policies.policy import DEFAULT_PRESET, Policy, preset
from adapter_registry.domain.policies.process import Approvals, Duty, Process
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.promotions.finding import Finding, Subject
from adapter_registry.domain.promotions.gate import judge
from adapter_registry.domain.promotions.override import passed_over
from adapter_registry.domain.promotions.passage import Situation, Window, passing
from adapter_registry.domain.promotions.promotion import Decision, Promotion, decide, inputs_digest
from adapter_registry.domain.promotions.request import Binding, Person, Reckoning, Request, beside, reckoned
from adapter_registry.domain.promotions.stage import of_place
from adapter_registry.services.subject import gathered

T = TypeVar("T")
W = TypeVar("W")
ATTEMPTS = 5
"""How often a decision is weighed outside of its transaction before it is weighed inside."""


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """A stage's policy and its revision; revision 0 is the built-in preset that nobody changed yet."""

    policy: Policy
    revision: int


@dataclass(frozen=True, slots=True)
class Judged:
    """The answer to `promote`, moved or not.

    Attributes:
        version: what was judged.
        stage: what it was to enter.
        incumbent: the Version that held the stage; None when nobody did.
        in_force: the policy that judged.
        decision: with every finding.
        promotion: the record of the move; None when nothing moved.
        already: whether the stage pointed to this Version before.
        request: the request that it is, or would be, judged as; its id is 0 when none is stored.
        binding: what an approval given now is about.
        instead_of: the open request for something else whose place it takes, or would take; its approvals are lost.
    """

    version: Version
    stage: str
    incumbent: Version | None
    in_force: PolicyInForce
    decision: Decision
    promotion: Promotion | None
    already: bool
    request: Request
    binding: Binding
    instead_of: Request | None = None

    @property
    def consents(self) -> tuple[Approvals, ...]:
        """The approvals that it needs: the stage's, and those of an override; empty when it needs none."""
        return consents(self.in_force.policy.process, self.request)

    @property
    def seen(self) -> Digest:
        """The digest of the binding: who approves says by it what they saw."""
        return of_json(asdict(self.binding))


def consents(process: Process, request: Request) -> tuple[Approvals, ...]:
    """The approvals that a request needs: the stage's first, then those of an override beside them."""
    over = process.overriding if request.override else None
    asked = (process.consent(hotfix=request.hotfix), over.consent if over and over.count else None)
    return tuple(each for each in asked if each is not None)


def in_force(tx: Transaction, place: str) -> PolicyInForce:
    """The policy that a stage, or a lane of one, judges by."""
    stored = tx.stages.policy(of_place(place))
    if stored is None:
        return PolicyInForce(preset(DEFAULT_PRESET, stage=tx.stages.ladder().get(place)), 0)
    revision, document = stored
    return PolicyInForce(document, revision)


@dataclass(frozen=True, slots=True)
class Weighed:
    """What the gates say of exactly these inputs, whenever and wherever they are looked at."""

    inputs: Digest
    findings: tuple[Finding, ...]


def weighed(policy: Policy, subject: Subject) -> Weighed:
    """The gates' findings. Resampling makes this slow, so that it is done before anybody waits for a stage."""
    return Weighed(inputs_digest(policy, subject), judge(policy, subject))


def binding(backend: Backend, tx: Transaction, version: Version, stage: str) -> Binding:
    """What an approval of a version's way into a stage would be about now."""
    current = tx.stages.current(version.adapter, stage)
    policy = in_force(tx, stage).policy
    subject = gathered(backend, tx, version, _beside(tx, version, stage), policy=policy)
    inputs = inputs_digest(policy, subject)
    return Binding(version.digest, version.base, policy.digest, inputs, current.sequence if current else 0)


class Moved(Exception):
    """What the gates look at is not what it was when they were weighed."""


def judged(
    backend: Backend, tx: Transaction, version: Version, request: Request, *, before: Weighed | None = None
) -> Judged:
    """What gates and process say of a version now, as this request; nothing is written.

    Args:
        backend: the registry.
        tx: what is read from.
        version: what is judged.
        request: what it is judged as.
        before: what the gates said before this transaction; None to have them say it in it.

    Raises:
        Moved: the gates were weighed `before`, and look at something else now.
    """
    stage = request.stage
    current = tx.stages.current(version.adapter, stage)
    incumbent = tx.versions.staged(version.adapter, stage)
    rules = in_force(tx, stage)
    subject = gathered(backend, tx, version, _beside(tx, version, stage), policy=rules.policy)
    inputs = inputs_digest(rules.policy, subject)
    if before is not None and before.inputs != inputs:
        raise Moved
    said = before.findings if before is not None else judge(rules.policy, subject)
    generation = current.sequence if current else 0
    binding = Binding(version.digest, version.base, rules.policy.digest, inputs, generation)
    situation = _situation(backend, tx, version, request, rules.policy, binding)
    found = (*said, *passing(rules.policy, situation))
    findings = tuple(passed_over(found, request.override, rules.policy.process.overriding, now=situation.now))
    already = incumbent is not None and incumbent.number == version.number
    decision = decide(findings, digest=inputs)
    return Judged(version, stage, incumbent, rules, decision, None, already, request, binding)


def _beside(tx: Transaction, version: Version, place: str) -> Version | None:
    """What a version is compared with: what holds its place, and before anything holds a lane, the main lane's."""
    held, stage = tx.versions.staged(version.adapter, place), of_place(place)
    if held or place == stage:
        return held
    main = tx.versions.staged(version.adapter, stage)
    return main if main and main.number != version.number else None


def weighing(backend: Backend, stage: str, find: Callable[[Transaction], Version | None]) -> Weighed | None:
    """What the gates say of a version now, outside of any transaction that others wait for.

    None when it cannot be found, or not judged: the transaction that acts will say why.
    """
    try:
        with backend.catalog.reading() as tx:
            version = find(tx)
            if version is None:
                return None
            rules = in_force(tx, stage)
            subject = gathered(backend, tx, version, _beside(tx, version, stage), policy=rules.policy)
    except (Conflict, InvalidInput, InvalidReference, NotFound, Revoked):
        return None
    return weighed(rules.policy, subject)


def settled(weigh: Callable[[], W | None], act: Callable[[W | None], T]) -> T:
    """Weigh, then act in a transaction that checks that nothing moved since; again when something did.

    Args:
        weigh: what the gates say now; None when there is nothing to weigh, so that `act` says why.
        act: carries it out in one transaction, which it leaves by Moved when the gates would look at something else.
            Given None it weighs inside that transaction: the last attempt, so that this ends however much moves.
    """
    for _ in range(ATTEMPTS):
        try:
            return act(weigh())
        except Moved:
            continue
    return act(None)


def frozen(tx: Transaction, adapter: str, stage: str, *, at: str) -> tuple[Window, ...]:
    """The freeze windows that a stage of an adapter is in."""
    return tuple(window for window in tx.requests.freezes() if window.covers(adapter, stage, at=at))


def _situation(
    backend: Backend, tx: Transaction, version: Version, request: Request, policy: Policy, binding: Binding
) -> Situation:
    process, now = policy.process, backend.clock()
    sources = (*process.sources.stages, *process.sources.hotfix) if process.sources else ()
    lower = {*sources, *([process.soak.stage] if process.soak else ())}
    polled = [_polled(tx, version, request, asked, binding, now) for asked in consents(process, request)]
    own = polled.pop(0) if process.consent(hotfix=request.hotfix) else None
    extra = polled.pop() if polled else None
    if own and extra and "approvals" not in (request.override.rules if request.override else ()):
        extra = replace(extra, reckoning=beside(extra.reckoning, own.reckoning, own.asked, extra.people))
    nobody = Reckoning(0, (), (), ()) if request.override and process.overriding and not extra else None
    return Situation(
        request=request,
        now=now,
        moves={stage: tx.stages.history(version.adapter, stage) for stage in sorted(lower)},
        freezes=frozen(tx, version.adapter, request.stage, at=now),
        hold=tx.requests.hold(version.adapter, request.stage),
        reckoning=own.reckoning if own else None,
        able=own.able if own else (),
        requester=_requester(tx, request) if request.id and not request.auto else None,
        overriding=extra.reckoning if extra else nobody,
        able_to_override=extra.able if extra else (),
    )


@dataclass(frozen=True, slots=True)
class _Poll:
    """How the approvals given stand against some that are asked for, and who could still give them."""

    asked: Approvals
    reckoning: Reckoning
    able: tuple[Person, ...] | None
    people: Mapping[str, Person]


def _polled(tx: Transaction, version: Version, request: Request, asked: Approvals, binding: Binding, now: str) -> _Poll:
    people = People(tx, version, request, asked)
    approvers = {each.by: people.named(each.by) for each in request.approvals}
    found = reckoned(asked, request.approvals, binding=binding, now=now, people=approvers)
    return _Poll(asked, found, people.able(besides=found.counted), approvers)


def _requester(tx: Transaction, request: Request) -> Person:
    account = tx.accounts.get(request.requester)
    unfit = _may_not(
        account, f"promote:{request.stage}", request.adapter, f"has no right to promote to {request.stage} now"
    )
    if request.override and not unfit:
        unfit = _may_not(
            account,
            f"override:{request.stage}",
            request.adapter,
            f"has no right to override rules of {request.stage} now",
        )
    return Person(request.requester, unfit=unfit)


class People:
    """Who may approve one request, as accounts and groups are at this moment."""

    def __init__(self, tx: Transaction, version: Version, request: Request, asked: Approvals) -> None:
        self._tx, self._version, self._request, self._asked = tx, version, request, asked
        self._groups: Mapping[str, tuple[str, ...]] = tx.requests.groups()
        scores, scans = tx.scores.of(version.digest), tx.integrity.scans(version.adapter, version.digest)
        self._evidence = {each.recorded_by for each in scores} | {each.invalid.by for each in scores if each.invalid}
        self._evidence |= {each.by for each in scans if each.report}

    def named(self, name: str) -> Person:
        """What is known of somebody. Who reaches the store itself need not have an account."""
        return self._person(name, self._tx.accounts.get(name))

    def able(self, *, besides: Iterable[str]) -> tuple[Person, ...] | None:
        """Everybody else who could approve; None where there are no accounts."""
        accounts = self._tx.accounts.all()
        people = (self._person(each.name, each) for each in accounts if each.name not in besides)
        return tuple(person for person in people if not person.unfit) if accounts else None

    def _person(self, name: str, account: Account | None) -> Person:
        mine = frozenset(group for group, members in self._groups.items() if name in members)
        return Person(name, mine, self._unfit(name, account, mine))

    def _unfit(self, name: str, account: Account | None, mine: frozenset[str]) -> str:
        asked = self._asked
        if Duty.AUTHOR in asked.excluded and name == self._version.created_by:
            return "because they pushed the version"
        if Duty.REQUESTER in asked.excluded and name == self._request.requester:
            return "because they asked for the promotion"
        if Duty.EVIDENCE in asked.excluded and name in self._evidence:
            return "because they recorded its evidence, or declared some invalid"
        if asked.groups and not mine & set(asked.groups):
            return f"because they are in none of the groups {', '.join(asked.groups)}"
        verb = f"approve:{self._request.stage}"
        return _may_not(account, verb, self._version.adapter, "because they may not approve")


def _may_not(account: Account | None, verb: str, adapter: str, why: str) -> str:
    if account is None:
        return ""
    if account.disabled_at:
        return "because they are shut out" if verb.startswith("approve") else "is shut out"
    machine = account.kind is AccountKind.SERVICE
    return "" if Principal(account.name, account.grants, machine=machine).may(verb, adapter) else why
