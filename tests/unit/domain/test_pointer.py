from dataclasses import asdict, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapter_registry.domain.digest import Digest, canonical_json
from adapter_registry.domain.errors import UntrustedPointer
from adapter_registry.domain.promotions.pointer import Pointer, SignedPointer, believed, expiring, public_key, signed

SEED, OTHER = "11" * 32, "22" * 32
NOW = "2026-01-01T10:00:00.000000Z"
POINTER = Pointer(
    "acme/sql", "prod", 7, 3, Digest("sha256:" + "a" * 64), Digest("sha256:" + "b" * 64), NOW, NOW, expiring(NOW)
)
GOOD = signed(POINTER, seed=SEED)
ASKED = {"adapter": "acme/sql", "stage": "prod", "key": None, "seen": 0, "now": NOW}


def test_the_signature_is_plain_ed25519_over_the_context_and_canonical_json():
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(SEED))
    message = b"adapters.pointer/1\n" + canonical_json(asdict(POINTER))
    private.public_key().verify(bytes.fromhex(GOOD.signature), message)
    assert GOOD.key == public_key(SEED)


def test_a_good_pointer_is_believed_the_first_time_and_again():
    assert believed(GOOD, **ASKED) == POINTER
    assert believed(GOOD, **{**ASKED, "key": GOOD.key, "seen": 7}) == POINTER


@pytest.mark.parametrize("change", [{"sequence": 8}, {"number": 4}, {"digest": POINTER.base}, {"expires_at": "2027"}])
def test_a_pointer_that_was_changed_is_not(change):
    with pytest.raises(UntrustedPointer, match="changed on the way"):
        believed(replace(GOOD, pointer=replace(POINTER, **change)), **ASKED)


@pytest.mark.parametrize("forged", [SignedPointer(POINTER, GOOD.key, "00" * 64), SignedPointer(POINTER, "zz", "zz")])
def test_a_signature_that_is_none_is_not(forged):
    with pytest.raises(UntrustedPointer):
        believed(forged, **ASKED)


def test_a_key_that_is_not_the_trusted_one_is_refused_however_good_its_signature():
    with pytest.raises(UntrustedPointer, match="key"):
        believed(signed(POINTER, seed=OTHER), **{**ASKED, "key": GOOD.key})


def test_an_older_move_than_was_seen_is_a_rollback_of_the_mirror():
    with pytest.raises(UntrustedPointer, match="move 7 was answered, and move 8 was seen"):
        believed(GOOD, **{**ASKED, "seen": 8})


def test_an_expired_one_is_a_freeze_and_a_clock_may_be_a_little_off():
    assert believed(GOOD, **{**ASKED, "now": "2026-01-01T10:16:30.000000Z"}) == POINTER
    with pytest.raises(UntrustedPointer, match="good until"):
        believed(GOOD, **{**ASKED, "now": "2026-01-01T10:18:00.000000Z"})


@pytest.mark.parametrize("asked", [{"adapter": "acme/other"}, {"stage": "dev"}])
def test_a_good_pointer_of_something_else_does_not_stand_in(asked):
    with pytest.raises(UntrustedPointer, match="is about acme/sql@prod"):
        believed(GOOD, **{**ASKED, **asked})
