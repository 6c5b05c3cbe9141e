"""What the Catalog promises to those who look: leading metrics, courses, kin and the jobs about a version."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from alembic import command
from alembic.config import Config

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.digest import Digest, of_bytes
from adapter_registry.domain.evidence.score import Direction, Invalidation, RecordedScore, Score
from adapter_registry.domain.job import Job, State
from adapter_registry.domain.lineage import Lineage, Parent
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.domain.views.listing import Order, Wanted
from adapter_registry.domain.views.overview import RECENT
from adapter_registry.settings import migrations_folder
from tests.contract.test_catalog_rows import AT, BASE, document, version

OTHER = of_bytes(b"another version")


def made_of(name: str, number: int, *parents: Version) -> Version:
    """A version with a digest of its own, composed of others."""
    of = tuple(Parent(each.adapter, each.number, each.digest, 0.5) for each in parents)
    lineage = Lineage("compose", "linear", "peft", of, {}, 0, {}, "cpu", 0.0, ())
    return replace(version(name, number), digest=of_bytes(f"{name}{number}".encode()), lineage=lineage if of else None)


def scored(subject: Digest, metric: str, value: float, **more) -> RecordedScore:
    return RecordedScore(subject, "x", Score(metric, value, Direction.HIGHER, **more), "me", AT)


@pytest.fixture
def filled(catalog):
    """Three versions of team/a, one of team/b; team/c v1 is made of a v1 and b v1, v2 of c v1."""
    with catalog.writing() as tx:
        tx.bases.add(BASE, name="llama", by="me", at=AT)
        first = [made_of("team/a", number) for number in (1, 2, 3)]
        other = made_of("team/b", 1)
        child = made_of("team/c", 1, first[0], other)
        for each in (*first, other, child, made_of("team/c", 2, child)):
            tx.versions.add(each, manifest=document(each.number))
            tx.ancestry.made(each)
    return catalog


class TestScores:
    @pytest.fixture
    def measured(self, filled):
        a1, a2, a3, b1 = (
            made_of(*each).digest for each in (("team/a", 1), ("team/a", 2), ("team/a", 3), ("team/b", 1))
        )
        with filled.writing() as tx:
            tx.scores.add([scored(a1, "x/old", 0.1), scored(a1, "x/acc", 0.2), scored(a3, "x/acc", 0.3)])
            tx.scores.add([scored(a2, "x/acc", 0.4), scored(a2, "x/acc", 0.5), scored(b1, "y/acc", 0.9)])
            tx.scores.add([scored(a2, "x/wrong", 0.0)])
            [*_, wrong] = tx.scores.of(a2)
            tx.scores.invalidate([wrong.id], Invalidation("typo", "ann", AT))
        return filled

    def test_the_leading_metric_is_the_one_recorded_last_of_each_adapter(self, measured):
        with measured.reading() as tx:
            found = tx.scores.leading({"team/a": 3, "team/b": 1, "team/c": 2})
            assert tx.scores.leading({}) == {}
        told = {name: [(number, each.score.value) for number, each in scores] for name, scores in found.items()}
        assert told == {"team/a": [(1, 0.2), (3, 0.3), (2, 0.4), (2, 0.5)], "team/b": [(1, 0.9)]}

    def test_the_leading_metric_is_looked_for_among_the_newest_versions_alone(self, measured):
        with measured.reading() as tx:
            assert {n for n, _ in tx.scores.leading({"team/a": RECENT + 2})["team/a"]} == {3}

    def test_a_removed_version_leads_nothing(self, measured):
        with measured.writing() as tx:
            tx.versions.remove(tx.versions.numbered("team/b", 1), by="me", at=AT)
            assert "team/b" not in tx.scores.leading({"team/b": 1})

    def test_the_last_score_of_a_metric_is_told_for_each_version_that_has_one(self, measured):
        a2, a3 = made_of("team/a", 2).digest, made_of("team/a", 3).digest
        with measured.reading() as tx:
            found = tx.scores.last([a2, a3, OTHER], metric="x/acc")
            assert tx.scores.last([a2], metric="x/wrong") == {}
        assert {digest: each.score.value for digest, each in found.items()} == {a2: 0.5, a3: 0.3}

    def test_metrics_are_those_of_the_newest_versions_the_last_recorded_first(self, measured):
        with measured.reading() as tx:
            assert tx.scores.metrics("team/a", newest=10) == ("x/acc", "x/old")
            assert tx.scores.metrics("team/a", newest=2) == ("x/acc",)
            assert tx.scores.metrics("team/none", newest=2) == ()

    def test_a_course_goes_by_version_and_then_by_when_it_was_recorded(self, measured):
        with measured.reading() as tx:
            found = tx.scores.course("team/a", metric="x/acc", newest=10)
            shorter = tx.scores.course("team/a", metric="x/acc", newest=1)
        assert [(number, at, each.score.value) for number, at, each in found] == [
            *((1, AT, 0.2), (2, AT, 0.4), (2, AT, 0.5), (3, AT, 0.3))
        ]
        assert [number for number, *_ in shorter] == [3]


class TestKin:
    def test_what_was_made_from_a_version_is_found_by_its_digest(self, filled):
        a1, b1, c1 = made_of("team/a", 1), made_of("team/b", 1), made_of("team/c", 1)
        with filled.reading() as tx:
            assert [each.reference for each in tx.versions.made_from([a1.digest], limit=9)] == ["team/c@v1"]
            both = tx.versions.made_from([b1.digest, c1.digest, a1.digest], limit=9)
            assert [each.reference for each in both] == ["team/c@v2", "team/c@v1"]
            assert len(tx.versions.made_from([b1.digest, c1.digest], limit=1)) == 1
            assert tx.versions.made_from([OTHER], limit=9) == ()

    def test_versions_are_found_by_their_digests_whatever_adapter_they_are_of(self, filled):
        digests = [made_of("team/a", 2).digest, made_of("team/b", 1).digest, OTHER]
        with filled.reading() as tx:
            found = {each.reference for each in tx.versions.with_digests(digests)}
            assert tx.versions.with_digests([]) == ()
        assert found == {"team/a@v2", "team/b@v1"}

    def test_a_removed_version_is_nobodys_kin(self, filled):
        c1, a1 = made_of("team/c", 1), made_of("team/a", 1)
        with filled.writing() as tx:
            tx.versions.remove(tx.versions.numbered("team/c", 1), by="me", at=AT)
            assert tx.versions.made_from([a1.digest], limit=9) == ()
            assert tx.versions.with_digests([c1.digest]) == ()


def job(name: str, *inputs: Digest, made: Digest | None = None) -> Job:
    recipe = Recipe("diff", tuple(Ingredient(f"team/a@{digest}") for digest in inputs), into="team/a")
    result = {"digest": made} if made else {}
    return Job(name * 12, recipe, State.SUCCEEDED, "cpu", 0, "me", AT, ended_at=AT, result=result)


def told(jobs: tuple[Job, ...]) -> str:
    return "".join(each.id[0] for each in jobs)


A, B = of_bytes(b"a"), of_bytes(b"b")


class TestJobs:
    @pytest.fixture
    def worked(self, catalog):
        with catalog.writing() as tx:
            for each in (job("1", A), job("2", A, B), job("3", B, made=A), job("4", A, B)):
                tx.jobs.put(each)
        return catalog

    def test_jobs_about_a_version_work_on_it_or_made_it_the_newest_first(self, worked):
        with worked.reading() as tx:
            assert told(tx.jobs.about([A], limit=9)) == "4321"
            assert told(tx.jobs.about([A, B], limit=9)) == "432"
            assert told(tx.jobs.about([A], limit=2)) == "43"
            assert tx.jobs.about([OTHER], limit=9) == ()

    def test_what_a_job_made_is_known_once_it_made_it(self, worked):
        with worked.writing() as tx:
            tx.jobs.put(job("1", A, made=OTHER))
            assert told(tx.jobs.about([OTHER], limit=9)) == "1"

    def test_a_forgotten_job_is_about_nothing(self, worked):
        with worked.writing() as tx:
            assert tx.jobs.forget(before="2027") == 4
            assert tx.jobs.about([A], limit=9) == ()


class TestEvents:
    @pytest.fixture
    def told(self, catalog):
        """Eight events: of team/a, of two of its versions, of names like its name, of a stage."""
        subjects = ("team/a", "team/a@v1", "team/ab", "team/a-b@v1", "team/A@v1", "team/a@v12", "prod", "team/a@v1")
        with catalog.writing() as tx:
            for n, subject in enumerate(subjects):
                who, what = "ann" if n % 2 else "bob", "push" if n < 4 else "tag.set"
                tx.events.append(Entry(what, subject, Outcome.DONE, who, AT))
        return catalog

    @pytest.mark.parametrize(
        ("subject", "found"),
        [("team/a", [8, 6, 2, 1]), ("team/a@v1", [8, 2]), ("prod", [7]), ("team", []), ("", [8, 7, 6, 5, 4, 3, 2, 1])],
    )
    def test_events_are_those_about_it_and_about_its_versions(self, told, subject, found):
        with told.reading() as tx:
            assert [each.sequence for each in tx.events.backwards(subject=subject, before=9, limit=9)] == found
            if subject:
                assert [each.sequence for each in tx.events.all(subject=subject)] == found[::-1]

    def test_words_are_looked_for_between_two_sequences(self, told):
        with told.reading() as tx:
            found = [each.sequence for each in tx.events.backwards(words=["tag", "ann"], before=8, after=2, limit=9)]
        assert found == [6]

    def test_attempts_to_promote_are_looked_for_among_the_newest_events_of_versions(self, catalog):
        about = ("promote", "team/a@v1"), ("push", "team/a@v1"), ("request.waiting", "team/a@v2"), ("promote", "team/a")
        with catalog.writing() as tx:
            for action, subject in (*about, ("promote", "team/a@v11"), ("tag.set", "team/a@v1")):
                tx.events.append(Entry(action, subject, Outcome.DONE, "ann", AT))
        with catalog.reading() as tx:
            asked = ["team/a@v1", "team/a@v2"]
            assert [each.sequence for each in tx.events.attempts(asked, limit=9)] == [3, 1]
            assert [each.sequence for each in tx.events.attempts(asked, limit=3)] == [3]
            assert tx.events.attempts([], limit=9) == ()


class TestAdapters:
    def test_the_newest_version_that_is_there_stands_for_its_adapter(self, filled):
        newest = made_of("team/a", 3)
        with filled.writing() as tx:
            tx.versions.remove(newest, by="me", at=AT)
            tx.versions.remove(made_of("team/b", 1), by="me", at=AT)
            lines = tx.versions.adapters(Wanted(order=Order.NEWEST))
            assert [(each.adapter, each.latest, each.versions) for each in lines] == [
                ("team/c", 2, 2),
                ("team/a", 2, 2),
            ]
            assert [each.adapter for each in tx.versions.adapters(after="team/a")] == ["team/c"]
            assert [each.adapter for each in tx.versions.adapters(Wanted(base=BASE.digest), limit=1)] == ["team/a"]
            assert not tx.versions.adapters(Wanted(base=OTHER))

    def test_the_version_that_a_line_speaks_of_is_found_by_its_arrival(self, filled):
        with filled.reading() as tx:
            lines = tx.versions.adapters()
            found = tx.versions.arrived([each.arrival for each in lines])
        assert {line.adapter: found[line.arrival].reference for line in lines} == {
            "team/a": "team/a@v3",
            "team/b": "team/b@v1",
            "team/c": "team/c@v2",
        }

    def test_the_values_that_count_are_the_last_of_each_metric(self, filled):
        one, none = made_of("team/a", 1).digest, made_of("team/b", 1).digest
        with filled.writing() as tx:
            tx.scores.add([scored(one, "x/acc", 0.1), scored(one, "x/acc", 0.2), scored(one, "x/loss", math.nan)])
            tx.scores.add([scored(one, "y/acc", 0.3)])
            void = next(each for each in tx.scores.of(one) if each.score.metric == "y/acc")
            tx.scores.invalidate([void.id], Invalidation("wrong", "me", AT))
            found = tx.scores.values([one, none])
        assert found.keys() == {one}
        assert found[one].keys() == {"x/acc", "x/loss"}
        assert found[one]["x/acc"] == 0.2
        assert math.isnan(found[one]["x/loss"])

    def test_bytes_are_counted_by_adapter(self, filled):
        with filled.reading() as tx:
            lines = tx.blobs.used(("*",))
            [own] = tx.blobs.used(("team/b",))
        assert {line.adapter: line.versions for line in lines} == {"team/a": 3, "team/b": 1, "team/c": 2}
        assert own.stored == own.pushed


def test_an_older_store_learns_what_its_jobs_say(catalog, engine):
    with catalog.writing() as tx:
        tx.jobs.put(job("1", A, made=OTHER))
    made = Config()
    made.set_main_option("script_location", str(migrations_folder()))
    with engine.begin() as connection:
        made.attributes["connection"] = connection
        command.downgrade(made, "0014")
        command.upgrade(made, "head")
    with catalog.reading() as tx:
        assert told(tx.jobs.about([A, OTHER], limit=9)) == "1"
