"""OpenID providers over the network: their addresses, their keys, and whether a token is really theirs.

Only an issuer that the caller names is asked, never one that a token names. Documents come over https (or http from a
loopback name, where that is allowed), redirects are failures, and answers are bounded in size and time.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import jwt

from adapter_registry.domain.errors import IdentityRefused, IssuerUnavailable
from adapter_registry.domain.people.sign_in import Provider
from adapter_registry.domain.people.trust import LOOPBACK, Claims, text_of

TIMEOUT_SECONDS = 10
LARGEST_DOCUMENT = 1_000_000
LARGEST_TOKEN = 16_384
_ERROR_CODE = re.compile(r"[a-z_]{1,40}")
FRESH_SECONDS = 3600
"""How long addresses and keys are believed: a key that was withdrawn counts for at most this long."""
PAUSE_SECONDS = 30
"""How long nobody is asked again for keys after a token came with a key that the issuer does not have."""
REST_SECONDS = 5
"""How long an issuer that could not be asked is not asked again, so that nobody waits behind its silence."""
LEEWAY_SECONDS = 30
FAMILIES = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
"""Which algorithms a kind of key may sign with: asymmetric ones only, so that no public key serves as a secret."""
ALGORITHMS = tuple(algorithm for family in FAMILIES.values() for algorithm in family)
MUST = ("iss", "aud", "sub", "exp", "iat")


@dataclass
class _Known:
    """What is known of an issuer; whoever holds `lock` may ask it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    document: dict[str, Any] | None = None
    keys: tuple[Mapping[str, Any], ...] = ()
    asked_at: float = 0.0
    pause_until: float = float("-inf")
    failure: IssuerUnavailable | None = None
    failed_until: float = 0.0


class Issuers:
    """See ports.identity.Identities. Keys are kept in this process; every process asks for its own."""

    def __init__(self, *, loopback: bool, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._loopback, self._monotonic = loopback, monotonic
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def claims(self, issuer: str, token: str) -> Claims:
        """See ports.identity.Identities.claims."""
        header = _header(token)
        key = self._key(issuer, header)
        try:
            return jwt.decode(
                token,
                jwt.PyJWK(dict(key), algorithm=header["alg"]),
                algorithms=[header["alg"]],
                issuer=issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": list(MUST), "verify_aud": False},
            )
        except (jwt.PyJWTError, ValueError, OverflowError, TypeError) as error:
            kind = type(error).__name__
            why, recorded = _why(error, token), f"the token is not valid ({kind})."
            raise IdentityRefused(f"{why} Nothing was given out.", recorded=recorded) from error

    def authorization_endpoint(self, issuer: str) -> str:
        """See ports.identity.Identities.authorization_endpoint."""
        return self._address(self._document(issuer), "authorization_endpoint")

    def redeemed(self, provider: Provider, *, code: str, verifier: str, redirect_uri: str) -> Claims:
        """See ports.identity.Identities.redeemed."""
        document = self._document(provider.issuer)
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        form |= {"code_verifier": verifier, "client_id": provider.client_id}
        headers: dict[str, str] = {}
        if provider.client_secret is not None:
            offered = document.get("token_endpoint_auth_methods_supported")
            if not isinstance(offered, list) or "client_secret_basic" in offered:
                headers["Authorization"] = f"Basic {_basic(provider.client_id, provider.client_secret)}"
            else:
                form["client_secret"] = provider.client_secret
        answer = self._fetch(self._address(document, "token_endpoint"), headers, urlencode(form).encode())
        claims = dict(self.claims(provider.issuer, str(answer.get("id_token", ""))))
        wanted = {provider.groups_claim} if provider.rules else set()
        wanted |= {"email", "email_verified"} if provider.domains else {"email"}
        if wanted - claims.keys() and "userinfo_endpoint" in document and answer.get("access_token"):
            claims = {**self._about(document, str(answer["access_token"]), claims), **claims}
        return claims

    def _about(self, document: dict[str, Any], token: str, claims: Claims) -> dict[str, Any]:
        """What the provider says beside the identity token, of the same person only."""
        headers = {"Authorization": f"Bearer {token}"}
        about = self._fetch(self._address(document, "userinfo_endpoint"), headers)
        return about if about.get("sub") == claims["sub"] else {}

    def _document(self, issuer: str) -> dict[str, Any]:
        known = self._of(issuer)
        with known.lock:
            self._refresh(issuer, known)
            return known.document or {}

    def _key(self, issuer: str, header: Mapping[str, Any]) -> Mapping[str, Any]:
        """The issuer's key that a token says it is signed with; asked for again when it is none of those known."""
        known = self._of(issuer)
        with known.lock:
            self._refresh(issuer, known)
            found = _chosen(known.keys, header)
            now = self._monotonic()
            if found is None and now >= known.pause_until:
                known.pause_until = now + PAUSE_SECONDS
                self._refresh(issuer, known, anew=True)
                found = _chosen(known.keys, header)
        if found is None:
            raise IdentityRefused(
                f"the token is signed with {header['alg']} and the key {text_of(header.get('kid'))}, which is none of "
                f"those that {issuer} publishes. Nothing was given out.",
                recorded=f"the token is signed with a key that is none of those that {issuer} publishes.",
            )
        return found

    def _of(self, issuer: str) -> _Known:
        with self._lock:
            return self._known.setdefault(issuer, _Known())

    def _refresh(self, issuer: str, known: _Known, *, anew: bool = False) -> None:
        now = self._monotonic()
        if known.document is not None and not anew and now - known.asked_at < FRESH_SECONDS:
            return
        if known.failure is not None and now < known.failed_until:
            raise IssuerUnavailable(known.failure.text)
        try:
            known.document, known.keys = self._described(issuer)
        except IssuerUnavailable as error:
            known.failure, known.failed_until = error, self._monotonic() + REST_SECONDS
            raise
        known.asked_at, known.failure = now, None

    def _described(self, issuer: str) -> tuple[dict[str, Any], tuple[Mapping[str, Any], ...]]:
        """What an issuer says of itself, and its keys that can be believed."""
        document = self._fetch(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if document.get("issuer") != issuer:
            raise IssuerUnavailable(
                f"{issuer} describes itself as {text_of(document.get('issuer'))}: the issuer has to be written exactly "
                "as the provider writes it."
            )
        keys = self._fetch(self._address(document, "jwks_uri")).get("keys")
        if not isinstance(keys, list):
            raise IssuerUnavailable(f"the keys of {issuer} are no JWKS document.")
        return document, tuple(key for key in keys if isinstance(key, dict) and str(key.get("kty")) in FAMILIES)

    def _address(self, document: Mapping[str, Any], name: str) -> str:
        address = document.get(name)
        if not isinstance(address, str):
            raise IssuerUnavailable(f"the OpenID configuration of {text_of(document.get('issuer'))} has no {name}.")
        return address

    def _fetch(self, url: str, headers: Mapping[str, str] | None = None, form: bytes | None = None) -> dict[str, Any]:
        self._check(url)
        request = urllib.request.Request(url, form, {"Accept": "application/json", **(headers or {})})  # noqa: S310  checked
        where = urlsplit(url)._replace(query="").geturl()
        try:
            with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as answer:
                document = json.loads(answer.read(LARGEST_DOCUMENT))
        except urllib.error.HTTPError as error:
            raise _answered(where, error) from error
        except (OSError, ValueError, RecursionError) as error:
            raise IssuerUnavailable(
                f"{where} does not answer as an OpenID provider does ({str(error)[:200]})."
            ) from error
        if not isinstance(document, dict):
            raise IssuerUnavailable(f"{where} does not answer as an OpenID provider does (no JSON object).")
        return document

    def _check(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme == "https" and parts.hostname:
            return
        if parts.scheme == "http" and parts.hostname in LOOPBACK and self._loopback:
            return
        raise IssuerUnavailable(
            f"{url[:200]!r} is not fetched: OpenID providers are asked over https, or over http on a loopback name "
            "with ADAPTERS_OIDC_LOOPBACK=1."
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def issuer_in(token: str) -> str:
    """The issuer that a token names, unverified: good for nothing but looking up whether it is known.

    Raises:
        IdentityRefused: it is no JWT.
    """
    _check_size(token)
    try:
        named = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, RecursionError) as error:
        raise IdentityRefused("this is no token of an OpenID provider: it is not a signed JWT.") from error
    return named if isinstance(named, str) else ""


def _check_size(token: str) -> None:
    if len(token) > LARGEST_TOKEN or not token.isascii():
        raise IdentityRefused(f"this is no token of an OpenID provider: at most {LARGEST_TOKEN:,} ASCII characters.")


def _header(token: str) -> dict[str, Any]:
    _check_size(token)
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, RecursionError) as error:
        raise IdentityRefused("this is no token of an OpenID provider: it is not a signed JWT.") from error
    if header.get("alg") not in ALGORITHMS:
        raise IdentityRefused(
            f"the token's algorithm is {text_of(header.get('alg'))}; only {', '.join(ALGORITHMS)} are believed.",
            recorded="the token is signed with an algorithm that is not believed.",
        )
    if "crit" in header:
        raise IdentityRefused("the token has critical extensions (crit), and none is known here.")
    return header


def _chosen(keys: tuple[Mapping[str, Any], ...], header: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The key with the token's id that may sign this way; without an id, the only one there is."""
    fit = [
        key
        for key in keys
        if header["alg"] in FAMILIES[key["kty"]]
        and key.get("use", "sig") == "sig"
        and key.get("alg", header["alg"]) == header["alg"]
    ]
    if header.get("kid") is not None:
        fit = [key for key in fit if key.get("kid") == header["kid"]]
    return fit[0] if len(fit) == 1 else None


def _why(error: Exception, token: str) -> str:
    said = jwt.decode(token, options={"verify_signature": False})
    match error:
        case jwt.InvalidSignatureError():
            return "the token's signature is not the issuer's."
        case jwt.ExpiredSignatureError():
            return f"the token expired at {_moment(said.get('exp'))}; it is {_moment(time.time())} now."
        case jwt.ImmatureSignatureError():
            start = _moment(said.get("nbf", said.get("iat")))
            return f"the token is good from {start} on; it is {_moment(time.time())} now."
        case jwt.MissingRequiredClaimError():
            return f"the token has no claim {error.claim!r}."
        case jwt.InvalidIssuerError():
            return "the token names another issuer."
        case _:
            return f"the token is not valid ({error})."


def _moment(seconds: object) -> str:
    try:
        return datetime.fromtimestamp(float(str(seconds)), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return text_of(seconds)


def _answered(where: str, error: urllib.error.HTTPError) -> IdentityRefused | IssuerUnavailable:
    """A refusal in OAuth's own words, or an answer that is none."""
    try:
        document = json.loads(error.read(LARGEST_DOCUMENT))
        reason = document["error"]
    except (OSError, ValueError, KeyError, TypeError):
        return IssuerUnavailable(f"{where} answers {error.code}.")
    detail = document.get("error_description")
    text = f"the provider refuses: {text_of(reason)}{f' ({text_of(detail)})' if detail else ''}."
    return IdentityRefused(text, recorded=f"the provider refuses: {error_code(reason)}.")


def error_code(reason: object) -> str:
    """A code of OAuth, `access_denied`; of anything else nothing is kept."""
    return str(reason) if isinstance(reason, str) and _ERROR_CODE.fullmatch(reason) else "no code of OAuth"


def _basic(name: str, password: str) -> str:
    """RFC 6749 section 2.3.1: both are form-encoded first."""
    return base64.b64encode(f"{quote_plus(name)}:{quote_plus(password)}".encode()).decode()
