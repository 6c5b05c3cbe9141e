"""Judgement: everything that gates and process say of a version on its way into a stage, at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from adapter_registry.domain.access import Principal
from adapter_registry.domain.account import Account, AccountKind
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.digest import Digest, of_json
from adapter_registry.domain.gate import judge
from adapter_registry.domain.passage import Situation, Window, passing
from adapter_registry.domain.policy import DEFAULT_PRESET, Policy, preset
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.process import Approvals, Duty
from adapter_registry.domain.promotion import Decision, Promotion, decide, inputs_digest
from adapter_registry.domain.request import Binding, Person, Reckoning, Request, reckoned
from adapter_registry.domain.stage import of_place
from adapter_registry.services.subject import gathered


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

    @property
    def consent(self) -> Approvals | None:
        """The approvals that it needs."""
        return self.in_force.policy.process.consent(hotfix=self.request.hotfix)

    @property
    def seen(self) -> Digest:
        """The digest of the binding: who approves says by it what they saw."""
        return of_json(asdict(self.binding))


def in_force(tx: Transaction, place: str) -> PolicyInForce:
    """The policy that a stage, or a lane of one, judges by."""
    stored = tx.stages.policy(of_place(place))
    if stored is None:
        return PolicyInForce(preset(DEFAULT_PRESET, stage=tx.stages.ladder().get(place)), 0)
    revision, document = stored
    return PolicyInForce(document, revision)


def judged(backend: Backend, tx: Transaction, version: Version, request: Request) -> Judged:
    """What gates and process say of a version now, as this request; nothing is written."""
    stage = request.stage
    current = tx.stages.current(version.adapter, stage)
    incumbent = tx.versions.staged(version.adapter, stage)
    rules = in_force(tx, stage)
    subject = gathered(backend, tx, version, incumbent or _of_main_lane(tx, version, stage), policy=rules.policy)
    inputs = inputs_digest(rules.policy, subject)
    generation = current.sequence if current else 0
    binding = Binding(version.digest, version.base, rules.policy.digest, inputs, generation)
    situation = _situation(backend, tx, version, request, rules.policy, binding)
    findings = (*judge(rules.policy, subject), *passing(rules.policy, situation))
    already = incumbent is not None and incumbent.number == version.number
    decision = decide(findings, digest=inputs)
    return Judged(version, stage, incumbent, rules, decision, None, already, request, binding)


def _of_main_lane(tx: Transaction, version: Version, place: str) -> Version | None:
    """What the first version of a lane is compared with: the one that holds the stage's main lane."""
    main = tx.versions.staged(version.adapter, of_place(place)) if place != of_place(place) else None
    return main if main and main.number != version.number else None


def frozen(tx: Transaction, adapter: str, stage: str, *, at: str) -> tuple[Window, ...]:
    """The freeze windows that a stage of an adapter is in."""
    return tuple(window for window in tx.requests.freezes() if window.covers(adapter, stage, at=at))


def _situation(
    backend: Backend, tx: Transaction, version: Version, request: Request, policy: Policy, binding: Binding
) -> Situation:
    process, now = policy.process, backend.clock()
    sources = (*process.sources.stages, *process.sources.hotfix) if process.sources else ()
    lower = {*sources, *([process.soak.stage] if process.soak else ())}
    reckoning: Reckoning | None = None
    able: tuple[Person, ...] | None = ()
    if asked := process.consent(hotfix=request.hotfix):
        people = People(tx, version, request, asked)
        approvers = {each.by: people.named(each.by) for each in request.approvals}
        reckoning = reckoned(asked, request.approvals, binding=binding, now=now, people=approvers)
        able = people.able(besides=reckoning.counted)
    return Situation(
        request=request,
        now=now,
        moves={stage: tx.stages.history(version.adapter, stage) for stage in sorted(lower)},
        freezes=frozen(tx, version.adapter, request.stage, at=now),
        hold=tx.requests.hold(version.adapter, request.stage),
        reckoning=reckoning,
        able=able,
        requester=_requester(tx, request) if request.id and not request.auto else None,
    )


def _requester(tx: Transaction, request: Request) -> Person:
    account = tx.accounts.get(request.requester)
    unfit = _may_not(account, f"promote:{request.stage}", request.adapter, "may not promote any more")
    return Person(request.requester, unfit=unfit)


class People:
    """Who may approve one request, as accounts and groups are at this moment."""

    def __init__(self, tx: Transaction, version: Version, request: Request, asked: Approvals) -> None:
        self._tx, self._version, self._request, self._asked = tx, version, request, asked
        self._groups: Mapping[str, tuple[str, ...]] = tx.requests.groups()
        self._evidence = {each.recorded_by for each in tx.scores.of(version.digest)}

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
            return "because they recorded its evidence"
        if asked.groups and not mine & set(asked.groups):
            return f"because they are in none of the groups {', '.join(asked.groups)}"
        verb = f"approve:{self._request.stage}"
        return _may_not(account, verb, self._version.adapter, "because they may not approve")


def _may_not(account: Account | None, verb: str, adapter: str, why: str) -> str:
    if account is None:
        return ""
    if account.disabled_at:
        return "is shut out" if verb.startswith("promote") else "because they are shut out"
    machine = account.kind is AccountKind.SERVICE
    return "" if Principal(account.name, account.grants, machine=machine).may(verb, adapter) else why
