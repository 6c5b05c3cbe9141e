"""Webhooks end to end: set up by the command line, sent by a running server to a receiver that verifies them."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from adapter_registry import app
from adapter_registry.background.sender import Sender
from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.errors import Forbidden, InvalidInput, NotFound
from adapter_registry.domain.people.access import Grant, Principal
from adapter_registry.domain.webhooks import webhook as rules
from adapter_registry.domain.webhooks.signature import verify
from adapter_registry.services import webhook
from adapter_registry.settings import read_settings
from tests.acceptance.hub.conftest import serving

PATIENCE_SECONDS = 30


class Receiver(ThreadingHTTPServer):
    """Keeps what it was sent and when it verified; fails as `fails` says, before or after keeping it."""

    def __init__(self, fails=lambda: None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, dict]] = []
        self.secrets: list[str] = []
        self.refused: list[str] = []
        self.fails = fails

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"

    def waits_for(self, count: int) -> list[dict]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len({id for id, _ in self.received}) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return [body for _, body in self.received]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        fault = self.server.fails()
        if fault != "before":
            try:
                id = verify(dict(self.headers), body, secrets=self.server.secrets, now=time.time())
            except Exception as error:  # noqa: BLE001  told to the test
                self.server.refused.append(str(error))
                fault = "refused"
            else:
                self.server.received.append((id, json.loads(body)))
        self.send_response(500 if fault else 204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def receiving(**options) -> Iterator[Receiver]:
    receiver = Receiver(**options)
    thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        receiver.server_close()


@pytest.fixture
def backend(tmp_path):
    settings = read_settings({"ADAPTERS_HOME": str(tmp_path / "home"), "ADAPTERS_CACHE": str(tmp_path / "cache")})
    return app.served(settings)


def moved(backend, adapter: str, number: int) -> None:
    with backend.catalog.writing() as tx:
        detail = {"stage": "prod", "from": None}
        tx.events.append(Entry("promote", f"{adapter}@v{number}", Outcome.DONE, "ann", backend.clock(), detail))


def test_a_promotion_reaches_a_receiver_signed_and_in_order(tmp_path, llama_folder, lora_folder):
    settings = {"ADAPTERS_WEBHOOKS_PRIVATE": "1"}
    with receiving() as receiver, serving(tmp_path, settings, "--workers", "2") as server:
        made = server.cli("webhook", "add", receiver.url, "--scope", "team/*", "--json").json
        receiver.secrets.append(made["secret"])
        registry = server.registry
        registry.add_base("org/llama", llama_folder)
        registry.push(lora_folder, base="org/llama", name="team/sql-lora")
        registry.attempt("team/sql-lora@v1", "dev")
        registry.tag("team/sql-lora@v1", "stable")
        registry.untag("team/sql-lora", "stable")
        told = receiver.waits_for(4)
        assert receiver.refused == []
        assert [each["type"] for each in told] == ["version.pushed", "stage.moved", "tag.moved", "tag.removed"]
        move, untagged = told[1]["data"], told[3]["data"]
        assert (move["adapter"], move["stage"], move["from"], move["to"]) == (
            "team/sql-lora", "dev", None, "team/sql-lora@v1",
        )  # fmt: skip
        assert move["digest"] == registry.resolve("team/sql-lora@dev").digest
        assert (untagged["from"], untagged["to"]) == ("team/sql-lora@v1", None)
        id = made["webhook"]["id"]
        log = server.cli("webhook", "log", id, "--json").json
        assert {each["state"] for each in log} == {"delivered"}
        again = server.cli("webhook", "replay", id, log[0]["id"], "--json").json
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(receiver.received) < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert receiver.received[4] == receiver.received[3]
        assert again[0]["id"] == receiver.received[4][0]
        fresh = server.cli("webhook", "rotate", id, "--quiet").out.strip()
        receiver.secrets[:] = [fresh]
        registry.tag("team/sql-lora@v1", "stable")
        assert receiver.waits_for(5)[-1]["type"] == "tag.moved"
        assert server.cli("webhook", "ls", "--quiet").out.split() == [id]
        server.cli("webhook", "rm", id)
        assert server.cli("webhook", "ls", "--quiet").out == ""


def test_a_private_address_is_refused_unless_the_operator_allows_it(tmp_path):
    with receiving() as receiver, serving(tmp_path, {}) as server:
        registry = server.registry
        made = registry.add_webhook(receiver.url, scope="*")
        registry.set_policy("dev", registry.policy("dev").policy)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (log := registry.deliveries(made.webhook.id)) or not log[0].attempts:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "private address" in log[0].error
        assert receiver.received == []


def test_nothing_is_lost_or_overtaken_when_a_fifth_of_the_answers_are_failures(backend, monkeypatch):
    monkeypatch.setattr(rules, "_BACKOFF_SECONDS", (0.01,) * 60)
    draw = random.Random(7)

    def fails() -> str | None:
        return ("before" if draw.random() < 0.5 else "after") if draw.random() < 0.2 else None

    with receiving(fails=fails) as receiver:
        receiver.secrets.append(webhook.register(backend, url=receiver.url, scope="team/*").secret)
        for number in range(1, 101):
            for adapter in "abcde":
                moved(backend, f"team/{adapter}", number)
        senders = [Sender(backend, allow_private=True) for _ in range(2)]
        for each in senders:
            each.start()
        receiver.waits_for(500)
        for each in senders:
            each.stop()
    first: dict[str, list[int]] = defaultdict(list)
    seen: set[str] = set()
    for id, body in receiver.received:
        if id not in seen:
            seen.add(id)
            first[body["data"]["adapter"]].append(body["data"]["sequence"])
    assert len(seen) == 500
    assert all(order == sorted(order) for order in first.values())
    # Kept before the failing answer, and so sent again: duplicates, each under the id it had.
    repeated = Counter(id for id, _ in receiver.received)
    bodies = {id: body for id, body in receiver.received}
    assert max(repeated.values()) > 1
    assert all(bodies[id] == body for id, body in receiver.received)


def test_a_receiver_that_is_down_holds_up_no_other(backend):
    with receiving() as good, receiving(fails=lambda: "before") as bad:
        webhook.register(backend, url=bad.url, scope="team/*")
        good.secrets.append(webhook.register(backend, url=good.url, scope="team/*").secret)
        sender = Sender(backend, allow_private=True)
        sender.start()
        for number in range(1, 21):
            moved(backend, "team/a", number)
        told = good.waits_for(20)
        sender.stop()
    assert [body["data"]["to"] for body in told] == [f"team/a@v{number}" for number in range(1, 21)]


def test_what_is_given_up_is_shown_and_can_be_sent_again(backend, monkeypatch):
    monkeypatch.setattr(rules, "_BACKOFF_SECONDS", (0.01, 0.01))
    down = threading.Event()
    down.set()
    with receiving(fails=lambda: "before" if down.is_set() else None) as receiver:
        made = webhook.register(backend, url=receiver.url, scope="team/*")
        receiver.secrets.append(made.secret)
        sender = Sender(backend, allow_private=True)
        sender.start()
        moved(backend, "team/a", 1)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (dead := webhook.deliveries(backend, webhook=made.webhook.id, state=rules.State.DEAD).items):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert (dead[0].attempts, dead[0].status) == (3, 500)
        down.clear()
        assert len(webhook.replay(backend, webhook=made.webhook.id)) == 1
        assert receiver.waits_for(1)[0]["data"]["to"] == "team/a@v1"
        sender.stop()


class TestRights:
    def asking(self, backend, *grants: Grant, limits: tuple[Grant, ...] | None = None):
        from dataclasses import replace

        return replace(backend, asks=Principal("ann", grants, limits), actor="ann")

    @pytest.mark.parametrize("scope", ["*", "*/sql", "other/*", "team*/x", "other/x"])
    def test_a_webhook_hears_of_nothing_that_who_set_it_up_may_not_read(self, backend, scope):
        ann = self.asking(backend, Grant("team/*", ("read", "webhook")))
        with pytest.raises(Forbidden):
            webhook.register(ann, url="https://example.org/", scope=scope)

    @pytest.mark.parametrize("scope", ["team/*", "team/sql", "team/sql-*", "team/*-x"])
    def test_within_what_they_may_read_they_set_it_up_as_they_like(self, backend, scope):
        ann = self.asking(backend, Grant("team/*", ("read", "webhook")))
        assert webhook.register(ann, url="https://example.org/", scope=scope).webhook.scope == scope

    def test_a_limited_token_or_half_of_the_verbs_is_not_enough(self, backend):
        limits = (Grant("team/sql", ("read", "webhook")),)
        for ann in (
            self.asking(backend, Grant("team/*", ("read", "webhook")), limits=limits),
            self.asking(backend, Grant("team/*", ("webhook",))),
        ):
            with pytest.raises(Forbidden):
                webhook.register(ann, url="https://example.org/", scope="team/*")

    def test_anothers_webhook_looks_like_none(self, backend):
        theirs = webhook.register(backend, url="https://example.org/", scope="other/*").webhook
        ann = self.asking(backend, Grant("team/*", ("read", "webhook")))
        assert webhook.webhooks(ann).items == ()
        for call in (webhook.deliveries, webhook.remove, webhook.rotate, webhook.replay, webhook.change):
            texts = set()
            for id in (theirs.id, "0" * 12):
                with pytest.raises(NotFound) as error:
                    call(ann, webhook=id)
                texts.add(error.value.text.replace(id, ""))
            assert len(texts) == 1

    def test_urls_scopes_and_events_that_are_none_are_refused(self, backend):
        for given in (
            {"url": "ftp://x/"},
            {"url": "https://x/", "scope": "a/b/c"},
            {"url": "https://x/", "events": ("e",)},
        ):
            with pytest.raises(InvalidInput):
                webhook.register(backend, **given)


def test_the_secret_is_shown_once_and_kept_by_no_idempotency_key(tmp_path):
    with serving(tmp_path, {}) as server:

        def ask(method: str, body: str | None = None) -> bytes:
            connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
            headers = {"Authorization": f"Bearer {server.token}", "Idempotency-Key": "the-same-key"}
            connection.request(method, "/api/v1/webhooks", body, headers)
            answer = connection.getresponse().read()
            connection.close()
            return answer

        made = [json.loads(ask("POST", json.dumps({"url": "https://example.org/"}))) for _ in range(2)]
        assert made[0]["secret"] != made[1]["secret"]
        listed = ask("GET")
        assert [each["id"] for each in json.loads(listed)["items"]] == [each["webhook"]["id"] for each in made]
        assert not [each for each in made if each["secret"].encode() in listed]
