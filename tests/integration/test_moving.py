"""Approve, then change anything: what is promoted is never something else than what was approved."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.evidence.suite import Suite, SuiteMetric
from adapter_registry.domain.lineage import Lineage, Parent
from adapter_registry.domain.policies.evals import Against, Demands, EvalGroup
from adapter_registry.domain.policies.policy import SOUND, Comparison, Evals, Margin, Policy, Test
from adapter_registry.domain.policies.process import Approvals, Process, Soak
from adapter_registry.services import request as requests
from tests.integration.test_kill import variant
from tests.integration.test_race import Store
from tests.integration.test_requests import in_seconds

GROUP = EvalGroup(Demands(suite="core"), any=True)
PARENTS = Comparison("x/acc", Test.NON_INFERIOR, Margin(0.5), against=Against.PARENTS)
PROCESS = Process(soak=Soak("staging", 60), approvals=Approvals(2, ("leads",)))
PROD = Policy("prod", evals=Evals(comparisons=(PARENTS,), groups=(GROUP,)), process=PROCESS)
PEOPLE = ("bob", "cat", "dan")


def score(value: float) -> Score:
    return Score("x/acc", value, Direction.HIGHER, n=1000)


@dataclass(frozen=True)
class Case:
    """A version that bob approved of and cat is about to; `parent` is what it was made of, `before` holds prod."""

    store: Store
    me: Registry
    parent: str
    before: str
    version: str
    request: str

    def by(self, name: str) -> Registry:
        return self.store.registry(name)


def set_core(me: Registry, shots: str) -> None:
    me.set_suite(Suite("core", (SuiteMetric("x/acc", {"shots": shots} if shots else {}),)))


@pytest.fixture(scope="module")
def place(tmp_path_factory, llama_folder, lora_folder):
    """A registry with three people and a@v1 to a@v3."""
    folder = tmp_path_factory.mktemp("moving")
    store = Store(folder / "home", None)
    me = store.registry("root")
    me.add_base("llama", llama_folder)
    for name in PEOPLE:
        me.create_account(name)
    for number in (1, 2, 3):
        me.push(variant(lora_folder, folder / f"v{number}", number), base="llama", name="a")
    return store


@pytest.fixture
def case(place, lora_folder, request):
    me = place.registry("root")
    for who in PEOPLE:
        me.disable(who, disabled=False)
        me.grant(who, "*", ("approver", "promoter"))
        me.set_member("leads", who)
    for stage in ("staging", "prod"):
        me.set_policy(stage, Policy(stage))
    set_core(me, "")
    before, parent = "a@v2", "a@v3" if "its parent is revoked" in request.node.name else "a@v1"
    for each in (before, parent):
        me.add_scores(each, (score(0.5),))
    me.promote(before, "prod")
    made = me.resolve(parent)
    of = (Parent(made.adapter, made.number, made.digest, 1.0),)
    seed = abs(hash(request.node.name)) % 2**31
    lineage = Lineage("compose", "linear", "peft", of, {}, seed, {}, "cpu", 0.0, ())
    version = me.push(lora_folder, base="llama", name="a", lineage=lineage).version.reference
    me.add_scores(version, (score(0.5),), suite="core")
    me.promote(version, "staging")
    me.set_policy("prod", PROD)
    found = Case(place, me, parent, before, version, place.registry("dan").attempt(version, "prod").request.name)
    soaked(place.registry("bob"), found)
    yield found
    for window in me.freezes():
        me.thaw(window.id)
    for left in me.requests("default/a"):
        me.cancel(left)


def soaked(who: Registry, case: Case, later: int = 61) -> bool:
    """Approve after the soak time; whether that moved the stage."""
    who.adapters()
    asked = case.me.request(case.request)
    backend = replace(who._opened, clock=lambda: in_seconds(later))
    found = requests.approve(backend, adapter=asked.adapter, stage="prod", request=asked.name)
    return found.promotion is not None


MOVES = {
    "a score of the version": lambda c: c.me.add_scores(c.version, (score(0.5),), suite="core"),
    "a score of its parent": lambda c: c.me.add_scores(c.parent, (score(0.5),), suite="core"),
    "a score of the incumbent": lambda c: c.me.add_scores(c.before, (score(0.4),)),
    "a score of the base": lambda c: c.me.add_base_scores("llama", (score(0.1),)),
    "a score declared invalid": lambda c: c.me.invalidate_scores(c.before, because="wrong", metric="x/acc"),
    "a label": lambda c: c.me.label(c.version, {"license": "mit"}),
    "the policy": lambda c: c.me.set_policy("prod", replace(PROD, health=SOUND)),
    "the suite": lambda c: set_core(c.me, "5"),
    "the incumbent": lambda c: moved_and_back(c),
    "the version is revoked": lambda c: (c.me.promote(c.parent, "staging"), c.me.revoke(c.version, because="leaked")),
    "its parent is revoked": lambda c: c.me.revoke(c.parent, because="leaked"),
    "staging moves on": lambda c: c.me.promote(c.before, "staging"),
    "a freeze": lambda c: c.me.freeze("2020-01-01", "2999-01-01", reason="still", scope=c.version.partition("@")[0]),
    "who approved is shut out": lambda c: c.me.disable("bob"),
    "who approved may not any more": lambda c: c.me.grant("bob", "*", ("reader",)),
    "who approved left the group": lambda c: c.me.set_member("leads", "bob", member=False),
    "who asked may not any more": lambda c: c.me.grant("dan", "*", ("reader",)),
    "who asked is shut out": lambda c: c.me.disable("dan"),
    "somebody declines": lambda c: c.by("cat").decline(c.me.request(c.request), reason="no"),
    "somebody takes it back": lambda c: c.me.cancel(c.me.request(c.request)),
    "somebody asks for another": lambda c: c.by("dan").attempt(c.parent, "prod"),
}


def moved_and_back(case: Case) -> None:
    """Another version, and then the one from before: the pointer is what it was, and it moved."""
    case.me.set_policy("prod", Policy("prod"))
    case.me.promote(case.parent, "prod")
    case.me.promote(case.before, "prod")
    case.me.set_policy("prod", PROD)


def test_while_nothing_changes_the_second_approval_promotes(case):
    assert soaked(case.by("cat"), case)


@pytest.mark.parametrize("what", MOVES)
def test_whatever_changes_after_an_approval_it_does_not_promote(case, what):
    MOVES[what](case)
    with suppress(RegistryError):
        assert not soaked(case.by("cat"), case)
    assert "prod" in case.me.resolve(case.before).stages
    assert "prod" not in case.me.resolve(case.version).stages


def test_time_makes_an_approval_void(case):
    assert not soaked(case.by("cat"), case, later=8 * 86_400)
