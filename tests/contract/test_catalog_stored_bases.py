"""What the Catalog promises about bases whose bytes are stored, on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.stored_base import StoredBase
from tests.contract.test_catalog_rows import AT, BASE

CONFIG = File("config.json", 2, of_bytes(b"{}"))
WEIGHTS = File("model.safetensors", 5_000_000_000, of_bytes(b"weights"))
OTHER = replace(BASE, digest=of_bytes(b"other base"))
STORED = StoredBase("meta/Tiny", BASE.digest, "a" * 40, "llama", (CONFIG, WEIGHTS), "me", AT)
LATER = replace(STORED, base=OTHER.digest, commit="b" * 40, stored_at="2099-01-01T00:00:00.000000Z")


@pytest.fixture
def filled(catalog):
    with catalog.writing() as tx:
        tx.bases.add(BASE, name="tiny", by="me", at=AT)
        tx.bases.add(OTHER, name="tiny", by="me", at=AT)
        tx.stored_bases.add(STORED)
        tx.stored_bases.add(LATER)
        tx.stored_bases.add(replace(STORED, name="tiny", files=(CONFIG,)))
    return catalog


def test_the_newest_under_an_id_comes_first(filled):
    with filled.reading() as tx:
        assert tx.stored_bases.named("meta/Tiny") == (LATER, STORED)
        assert tx.stored_bases.named("meta/tiny") == ()
        assert [each.name for each in tx.stored_bases.of(BASE.digest)] == ["meta/Tiny", "tiny"]


def test_an_id_is_found_in_any_case(filled):
    with filled.reading() as tx:
        assert tx.stored_bases.spelled("META/tiny") == "meta/Tiny"
        assert tx.stored_bases.spelled("meta/other") is None


def test_ids_are_listed_once_with_their_newest(filled):
    with filled.reading() as tx:
        assert [(each.name, each.commit) for each in tx.stored_bases.listed()] == [
            ("meta/Tiny", "b" * 40),
            ("tiny", "a" * 40),
        ]
        assert [each.name for each in tx.stored_bases.listed(after="meta/Tiny")] == ["tiny"]


def test_registered_bases_say_what_they_are_served_as(filled):
    with filled.reading() as tx:
        served = {each.base.digest: each.served_as for each in tx.bases.names()}
    assert served == {BASE.digest: ("meta/Tiny", "tiny"), OTHER.digest: ("meta/Tiny",)}


def test_bytes_are_referred_to_until_the_last_that_holds_them_is_removed(filled):
    with filled.writing() as tx:
        assert tx.blobs.unreferenced() == ()
        tx.stored_bases.remove(STORED)
        assert tx.blobs.unreferenced() == ()
        tx.stored_bases.remove(LATER)
        assert tx.blobs.unreferenced() == (WEIGHTS.digest,)
        assert [each.name for each in tx.stored_bases.all()] == ["tiny"]


def test_a_namespace_is_local_when_an_adapter_or_a_setting_is_in_it(filled):
    with filled.writing() as tx:
        tx.branches.create_adapter("Team/lora", by="me", at=AT)
        tx.branches.set_default_base("Other", None, by="me", at=AT)
        found = {
            name: tx.stored_bases.local_namespace(name) for name in ("team", "TEAM", "other", "tea", "meta", "t_am")
        }
    assert found == {"team": True, "TEAM": True, "other": True, "tea": False, "meta": False, "t_am": False}
