"""What the Catalog promises about bases, versions, scores, stages and blobs, on SQLite and on PostgreSQL."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy.exc import IntegrityError

from adapter_registry.domain.adapter import File, Version
from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.base import Base, SpotCheck, Tensor, WeightFile, weights_root
from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.draft import Branch
from adapter_registry.domain.evidence.score import Direction, Invalidation, RecordedScore, Score
from adapter_registry.domain.evidence.suite import Suite, SuiteMetric
from adapter_registry.domain.lock import Equivalence
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.policies.process import Mode, Sources
from adapter_registry.domain.promotions.promotion import Kind, Promotion
from adapter_registry.domain.promotions.stage import Ladder, Stage
from tests.descriptions import LORA

AT = "2026-01-01T00:00:00.000000Z"
TENSORS = (Tensor("a", "F32", (2, 3), "1" * 64), Tensor("b", "BF16", (), "2" * 64))
BASE = Base(
    digest=of_bytes(b"base"),
    files=(WeightFile("model.safetensors", 30, "3" * 64),),
    tensors=TENSORS,
    config=None,
    tokenizer=None,
    architecture="LlamaForCausalLM",
    model_type="llama",
    vocab_size=10,
    tied=False,
    root=weights_root(TENSORS),
    repository=None,
    commit=None,
    quantization=None,
    spot=SpotCheck("0" * 32, 2, 64, {"a": "4" * 32}),
    source="here",
)
DORA = replace(LORA, variant=("dora",))


class TestBases:
    def test_a_base_is_stored_once_under_every_name_it_is_given(self, catalog):
        with catalog.writing() as tx:
            for name in ("llama", "other", "llama"):
                tx.bases.add(BASE, name=name, by="me", at=AT)
        with catalog.reading() as tx:
            assert tx.bases.get(BASE.digest) == BASE
            assert tx.bases.get(of_bytes(b"unknown")) is None
            found = [(each.name, each.tensors, each.base.digest) for each in tx.bases.names()]
            assert found == [("llama", 2, BASE.digest), ("other", 2, BASE.digest)]

    def test_the_same_weights_are_found_whatever_their_tokenizer(self, catalog):
        other = replace(BASE, digest=of_bytes(b"other tokenizer"), tokenizer=of_bytes(b"t"))
        with catalog.writing() as tx:
            tx.bases.add(BASE, name="llama", by="me", at=AT)
            tx.bases.add(other, name="llama", by="me", at=AT)
            assert tx.bases.with_weights_of(BASE) == tuple(sorted((BASE.digest, other.digest)))
            assert tx.bases.with_weights_of(replace(BASE, root=None, files=())) == ()

    def test_a_base_known_by_its_files_learns_what_its_bytes_say(self, catalog):
        unread = replace(BASE, root=None, tensors=(), spot=None)
        with catalog.writing() as tx:
            tx.bases.add(unread, name="llama", by="me", at=AT)
            tx.bases.learn(BASE.digest, BASE)
            assert tx.bases.get(BASE.digest) == BASE

    def test_a_stand_in_is_declared_for_one_direction(self, catalog):
        other = replace(BASE, digest=of_bytes(b"quantised"))
        declared = Equivalence(BASE.digest, other.digest, "tested", "me", AT)
        with catalog.writing() as tx:
            tx.bases.add(BASE, name="llama", by="me", at=AT)
            tx.bases.add(other, name="small", by="me", at=AT)
            tx.bases.declare(replace(declared, because="a guess"))
            tx.bases.declare(declared)
            assert tx.bases.equivalences(BASE.digest) == (declared,)
            assert tx.bases.equivalences(other.digest) == ()


@pytest.fixture
def pushed(catalog):
    """A catalog with three versions of team/a and one of team/b."""
    with catalog.writing() as tx:
        tx.bases.add(BASE, name="llama", by="me", at=AT)
        for adapter, number in (("team/a", 1), ("team/a", 2), ("team/a", 3), ("team/b", 1)):
            tx.versions.add(version(adapter, number), manifest=document(number))
    return catalog


def document(number: int) -> bytes:
    return f'{{"number": {number}}}'.encode()


def version(adapter: str, number: int) -> Version:
    files = (File("adapter_config.json", 10, of_bytes(b"shared")), File("w", 2**40, of_bytes(document(number) + b"w")))
    return Version(
        adapter=adapter,
        number=number,
        semver=f"1.{number}.0",
        digest=of_bytes(document(number)),
        base=BASE.digest,
        base_name="llama",
        files=files,
        description=DORA,
        message="täglich 日本語 🦙",
        created_by="me",
        created_at=AT,
        labels={"owner": "ann", "lang": "de"},
    )


class TestVersions:
    def test_a_version_is_found_by_everything_that_names_it(self, pushed):
        wanted = version("team/a", 2)
        with pushed.reading() as tx:
            assert tx.versions.numbered("team/a", 2) == wanted
            assert tx.versions.labelled("team/a", "1.2.0") == wanted
            assert tx.versions.with_digest("team/a", wanted.digest) == wanted
            assert tx.versions.with_digest("team/a", wanted.digest[7:47]) == wanted
            assert tx.versions.latest("team/a") == version("team/a", 3)
            assert [each.number for each in tx.versions.all_of("team/a")] == [3, 2, 1]
            assert tx.versions.used("team/a") == (3, "1.3.0")
            assert tx.versions.locked_to(BASE.digest) == 4

    def test_what_is_not_there_is_none(self, pushed):
        with pushed.reading() as tx:
            assert tx.versions.numbered("team/a", 9) is None
            assert tx.versions.labelled("team/b", "1.2.0") is None
            assert tx.versions.with_digest("team/b", "%" * 40) is None
            assert tx.versions.tagged("team/a", "best") is None
            assert tx.versions.staged("team/a", "prod") is None
            assert tx.versions.latest("team/none") is None
            assert tx.versions.used("team/none") == (0, None)

    def test_a_name_is_found_in_other_upper_and_lower_case(self, pushed):
        with pushed.reading() as tx:
            assert tx.versions.spelled("TEAM/A") == "team/a"
            assert tx.versions.spelled("team/none") is None

    def test_a_number_or_label_is_given_once(self, pushed):
        for taken in (version("team/a", 3), replace(version("team/a", 3), number=4)):
            with pytest.raises(IntegrityError), pushed.writing() as tx:
                tx.versions.add(taken, manifest=document(3))

    def test_a_removed_version_keeps_its_number_and_label_only(self, pushed):
        with pushed.writing() as tx:
            tx.versions.remove(version("team/a", 3), by="me", at=AT)
            assert tx.versions.numbered("team/a", 3) is None
            assert tx.versions.latest("team/a") == version("team/a", 2)
            assert tx.versions.used("team/a") == (3, "1.3.0")
            assert tx.versions.given("team/a", "1.3.0")
            assert not tx.versions.given("team/a", "1.3.1")
            assert not tx.versions.given("team/none", "1.3.0")
            assert tx.versions.locked_to(BASE.digest) == 3

    def test_a_revoked_version_says_why(self, pushed):
        with pushed.writing() as tx:
            tx.versions.revoke(version("team/a", 3), because="leaked data", by="me", at=AT)
            assert tx.versions.numbered("team/a", 3).revoked_because == "leaked data"

    def test_a_tag_moves_and_goes(self, pushed):
        with pushed.writing() as tx:
            for number in (1, 2):
                tx.versions.set_tag(version("team/a", number), "best", by="me", at=AT)
            assert tx.versions.tagged("team/a", "best").number == 2
            assert tx.versions.numbered("team/a", 1).tags == ()
            assert tx.versions.numbered("team/a", 2).tags == ("best",)
            assert tx.versions.remove_tag("team/a", "best")
            assert not tx.versions.remove_tag("team/a", "best")

    def test_labels_are_set_changed_and_removed(self, pushed):
        with pushed.writing() as tx:
            tx.versions.set_labels(version("team/a", 1), {"owner": "bob", "lang": None, "new": "", "never": None})
            assert tx.versions.numbered("team/a", 1).labels == {"owner": "bob", "new": ""}
            assert tx.versions.numbered("team/a", 2).labels == {"owner": "ann", "lang": "de"}

    def test_adapters_are_listed_by_name_with_their_newest_version(self, pushed):
        with pushed.writing() as tx:
            tx.stages.move(promotion(1, number=2))
            lines = tx.versions.adapters()
        found = [(line.adapter, line.versions, line.latest, line.size, line.stages) for line in lines]
        assert found == [("team/a", 3, 3, 2**40 + 10, {"prod": 2}), ("team/b", 1, 1, 2**40 + 10, {})]


class TestBlobRows:
    def test_a_blob_is_referenced_as_long_as_a_version_holds_it(self, pushed):
        own, shared = of_bytes(document(3) + b"w"), of_bytes(b"shared")
        with pushed.writing() as tx:
            assert tx.blobs.known([own, shared, of_bytes(b"unknown")]) == {own, shared}
            assert dict(tx.blobs.each())[own] == 2**40
            assert tx.blobs.unreferenced() == ()
            tx.versions.remove(version("team/a", 3), by="me", at=AT)
            assert tx.blobs.unreferenced() == (own,)
            tx.blobs.forget(own)
            assert own not in tx.blobs.known([own])

    def test_more_blobs_than_a_database_takes_values_at_once_can_be_asked_for(self, pushed):
        many = [of_bytes(b"%d" % i) for i in range(70_000)]
        with pushed.reading() as tx:
            assert tx.blobs.known([*many, of_bytes(b"shared")]) == {of_bytes(b"shared")}

    def test_a_referenced_blob_can_not_be_forgotten(self, pushed):
        with pytest.raises(IntegrityError), pushed.writing() as tx:
            tx.blobs.forget(of_bytes(b"shared"))


class TestScores:
    def test_scores_come_back_as_they_were_in_the_order_they_were_recorded(self, catalog):
        scores = [
            Score("x/acc", 0.1 + 0.2, Direction.HIGHER, stderr=1e-300, n=10, setting={"shots": "5"}),
            Score("x/loss", 1.7976931348623157e308, Direction.LOWER),
            Score("x/acc", -0.0, None),
        ]
        recorded = tuple(RecordedScore(BASE.digest, "llama", score, "me", AT) for score in scores)
        with catalog.writing() as tx:
            tx.scores.add(recorded)
            tx.scores.add(())
        with catalog.reading() as tx:
            stored = tx.scores.of(BASE.digest)
            assert tx.scores.of(of_bytes(b"unknown")) == ()
        assert tuple(replace(each, id=0) for each in stored) == recorded
        assert [each.id for each in stored] == sorted({each.id for each in stored} - {0})

    def test_a_measured_nan_is_kept(self, catalog):
        with catalog.writing() as tx:
            tx.scores.add([RecordedScore(BASE.digest, "llama", Score("x/loss", math.nan, None), "me", AT)])
        with catalog.reading() as tx:
            [found] = tx.scores.of(BASE.digest)
        assert math.isnan(found.score.value)
        assert found.score.metric == "x/loss"

    def test_what_was_declared_invalid_is_kept_and_says_why(self, catalog):
        with catalog.writing() as tx:
            tx.scores.add([RecordedScore(BASE.digest, "llama", Score("x/acc", n / 10, None), "me", AT) for n in (1, 2)])
            first, _ = tx.scores.of(BASE.digest)
            tx.scores.invalidate([first.id], Invalidation("typo", "ann", AT))
        with catalog.reading() as tx:
            assert [each.invalid for each in tx.scores.of(BASE.digest)] == [Invalidation("typo", "ann", AT), None]

    def test_bytes_that_a_score_refers_to_are_no_garbage(self, catalog):
        kept, stray = of_bytes(b"outcomes"), of_bytes(b"stray")
        score = Score("x/acc", 0.5, None, outcomes=kept)
        with catalog.writing() as tx:
            tx.scores.keep_blobs({kept: 8, stray: 5})
            tx.scores.keep_blobs({kept: 8})
            tx.scores.add([RecordedScore(BASE.digest, "llama", score, "me", AT)])
        with catalog.reading() as tx:
            assert tx.blobs.referenced([kept, stray]) == {kept}
            assert kept not in tx.blobs.unreferenced()
            assert stray in tx.blobs.unreferenced()

    def test_a_suite_gets_the_next_version_each_time(self, catalog):
        core = Suite("core", (SuiteMetric("x/acc", {"shots": "5"}),), set_by="me", set_at=AT)
        with catalog.writing() as tx:
            versions = [tx.scores.add_suite(core).version for _ in range(2)]
            tx.scores.add_suite(replace(core, name="other"))
        with catalog.reading() as tx:
            assert versions == [1, 2]
            assert tx.scores.suite("core") == replace(core, version=2)
            assert tx.scores.suite("core", 1) == replace(core, version=1)
            assert tx.scores.suite("core", 3) is tx.scores.suite("none") is None
            assert [each.reference for each in tx.scores.suites()] == ["core@1", "core@2", "other@1"]
            assert tx.scores.suite_files() == frozenset()

    def test_the_files_of_every_version_of_a_suite_are_known(self, catalog):
        first, second, data = (of_bytes(text) for text in (b"first", b"second", b"data"))
        core = Suite("core", (SuiteMetric("x/acc"),), files={"x/task.yaml": first, "x/data/d.jsonl": data})
        with catalog.writing() as tx:
            tx.scores.add_suite(core)
            tx.scores.add_suite(replace(core, files={"x/task.yaml": second, "x/data/d.jsonl": data}))
        with catalog.reading() as tx:
            assert tx.scores.suite_files() == {first, second, data}


def promotion(sequence: int, *, number: int, stage: str = "prod") -> Promotion:
    return Promotion(
        adapter="team/a",
        stage=stage,
        sequence=sequence,
        number=number,
        version=of_bytes(document(number)),
        previous=None,
        kind=Kind.PROMOTE,
        actor="me",
        reason="because",
        findings=(),
        policy=of_bytes(b"policy"),
        policy_revision=0,
        decision=of_bytes(b"decision"),
        at=AT,
    )


class TestStages:
    def test_a_stage_points_where_it_moved_last_and_remembers_every_move(self, pushed):
        moves = [promotion(1, number=1), promotion(1, number=3, stage="staging"), promotion(2, number=2)]
        with pushed.writing() as tx:
            assert tx.stages.hold("team/a", "prod") == 0
            for move in moves:
                tx.stages.move(move)
            assert tx.stages.hold("team/a", "prod") == 2
        with pushed.reading() as tx:
            assert tx.versions.staged("team/a", "prod").number == 2
            assert tx.versions.numbered("team/a", 2).stages == ("prod",)
            assert tx.versions.numbered("team/a", 1).stages == ()
            assert tx.stages.history("team/a") == tuple(reversed(moves))
            assert tx.stages.history("team/a", "prod") == (moves[2], moves[0])
            assert tx.stages.history("team/b") == ()
            entered = [(number, tx.stages.entered("team/a", "prod", number=number)) for number in (1, 2, 3, 4)]
            assert entered == [(1, True), (2, True), (3, False), (4, False)]
            assert not tx.stages.entered("team/b", "prod", number=1)

    def test_a_place_in_the_history_is_taken_once(self, pushed):
        with pushed.writing() as tx:
            tx.stages.move(promotion(1, number=1))
        with pytest.raises(IntegrityError), pushed.writing() as tx:
            tx.stages.move(promotion(1, number=2))

    def test_the_stages_are_what_was_declared_last(self, catalog):
        changed = Ladder().declared(Stage("qa", sources=Sources(("dev",), Mode.ONE_OF), lanes=("eu",)))
        with catalog.writing() as tx:
            assert tx.stages.ladder() == Ladder()
            for ladder in (Ladder().declared(Stage("x")), changed):
                tx.stages.set_ladder(ladder, by="me", at=AT)
        with catalog.reading() as tx:
            assert tx.stages.ladder() == changed

    def test_who_is_in_a_stage_and_who_has_its_name_already(self, pushed):
        with pushed.writing() as tx:
            tx.stages.move(promotion(1, number=1))
            tx.stages.move(promotion(1, number=2, stage="prod.canary"))
            tx.versions.set_tag(tx.versions.numbered("team/a", 1), "qa.old", by="me", at=AT)
            tx.branches.put("team/a", Branch("next", None, None))
        with pushed.reading() as tx:
            assert tx.stages.standing("prod") == {"team/a": 1}
            assert tx.stages.standing("prod.canary") == {"team/a": 2}
            assert tx.stages.standing("staging") == {}
            assert [move.number for move in tx.stages.newest("prod", limit=9)] == [2, 1]
            assert tx.stages.named("qa") == tx.stages.named("next") == ("team/a",)
            assert tx.stages.named("q") == tx.stages.named("old") == ()

    def test_a_version_counts_as_good_since_its_stage_moved_or_it_was_verified(self, pushed):
        with pushed.writing() as tx:
            tx.stages.move(promotion(1, number=1))
            tx.stages.move(replace(promotion(2, number=2), at="2026-02-01T00:00:00.000000Z"))
            [first] = tx.stages.verified("prod")
            tx.stages.verify(replace(first, at="2026-03-01T00:00:00.000000Z"))
            [second] = tx.stages.verified("prod", "team/a")
            tx.stages.move(replace(promotion(3, number=1), at="2026-04-01T00:00:00.000000Z"))
            [third] = tx.stages.verified("prod")
            assert tx.stages.verified("prod", "team/b") == tx.stages.verified("dev") == ()
        found = [(each.sequence, each.number, each.at[:10]) for each in (first, second, third)]
        assert found == [(2, 2, "2026-02-01"), (2, 2, "2026-03-01"), (3, 1, "2026-04-01")]

    def test_a_stage_keeps_every_revision_of_its_policy(self, catalog):
        first, second = Policy("prod"), Policy("prod", metadata=("owner",))
        with catalog.writing() as tx:
            assert tx.stages.policy("prod") is None
            assert tx.stages.set_policy(first, by="me", at=AT) == 1
            assert tx.stages.set_policy(second, by="me", at=AT) == 2
            assert tx.stages.set_policy(Policy("staging"), by="me", at=AT) == 1
        with catalog.reading() as tx:
            assert tx.stages.policy("prod") == (2, second)


def test_pushes_to_one_adapter_at_once_all_get_a_number_of_their_own(catalog):
    with catalog.writing() as tx:
        tx.bases.add(BASE, name="llama", by="me", at=AT)

    def push(me: int) -> int:
        with catalog.writing() as tx:
            number = tx.versions.used("team/new")[0] + 1
            own = replace(version("team/new", number), digest=of_bytes(b"%d" % me))
            tx.versions.add(own, manifest=document(number))
            tx.events.append(Entry("push", own.reference, Outcome.DONE, "me", AT))
        return number

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(push, range(16))) == list(range(1, 17))
