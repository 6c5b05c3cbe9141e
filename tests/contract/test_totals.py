"""Totals that are kept with each version that comes and goes are what the versions add up to, on both databases."""

from __future__ import annotations

import random
from dataclasses import replace

from alembic import command
from alembic.config import Config
from sqlalchemy import update

from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import of_bytes
from adapter_registry.settings import migrations_folder
from adapter_registry.storage.tables import adapter_totals, bases
from tests.contract.test_catalog_rows import AT, BASE, document, pushed, version  # noqa: F401  a fixture


def files(chosen: random.Random) -> tuple[File, ...]:
    """One to four files out of five different ones, the same bytes under several names among them."""
    return tuple(
        File(f"{place}.bin", 10**kind, of_bytes(bytes([kind])))
        for place, kind in enumerate(chosen.choices(range(5), k=chosen.randint(1, 4)))
    )


def test_they_are_right_whatever_comes_and_goes_in_whatever_order(catalog):
    chosen = random.Random(7)
    with catalog.writing() as tx:
        tx.bases.add(BASE, name="llama", by="me", at=AT)
    there = []
    for step in range(40):
        with catalog.writing() as tx:
            if there and chosen.random() < 0.4:
                tx.versions.remove(there.pop(chosen.randrange(len(there))), by="me", at=AT)
            else:
                name = chosen.choice(("team/a", "team/b"))
                made = replace(version(name, step + 1), files=files(chosen), digest=of_bytes(bytes([step])))
                tx.versions.add(made, manifest=document(step + 1))
                there.append(made)
            assert tx.blobs.miscounted() == ()
            assert tx.versions.locked_to(BASE.digest) == len(there)
            assert tx.blobs.used_in_all(("*",)).pushed == sum(f.size for each in there for f in each.files)


def test_those_that_are_wrong_are_named_and_made_anew(pushed, engine):  # noqa: F811
    with engine.begin() as connection:
        connection.execute(update(adapter_totals).values(pushed=1))
        connection.execute(update(bases).values(locked=77))
    with pushed.writing() as tx:
        assert tx.blobs.miscounted() == ("team/a", "team/b", BASE.digest)
        tx.blobs.recount()
        assert tx.blobs.miscounted() == ()
        assert tx.versions.locked_to(BASE.digest) == 4


def test_an_older_store_learns_its_totals(pushed, engine):  # noqa: F811
    with pushed.writing() as tx:
        tx.versions.remove(version("team/b", 1), by="me", at=AT)
        before = tx.blobs.used(("*",))
    made = Config()
    made.set_main_option("script_location", str(migrations_folder()))
    with engine.begin() as connection:
        made.attributes["connection"] = connection
        command.downgrade(made, "0018")
        command.upgrade(made, "head")
    with pushed.reading() as tx:
        assert tx.blobs.used(("*",)) == before
        assert tx.blobs.miscounted() == ()
        assert tx.versions.locked_to(BASE.digest) == 3
