"""What the Catalog promises about versions that were made of others, on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import text

from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.lineage import Lineage, Parent
from tests.contract.test_catalog_rows import AT, BASE, document, version
from tests.contract.test_database import config


def made_of(*parents, number, adapter="team/c"):
    """A version made of others."""
    of = tuple(Parent(each.adapter, each.number, each.digest, 0.5) for each in parents)
    lineage = Lineage("compose", "ties", "peft", of, {}, 0, {}, "cpu", 0.1, ())
    child = version(adapter, number)
    return replace(child, digest=of_bytes(f"{adapter}{number}".encode()), lineage=lineage)


def push(tx, *versions):
    for each in versions:
        tx.versions.add(each, manifest=document(each.number))
        tx.ancestry.made(each)


A1, A2, OTHER = version("team/a", 1), version("team/a", 2), version("team/b", 1)
CHILD = made_of(A1, OTHER, number=1)
GRANDCHILD = made_of(CHILD, A1, number=2, adapter="team/d")
STRANGER = made_of(A2, number=2)


def stored(tx):
    tx.bases.add(BASE, name="llama", by="me", at=AT)
    push(tx, A1, A2, OTHER, CHILD, GRANDCHILD, STRANGER)


def marks(tx):
    found = (tx.versions.numbered(each.adapter, each.number) for each in (A1, CHILD, GRANDCHILD, STRANGER))
    return [each.revoked_ancestors for each in found]


def test_descendants_are_those_of_descendants_too_without_what_was_removed(catalog):
    with catalog.writing() as tx:
        stored(tx)
        assert [each.reference for each in tx.ancestry.descendants(A1)] == ["team/c@v1", "team/d@v2"]
        assert tx.ancestry.descendants(GRANDCHILD) == ()
        tx.versions.remove(CHILD, by="me", at=AT)
        assert [each.reference for each in tx.ancestry.descendants(OTHER)] == ["team/d@v2"]


def test_all_that_was_made_of_a_withdrawn_version_is_marked_and_nothing_else(catalog):
    with catalog.writing() as tx:
        stored(tx)
        tx.versions.revoke(A1, because="leaked", by="me", at=AT)
        assert [each.reference for each in tx.ancestry.mark(A1)] == ["team/c@v1", "team/d@v2"]
        assert marks(tx) == [(), ("team/a@v1",), ("team/a@v1",), ()]
        tx.versions.revoke(OTHER, because="leaked", by="me", at=AT)
        tx.ancestry.mark(OTHER)
        assert marks(tx)[2] == ("team/a@v1", "team/b@v1")


def test_what_is_made_of_a_withdrawn_or_marked_version_later_is_marked_at_once(catalog):
    with catalog.writing() as tx:
        stored(tx)
        tx.versions.revoke(A1, because="leaked", by="me", at=AT)
        tx.ancestry.mark(A1)
        late, later = made_of(A1, number=3), made_of(GRANDCHILD, number=4)
        push(tx, late, later)
        found = [tx.versions.numbered("team/c", number).revoked_ancestors for number in (3, 4)]
        assert found == [("team/a@v1",), ("team/a@v1",)]


def test_migrating_marks_what_was_made_before_ancestry_was_kept(engine, catalog):
    with catalog.writing() as tx:
        stored(tx)
        tx.versions.revoke(A1, because="leaked", by="me", at=AT)
    made = config()
    with engine.begin() as connection:
        made.attributes["connection"] = connection
        before = ScriptDirectory.from_config(made).get_revision("0014").down_revision
        command.downgrade(made, before)
        command.upgrade(made, "head")
        assert connection.execute(text("SELECT count(*) FROM version_parents")).scalar() == 5
    with catalog.reading() as tx:
        assert marks(tx) == [(), ("team/a@v1",), ("team/a@v1",), ()]
        assert [each.reference for each in tx.ancestry.descendants(OTHER)] == ["team/c@v1", "team/d@v2"]
