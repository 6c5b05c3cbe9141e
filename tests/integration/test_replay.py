"""The audit log alone gives the tables back: after whatever was done, approved, refused, frozen and taken back."""

from __future__ import annotations

import secrets
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from sqlalchemy import create_engine, text

from adapter_registry.client import Overriding as Asked
from adapter_registry.client import Registry
from adapter_registry.domain.audit.file import events_of, exported
from adapter_registry.domain.audit.replay import Known, Pointed, Replica, replayed
from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.integrity.signing import new_private, public_of
from adapter_registry.domain.policies.policy import Bound, Evals, Policy
from adapter_registry.domain.policies.process import Approvals, Overriding, Process, Rollbacks, Sources
from adapter_registry.domain.promotions.request import State
from adapter_registry.domain.promotions.stage import Stage
from adapter_registry.services import first_admin
from tests.integration.test_race import Store, store  # noqa: F401  a fixture
from tests.integration.test_requests import ready  # noqa: F401  a fixture

PEOPLE = ("ann", "bob", "cat", "rob", "sue")
ACCOUNTS = ("x1", "x2", "x3")
STAGES = ("dev", "prod")
PLACES = ("dev", "prod", "prod.eu")
EXAMPLES, STATES = {"sqlite": 8, "postgresql": 2}, {"sqlite": 3, "postgresql": 1}
"""How many walks there are, and how many states of requests have to be reached on them."""
STEPS = 60
KEYS = (new_private(), new_private())
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
        Policy("prod", process=Process(approvals=Approvals(2, decline_blocks=False))),
        Policy("prod", evals=Evals(bounds=(Bound("x/acc", min=0.6),)), process=Process(approvals=Approvals(1))),
    ],
}


@dataclass(frozen=True)
class Act:
    """Who does something to what."""

    me: Registry
    version: str
    place: str
    reason: str
    number: int

    @property
    def stage(self) -> str:
        return self.place.partition(".")[0]

    @property
    def account(self) -> str:
        return ACCOUNTS[self.number % len(ACCOUNTS)]

    def asked(self):
        """One of the open requests; IndexError where there is none."""
        return self.me.requests("default/a")[0]

    def token(self) -> str:
        return self.me.tokens(self.account)[-1].id


def score(act: Act) -> tuple[Score, ...]:
    return (Score("x/acc", act.number / 5, Direction.HIGHER, n=100),)


ACTS: dict[str, Callable[[Act], object]] = {
    "promote": lambda a: a.me.attempt(a.version, a.place, reason=a.reason),
    "hotfix": lambda a: a.me.attempt(a.version, "prod", reason=a.reason, hotfix=True),
    "override": lambda a: a.me.attempt(a.version, a.place, reason=a.reason, override=Asked(("approvals",))),
    "override two": lambda a: a.me.attempt(a.version, "prod", reason=a.reason, override=Asked(("from", "freeze"))),
    "approve": lambda a: a.me.approve(a.asked(), comment=a.reason),
    "decline": lambda a: a.me.decline(a.asked(), reason=a.reason),
    "cancel": lambda a: a.me.cancel(a.asked()),
    "rollback": lambda a: a.me.rollback("a", a.place, reason=a.reason),
    "lift": lambda a: a.me.lift_hold("default/a", a.place),
    "reverify": lambda a: a.me.reverify("default/a", a.place),
    "label": lambda a: a.me.label(a.version, {"note": a.reason or None, "n": str(a.number)}),
    "tag": lambda a: a.me.tag(a.version, f"t{a.number}"),
    "untag": lambda a: a.me.untag("a", f"t{a.number}"),
    "score": lambda a: a.me.add_scores(a.version, score(a)),
    "invalidate": lambda a: a.me.invalidate_scores(a.version, because="wrong", metric="x/acc"),
    "score the base": lambda a: a.me.add_base_scores("llama", score(a)),
    "declare": lambda a: a.me.declare_stage(Stage("qa", sources=Sources(("dev",)), lanes=("ab"[a.number % 2],))),
    "undeclare": lambda a: a.me.remove_stage("qa"),
    "policy": lambda a: a.me.set_policy(a.stage, POLICIES[a.stage][a.number % len(POLICIES[a.stage])]),
    "freeze": lambda a: a.me.freeze("2020-01-01T00:00", "2999-01-01", reason="still", stage=a.place),
    "thaw": lambda a: a.me.thaw(a.number),
    "join": lambda a: a.me.set_member("leads", a.account),
    "leave": lambda a: a.me.set_member("leads", a.account, member=False),
    "grant": lambda a: a.me.grant(a.account, ("*", "default/a")[a.number % 2], ("approver",)[: a.number % 3]),
    "shut out": lambda a: a.me.disable(a.account, disabled=a.number % 2 == 0),
    "make a token": lambda a: a.me.create_token(account=a.account),
    "revoke a token": lambda a: a.me.revoke_token(a.token()),
    "revoke": lambda a: a.number == 5 and a.me.revoke(a.version, because="leaked"),
    "remove": lambda a: a.number == 5 and a.me.remove(a.version),
    "trust a key": lambda a: a.me.trust_key(f"k{a.number}", public_of(KEYS[a.number % 2])),
    "revoke a key": lambda a: a.me.revoke_key(f"k{a.number}", because="lost"),
    "sign": lambda a: a.me.sign(a.me.resolve(a.version), KEYS[a.number % 2]),
    "rescue": lambda a: first_admin.rescue(a.me._opened),
}

OFTEN = ("promote", "approve", "thaw", "decline") * 4
"""Else most of what is asked for would wait for ever."""


def of_tables(me: Registry) -> Replica:
    """What the tables say, in the form of what the log says."""
    moves = {place: found[0] for place in PLACES if (found := me.history("a", place).moves)}
    holds = {("default/a", place): me.hold("default/a", place) for place in PLACES}
    versions = me.versions("a")
    with me._opened.catalog.reading() as tx:
        ladder = tx.stages.ladder()
        verified = [each for place in ladder.places for each in tx.stages.verified(place)]
        policies = {stage: known for stage in ladder.names if (known := tx.stages.policy(stage))}
        signed = {each for version in versions for each, _ in tx.integrity.signatures("default/a", version.digest)}
    scores = [*me.base_scores("llama"), *(each for version in versions for each in me.scores(version.reference))]
    counted: dict[str, Counter] = {each.subject: Counter() for each in scores}
    for each in scores:
        counted[each.subject][each.score.metric, repr(each.score.value), each.invalid is None] += 1
    tokens = [token for token in me.tokens() if token.revoked_at is None]
    return Replica(
        pointers={("default/a", place): Pointed(m.number, m.version, m.sequence) for place, m in moves.items()},
        verified={(each.adapter, each.place): each for each in verified},
        requests={each.id: each for each in me.requests("default/a", still_open=False)},
        holds={place: hold for place, hold in holds.items() if hold},
        freezes={each.id: each for each in me.freezes()},
        groups={name: set(members) for name, members in me.groups().items()},
        policies={stage: (revision, policy.digest) for stage, (revision, policy) in policies.items()},
        ladder=ladder,
        versions={each.reference: each.digest for each in versions},
        revoked={each.reference: each.revoked_because for each in versions if each.revoked_because is not None},
        labels={each.reference: dict(each.labels) for each in versions if each.labels},
        tags={("default/a", tag): each.number for each in versions for tag in each.tags},
        scores=counted,
        accounts={
            each.name: Known(
                each.grants, bool(each.disabled_at), {token.id for token in tokens if token.account == each.name}
            )
            for each in me.accounts()
        },
        keys={each.name: each for each in me.signing_keys()},
        signatures=signed,
    )


def of_log(me: Registry) -> Replica:
    """What the log says, without what is empty and with scores and signatures of versions that are still there."""
    log = replayed(events_of(exported(me.events())))
    bases = {each.base.digest for each in me.bases()}
    return replace(
        log,
        groups={name: members for name, members in log.groups.items() if members},
        labels={reference: labels for reference, labels in log.labels.items() if labels},
        scores={
            digest: +counted
            for digest, counted in log.scores.items()
            if digest in bases or digest in log.versions.values()
        },
        signatures={each for each in log.signatures if each.version in log.versions.values()},
    )


def copied(store: Store, home: Path, request) -> Store:  # noqa: F811
    """The same registry once more."""
    shutil.copytree(store.home, home)
    if store.url is None:
        return Store(home, None)
    server, name = request.getfixturevalue("postgres_server"), f"t_{secrets.token_hex(8)}"
    server.run(f"CREATE DATABASE {name} TEMPLATE {store.url.partition('?')[0].rpartition('/')[2]}")
    return Store(home, server.url(name))


def test_everything_follows_from_the_log_whatever_is_done(ready, request, tmp_path):  # noqa: F811
    me = ready.registry("root")
    for name in ACCOUNTS:
        me.create_account(name)
        me.grant(name, "*", ("approver",))
    me.set_policy("dev", Policy("dev"))
    me.declare_stage(replace(me.ladder().get("prod"), lanes=("eu",)))
    reached: set[State] = set()

    class Walk(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.store = copied(ready, tmp_path / secrets.token_hex(4), request)
            self.people = {name: self.store.registry(name) for name in PEOPLE}
            for each in self.people.values():
                each.ladder()

        @rule(
            what=st.sampled_from([*sorted(ACTS), *OFTEN]),
            who=st.sampled_from(PEOPLE),
            version=st.integers(1, 3),
            place=st.sampled_from(PLACES),
            reason=st.sampled_from(["", "because", "other"]),
            number=st.integers(0, 7),
        )
        def step(self, what, who, version, place, reason, number):
            with suppress(RegistryError, IndexError):
                ACTS[what](Act(self.people[who], f"a@v{version}", place, reason, number))

        def teardown(self):
            log, tables = of_log(self.people["ann"]), of_tables(self.people["ann"])
            assert log == tables
            reached.update(each.state for each in tables.requests.values())
            shutil.rmtree(self.store.home)

    kind = "sqlite" if ready.url is None else "postgresql"
    chosen = settings(
        max_examples=EXAMPLES[kind],
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Walk, settings=chosen)
    assert len(reached) >= STATES[kind]


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
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


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_totals_that_were_changed_in_the_database_are_noticed_and_counted_anew(ready):  # noqa: F811
    me = ready.registry()
    true = me.usage()
    engine = create_engine(f"sqlite:///{ready.home / 'registry.db'}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE adapter_totals SET pushed = 5"))
    engine.dispose()
    [damage] = me.verify_store().damage
    assert (damage.what, damage.affected) == ("total", ("default/a",))
    me.collect()
    assert me.verify_store().damage == ()
    assert me.usage() == true
