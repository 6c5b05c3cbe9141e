"""Clients that send slowly, vanish, or read nothing keep nobody else waiting and leave nothing behind."""

from __future__ import annotations

import contextlib
import socket
import time
import urllib.parse

import pytest

from adapter_registry.api import bounds
from tests.acceptance.hostile.conftest import MINE, VICTIM
from tests.acceptance.hostile.wire import ask, several_answers, speak

pytestmark = pytest.mark.xdist_group("hostile-slow")
POST = f"/api/v1/adapters/{MINE}/missing"
PIECES = {
    "nothing": b"",
    "half a line": b"GET /api/v1/adap",
    "half a head": b"GET /api/v1/adapters HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ",
    "half a body": None,
}


class TestSlowAndGone:
    @pytest.mark.parametrize("kind", PIECES)
    def test_slow_clients_keep_nobody_else_waiting(self, site, kind):
        half = site.head(f"POST {POST} HTTP/1.1", "Content-Length: 5000") + b'{"files": ['
        piece = half if PIECES[kind] is None else PIECES[kind]
        address = urllib.parse.urlsplit(site.url)
        with contextlib.ExitStack() as stack:
            channels = [
                stack.enter_context(socket.create_connection((address.hostname, address.port))) for _ in range(48)
            ]
            for channel in channels:
                channel.sendall(piece)
            for _ in range(5):
                assert ask(site.url, "GET", "/health").status == 200
                assert site.ask("GET", f"/api/models/{MINE}").status == 200
        assert ask(site.url, "GET", "/ready").status == 200

    def test_a_head_that_does_not_come_is_not_waited_for(self, site):
        started = time.monotonic()
        answer = speak(site.url, b"GET /health HTTP/1.1\r\nHost: ")
        assert answer.status == 400
        assert time.monotonic() - started < bounds.HEAD_SECONDS + 20

    def test_a_connection_on_which_nothing_is_asked_is_closed_without_an_answer_to_it(self, site):
        address = urllib.parse.urlsplit(site.url)
        wait = bounds.HEAD_SECONDS + 20
        with socket.create_connection((address.hostname, address.port), timeout=wait) as channel:
            assert channel.recv(100) == b""

    @pytest.mark.usefixtures("unchanged")
    @pytest.mark.parametrize("sent", [0, 1, 1000])
    @pytest.mark.parametrize(
        "path",
        [
            POST,
            f"/api/models/{MINE}/commit/main",
            f"/api/v1/adapters/{MINE}/blobs/{'0' * 64}",
            f"/{MINE}.git/info/lfs/objects/batch",
        ],
    )
    def test_a_client_that_hangs_up_leaves_nothing(self, site, path, sent):
        method = "PUT" if "/blobs/" in path else "POST"
        address = urllib.parse.urlsplit(site.url)
        for _ in range(3):
            with socket.create_connection((address.hostname, address.port)) as channel:
                channel.sendall(site.head(f"{method} {path} HTTP/1.1", "Content-Length: 100000") + b"x" * sent)
        assert ask(site.url, "GET", "/health").status == 200
        left = [path for path in (site.hub.cli.home / "blobs").rglob("*") if path.is_file() and "incoming" in str(path)]
        deadline = time.monotonic() + 10
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            left = [path for path in left if path.exists()]
        assert left == []

    @pytest.mark.usefixtures("unchanged")
    def test_a_client_that_does_not_read_its_answer_harms_nobody(self, site):
        address = urllib.parse.urlsplit(site.url)
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                channel = stack.enter_context(socket.create_connection((address.hostname, address.port)))
                channel.sendall(site.head(f"GET /{MINE}/resolve/v1/adapter_model.safetensors HTTP/1.1") * 20)
            assert ask(site.url, "GET", "/health").status == 200

    @pytest.mark.usefixtures("unchanged")
    def test_many_requests_on_one_connection_are_each_asked_for_their_token(self, site):
        good = site.head("GET /api/v1/whoami HTTP/1.1")
        bad = f"GET /{VICTIM}/resolve/main/README.md HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
        assert several_answers(site.url, good + bad, seconds=5) == [200, 401]


def test_none_of_this_was_a_defect(site):
    assert "Traceback" not in site.hub.log(), site.hub.log()[-3000:]
