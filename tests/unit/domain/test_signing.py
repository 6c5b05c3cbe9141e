"""Signing: DSSE and in-toto by the letter, and what no signature passes for."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from adapter_registry.domain.adapter import File, Version
from adapter_registry.domain.digest import Digest, of_bytes
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.evidence.score import Invalidation
from adapter_registry.domain.integrity.key import Key
from adapter_registry.domain.integrity.signing import (
    encoded,
    key_id,
    new_private,
    plain_public,
    public_of,
    read_envelope,
    sealed,
    stated,
    statement,
    verifies,
)
from adapter_registry.domain.lock import Lock
from adapter_registry.domain.manifest import manifest
from adapter_registry.domain.policies.policy import Integrity, Policy, Signers
from adapter_registry.domain.policies.satisfiable import unsigned
from tests.unit.domain.test_gate import LORA

BASE = Digest("sha256:" + "b" * 64)
FILES = (File("adapter_config.json", 2, Digest("sha256:" + "f" * 64)),)
DIGEST = of_bytes(manifest(FILES, lock=Lock(BASE)))
VERSION = Version("team/a", 3, "1.0.0", DIGEST, BASE, "llama", FILES, LORA, "", "ann", "2026-01-01T00:00:00.000000Z")
PRIVATE = new_private()
CI = Key("ci", key_id(public_of(PRIVATE)), public_of(PRIVATE), ("team/*",), "ann", "2026-01-01", "2026-06-01")


def test_the_encoding_is_dsse_s_own_example():
    # https://github.com/secure-systems-lab/dsse/blob/master/protocol.md, "Test Vectors"
    found = encoded(b"hello world", "http://example.com/HelloWorld")
    assert found == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_the_statement_names_adapter_version_base_and_files():
    document = json.loads(statement(VERSION))
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["subject"] == [{"name": "team/a", "digest": {"sha256": DIGEST.removeprefix("sha256:")}}]
    assert document["predicate"]["lock"] == {"base": BASE}
    assert stated(statement(VERSION)).files == {"adapter_config.json": FILES[0].digest}


def test_the_signature_is_plain_ed25519_over_the_encoding():
    envelope = sealed(VERSION, PRIVATE)
    [given] = envelope.signatures
    public = load_pem_private_key(PRIVATE.encode(), password=None).public_key()
    body = base64.b64decode(envelope.payload)
    pae = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(body), body)
    public.verify(base64.b64decode(given.sig), pae)
    assert verifies(statement(VERSION), given.sig, public_of(PRIVATE))
    assert not verifies(statement(VERSION) + b" ", given.sig, public_of(PRIVATE))
    assert not verifies(statement(VERSION), given.sig, public_of(new_private()))
    assert not verifies(statement(VERSION), "no base64!", public_of(PRIVATE))


def test_an_envelope_may_hold_base64_for_addresses():
    document = {"payload": base64.urlsafe_b64encode(b"\xff\xfe?").decode(), "payloadType": "x", "signatures": []}
    assert read_envelope(json.dumps(document).encode()).content == b"\xff\xfe?"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"payload": "", "payloadType": "", "signatures": [1]}', b"[" * 9999]
)
def test_what_is_no_envelope_is_refused(data):
    with pytest.raises(InvalidInput, match="no DSSE envelope"):
        read_envelope(data)


def test_a_statement_whose_subject_is_not_its_manifest_is_refused():
    document = json.loads(statement(VERSION))
    document["predicate"]["files"] = []
    with pytest.raises(InvalidInput, match=f"is about {DIGEST}, and the manifest that it holds has the digest sha256:"):
        stated(json.dumps(document).encode())


def test_a_public_key_is_the_same_however_it_was_written():
    public = public_of(PRIVATE)
    assert plain_public(f"a comment\n{public}\n\n") == public
    der = (
        load_pem_private_key(PRIVATE.encode(), None)
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    assert key_id(public) == of_bytes(der)


def encrypted():
    pem, pkcs8 = Encoding.PEM, PrivateFormat.PKCS8
    return Ed25519PrivateKey.generate().private_bytes(pem, pkcs8, BestAvailableEncryption(b"secret")).decode()


def rsa():
    return generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no private key"),
        (public_of(PRIVATE), "no private key"),
        (encrypted(), "openssl pkey"),
        (rsa(), "not Ed25519"),
    ],
)
def test_what_cannot_sign_says_what_would(text, why):
    with pytest.raises(InvalidInput, match=why):
        sealed(VERSION, text)


@pytest.mark.parametrize(
    "text", ["", "x", PRIVATE, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "é"]
)
def test_what_is_no_public_key_is_refused(text):
    with pytest.raises(InvalidInput, match="no public key"):
        plain_public(text)


class TestKeys:
    def test_a_key_counts_in_its_scopes_until_it_expires(self):
        assert CI.unfit("team/a", signed_at="2026-03-01") == ""
        assert "counts for team/* only" in CI.unfit("other/a", signed_at="2026-03-01")
        assert "expired on 2026-06-01" in CI.unfit("team/a", signed_at="2026-07-01")

    def test_a_revoked_key_never_counted_but_as_of_a_moment_before(self):
        gone = Key(
            "ci", CI.id, CI.public, CI.scopes, "ann", "2026-01-01", revoked=Invalidation("lost", "bob", "2026-05-01")
        )
        assert "was revoked on 2026-05-01 by bob: lost" in gone.unfit("team/a", signed_at="2026-03-01")
        assert gone.unfit("team/a", signed_at="2026-03-01", at="2026-04-01") == ""


class TestWhetherThereAreKeys:
    def advice(self, keys, asked):
        policy = Policy("prod", integrity=Integrity(signature=asked))
        return [(each.text, each.impossible) for each in unsigned(policy, keys)]

    def test_a_key_that_is_named_and_not_trusted_is_told_and_refused_where_the_others_are_too_few(self):
        text = "no key release is trusted: adapters key add release FILE.pub"
        assert self.advice([CI], Signers(("ci", "release"))) == [(text, False)]
        assert self.advice([CI], Signers(("ci", "release"), 2)) == [(text, True)]
        assert self.advice([CI], Signers(("ci",))) == []

    def test_where_none_is_named_a_key_may_still_be_added(self):
        [(text, impossible)] = self.advice([replace(CI, revoked=Invalidation("lost", "bob", "2026-05-01"))], Signers())
        assert text.startswith("1 wanted, and 0 keys are trusted")
        assert not impossible
        assert unsigned(Policy("prod", integrity=Integrity()), []) == ()
