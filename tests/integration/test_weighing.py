"""Gates are weighed before the stage is held: nobody waits for somebody else's mathematics, and nothing old counts."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest

from adapter_registry.domain.evidence import intervals
from adapter_registry.domain.evidence.outcomes import Outcomes
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.policies.policy import Comparison, Evals, Margin, Policy, Test
from adapter_registry.domain.policies.process import Approvals, Process, Sources
from adapter_registry.domain.promotions.promotion import Result
from adapter_registry.services import judgement, promote, reverify
from adapter_registry.services import request as requests
from tests.integration.test_race import store  # noqa: F401  a fixture
from tests.integration.test_requests import ready  # noqa: F401  a fixture

pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
NOT_WORSE = Evals(comparisons=(Comparison("x/grade", Test.NON_INFERIOR, Margin(0.5)),))
SAMPLES = 50


def graded(registry, version, by, *, base=False):
    """Grades of each sample that are no plain rights and wrongs, so that comparing them takes resampling."""
    values = tuple((each * 7 % 10) / 10 + by * (each % 3) / 30 for each in range(SAMPLES))
    grade = Score("x/grade", sum(values) / SAMPLES, Direction.HIGHER, stderr=0.01, n=SAMPLES)
    outcomes = Outcomes("x/grade", tuple(f"{each:02}" for each in range(SAMPLES)), values)
    add = registry.add_base_scores if base else registry.add_scores
    add(version, (grade,), outcomes=(outcomes,))


class Watched:
    """A catalog that knows whether somebody writes, and what is done before the first write."""

    def __init__(self, catalog, before=lambda: None):
        self._catalog, self._before, self.writing_now, self.writes = catalog, before, False, 0

    def reading(self):
        return self._catalog.reading()

    @contextmanager
    def writing(self):
        if not self.writes:
            self._before()
        self.writes += 1
        with self._catalog.writing() as tx:
            self.writing_now = True
            try:
                yield tx
            finally:
                self.writing_now = False


@pytest.fixture
def graded_versions(ready):  # noqa: F811  the fixture
    me = ready.registry()
    me.set_policy("prod", Policy("prod"))
    for number, by in ((1, 0.0), (2, 0.1), (3, 0.2)):
        graded(me, f"a@v{number}", by)
    me.promote("a@v1", "prod")
    me.set_policy("prod", Policy("prod", evals=NOT_WORSE, process=Process(approvals=Approvals(1))))
    return me


def resampling(watched, monkeypatch):
    """Whether somebody wrote, each time that something was resampled from now on."""
    while_held, resampled = [], intervals.paired_values

    def told(differences, *, seed):
        while_held.append(watched.writing_now)
        return resampled(differences, seed=seed)

    monkeypatch.setattr("adapter_registry.domain.evidence.comparison.paired_values", told)
    return while_held


def test_nothing_is_resampled_while_the_stage_is_held(graded_versions, monkeypatch):
    me = graded_versions
    watched = Watched(me._opened.catalog)
    rob = replace(me._opened, catalog=watched, actor="rob")
    while_held = resampling(watched, monkeypatch)
    asked = promote.promote(rob, reference="default/a@v2", stage="prod")
    assert asked.decision.outcome is Result.WAITING
    assert requests.sweep(rob) == ()
    bob = replace(rob, actor="bob")
    assert requests.approve(bob, adapter="default/a", stage="prod", request=asked.request.name).promotion
    assert watched.writes >= 2
    assert while_held
    assert not any(while_held)


def test_nor_where_the_registry_itself_promotes_or_verifies_again(graded_versions, monkeypatch):
    me = graded_versions
    me.set_policy("dev", Policy("dev"))
    me.set_policy("prod", Policy("prod", evals=NOT_WORSE, process=Process(Sources(("dev",)), auto=True)))
    graded(me, "llama", -0.1, base=True)
    watched = Watched(me._opened.catalog)
    backend = replace(me._opened, catalog=watched)
    while_held = resampling(watched, monkeypatch)
    promote.promote(backend, reference="default/a@v2", stage="dev")
    assert me.resolve("a@prod").number == 2
    by_itself = len(while_held)
    assert reverify.reverify(backend, adapter="default/a", stage="prod").decision.promotes
    assert len(while_held) > by_itself > 0
    assert not any(while_held)


def test_what_changed_since_the_gates_were_weighed_is_weighed_again(graded_versions):
    me = graded_versions
    before = Watched(me._opened.catalog, before=lambda: graded(me, "a@v2", -20.0))
    rob = replace(me._opened, catalog=before, actor="rob")
    assert promote.explain(rob, reference="default/a@v2", stage="prod").decision.outcome is Result.WAITING
    found = promote.promote(rob, reference="default/a@v2", stage="prod")
    assert found.decision.outcome is Result.REFUSED
    assert before.writes == 2


def test_it_ends_however_much_changes(graded_versions):
    me = graded_versions

    class Restless(Watched):
        def writing(self):
            self.writes = 0
            return super().writing()

    restless = Restless(me._opened.catalog, before=lambda: me.label("a@v2", {"n": str(len(tries))}))
    tries = []

    def weigh(policy, subject):
        tries.append(policy)
        return judgement.Weighed(judgement.inputs_digest(policy, subject), ())

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(judgement, "weighed", weigh)
        found = promote.promote(
            replace(me._opened, catalog=restless, actor="rob"), reference="default/a@v2", stage="prod"
        )
    assert len(tries) == judgement.ATTEMPTS
    assert [each.rule for each in found.decision.findings] == ["x/grade non-inferior", "approvals"]
