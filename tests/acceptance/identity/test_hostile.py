"""On PostgreSQL with two server processes: both ways in work, and no text that anybody sends makes the server fail."""

from __future__ import annotations

import http.client
import json
import urllib.parse

import pytest

from tests.acceptance.identity.browser import Browser, code_on
from tests.acceptance.identity.conftest import known, make_ci

TEXTS = ["\x00", "\ud800", "x\x00y", "é", "\U0001f600", "'; --", "%", "\\", "a" * 30_000, "\r\nx: y"]


@pytest.fixture(scope="module")
def large(tmp_path_factory, postgres_server):
    settings = {"ADAPTERS_DATABASE_URL": postgres_server.fresh_database()}
    with known(tmp_path_factory.mktemp("large"), "--workers", "2", **settings) as running:
        make_ci(running)
        running.registry.add_trust("ci", issuer=running.provider.issuer, audience="us", claims={"repository": "r"})
        yield running


def test_a_person_signs_in_whichever_process_answers(large):
    large.provider.person("ann", "search")
    for _ in range(4):
        _, begun = large.post("/api/v1/sign-in/browser", {})
        status, _, page = Browser().signs_in(begun["open"], "ann")
        assert status == 200, page
        status, made = large.post("/api/v1/sign-in/code", {"secret": begun["secret"], "code": code_on(page)})
        assert status == 201
    assert large.registry_of(made["secret"]).may("push", "search/x")
    assert [account.name for account in large.registry.accounts()] == ["admin", "ann", "ci"]


def test_a_token_is_good_once_whichever_process_answers(large):
    for _ in range(4):
        token = large.provider.token(aud="us", repository="r")
        assert large.exchange(token)[0] == 201
        assert [large.exchange(token)[0] for _ in range(4)] == [401] * 4


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_no_text_in_a_document_makes_the_server_fail(large, text):
    for path, fields in (
        ("/api/v1/tokens/exchange", ("subject_token", "trust", "grant_type", "subject_token_type")),
        ("/api/v1/sign-in/code", ("secret", "code")),
        ("/api/v1/sign-in", ("name", "password")),
    ):
        for field in fields:
            status, _ = large.post(path, {name: text if name == field else "x" for name in fields})
            assert status in (401, 413, 422), (path, field)


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "repository", "jti"])
def test_no_text_in_a_claim_makes_the_server_fail(large, claim, text):
    [trust] = large.registry.trusts()
    token = large.provider.token(**{"aud": "us", "repository": "r", claim: text[:5000]})
    for named in (None, trust.id):
        assert large.exchange(token, named)[0] in (201, 401)


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "exp", "iat", "nbf", "repository"])
@pytest.mark.parametrize("value", [0, -1, 1e308, 10**30, True, [], {}, [[]], "1", float("inf"), float("nan")], ids=str)
def test_no_value_of_a_claim_makes_the_server_fail(large, claim, value):
    token = large.provider.token(**{"aud": "us", "repository": "r", claim: value})
    assert large.exchange(token)[0] in (201, 401)


@pytest.mark.parametrize("text", [text for text in TEXTS if "\ud800" not in text], ids=ascii)
def test_no_text_in_an_address_or_cookie_makes_the_server_fail(large, text):
    quoted = urllib.parse.quote(text[:3000], safe="")
    octal = "".join(f"\\{byte:03o}" for byte in text[:200].encode())
    for cookie in (f"adapters_sign_in={quoted}", f'adapters_sign_in="{octal}"'):
        for path in (
            f"/auth/{quoted}",
            f"/auth/callback?state={quoted}&code={quoted}",
            f"/auth/callback?error={quoted}",
        ):
            connection = http.client.HTTPConnection(large.server.url.removeprefix("http://"), timeout=30)
            connection.request("GET", f"/auth/{path}", headers={"Cookie": cookie})
            response = connection.getresponse()
            assert response.status in (401, 404)
            assert quoted in ("é", "%") or b"Traceback" not in response.read()
            connection.close()


def test_what_pipelines_and_people_send_is_not_in_the_answer_as_markup(large):
    status, _, page = Browser().get(f"{large.server.url}/auth/callback?error=%3Cscript%3E")
    assert (status, "<script>" in page) == (401, False)
    assert json.dumps(large.exchange("<script>")[1])
