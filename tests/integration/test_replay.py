"""The audit log alone gives the tables back: after whatever was done, approved, refused, frozen and taken back."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from sqlalchemy import create_engine, text

from adapter_registry.client import Overriding as Asked
from adapter_registry.domain.audit_file import events_of, exported
from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.policy import Bound, Evals, Policy
from adapter_registry.domain.process import Approvals, Overriding, Process, Rollbacks, Sources
from adapter_registry.domain.replay import replayed
from adapter_registry.domain.score import Direction, Score
from adapter_registry.domain.stage import Stage
from tests.integration.test_race import store  # noqa: F401  a fixture
from tests.integration.test_requests import ready  # noqa: F401  a fixture

pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
PEOPLE = ("ann", "bob", "cat", "rob", "sue")
STAGES = ("dev", "prod")
STEPS = 150
POLICIES = {
    "dev": [Policy("dev"), Policy("dev", process=Process(rollbacks=Rollbacks(reason_required=True)))],
    "prod": [
        Policy("prod", process=Process(approvals=Approvals(count), overriding=Overriding(over, ticket_required=False)))
        for count in (1, 2)
        for over in (0, 1)
    ]
    + [
        Policy("prod", process=Process(Sources(("dev",), hotfix=("dev",)), approvals=Approvals(1))),
        Policy("prod", process=Process(Sources(("dev",)), approvals=Approvals(1), auto=True)),
        Policy("prod", evals=Evals(bounds=(Bound("x/acc", min=0.6),)), process=Process(approvals=Approvals(1))),
    ],
}


def walk(chance, store):  # noqa: F811
    """One thing that somebody does."""
    me = store.registry(chance.choice(PEOPLE))
    version, stage = f"a@v{chance.randint(1, 3)}", chance.choice(STAGES)
    reason = chance.choice(["", "because", "other"])
    open_ = me.requests("default/a")
    request = chance.choice(open_) if open_ else None
    rules = chance.choice([("approvals",), ("from",), ("freeze", "approvals")])
    acts = [
        *[lambda: me.attempt(version, stage, reason=reason)] * 4,
        lambda: me.attempt(version, "prod", reason=reason, hotfix=True),
        lambda: me.attempt(version, "prod", reason=reason, override=Asked(rules)),
        *[lambda: request and me.approve(request, comment=reason)] * 9,
        lambda: request and me.decline(request, reason=reason),
        lambda: request and me.cancel(request),
        lambda: me.rollback("a", stage, reason=reason),
        lambda: me.lift_hold("default/a", stage),
        lambda: me.label(version, {"note": str(chance.random())}),
        lambda: me.add_scores(version, (Score("x/acc", chance.random(), Direction.HIGHER, n=100),)),
        lambda: me.declare_stage(Stage("qa", sources=Sources(("dev",)), lanes=(chance.choice("ab"),))),
        lambda: me.remove_stage("qa"),
        lambda: me.set_policy(stage, chance.choice(POLICIES[stage])),
        lambda: me.freeze("2020-01-01T00:00", "2999-01-01", reason="still", stage=chance.choice([None, *STAGES])),
        *[lambda: me.thaw(chance.randint(1, 4))] * 3,
        lambda: me.set_member("leads", chance.choice(("x1", "x2")), member=chance.random() < 0.7),
    ]
    with suppress(RegistryError):
        chance.choice(acts)()


def test_pointers_requests_approvals_holds_windows_and_groups_follow_from_the_log(ready):  # noqa: F811
    chance, me = random.Random(5), ready.registry()
    for name in ("x1", "x2"):
        me.create_account(name)
    me.set_policy("dev", Policy("dev"))
    for _ in range(STEPS):
        walk(chance, ready)
    log = replayed(events_of(exported(me.events())))
    everything = me.requests("default/a", still_open=False)
    assert log.requests == {each.id: each for each in everything}
    assert len({each.state for each in everything}) >= 4
    assert any(each.approvals for each in everything)
    moves = {stage: moves[0] for stage in STAGES if (moves := me.history("a", stage).moves)}
    assert {place: (p.number, p.digest, p.sequence) for place, p in log.pointers.items()} == {
        ("default/a", stage): (move.number, move.version, move.sequence) for stage, move in moves.items()
    }
    holds = {("default/a", stage): me.hold("default/a", stage) for stage in STAGES}
    assert log.holds == {place: hold for place, hold in holds.items() if hold}
    assert tuple(log.freezes.values()) == me.freezes()
    assert {name: tuple(sorted(members)) for name, members in log.groups.items() if members} == me.groups()
    policies = {stage: me.policy(stage) for stage in STAGES}
    assert log.policies == {stage: (found.revision, found.policy.digest) for stage, found in policies.items()}
    assert log.ladder == me.ladder()
    ready.verify()


def test_a_pointer_that_was_changed_in_the_database_is_noticed(ready):  # noqa: F811
    me = ready.registry()
    me.set_policy("dev", Policy("dev"))
    me.promote("a@v1", "dev")
    engine = create_engine(f"sqlite:///{ready.home / 'registry.db'}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE stages SET version_id = (SELECT id FROM versions WHERE number = 2)"))
    engine.dispose()
    [damage] = me.verify_store().damage
    assert (damage.what, damage.affected) == ("pointer", ("default/a@dev",))
    assert "points to v2, and the audit log says v1" in damage.text
