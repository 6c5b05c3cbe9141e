"""Signing in by password on a real server: who made the token, and how often a wrong one is tried."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlencode

import pytest

from adapter_registry.domain.people.attempts import OF_ADDRESS
from tests.acceptance.hub.conftest import HubServer, serving

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One that takes a proxy's word for addresses, so that tests come from several."""
    with serving(tmp_path_factory.mktemp("passwords"), {"ADAPTERS_PROXIES": "127.0.0.1"}) as running:
        running.registry.create_account("ann", password=PASSWORD)
        yield running


def post(server: HubServer, path: str, body: str, media: str, address: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.request("POST", path, body, {"Content-Type": media, "X-Forwarded-For": address})
    response = connection.getresponse()
    answer = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read().decode()
    connection.close()
    return answer


def by_api(server, password, *, address, name="ann"):
    document = json.dumps({"name": name, "password": password})
    return post(server, "/api/v1/sign-in", document, "application/json", address)


def by_page(server, password, *, address, name="ann"):
    form = urlencode({"name": name, "password": password})
    return post(server, "/ui/sign-in", form, "application/x-www-form-urlencoded", address)


def test_a_token_of_signing_in_is_made_by_the_person(server):
    assert by_api(server, PASSWORD, address="198.51.100.1")[0] == 201
    assert by_page(server, PASSWORD, address="198.51.100.1")[0] == 303
    made = [each for each in server.registry.tokens("ann") if each.label == "sign-in"]
    assert {each.created_by for each in made} == {"ann"}
    assert len(made) == 2


def flooded(*asked: Callable[[], tuple[int, dict[str, str], str]]) -> list[tuple[int, dict[str, str], str]]:
    """What was answered to wrong passwords that all came at once."""
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda ask: ask(), asked))
    assert {status for status, _, _ in answers} <= {401, 429}
    return [answer for answer in answers if answer[0] == 429]


@pytest.mark.parametrize(("ask", "address"), [(by_api, "198.51.100.2"), (by_page, "198.51.100.3")])
def test_wrong_passwords_from_one_address_are_answered_429_with_when_to_come_back(server, ask, address):
    names = [f"nobody-{number}" for number in range(2 * OF_ADDRESS[0])]
    refused = flooded(*(partial(ask, server, "wrong wrong", name=name, address=address) for name in names))
    assert refused
    for _, headers, text in refused:
        assert 1 <= int(headers["retry-after"]) <= OF_ADDRESS[1]
        assert "too many wrong passwords" in text
    assert ask(server, PASSWORD, address="198.51.100.4")[0] in (201, 303)


def test_both_doors_count_together(server):
    doors = [partial(ask, server, "wrong wrong", address="198.51.100.5") for ask in (by_api, by_page)]
    assert flooded(*(doors * OF_ADDRESS[0]))


def test_nobody_tells_their_own_address_without_a_proxy(tmp_path):
    with serving(tmp_path, {}) as running:
        addresses = [f"198.51.100.{number}" for number in range(2 * OF_ADDRESS[0])]
        assert flooded(*(partial(by_api, running, "wrong wrong", address=address) for address in addresses))
