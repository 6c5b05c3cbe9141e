"""Whoever shows no good token gets nowhere, however the address and the method are written."""

from __future__ import annotations

import base64
import json
import re

import pytest

from adapter_registry.api.authentication import PUBLIC, is_public
from tests.acceptance.hostile.conftest import CANARY, MINE, VICTIM
from tests.acceptance.hostile.routes import CLOSED, GREETINGS, HUB, NATIVE, OPEN, Route
from tests.acceptance.hostile.wire import ask, hub, native, proper

pytestmark = [pytest.mark.usefixtures("unchanged"), pytest.mark.xdist_group("hostile-callers")]


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


CREDENTIALS = {
    "none": lambda _: [],
    "empty": lambda _: [("Authorization", "")],
    "scheme alone": lambda _: [("Authorization", "Bearer")],
    "garbage": lambda t: [("Authorization", f"Bearer {t['garbage']}")],
    "without its prefix": lambda t: [("Authorization", f"Bearer {t['admin'].removeprefix('adapters_')}")],
    "other case": lambda t: [("Authorization", f"Bearer {t['admin'].swapcase()}")],
    "cut off": lambda t: [("Authorization", f"Bearer {t['admin'][:-1]}")],
    "longer": lambda t: [("Authorization", f"Bearer {t['admin']}x")],
    "wrong scheme": lambda t: [("Authorization", f"Token {t['admin']}")],
    "no scheme": lambda t: [("Authorization", t["admin"])],
    "digest scheme": lambda t: [("Authorization", f'Digest username="{t["admin"]}"')],
    "basic garbage": lambda _: [("Authorization", "Basic %%%")],
    "basic as name": lambda t: [("Authorization", basic(f"{t['admin']}:"))],
    "expired": lambda t: [("Authorization", f"Bearer {t['expired']}")],
    "revoked": lambda t: [("Authorization", f"Bearer {t['revoked']}")],
    "of a disabled account": lambda t: [("Authorization", f"Bearer {t['disabled']}")],
    "very long": lambda _: [("Authorization", "Bearer adapters_" + "x" * 20_000)],
    "not text": lambda _: [("Authorization", "Bearer adapters_\xff\xfe\xb2")],
    "cookie": lambda t: [("Cookie", f"token={t['admin']}; session={t['admin']}")],
    "other header": lambda t: [("X-Api-Key", t["admin"]), ("X-Auth-Token", t["admin"]), ("Token", t["admin"])],
    "proxy": lambda t: [("Proxy-Authorization", f"Bearer {t['admin']}")],
    "forwarded": lambda t: [("X-Forwarded-Authorization", f"Bearer {t['admin']}"), ("X-Forwarded-User", "admin")],
    "identity": lambda _: [("X-Remote-User", "admin"), ("Remote-User", "admin"), ("X-Original-URL", "/health")],
    "hash of a token": lambda _: [("Authorization", "Bearer " + "0" * 64)],
}
SPELLED = ("none", "garbage", "basic garbage", "expired", "revoked", "of a disabled account", "wrong scheme")


def turned_away(answer, method, target, kind):
    if target.startswith("/ui/") and method == "GET":
        assert answer.status == 303, (kind, method, target, answer)
        assert answer.headers["location"].startswith("/ui/sign-in")
        return
    assert answer.status == 401, (kind, method, target, answer)
    proper(answer, method, target)
    assert "basic" in answer.headers.get("www-authenticate", "").lower() or target.startswith(("/api/v1/", "/ui/"))


@pytest.mark.parametrize("route", CLOSED, ids=str)
def test_no_route_opens_without_a_good_token(site, route):
    places = site.places(VICTIM)
    target, body = places(route.template), route.payload(places)
    for kind in SPELLED:
        headers = [*CREDENTIALS[kind](site.tokens), ("Content-Type", route.media)]
        turned_away(ask(site.url, route.method, target, body=body, headers=headers), route.method, target, kind)


@pytest.mark.parametrize("kind", [kind for kind in CREDENTIALS if kind not in SPELLED])
@pytest.mark.parametrize(
    "target", ["/api/v1/adapters", f"/api/models/{VICTIM}", f"/{VICTIM}/resolve/main/README.md", "/metrics"]
)
def test_no_kind_of_credential_but_a_good_token_counts(site, kind, target):
    answer = ask(site.url, "GET", target, headers=CREDENTIALS[kind](site.tokens))
    turned_away(answer, "GET", target, kind)


@pytest.mark.parametrize("key", ["token", "access_token", "authorization", "auth", "api_key", "HF_TOKEN"])
@pytest.mark.parametrize("target", ["/api/v1/adapters", f"/{VICTIM}/resolve/main/README.md"])
def test_a_token_in_the_address_does_not_count(site, key, target):
    turned_away(ask(site.url, "GET", f"{target}?{key}={site.tokens['admin']}"), "GET", target, key)


@pytest.mark.parametrize("kinds", [("admin", "garbage"), ("garbage", "admin"), ("admin", "admin")])
def test_two_credentials_are_none(site, kinds):
    headers = [("Authorization", f"Bearer {site.tokens[kind]}") for kind in kinds]
    for target in ("/api/v1/adapters", f"/api/models/{VICTIM}"):
        answer = proper(ask(site.url, "GET", target, headers=headers), "GET", target)
        assert answer.status in (400, 401, 422)


def test_a_token_as_the_password_of_git_counts(site):
    headers = [("Authorization", basic(f"anyone:{site.tokens['mallory']}"))]
    assert ask(site.url, "GET", f"/api/models/{MINE}", headers=headers).status == 200


@pytest.mark.parametrize("route", [*OPEN, *(r for r in HUB if r.name in GREETINGS)], ids=str)
def test_an_open_route_tells_nothing_of_the_registry(site, route):
    target = site.places(VICTIM)(route.template)
    answer = proper(ask(site.url, route.method, target, body=route.payload(site.places(VICTIM))), route.method, target)
    assert CANARY.encode() not in answer.body
    assert b"victim" not in answer.body
    assert is_public(route.method, target) or answer.status == 401


def spellings(path: str) -> dict[str, str]:
    """The same address as a careless router, proxy or file system might read it."""
    segments = path.split("?")[0].split("/")[1:]
    first = segments[0]
    encoded = "".join(f"%{ord(c):02X}" for c in first)
    return {
        "first encoded": path.replace(first, encoded, 1),
        "one letter encoded": path.replace(first, f"%{ord(first[0]):02x}{first[1:]}", 1),
        "encoded twice": path.replace(first, f"%25{ord(first[0]):02x}{first[1:]}", 1),
        "slash encoded": path.replace("/", "%2f").replace("%2f", "/", 1),
        "slash before": "/" + path,
        "slashes": path.replace("/", "//"),
        "slash after": path.partition("?")[0] + "/",
        "dot": "/." + path,
        "dots": "/health/.." + path,
        "dots encoded": "/health/%2e%2e" + path,
        "public before": "/xet/.." + path,
        "public encoded": "/api/v1/openapi.json%2f.." + path,
        "public as parameter": path.partition("?")[0] + ";/health",
        "public as fragment": path.partition("?")[0] + "%23/health",
        "upper case": path.upper(),
        "dot after": path.partition("?")[0] + "/.",
        "nul after": path.partition("?")[0] + "%00/health",
        "line end": path.partition("?")[0] + "%0a",
        "channel": "/~prod" + path,
        "absolute": "http://127.0.0.1" + path,
        "absolute elsewhere": "http://evil.example" + path,
        "backslash": path.replace("/", "\\").replace("\\", "/", 1),
    }


@pytest.mark.parametrize("spelling", spellings("/a/b"))
def test_no_spelling_of_an_address_gets_past_the_question_who_asks(site, spelling):
    for route in CLOSED:
        target = spellings(site.places(VICTIM)(route.template))[spelling]
        answer = ask(site.url, route.method, target, body=route.payload(site.places(VICTIM)))
        if answer.status == 303:
            assert answer.headers["location"].startswith("/ui/"), (route.method, target, answer)
            continue
        assert answer.status in (400, 401, 404, 405), (route.method, target, answer)
        assert answer.status in (400, 401) or is_public(route.method, re.sub(r"%2[eE]", ".", target)), (
            route.method,
            target,
            answer,
        )
        assert CANARY.encode() not in answer.body


@pytest.mark.parametrize("spelling", spellings("/a/b"))
def test_no_spelling_of_an_address_gets_past_the_question_of_rights(site, spelling):
    for route in CLOSED:
        target = spellings(site.places(VICTIM)(route.template))[spelling]
        answer = ask(
            site.url, route.method, target, token=site.tokens["mallory"], body=route.payload(site.places(VICTIM))
        )
        assert answer.status < 500, (route.method, target, answer)
        assert CANARY.encode() not in answer.body
        assert (
            site.version.digest[7:] not in answer.body.decode()
            or site.version.digest[7:] in target
            or route.payload(site.places(VICTIM))
        )


READS = [
    f"/api/models/{MINE}",
    f"/{MINE}/resolve/main/README.md",
    f"/api/v1/adapters/{MINE}/versions",
    "/health",
    "/nothing",
]
METHODS = (
    "HEAD",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PATCH",
    "DELETE",
    "PUT",
    "POST",
    "PROPFIND",
    "MKCOL",
    "PURGE",
    "LINK",
    "M-SEARCH",
)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", READS)
def test_other_methods_on_what_is_read_are_refused(site, method, target):
    answer = ask(site.url, method, target, token=site.tokens["mallory"])
    assert 0 < answer.status < 500, answer
    assert method == "HEAD" or answer.status >= 400
    if answer.status == 405:
        assert answer.headers["allow"]
    if method == "TRACE":
        assert site.tokens["mallory"].encode() not in answer.body
    if "x-request-id" in answer.headers:
        proper(answer, method, target)


@pytest.mark.parametrize(
    "route", [r for r in (*NATIVE, *HUB) if r.method == "GET" and r.name != "hub:lfs-files"], ids=str
)
def test_head_says_what_get_says_without_a_body(site, route):
    places = site.places(MINE, path="adapter_config.json")
    get, head = (site.ask(method, places(route.template)) for method in ("GET", "HEAD"))
    assert head.status == get.status
    assert head.body == b""
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("method", ["get", "Get", "delete", "G ET", "GET/", "\x00", "X" * 5000, ""])
def test_a_method_is_one_of_http_and_in_capitals(site, method):
    for target in (f"/api/models/{MINE}", "/api/v1/adapters"):
        assert ask(site.url, method, target, token=site.tokens["mallory"]).status == 400


WRITES = [r for r in (*NATIVE, *HUB) if r.method in ("POST", "PUT", "DELETE", "PATCH") and "{" in r.template]


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
@pytest.mark.parametrize("route", WRITES, ids=str)
def test_a_read_does_not_become_a_write(site, route, header):
    target = site.places(MINE)(route.template)
    for way in (target, f"{target}{'&' if '?' in target else '?'}_method={route.method}"):
        answer = site.ask(
            "GET", way, by="reader", headers=[(header, route.method)], body=route.payload(site.places(MINE))
        )
        assert answer.status < 500


def test_the_public_routes_are_few():
    assert len(PUBLIC) <= 17


def test_who_is_turned_away_reads_it_in_the_form_of_the_protocol(site):
    answer = ask(site.url, "GET", "/api/v1/adapters")
    native(answer, answer)
    answer = ask(site.url, "GET", f"/api/models/{VICTIM}")
    hub(answer, answer)
    assert answer.headers["x-error-code"] == "RepoNotFound"
    assert json.loads(answer.body)["error"]
    answer = ask(site.url, "GET", "/api/models")
    hub(answer, answer)
    assert "x-error-code" not in answer.headers, "no repository is missing: a list was asked for"
    assert "HF_TOKEN" in json.loads(answer.body)["error"]
    assert isinstance(Route("x", "GET", "/").reads, bool)
