"""What the Catalog promises about trusted keys, signatures and scans, on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy.exc import IntegrityError

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import Notice
from adapter_registry.domain.evidence.score import Invalidation
from adapter_registry.domain.integrity.key import Key, Signature
from adapter_registry.domain.integrity.scan import Scan

AT, LATER = "2026-01-01T00:00:00.000000Z", "2026-01-02T00:00:00.000000Z"
V1, V2 = (Digest(f"sha256:{digit * 64}") for digit in "12")
CI = Key("ci", Digest("sha256:" + "c" * 64), "PEM of ci\n", ("team/*", "other/a"), "ann", AT)
ANN = Key("ann", Digest("sha256:" + "a" * 64), "PEM of ann\n", ("*",), "bob", LATER, LATER)
SIGNED = Signature("team/a", V1, CI.id, "c2ln" * 22, "rob", AT)
SCAN = Scan("team/a", V1, "clamav", "1.4", (Notice("x", "a.json", "", "ä"),), "sue", AT, V2)


@pytest.fixture
def trusting(catalog):
    with catalog.writing() as tx:
        for key in (ANN, CI):
            tx.integrity.add_key(key)
    return catalog


def test_keys_come_in_the_order_they_were_added_and_as_they_are_now(trusting):
    gone = replace(CI, revoked=Invalidation("lost", "ann", LATER))
    with trusting.writing() as tx:
        assert tx.integrity.all_keys() == (CI, ANN)
        tx.integrity.change_key(gone)
    with trusting.reading() as tx:
        assert tx.integrity.all_keys() == (gone, ANN)


@pytest.mark.parametrize("twin", [replace(CI, name="other"), replace(CI, id=V1)])
def test_a_name_or_a_key_is_there_once(trusting, twin):
    with pytest.raises(IntegrityError), trusting.writing() as tx:
        tx.integrity.add_key(twin)


def test_signatures_are_of_one_version_under_one_name_each_with_its_key(trusting):
    by_ann = replace(SIGNED, key=ANN.id, at=LATER)
    elsewhere = [replace(SIGNED, adapter="team/b"), replace(SIGNED, version=V2)]
    with trusting.writing() as tx:
        for each in (by_ann, SIGNED, *elsewhere):
            tx.integrity.sign(each)
    with trusting.reading() as tx:
        assert tx.integrity.signatures("team/a", V1) == ((SIGNED, CI), (by_ann, ANN))
        assert tx.integrity.signatures("team/b", V2) == ()
    with pytest.raises(IntegrityError), trusting.writing() as tx:
        tx.integrity.sign(replace(SIGNED, at=LATER))


def test_scans_are_kept_in_the_order_they_were_recorded(catalog):
    again, other = replace(SCAN, found=(), report=None, at=AT), replace(SCAN, adapter="team/b")
    with catalog.writing() as tx:
        for each in (SCAN, again, other):
            tx.integrity.add_scan(each)
    with catalog.reading() as tx:
        assert tx.integrity.scans("team/a", V1) == (SCAN, again)
        assert tx.integrity.scans("team/a", V2) == ()
