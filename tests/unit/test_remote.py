"""Questions to a server travel on connections that are kept, as long as that is safe."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from adapter_registry.domain.errors import ServerUnreachable
from adapter_registry.services import access, pointer, promote
from adapter_registry.transport import remote
from adapter_registry.transport.remote import Remote

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntrue"


@dataclass
class Server:
    """Answers `true` to everything; `hang_up` says after how many answers it closes a connection without a word."""

    listening: socket.socket
    asked: list[list[bytes]] = field(default_factory=list)
    hang_up: int = 1_000
    answer: bytes = ANSWER

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listening.getsockname()[1]}"

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        heard: list[bytes] = []
        self.asked.append(heard)
        # A client that goes away may reset the connection.
        with connection, suppress(ConnectionError), connection.makefile("rb") as reading:
            while len(heard) < self.hang_up and (asked := reading.readline()):
                head = list(iter(reading.readline, b"\r\n"))
                sizes = [int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length")]
                reading.read(sum(sizes))
                heard.append(asked)
                connection.sendall(self.answer)


@pytest.fixture
def server() -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = Server(listening)
        threading.Thread(target=found.run, daemon=True).start()
        yield found
        listening.shutdown(socket.SHUT_RDWR)


def may(asking: Remote) -> bool:
    return asking.call(access.may, {"verb": "push"})


def test_questions_share_a_connection(server):
    asking = Remote(server.url, None)
    assert all(may(asking) for _ in range(5))
    assert [len(heard) for heard in server.asked] == [5]


@pytest.mark.parametrize("answers", [1, 2])
def test_a_connection_that_the_server_closed_is_replaced_without_a_word(server, answers):
    server.hang_up = answers
    asking = Remote(server.url, None)
    assert all(may(asking) for _ in range(6))
    assert sum(len(heard) for heard in server.asked) == 6


def test_a_connection_that_waited_too_long_is_not_used_again(server, monkeypatch):
    monkeypatch.setattr(remote, "IDLE_SECONDS", 0.0)
    asking = Remote(server.url, None)
    assert all(may(asking) for _ in range(3))
    assert [len(heard) for heard in server.asked] == [1, 1, 1]


def test_an_answer_that_says_it_is_the_last_is_believed(server):
    server.answer = ANSWER.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    asking = Remote(server.url, None)
    assert all(may(asking) for _ in range(3))
    assert [len(heard) for heard in server.asked] == [1, 1, 1]


def test_what_must_not_be_asked_twice_gets_a_connection_of_its_own(server):
    asking = Remote(server.url, None)
    may(asking)
    asking.post("/api/v1/sign-in", {}, bool)
    assert [len(heard) for heard in server.asked] == [1, 1]


def test_a_forked_process_does_not_speak_on_its_parents_connection(server):
    asking = Remote(server.url, None)
    may(asking)
    child = os.fork()
    if not child:
        os._exit(0 if may(asking) else 1)
    assert os.waitpid(child, 0)[1] == 0
    may(asking)
    assert [len(heard) for heard in server.asked] == [2, 1]


def test_a_server_that_went_away_is_told(server):
    asking = Remote(server.url, None)
    may(asking)
    server.answer, server.hang_up = b"", 0
    with pytest.raises(ServerUnreachable):
        asking.call(promote.policy, {"stage": "prod"})


def test_questions_of_several_threads_do_not_meet(server):
    asking, wrong = Remote(server.url, None), []

    def ask() -> None:
        wrong.extend(not may(asking) for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (len(wrong), any(wrong)) == (400, False)
    assert sum(len(heard) for heard in server.asked) == 400


@pytest.mark.parametrize("said", [b"<html>sign in</html>", b'{"hello": 1}', b"\xff\xfe", b""])
def test_what_is_no_registry_is_told_as_none(server, said):
    server.answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(said), said)
    with pytest.raises(ServerUnreachable, match="answers as no registry of this release does"):
        Remote(server.url, None).call(promote.policy, {"stage": "prod"})


def test_an_address_that_sends_on_is_told_and_the_token_goes_nowhere(server):
    server.answer = b"HTTP/1.1 301 x\r\nlocation: https://elsewhere.example/api?x=1\r\ncontent-length: 0\r\n\r\n"
    with pytest.raises(ServerUnreachable, match=r"sends on to https://elsewhere\.example, which nobody named"):
        may(Remote(server.url, "secret"))


def test_a_server_that_says_nothing_is_waited_for_once_and_as_long_as_it_was_asked_to_wait(server):
    server.answer = b""
    for given, waited in [({}, 0.2), ({"after": 1, "wait_seconds": 0.4}, 0.6)]:
        begun = time.monotonic()
        with pytest.raises(ServerUnreachable, match="timed out"):
            Remote(server.url, None, answer_seconds=0.2).call(
                pointer.pointer, {"adapter": "team/sql", "stage": "prod", **given}
            )
        assert waited <= time.monotonic() - begun < waited + 0.2
    assert [len(heard) for heard in server.asked] == [1, 1]
