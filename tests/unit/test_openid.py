"""OpenID providers over real HTTP: which signatures are believed, what is kept, and what is not fetched."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from adapter_registry.domain.errors import IdentityRefused, IssuerUnavailable
from adapter_registry.outside.openid import (
    FRESH_SECONDS,
    LARGEST_DOCUMENT,
    PAUSE_SECONDS,
    REST_SECONDS,
    Issuers,
    issuer_in,
)

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256, P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()


def published(private: Any, kid: str) -> dict[str, Any]:
    coded = RSAAlgorithm if private is RSA else OKPAlgorithm if private is ED else ECAlgorithm
    return {**coded.to_jwk(private.public_key(), as_dict=True), "kid": kid}


class Site(ThreadingHTTPServer):
    """Answers what `pages` holds by path: (status, headers, bytes); counts what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.issuer = f"http://127.0.0.1:{self.server_port}/tenant"
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        self.document: dict[str, Any] = {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/keys",
            "authorization_endpoint": f"{self.issuer}/authorize",
        }
        self.publish()

    def publish(self, *keys: Any) -> None:
        self.page("/.well-known/openid-configuration", self.document)
        self.page("/keys", {"keys": list(keys)})

    def page(self, path: str, document: Any, status: int = 200, **headers: str) -> None:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.pages[f"/tenant{path}"] = (status, headers, data)


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        status, headers, data = self.server.pages.get(self.path, (404, {}, b""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def site():
    with Site() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def issuers(clock):
    return Issuers(loopback=True, monotonic=clock)


def signed(site: Site, private: Any, algorithm: str, kid: str | None = "one") -> str:
    now = int(time.time())
    claims = {"iss": site.issuer, "aud": "us", "sub": "x", "iat": now, "exp": now + 60}
    return jwt.encode(claims, private, algorithm=algorithm, headers={"kid": kid} if kid else None)


class TestSignatures:
    @pytest.mark.parametrize(
        ("private", "algorithm"),
        [(RSA, "RS256"), (RSA, "RS512"), (RSA, "PS256"), (P256, "ES256"), (P384, "ES384"), (ED, "EdDSA")],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_every_asymmetric_algorithm_is_believed(self, site, issuers, private, algorithm):
        site.publish(published(private, "one"))
        assert issuers.claims(site.issuer, signed(site, private, algorithm))["sub"] == "x"

    def test_a_symmetric_key_that_is_published_is_no_key(self, site, issuers):
        secret = b"s" * 32
        site.publish({"kty": "oct", "k": "c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M", "kid": "one", "alg": "HS256"})
        with pytest.raises(IdentityRefused, match="HS256"):
            issuers.claims(site.issuer, signed(site, secret, "HS256"))

    @pytest.mark.parametrize(
        "more",
        [{"use": "enc"}, {"alg": "RS512"}, {"kid": "two"}],
        ids=["for encryption", "for another algorithm", "other"],
    )
    def test_a_key_for_something_else_is_not_used(self, site, issuers, more):
        site.publish({**published(RSA, "one"), **more})
        with pytest.raises(IdentityRefused, match="none of those"):
            issuers.claims(site.issuer, signed(site, RSA, "RS256"))

    def test_a_key_is_used_for_its_own_kind_of_algorithm_only(self, site, issuers):
        site.publish(published(P256, "one"))
        with pytest.raises(IdentityRefused, match="none of those"):
            issuers.claims(site.issuer, signed(site, RSA, "RS256"))

    def test_without_a_key_id_the_only_fitting_key_is_meant(self, site, issuers, clock):
        site.publish(published(RSA, "one"), published(P256, "two"))
        assert issuers.claims(site.issuer, signed(site, RSA, "RS256", kid=None))
        site.publish(published(RSA, "one"), published(RSA, "three"))
        clock.now += FRESH_SECONDS
        with pytest.raises(IdentityRefused):
            issuers.claims(site.issuer, signed(site, RSA, "RS256", kid=None))

    def test_keys_that_make_no_sense_are_no_keys(self, site, issuers):
        site.publish(1, None, {}, {"kty": []}, {"kty": "RSA", "kid": "one"}, {"kty": "nonsense", "kid": "one"})
        with pytest.raises(IdentityRefused):
            issuers.claims(site.issuer, signed(site, RSA, "RS256"))

    def test_a_critical_extension_is_not_known(self, site, issuers):
        site.publish(published(RSA, "one"))
        token = jwt.encode({"iss": site.issuer}, RSA, algorithm="RS256", headers={"kid": "one", "crit": ["x"], "x": 1})
        with pytest.raises(IdentityRefused):
            issuers.claims(site.issuer, token)


class TestKeeping:
    def test_addresses_and_keys_are_asked_for_once_in_an_hour(self, site, issuers, clock):
        site.publish(published(RSA, "one"))
        for _ in range(3):
            issuers.claims(site.issuer, signed(site, RSA, "RS256"))
            assert issuers.authorization_endpoint(site.issuer) == f"{site.issuer}/authorize"
        assert len(site.asked) == 2
        clock.now += FRESH_SECONDS
        issuers.claims(site.issuer, signed(site, RSA, "RS256"))
        assert len(site.asked) == 4

    def test_a_key_that_was_withdrawn_counts_for_at_most_an_hour(self, site, issuers, clock):
        site.publish(published(RSA, "one"))
        issuers.claims(site.issuer, signed(site, RSA, "RS256"))
        site.publish(published(P256, "two"))
        clock.now += FRESH_SECONDS
        with pytest.raises(IdentityRefused, match="none of those"):
            issuers.claims(site.issuer, signed(site, RSA, "RS256"))

    def test_an_unknown_key_is_asked_for_at_once_and_then_after_a_pause(self, site, issuers, clock):
        site.publish(published(RSA, "one"))
        issuers.claims(site.issuer, signed(site, RSA, "RS256"))
        for seconds, asked in ((0, 4), (PAUSE_SECONDS - 1, 4), (1, 6)):
            clock.now += seconds
            with pytest.raises(IdentityRefused):
                issuers.claims(site.issuer, signed(site, P256, "ES256", kid="two"))
            assert len(site.asked) == asked
        site.publish(published(P256, "two"))
        clock.now += PAUSE_SECONDS
        assert issuers.claims(site.issuer, signed(site, P256, "ES256", kid="two"))

    def test_an_issuer_that_failed_is_left_alone_for_a_moment(self, site, issuers, clock):
        site.page("/.well-known/openid-configuration", b"", 500)
        for seconds, asked in ((0, 1), (REST_SECONDS - 1, 1), (1, 2)):
            clock.now += seconds
            with pytest.raises(IssuerUnavailable, match="500"):
                issuers.claims(site.issuer, signed(site, RSA, "RS256"))
            assert len(site.asked) == asked
        site.publish(published(RSA, "one"))
        clock.now += REST_SECONDS
        assert issuers.claims(site.issuer, signed(site, RSA, "RS256"))


class TestFetching:
    @pytest.mark.parametrize(
        ("path", "answer"),
        [
            ("/.well-known/openid-configuration", b"x"),
            ("/.well-known/openid-configuration", b"[]"),
            ("/.well-known/openid-configuration", b"[" * 100_000),
            ("/.well-known/openid-configuration", b" " * (LARGEST_DOCUMENT + 1) + b"{}"),
            ("/.well-known/openid-configuration", {}),
            ("/.well-known/openid-configuration", {"issuer": "https://other.test", "jwks_uri": "https://other.test"}),
            ("/keys", {"keys": {}}),
            ("/keys", {}),
        ],
        ids=range(8),
    )
    def test_a_document_that_is_none_is_told(self, site, issuers, path, answer):
        site.page(path, answer)
        with pytest.raises(IssuerUnavailable):
            issuers.claims(site.issuer, signed(site, RSA, "RS256"))

    @pytest.mark.parametrize(
        "address", ["http://10.0.0.1/", "http://issuer.test/", "file:///etc/passwd", "ftp://127.0.0.1/", "", None, 1]
    )
    def test_keys_are_fetched_from_no_other_kind_of_address(self, site, issuers, address):
        site.document["jwks_uri"] = address
        site.publish(published(RSA, "one"))
        with pytest.raises(IssuerUnavailable):
            issuers.claims(site.issuer, signed(site, RSA, "RS256"))
        assert len(site.asked) == 1

    def test_a_redirect_is_not_followed(self, site, issuers):
        site.page("/keys", b"", 302, Location=f"{site.issuer}/elsewhere")
        site.page("/elsewhere", {"keys": [published(RSA, "one")]})
        with pytest.raises(IssuerUnavailable, match="302"):
            issuers.claims(site.issuer, signed(site, RSA, "RS256"))
        assert "/tenant/elsewhere" not in site.asked

    def test_http_is_not_fetched_unless_it_is_allowed(self, site):
        with pytest.raises(IssuerUnavailable, match="ADAPTERS_OIDC_LOOPBACK"):
            Issuers(loopback=False).claims(site.issuer, signed(site, RSA, "RS256"))
        assert site.asked == []


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "é", "\ud800", "a" * 20_000, "e30.W10.x", "." * 1000])
def test_what_is_no_token_names_no_issuer(text):
    with pytest.raises(IdentityRefused):
        issuer_in(text)
