"""What the Catalog promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from adapter_registry.domain.audit.event import Entry, Outcome, broken_link
from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.draft import MAIN, Branch, drafted
from adapter_registry.domain.errors import StoreUnavailable
from adapter_registry.domain.people.access import Grant, Principal, token_hash
from adapter_registry.domain.people.account import Account, AccountKind, Token
from adapter_registry.domain.ports import KeptAnswer
from adapter_registry.domain.sketch import Sketch
from adapter_registry.settings import migrations_folder
from adapter_registry.storage.catalog import SqlCatalog
from adapter_registry.storage.database import migrate, open_postgres, schema_of
from adapter_registry.storage.schema import SCHEMA, metadata

AT = "2026-01-01T00:00:00.000000Z"


class TestSchema:
    def test_the_migrations_make_the_tables_that_the_code_reads(self, engine):
        assert schema_of(engine) == SCHEMA
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []

    def test_migrating_again_changes_nothing(self, engine):
        assert migrate(engine, migrations_folder()) == SCHEMA


class TestTransaction:
    def test_what_fails_in_the_middle_leaves_nothing(self, catalog):
        def fails() -> None:
            with catalog.writing() as tx:
                tx.events.append(Entry("a", "b", Outcome.DONE, "me", AT))
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fails()
        with catalog.reading() as tx:
            assert tx.events.all() == ()

    def test_writers_take_turns_and_the_chain_of_events_stays_whole(self, catalog):
        def write(who: int) -> None:
            for _ in range(15):
                with catalog.writing() as tx:
                    tx.events.append(Entry("a", "b", Outcome.DONE, f"w{who}", AT))

        writers = [threading.Thread(target=write, args=(i,)) for i in range(8)]
        for each in writers:
            each.start()
        for each in writers:
            each.join()
        with catalog.reading() as tx:
            found = tx.events.all()
        assert [event.sequence for event in found] == list(range(1, 121))
        assert broken_link(found) is None


class TestEvents:
    def test_a_page_begins_after_the_one_before(self, catalog):
        with catalog.writing() as tx:
            for i in range(5):
                tx.events.append(Entry("a", f"team/x@v{i}", Outcome.DONE, "me", AT, {"i": i}))
        with catalog.reading() as tx:
            assert [e.sequence for e in tx.events.all(after=2, limit=2)] == [3, 4]
            assert len(tx.events.all(subject="team/x")) == 5
            assert len(tx.events.all(subject="team/x@v1")) == 1


class TestAccounts:
    def test_a_token_stands_for_its_account_until_it_is_revoked_or_over(self, catalog):
        grants = (Grant("team/*", ("read",)),)
        limits = (Grant("team/x", ("read",)),)
        with catalog.writing() as tx:
            assert tx.accounts.add(Account("ann", AccountKind.PERSON, grants, "me", AT), password=None)
            assert not tx.accounts.add(Account("ann", AccountKind.SERVICE, (), "me", AT), password=None)
            token = Token("0" * 12, "ann", "laptop", limits, "me", AT, expires_at="2026-02-01T00:00:00.000000Z")
            tx.accounts.add_token(token, hashed=token_hash("secret"))
        with catalog.writing() as tx:
            found = tx.accounts.principal(token_hash("secret"), now=AT)
            assert found == (Principal("ann", grants, limits, "0" * 12), True)
            tx.accounts.used_token("0" * 12, at=AT)
            assert tx.accounts.principal(token_hash("secret"), now=AT)[1] is False
            assert tx.accounts.principal(token_hash("secret"), now="2026-03-01T00:00:00.000000Z") is None
            tx.accounts.change("ann", disabled_at=AT)
            assert tx.accounts.principal(token_hash("secret"), now=AT) is None
            tx.accounts.change("ann", disabled_at="")
            tx.accounts.revoke_token("0" * 12, at=AT)
            assert tx.accounts.principal(token_hash("secret"), now=AT) is None

    def test_a_secret_is_made_once(self, catalog):
        with catalog.writing() as tx:
            tx.accounts.keep_secret("k", "first")
            tx.accounts.keep_secret("k", "second")
            assert tx.accounts.secret("k") == "first"

    def test_an_answer_is_kept_until_it_is_old(self, catalog):
        running, done = KeptAnswer("r", None, None), KeptAnswer("r", 201, "{}")
        with catalog.writing() as tx:
            assert tx.accounts.keep_answer("ann", "k", running, at=AT, forget_before="2025")
            assert not tx.accounts.keep_answer("ann", "k", done, at=AT, forget_before="2025")
            assert tx.accounts.answer("ann", "k") == done
            tx.accounts.drop_answer("ann", "k")
            assert tx.accounts.answer("ann", "k") == done
            tx.accounts.keep_answer("ann", "other", running, at="2026-02", forget_before="2026-02")
            assert tx.accounts.answer("ann", "k") is None


class TestBranches:
    def test_a_draft_waits_on_its_branch(self, catalog):
        draft = drafted(parent=None, files=(), title="t", author="me", at=AT, missing="everything")
        with catalog.writing() as tx:
            assert tx.branches.create_adapter("team/x", by="me", at=AT)
            assert not tx.branches.create_adapter("team/x", by="me", at=AT)
            tx.branches.put("team/x", Branch(MAIN, None, draft))
            assert tx.branches.get("team/x", MAIN) == Branch(MAIN, None, draft)
            assert tx.branches.of("team/x") == (Branch(MAIN, None, draft),)
            assert tx.branches.remove("team/x", MAIN)
            assert tx.branches.get("team/x", MAIN) is None

    def test_bytes_belong_to_the_namespaces_that_received_them(self, catalog):
        digest = of_bytes(b"x")
        with catalog.writing() as tx:
            tx.branches.own("team", [digest, digest], at="2026-01")
            assert tx.branches.owned("team", [digest]) == {digest: "2026-01"}
            tx.branches.own("team", [digest], at="2026-02")
            assert tx.branches.owned("team", [digest]) == {digest: "2026-02"}
            assert tx.branches.owned("other", [digest]) == {}
            tx.branches.disown(digest)
            assert tx.branches.owned("team", [digest]) == {}

    def test_bytes_are_found_by_their_sketch_also_after_they_were_asked_for_again(self, catalog):
        one, other, plain = (of_bytes(data) for data in (b"one", b"other", b"plain"))
        with catalog.writing() as tx:
            tx.branches.own("team", [one], at="2026-01", sketch=Sketch("1" * 64))
            tx.branches.own("other", [other], at="2026-01", sketch=Sketch("1" * 64))
            tx.branches.own("team", [plain], at="2026-01")
            tx.branches.own("team", [one, plain], at="2026-02")
            assert tx.branches.sketched(["1" * 64, "2" * 64]) == {one: "1" * 64, other: "1" * 64}
            tx.branches.disown(one)
            assert tx.branches.sketched(["1" * 64]) == {other: "1" * 64}
            assert tx.branches.sketched([]) == {}

    def test_bytes_that_were_asked_for_lately_are_reserved(self, catalog):
        owned, piece, unknown = (of_bytes(data) for data in (b"owned", b"piece", b"unknown"))
        with catalog.writing() as tx:
            tx.branches.own("team", [owned], at="2026-02")
            tx.branches.stage_xorb("u", "x", piece, at="2026-02")
            assert tx.branches.reserved([owned, piece, unknown], since="2026-01") == {owned, piece}
            assert tx.branches.reserved([owned, piece], since="2026-02") == frozenset()
            tx.branches.forget_xorbs(before="2026-03")
            assert tx.branches.reserved([owned, piece], since="") == {owned}


def test_a_database_that_is_not_there_is_said_within_seconds():
    engine = open_postgres("postgresql+psycopg://nobody@127.0.0.1:9/none")
    with pytest.raises(StoreUnavailable, match="ADAPTERS_DATABASE_URL"), SqlCatalog(engine).reading():
        pass
