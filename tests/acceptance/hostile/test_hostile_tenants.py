"""What belongs to somebody else is, for whoever may not see it, what does not exist: same status, headers and body."""

from __future__ import annotations

import json

import pytest

from adapter_registry.api import hub
from tests.acceptance.hostile.conftest import CANARY, MINE, NOBODY, VICTIM
from tests.acceptance.hostile.routes import (
    ABOUT_ADAPTERS,
    ABOUT_VERSIONS,
    CLOSED,
    HUB,
    NATIVE,
    Places,
    Route,
    commit_of,
    lfs_file,
    stored_file,
)

pytestmark = [pytest.mark.usefixtures("unchanged"), pytest.mark.xdist_group("hostile-tenants")]
SELECTORS = ("v1", "good", "dev", "^1", "1.0.0", "main", "refs/heads/main", "{commit}", "{digest}", "sha256:{digest}")
UNKNOWN = "0" * 24 + "1" * 40
IDS = str  # a route names itself


def test_every_route_has_a_request_here():
    known = {(route.method, route.name.removeprefix("hub:")) for route in HUB}
    assert known >= hub.MODELS.keys()
    spelled = {(route.method, route.template.lstrip("/").partition("?")[0]) for route in HUB}
    assert spelled >= {(method, path) for method, path in hub.OTHERS if "telemetry" not in path}
    assert {route.name for route in NATIVE} >= {"files", "blobs"}


def asked(site, route: Route, places: Places, by: str = "mallory"):
    headers = [("Content-Type", route.media)]
    return site.ask(route.method, places(route.template), by=by, body=route.payload(places), headers=headers)


def without_names(lasting, *names: str):
    status, headers, body = lasting
    text = body.decode()
    shown = json.dumps(headers)
    for name in names:
        for spelled in (name, name.partition("/")[2]):
            text, shown = text.replace(spelled, "?" * len(spelled)), shown.replace(spelled, "?" * len(spelled))
    return status, shown, text


@pytest.mark.parametrize("route", ABOUT_ADAPTERS, ids=IDS)
@pytest.mark.parametrize("by", ["mallory", "reader"])
def test_anothers_adapter_is_answered_like_one_that_does_not_exist(site, route, by):
    theirs = asked(site, route, site.places(VICTIM), by)
    none = asked(site, route, Places(NOBODY, site.places(VICTIM).values), by)
    assert without_names(theirs.lasting, VICTIM) == without_names(none.lasting, NOBODY)
    assert theirs.status in (401, 403, 404)


@pytest.mark.parametrize("route", ABOUT_VERSIONS, ids=IDS)
def test_whatever_selects_a_version_of_anothers_adapter_selects_nothing(site, route):
    for selector in SELECTORS:
        written = site.places(VICTIM)(selector).replace("/", "%2F")
        places = [Places(repo, {"rev": written, "selector": written}) for repo in (VICTIM, NOBODY)]
        theirs, none = (asked(site, route, each) for each in places)
        assert without_names(theirs.lasting, VICTIM) == without_names(none.lasting, NOBODY), selector


@pytest.mark.parametrize("route", ABOUT_VERSIONS, ids=IDS)
def test_a_digest_of_anothers_version_selects_nothing_in_ones_own_adapter(site, route):
    theirs = site.places(VICTIM)("{digest}")
    for form in ("{digest}", "sha256:{digest}", "{commit}"):
        spelled = [form.replace("{digest}", d).replace("{commit}", d[:40]) for d in (theirs, UNKNOWN)]
        answers = [asked(site, route, site.places(MINE, rev=each, selector=each)) for each in spelled]
        assert without_names(answers[0].lasting, spelled[0]) == without_names(answers[1].lasting, spelled[1]), form
        assert answers[0].status in (400, 403, 404), form


def digests_of(site) -> list[str]:
    return [file.digest.removeprefix("sha256:") for file in site.version.files]


CLAIMS = {
    "native missing": ("POST", f"/api/v1/adapters/{MINE}/missing", lambda p: {"files": [stored_file(p)]}),
    "native commit": (
        "POST",
        f"/api/v1/adapters/{MINE}/versions",
        lambda p: {"base": "org/llama", "files": [stored_file(p)]},
    ),
    "lfs batch": (
        "POST",
        f"/{MINE}.git/info/lfs/objects/batch",
        lambda p: {"operation": "upload", "objects": [{"oid": p("{digest}"), "size": 100}]},
    ),
    "commit lfsFile": ("POST", f"/api/models/{MINE}/commit/main", lambda p: commit_of(("lfsFile", lfs_file(p)))),
    "commit lfsFile without size": (
        "POST",
        f"/api/models/{MINE}/commit/main",
        lambda p: commit_of(("lfsFile", {"path": "a.txt", "algo": "sha256", "oid": p("{digest}")})),
    ),
    "commit copyFile": (
        "POST",
        f"/api/models/{MINE}/commit/main",
        lambda p: commit_of(("copyFile", {"path": "a.txt", "srcPath": "README.md", "srcRevision": p("{digest}")[:40]})),
    ),
}


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("nth", range(3))
def test_nobody_learns_or_takes_bytes_by_their_digest(site, claim, nth):
    method, path, document = CLAIMS[claim]
    digest, size = digests_of(site)[nth], site.version.files[nth].size
    answers = []
    for each in (digest, UNKNOWN):
        body = document(Places(MINE, {"digest": each}))
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        data = data.replace(b'"size": 100', b'"size": %d' % size)
        answers.append(site.ask(method, path, body=data, headers=[("Content-Type", "application/json")]))
    status, shown, text = without_names(answers[0].lasting, digest)
    other = without_names(answers[1].lasting, UNKNOWN)
    if claim == "lfs batch":
        # The permission in the address is signed over a time and the digest: as long, never equal.
        assert len(text) == len(other[2])
        assert answers[0].json["objects"][0].keys() == answers[1].json["objects"][0].keys()
        assert "actions" in answers[0].json["objects"][0]
    else:
        assert (status, shown, text) == other


@pytest.mark.parametrize("route", CLOSED, ids=IDS)
@pytest.mark.parametrize("by", ["mallory", "reader"])
def test_no_answer_holds_anything_of_anothers_adapter(site, route, by):
    answer = asked(site, route, site.places(VICTIM), by)
    secrets = [CANARY, *digests_of(site), site.version.digest.removeprefix("sha256:")]
    sent = (route.payload(site.places(VICTIM)) or b"").decode("utf-8", "replace") + site.places(VICTIM)(route.template)
    told = answer.body.decode("utf-8", "replace") + json.dumps(answer.headers)
    assert not [each for each in secrets if each in told and each not in sent]


@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/adapters",
        "/api/v1/adapters?search=secret",
        "/api/v1/adapters?where=rank>0",
        "/api/v1/adapters?after=victim/secreo&limit=1",
        "/api/models",
        "/api/models?search=secret",
        "/api/models?author=victim",
        "/api/models?filter=peft&sort=lastModified",
        "/api/models?cursor=victim/secreo",
        "/api/settings/repositories",
        "/api/v1/tokens",
        "/api/v1/tokens?account=victor",
        "/api/v1/whoami",
        "/api/v1/bases/scores?base=org/llama",
        "/metrics",
    ],
)
def test_no_list_names_what_belongs_to_somebody_else(site, target):
    answer = site.ask("GET", target)
    assert b"victim" not in answer.body
    assert b"victor" not in answer.body or "victor" in target
    assert CANARY.encode() not in answer.body


@pytest.mark.parametrize("key", ["a-key-of-the-victim"])
def test_an_idempotency_key_is_its_accounts_own(site, key):
    path, body = f"/api/v1/adapters/{MINE}/versions", b'{"base": "nothing", "files": []}'
    first = site.ask("POST", path, by="admin", body=body, headers=[("Idempotency-Key", key)])
    other = site.ask("POST", path, by="mallory", body=body, headers=[("Idempotency-Key", key)])
    assert (first.status, other.status) == (404, 404)
    assert "idempotency-replayed" not in other.headers
    same = site.ask("POST", path, by="mallory", body=body, headers=[("Idempotency-Key", key)])
    assert (same.status, same.headers.get("idempotency-replayed")) == (404, "true")
    again = site.ask("POST", path, by="mallory", body=body + b" ", headers=[("Idempotency-Key", key)])
    assert again.status == 422


def test_a_grant_on_one_adapter_is_none_on_its_namespace(site):
    path = "/api/v1/namespaces/mallory/default-base"
    assert site.ask("PUT", path, by="narrow", body=b'{"base": "org/llama"}').status == 403
    assert site.ask("PUT", path, by="mallory", body=b'{"base": "nothing"}').status == 404
