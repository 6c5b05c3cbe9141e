"""The quick questions answer what the catalog answers, and outlive connections that are cut."""

from __future__ import annotations

import asyncio
import socket

import pytest

from adapter_registry.domain.errors import StoreUnavailable
from adapter_registry.domain.people.access import Grant, token_hash
from adapter_registry.domain.people.account import Account, AccountKind, Token
from adapter_registry.storage.catalog import SqlCatalog
from adapter_registry.storage.database import WATCHED, open_postgres
from adapter_registry.storage.postgres_lookups import PostgresLookups
from tests.contract.test_catalog_rows import BASE, document, promotion, version

AT, LATER = "2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:30.000000Z"
GRANTS = (Grant("team/*", ("read",)),)
SECRET = token_hash("adapters_secret")


@pytest.fixture
def engine(postgres_server, migrated_database):
    made = open_postgres(postgres_server.fresh_database(like=migrated_database))
    yield made
    made.dispose()


@pytest.fixture
def catalog(engine):
    catalog = SqlCatalog(engine)
    with catalog.writing() as tx:
        tx.accounts.add(Account("ann", AccountKind.PERSON, GRANTS, "me", AT), password=None)
        token = Token("t1", "ann", "", (Grant("team/a", ("read",)),), "me", AT, "2026-06-01T00:00:00.000000Z")
        tx.accounts.add_token(token, hashed=SECRET)
        tx.bases.add(BASE, name="llama", by="me", at=AT)
        for number in (1, 2):
            tx.versions.add(version("team/a", number), manifest=document(number))
        tx.versions.set_tag(version("team/a", 1), "stable", by="me", at=AT)
        tx.versions.set_labels(version("team/a", 1), {"owner": "ann"})
        tx.stages.move(promotion(1, number=2))
    return catalog


@pytest.fixture
def ask(engine):
    """Asks within one event loop, and closes what is open at the end."""
    with asyncio.Runner() as runner:
        lookups = PostgresLookups(engine, dict(WATCHED))
        yield lambda question: runner.run(question(lookups))
        runner.run(lookups.close())


def test_a_token_stands_for_whom_it_stands_in_the_catalog(catalog, ask):
    for hashed in (SECRET, token_hash("adapters_other")):
        for now in (LATER, "2026-07-01T00:00:00.000000Z"):
            with catalog.reading() as tx:
                expected = tx.accounts.principal(hashed, now=now)
            assert ask(lambda it, h=hashed, n=now: it.principal(h, now=n)) == expected
    with catalog.writing() as tx:
        tx.accounts.used_token("t1", at=LATER)
    assert ask(lambda it: it.principal(SECRET, now=LATER))[1] is False
    with catalog.writing() as tx:
        tx.accounts.revoke_token("t1", at=LATER)
    assert ask(lambda it: it.principal(SECRET, now=LATER)) is None


@pytest.mark.parametrize("name", ["stable", "prod", "dev", "nothing"])
def test_a_name_means_what_it_means_in_the_catalog_with_all_that_belongs_to_it(catalog, ask, name):
    with catalog.reading() as tx:
        expected = tx.versions.named("team/a", name)
        created = tx.branches.created_at("team/a")
    found = ask(lambda it: it.named("team/a", name))
    assert found == ((expected, created) if expected else None)
    assert ask(lambda it: it.named("team/b", name)) is None


def test_more_questions_than_connections_are_all_answered(catalog, ask):
    async def many(lookups):
        return await asyncio.gather(*(lookups.named("team/a", "stable") for _ in range(60)))

    assert {found[0].number for found in ask(many)} == {1}


def test_connections_that_were_cut_while_nobody_asked_are_replaced_in_silence(catalog, ask, engine, postgres_server):
    async def many(lookups):
        return await asyncio.gather(*(lookups.named("team/a", "stable") for _ in range(8)))

    ask(many)
    others = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = "
    postgres_server.run(f"{others}'{engine.url.database}'")
    assert len(ask(many)) == 8


def test_a_question_that_was_given_up_leaves_no_connection_in_the_middle_of_it(catalog, ask):
    async def given_up(lookups):
        for _ in range(20):
            task = asyncio.create_task(lookups.named("team/a", "stable"))
            await asyncio.sleep(0.0005)
            task.cancel()
        return await lookups.named("team/a", "stable")

    assert ask(given_up)[0].number == 1


def test_a_database_that_is_not_there_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    engine = open_postgres(f"postgresql://me:secret-word@127.0.0.1:{port}/x")

    async def asked():
        await PostgresLookups(engine, dict(WATCHED)).principal(SECRET, now=AT)

    with pytest.raises(StoreUnavailable, match="cannot be reached") as error:
        asyncio.run(asked())
    assert "secret-word" not in error.value.text
