"""What the Catalog promises of lists, looks by name and sums, on SQLite and PostgreSQL; and that all of it is asked."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import get_type_hints

import semver
from alembic import command
from alembic.config import Config

from adapter_registry.domain.adapter import File
from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.draft import MAIN, Branch, drafted
from adapter_registry.domain.people.access import Grant, Principal, token_hash
from adapter_registry.domain.people.account import Account, AccountKind, Token
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.policies.process import Process
from adapter_registry.domain.ports import KeptAnswer, Transaction
from adapter_registry.domain.views.usage import Used, UsedInAll
from adapter_registry.domain.webhooks.signature import Secret
from adapter_registry.settings import migrations_folder
from adapter_registry.storage import database
from adapter_registry.storage.catalog_versions import SEMVERS
from tests.contract.test_catalog_rows import AT, document, promotion, pushed, version  # noqa: F401  a fixture
from tests.contract.test_webhooks import SECRETS, hook

LATER = "2026-02-01T00:00:00.000000Z"


def test_every_method_of_the_port_is_asked_on_both_databases():
    asked = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    parts = {name: each for name, each in vars(Transaction).items() if isinstance(each, property)}
    offered = [
        f"{part}.{method}"
        for part, each in parts.items()
        for method in vars(get_type_hints(each.fget)["return"])
        if not method.startswith("_")
    ]
    assert len(offered) > 100
    assert [each for each in offered if not re.search(rf"\b{re.escape(each)}\(", asked)] == []


def add(tx, number: int, name: str) -> None:
    """One more version of team/a, with this semantic version."""
    own = replace(version("team/a", number), semver=name, digest=of_bytes(name.encode()))
    tx.versions.add(own, manifest=document(number))


class TestVersions:
    def test_names_are_offered_from_the_same_namespace(self, pushed):  # noqa: F811
        with pushed.reading() as tx:
            assert tx.versions.names_near("team/x") == ("team/a", "team/b")
            assert tx.versions.names_near("other/a") == ()

    def test_what_may_be_served_and_what_points_somewhere_is_listed(self, pushed):  # noqa: F811
        with pushed.writing() as tx:
            tx.versions.set_tag(version("team/a", 1), "good", by="me", at=AT)
            tx.stages.move(promotion(1, number=2))
            tx.versions.revoke(version("team/a", 3), because="leaked", by="me", at=AT)
        with pushed.reading() as tx:
            assert list(tx.versions.semvers("team/a")) == ["1.2.0", "1.1.0"]
            assert tx.versions.pointers("team/a") == ("good", "prod")
            assert tx.versions.pointers("team/b") == ()

    def test_semantic_versions_are_told_from_the_highest_however_many_there_are(self, pushed):  # noqa: F811
        names = [f"2.{minor}.0" for minor in range(SEMVERS + 7)] + ["1.9.0-rc.1", "1.9.0", "1.9.0+again", "10.0.0"]
        with pushed.writing() as tx:
            for number, name in enumerate(names, 4):
                add(tx, number, name)
        with pushed.reading() as tx:
            told = list(tx.versions.semvers("team/a"))
            assert tx.versions.used("team/a") == (len(names) + 3, "10.0.0")
        assert sorted(told) == sorted([*names, "1.1.0", "1.2.0", "1.3.0"])
        assert [semver.Version.parse(each) for each in told] == sorted(map(semver.Version.parse, told), reverse=True)

    def test_an_older_store_learns_what_its_versions_sort_by(self, pushed):  # noqa: F811
        with pushed.writing() as tx:
            add(tx, 4, "1.10.0")
        revision = Config()
        revision.set_main_option("script_location", str(migrations_folder()))
        with pushed._engine.begin() as connection:
            revision.attributes["connection"] = connection
            command.downgrade(revision, "0020")
        database.migrate(pushed._engine, migrations_folder())
        with pushed.reading() as tx:
            assert tx.versions.used("team/a") == (4, "1.10.0")
            assert list(tx.versions.semvers("team/a")) == ["1.10.0", "1.3.0", "1.2.0", "1.1.0"]

    def test_a_line_says_where_its_stages_stand_and_since_when(self, pushed):  # noqa: F811
        with pushed.writing() as tx:
            tx.stages.move(promotion(1, number=1))
            tx.stages.move(replace(promotion(2, number=2), at=LATER))
            tx.stages.move(promotion(1, number=3, stage="dev"))
        with pushed.reading() as tx:
            moved, never = tx.versions.adapters()
        assert moved.stages == {"prod": 2, "dev": 3}
        assert moved.since == {"prod": LATER, "dev": AT}
        assert never.stages == never.since == {}


class TestStages:
    def test_the_moves_to_one_version_are_told_by_themselves(self, pushed):  # noqa: F811
        moves = [promotion(1, number=1), promotion(2, number=2), promotion(1, number=2, stage="dev")]
        with pushed.writing() as tx:
            for move in moves:
                tx.stages.move(move)
        with pushed.reading() as tx:
            assert tx.stages.history("team/a", number=2) == (moves[2], moves[1])
            assert tx.stages.history("team/a", "prod", number=2) == (moves[1],)
            assert tx.stages.history("team/a", number=3) == ()

    def test_the_move_that_a_pointer_stands_by_is_the_last(self, pushed):  # noqa: F811
        moves = [promotion(1, number=1), promotion(2, number=2), promotion(1, number=3, stage="prod.eu")]
        with pushed.writing() as tx:
            for move in moves:
                tx.stages.move(move)
        with pushed.reading() as tx:
            assert tx.stages.current("team/a", "prod") == moves[1]
            assert tx.stages.current("team/a", "prod.eu") == moves[2]
            assert tx.stages.current("team/a", "dev") is tx.stages.current("team/b", "prod") is None

    def test_moves_are_paged_from_the_newest_by_their_keys(self, pushed):  # noqa: F811
        every = {"adapter": None, "stage": None, "until": None, "before": None, "limit": 9}
        with pushed.writing() as tx:
            tx.stages.move(promotion(1, number=1))
            tx.stages.move(replace(promotion(2, number=2), at=LATER))
            tx.stages.move(replace(promotion(1, number=1, stage="dev"), adapter="team/b", at=LATER))
        with pushed.reading() as tx:
            found = tx.stages.moves(**every)
            assert [(move.adapter, move.number) for _, move in found] == [("team/b", 1), ("team/a", 2), ("team/a", 1)]
            assert tx.stages.moves(**{**every, "before": found[0][0], "limit": 1}) == found[1:2]
            assert tx.stages.moves(**{**every, "until": AT}) == found[2:]
            assert tx.stages.moves(**{**every, "adapter": "team/a", "stage": "prod"}) == found[1:]
            assert tx.stages.moves(**{**every, "adapter": "team/none"}) == ()

    def test_every_revision_of_a_policy_is_kept_with_who_set_it(self, catalog):
        first, second = Policy("prod"), Policy("prod", process=Process(reverify_seconds=3600))
        with catalog.writing() as tx:
            assert tx.stages.set_policy(first, by="ann", at=AT) == 1
            assert tx.stages.set_policy(second, by="bob", at=LATER) == 2
            tx.stages.set_policy(Policy("dev"), by="ann", at=AT)
        with catalog.reading() as tx:
            found = [(each.revision, each.policy, each.by, each.at) for each in tx.stages.policies("prod")]
            assert found == [(2, second, "bob", LATER), (1, first, "ann", AT)]
            assert tx.stages.policies("staging") == ()


class TestEvents:
    def test_the_log_is_read_backwards_by_subject_and_by_actor(self, catalog):
        with catalog.writing() as tx:
            assert tx.events.newest() == 0
            for number, (subject, actor) in enumerate(
                [("t/x@v1", "ann"), ("t/xy", "bob"), ("t/x", 'a"n%n'), ("*", "ann")]
            ):
                tx.events.append(Entry("a", subject, Outcome.DONE, actor, AT, {"number": number}))
        with catalog.reading() as tx:
            assert tx.events.newest() == 4
            assert [each.sequence for each in tx.events.backwards(before=4, limit=2)] == [3, 2]
            assert [each.sequence for each in tx.events.backwards(subject="t/x", before=9, limit=9)] == [3, 1]
            assert [each.sequence for each in tx.events.backwards(words=("ann",), before=9, limit=9)] == [4, 1]
            assert [each.sequence for each in tx.events.backwards(words=('a"n%n',), before=9, limit=9)] == [3]


class TestBlobs:
    def test_bytes_are_summed_by_adapter_most_first_and_counted_once_in_each(self, pushed):  # noqa: F811
        one, shared = 10 + 2**40, 10
        with pushed.writing() as tx:
            first, second = Used("team/a", 3, 3 * one, 3 * 2**40 + shared), Used("team/b", 1, one, one)
            assert tx.blobs.used(("*",)) == (first, second)
            assert tx.blobs.used(("*",), limit=1) == (first,)
            assert tx.blobs.used(("*",), after=first.place) == (second,)
            assert tx.blobs.used_in_all(("*",)) == UsedInAll(2, 4 * one, 3 * 2**40 + shared + one)
            assert tx.blobs.used(("team/b",)) == (second,)
            assert tx.blobs.used(("other/*",)) == ()
            assert tx.blobs.used_in_all(("other/*",)) == UsedInAll(0, 0, 0)
            tx.versions.remove(version("team/b", 1), by="me", at=AT)
            assert [each.adapter for each in tx.blobs.used(("*",))] == ["team/a"]


class TestAccounts:
    def test_they_are_listed_by_name_and_their_passwords_never_with_them(self, catalog):
        bob, ann = (Account(name, AccountKind.PERSON, (), "me", AT) for name in ("bob", "ann"))
        with catalog.writing() as tx:
            tx.accounts.add(bob, password="hash")
            tx.accounts.add(ann, password=None)
            assert tx.accounts.all() == (ann, replace(bob, signs_in=True))
            assert tx.accounts.get("bob") == replace(bob, signs_in=True)
            assert tx.accounts.get("eve") is None
            assert (tx.accounts.password("bob"), tx.accounts.password("ann")) == ("hash", None)
            tx.accounts.change("bob", disabled_at=AT)
            assert tx.accounts.password("bob") is None

    def test_a_token_stands_by_its_id_as_long_as_it_is_good(self, catalog):
        grants = (Grant("team/*", ("read",)),)
        with catalog.writing() as tx:
            tx.accounts.add(Account("ann", AccountKind.PERSON, grants, "me", AT), password=None)
            tx.accounts.add_token(Token("0" * 12, "ann", "", None, "me", AT, expires_at=LATER), hashed=token_hash("s"))
            assert tx.accounts.standing("0" * 12, now=AT) == Principal("ann", grants, None, "0" * 12)
            assert tx.accounts.standing("0" * 12, now=LATER) is tx.accounts.standing("1" * 12, now=AT) is None
            tx.accounts.revoke_token("0" * 12, at=AT)
            assert tx.accounts.standing("0" * 12, now=AT) is None

    def test_answers_from_before_a_moment_are_forgotten(self, catalog):
        with catalog.writing() as tx:
            for key, at in (("old", AT), ("new", LATER)):
                tx.accounts.keep_answer("ann", key, KeptAnswer("r", 200, "{}"), at=at, forget_before="2025")
            tx.accounts.forget_answers(before=LATER)
            assert tx.accounts.answer("ann", "old") is None
            assert tx.accounts.answer("ann", "new") is not None


class TestBranches:
    def test_who_holds_bytes_and_which_a_draft_holds_is_known(self, pushed):  # noqa: F811
        shared, mine = of_bytes(b"shared"), of_bytes(b"mine")
        draft = drafted(parent=None, files=(File("x", 1, mine),), title="t", author="me", at=AT, missing="w")
        with pushed.writing() as tx:
            assert tx.branches.holders(shared) == ("team/a", "team/b")
            assert tx.branches.holders(mine) == ()
            tx.branches.put("team/a", Branch(MAIN, None, draft))
            assert mine in tx.branches.drafted()
            assert shared not in tx.branches.drafted()

    def test_a_namespace_has_one_default_base(self, pushed):  # noqa: F811
        base = version("team/a", 1).base
        with pushed.writing() as tx:
            assert tx.branches.default_base("team") is None
            tx.branches.set_default_base("team", base, by="me", at=AT)
            assert tx.branches.default_base("team") == base
            tx.branches.set_default_base("team", None, by="me", at=AT)
            assert tx.branches.default_base("team") is None

    def test_pieces_of_an_upload_are_found_until_they_are_old(self, catalog):
        digest = of_bytes(b"piece")
        with catalog.writing() as tx:
            tx.branches.stage_xorb("up", "x" * 64, digest, at=AT)
            assert tx.branches.staged_xorb("up", "x" * 64) == digest
            assert tx.branches.staged_xorb("other", "x" * 64) is None
            tx.branches.forget_xorbs(before=LATER)
            assert tx.branches.staged_xorb("up", "x" * 64) is None


def test_a_webhook_s_secrets_are_replaced_apart_from_it(catalog):
    fresh = (Secret("whsec_" + "b" * 32), *SECRETS)
    with catalog.writing() as tx:
        tx.webhooks.add(hook(), SECRETS)
        tx.webhooks.set_secrets("one", fresh)
        assert tx.webhooks.get("one") == hook()
        assert tx.webhooks.secrets("one") == fresh
        assert tx.webhooks.get("two") is None
