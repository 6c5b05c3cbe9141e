"""What a stage points to: counted, signed, waited for; and what a hostile mirror in between comes to."""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.errors import DigestMismatch, InvalidInput, NotFound, RegistryError, UntrustedPointer
from adapter_registry.domain.policies.process import Sources
from adapter_registry.domain.promotions.stage import Stage
from adapter_registry.settings import read_settings
from tests.acceptance.hub.conftest import _fill, serving
from tests.acceptance.test_server import RemoteCli

ADAPTER = "team/sql-lora"


@pytest.fixture(scope="module")
def server(tmp_path_factory, llama_folder, lora_folder):
    with serving(tmp_path_factory.mktemp("pointers"), {}, "--workers", "2") as running:
        _fill(running, llama_folder, lora_folder)
        yield running


@pytest.fixture
def client(server, tmp_path):
    return client_of(server.url, server.token, tmp_path)


def client_of(url: str, token: str, folder, **more: str) -> Registry:
    home = {"ADAPTERS_HOME": str(folder / "home"), "ADAPTERS_CACHE": str(folder / "cache")}
    return Registry(read_settings({**home, "ADAPTERS_URL": url, "ADAPTERS_TOKEN": token, **more}))


def move(server) -> None:
    """Move dev to the other of two versions."""
    registry = server.registry
    other = 3 - registry.resolve(f"{ADAPTER}@dev").number
    assert registry.attempt(f"{ADAPTER}@v{other}", "dev").promotion


class Mirror(ThreadingHTTPServer):
    """Passes everything on to the real server and lets a test change what comes back."""

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.target = url.removeprefix("http://")
        self.changed = lambda path, body: body

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Passing(BaseHTTPRequestHandler):
    server: Mirror

    def _pass(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        connection = http.client.HTTPConnection(self.server.target, timeout=30)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
        connection.request(self.command, self.path, self.rfile.read(size) if size else None, headers)
        answer = connection.getresponse()
        body = self.server.changed(self.path, answer.read())
        self.send_response(answer.status)
        self.send_header("content-type", answer.headers["content-type"] or "")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        connection.close()

    do_GET = do_POST = do_PUT = _pass

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(server):
    running = Mirror(server.url)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()


class TestPointer:
    def test_it_says_what_the_stage_points_to_and_counts_its_moves(self, server, client):
        before = client.pointer(ADAPTER, "prod")
        assert before.digest == client.resolve(f"{ADAPTER}@v{before.number}").digest
        assert before.base == client.resolve(f"{ADAPTER}@prod").base
        was = client.pointer(ADAPTER, "dev")
        move(server)
        now = client.pointer(ADAPTER, "dev")
        assert (now.sequence, now.number) == (was.sequence + 1, 3 - was.number)
        assert client.pointer(ADAPTER, "prod").sequence == before.sequence

    def test_a_declared_stage_once_seen_is_one_whatever_a_server_says_later(self, server, mirror, tmp_path):
        server.registry.declare_stage(Stage("beta", sources=Sources(("dev",)), like="dev", lanes=("eu",)))
        behind = client_of(mirror.url, server.token, tmp_path)
        for place in ("beta", "beta.eu"):
            server.registry.promote(f"{ADAPTER}@v{server.registry.resolve(f'{ADAPTER}@dev').number}", place)
            assert place in behind.resolve(f"{ADAPTER}@{place}").stages
        asked = []
        mirror.changed = lambda path, body: asked.append(path) or body
        behind.resolve(f"{ADAPTER}@beta.eu")
        assert "/stages/beta.eu/pointer" in asked[0]

    def test_a_stage_that_never_moved_or_an_adapter_that_is_none_says_so(self, client, server):
        with pytest.raises(NotFound, match="there is no adapter"):
            client.pointer("team/nothing", "prod")
        with pytest.raises(RegistryError, match="not a stage"):
            client.pointer(ADAPTER, "production")

    def test_the_embedded_registry_has_pointers_too(self, server):
        (line,) = server.cli("resolve", f"{ADAPTER}@prod", "--after", "0", "--json").out.splitlines()
        assert json.loads(line)["sequence"] == server.registry.pointer(ADAPTER, "prod").sequence
        assert server.cli("admin", "pointer-key").out.strip() == server.registry.pointer_key()


class TestWaiting:
    def test_who_waits_is_woken_by_the_move_whichever_process_made_it(self, server, client):
        before = client.pointer(ADAPTER, "dev").sequence
        found = []
        waiters = [
            threading.Thread(
                target=lambda: found.append(client.pointer(ADAPTER, "dev", after=before, wait_seconds=30).sequence)
            )
            for _ in range(40)
        ]
        for each in waiters:
            each.start()
        time.sleep(0.5)
        began = time.monotonic()
        other = 3 - server.registry.resolve(f"{ADAPTER}@dev").number
        server.cli("promote", f"{ADAPTER}@v{other}", "dev")
        for each in waiters:
            each.join(30)
        assert found == [before + 1] * 40
        assert time.monotonic() - began < 25

    def test_who_waits_in_vain_is_answered_with_what_is_true_then(self, client):
        now = client.pointer(ADAPTER, "dev")
        assert client.pointer(ADAPTER, "dev", after=now.sequence, wait_seconds=0.4).sequence == now.sequence

    def test_waiting_holds_no_thread_so_others_are_answered(self, server, client):
        now = client.pointer(ADAPTER, "dev").sequence
        waiters = [
            threading.Thread(target=lambda: client.pointer(ADAPTER, "dev", after=now, wait_seconds=8), daemon=True)
            for _ in range(150)
        ]
        for each in waiters:
            each.start()
        time.sleep(1)
        assert client.whoami().name == "admin"
        assert sum(each.is_alive() for each in waiters) > 100
        for each in waiters:
            each.join()

    def test_a_server_that_is_asked_to_stop_lets_them_go(self, tmp_path, llama_folder, lora_folder):
        with serving(tmp_path, {}) as running:
            _fill(running, llama_folder, lora_folder)
            client = client_of(running.url, running.token, tmp_path)
            now, answers = client.pointer(ADAPTER, "dev").sequence, []
            waiter = threading.Thread(
                target=lambda: answers.append(client.pointer(ADAPTER, "dev", after=now, wait_seconds=60))
            )
            waiter.start()
            time.sleep(1)
        waiter.join(5)
        assert [answer.sequence for answer in answers] == [now]

    def test_the_command_line_follows_a_stage(self, server, tmp_path):
        remote = RemoteCli(tmp_path / "home", tmp_path, url=server.url, token=server.token)
        follower = subprocess.Popen(
            [*remote.command, "resolve", f"{ADAPTER}@dev", "--follow", "--json"],
            stdout=subprocess.PIPE, text=True, env=remote.environment, cwd=tmp_path,
        )  # fmt: skip
        try:
            first = json.loads(follower.stdout.readline())
            move(server)
            second = json.loads(follower.stdout.readline())
        finally:
            follower.terminate()
            follower.wait(20)
            follower.stdout.close()
        assert second["sequence"] == first["sequence"] + 1
        assert {first["reference"], second["reference"]} == {f"{ADAPTER}@v1", f"{ADAPTER}@v2"}

    def test_a_move_that_does_not_come_ends_with_4_and_no_stage_with_2(self, server):
        now = server.registry.pointer(ADAPTER, "prod").sequence
        server.cli("resolve", f"{ADAPTER}@prod", "--after", now, "--timeout", "1", code=4)
        assert "is no stage" in server.cli("resolve", f"{ADAPTER}@v1", "--follow", code=2).err


class TestHostileMirror:
    def test_a_mirror_that_changes_nothing_is_as_good_as_the_server(self, mirror, server, tmp_path):
        pulled = client_of(mirror.url, server.token, tmp_path).pull(f"{ADAPTER}@prod", tmp_path / "out")
        assert pulled.version.digest == server.registry.resolve(f"{ADAPTER}@prod").digest

    def test_it_cannot_serve_yesterdays_state(self, mirror, server, tmp_path):
        client, recorded = client_of(mirror.url, server.token, tmp_path), []
        mirror.changed = lambda path, body: recorded.append(body) or body if "/dev/pointer" in path else body
        client.resolve(f"{ADAPTER}@dev")
        mirror.changed = lambda path, body: body
        move(server)
        client.resolve(f"{ADAPTER}@dev")
        mirror.changed = lambda path, body: recorded[0] if "/dev/pointer" in path else body
        with pytest.raises(UntrustedPointer, match="seen here before"):
            client.pull(f"{ADAPTER}@dev", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_it_cannot_answer_for_the_server_with_a_key_of_its_own(self, mirror, server, tmp_path, llama_folder):
        client = client_of(mirror.url, server.token, tmp_path)
        client.resolve(f"{ADAPTER}@dev")
        from adapter_registry.domain.promotions.pointer import SignedPointer, signed
        from adapter_registry.operation import result_from_wire, to_wire
        from adapter_registry.operations import OPERATIONS

        def forged(path: str, body: bytes) -> bytes:
            if "/dev/pointer" not in path:
                return body
            honest: SignedPointer = result_from_wire(OPERATIONS["pointer.pointer"], body)
            return to_wire(signed(honest.pointer, seed="33" * 32))

        mirror.changed = forged
        with pytest.raises(UntrustedPointer, match="is the one that is trusted here"):
            client.resolve(f"{ADAPTER}@dev")
        fresh = client_of(
            mirror.url, server.token, tmp_path / "fresh", ADAPTERS_POINTER_KEY=server.registry.pointer_key()
        )
        with pytest.raises(UntrustedPointer, match="ADAPTERS_POINTER_KEY"):
            fresh.resolve(f"{ADAPTER}@dev")

    def test_it_cannot_serve_another_version_under_a_digest(self, mirror, server, tmp_path):
        client = client_of(mirror.url, server.token, tmp_path)
        one, two = (server.registry.resolve(f"{ADAPTER}@v{number}") for number in (1, 2))
        from adapter_registry.operation import to_wire

        mirror.changed = lambda path, body: to_wire(two) if "/versions/sha256" in path else body
        with pytest.raises(UntrustedPointer, match="was asked for"):
            client.pull(f"{ADAPTER}@{one.digest}", tmp_path / "out")

    @pytest.mark.parametrize("path", ["../../escaped", "/tmp/escaped", "a\\..\\b", "a/../../b"])
    def test_it_cannot_write_outside_or_other_files(self, mirror, server, tmp_path, path):
        from dataclasses import replace

        from adapter_registry.domain.digest import of_bytes
        from adapter_registry.domain.lock import Lock
        from adapter_registry.domain.manifest import manifest
        from adapter_registry.operation import to_wire

        client = client_of(mirror.url, server.token, tmp_path)
        honest = server.registry.resolve(f"{ADAPTER}@v1")
        files = (replace(honest.files[0], path=path), *honest.files[1:])
        other = replace(honest, files=files)
        mirror.changed = lambda asked, body: to_wire(other) if asked.endswith("/versions/v1") else body
        with pytest.raises(DigestMismatch, match="the manifest"):
            client.pull(f"{ADAPTER}@v1", tmp_path / "out")
        whole = replace(other, digest=of_bytes(manifest(files, lock=Lock(honest.base))))
        mirror.changed = lambda asked, body: to_wire(whole) if asked.endswith("/versions/v1") else body
        with pytest.raises(InvalidInput, match="lies outside"):
            client.pull(f"{ADAPTER}@v1", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_two_clients_of_one_home_note_every_pointer(self, server, tmp_path):
        clients = [client_of(server.url, server.token, tmp_path) for _ in range(8)]
        stages = ("dev", "staging", "prod")
        threads = [
            threading.Thread(target=clients[i].pointer, args=(ADAPTER, stages[i % 3])) for i in range(len(clients))
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        noted = json.loads((tmp_path / "home" / "pointers.json").read_text())[server.url]
        assert noted["seen"].keys() == {f"{ADAPTER}@{stage}" for stage in stages}
