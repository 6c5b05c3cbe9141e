"""Only what is missing travels, from where it was cut off, straight to the bucket where there is one."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import io
import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapter_registry.client import Registry
from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import Digest, of_bytes
from adapter_registry.domain.errors import Conflict, DigestMismatch, NotFound, PushRefused, ServerUnreachable
from adapter_registry.domain.peft.fields import WEIGHTS
from adapter_registry.domain.sketch import sketch_of
from adapter_registry.domain.upload import Sent
from adapter_registry.local.folders import Hashing
from adapter_registry.services import push, upload
from adapter_registry.settings import read_settings
from adapter_registry.transport import sending
from adapter_registry.transport.remote import Remote
from tests.acceptance.hub.conftest import HubServer
from tests.acceptance.test_life import retrained
from tests.adapter_builders import copied
from tests.cutting_proxy import cutting

MIB = 1 << 20
BIG = 12 * MIB


@pytest.fixture
def heavy(lora_folder, tmp_path) -> Path:
    """An adapter with a file that takes a while to travel, unlike any other test's."""
    folder = copied(lora_folder, tmp_path / "heavy")
    (folder / "train.log").write_text(os.urandom(BIG // 2).hex())
    return folder


def client(hub: HubServer, folder: Path, url: str = "", token: str = "") -> Registry:
    given = {"ADAPTERS_HOME": str(folder / "home"), "ADAPTERS_CACHE": str(folder / "cache")}
    return Registry(read_settings({**given, "ADAPTERS_URL": url or hub.url, "ADAPTERS_TOKEN": token or hub.token}))


def ask(hub: HubServer, method: str, path: str, body=None, *, token: str = "", **headers: str):
    connection = http.client.HTTPConnection(hub.url.removeprefix("http://"), timeout=20)
    given = {"Authorization": f"Bearer {token or hub.token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
    connection.request(method, path, body, given)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, response.headers, data


def pulled(registry: Registry, name: str, folder: Path, out: Path) -> None:
    """Every file of the adapter comes back as it went."""
    registry.pull(f"{name}@v1", out)
    for path in folder.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()


class TestThroughTheServer:
    @pytest.mark.parametrize("pieces", [[1] * 3000, [MIB, 1, 3 * MIB], [7, 100_000, 1, 1, 2 * MIB] * 2, [BIG]], ids=len)
    def test_a_body_of_pieces_of_any_size_arrives_as_it_was_sent(self, hub, pieces):
        parts = [os.urandom(size) for size in pieces]
        sha256 = hashlib.sha256(b"".join(parts)).hexdigest()
        # An iterable without a length travels in chunks, one for each piece.
        status, _, _ = ask(hub, "PUT", f"/api/v1/adapters/team/pieces/blobs/{sha256}", iter(parts))
        assert status == 201  # and not 422: the server hashed what arrived

    @pytest.mark.parametrize(
        "cuts",
        [
            [500],
            [3 * MIB],
            [5 * MIB + 1, 2 * MIB, 100],
            [BIG - 1],
            [BIG // 2, BIG // 2 - 2 * MIB],
            [70_000] * 4,
        ],
        ids=str,
    )
    def test_a_connection_that_breaks_is_taken_up_where_it_broke(self, hub, heavy, tmp_path, cuts):
        name, told = f"team/cut-{'-'.join(map(str, cuts))}", []
        with cutting(hub.url, cuts) as proxy:
            client(hub, tmp_path, proxy.url).push(heavy, base="org/llama", name=name, progress=told.append)
            assert proxy.cuts_left == 0
            assert proxy.sent < BIG + 2 * MIB
        assert sum(told) == sum(path.stat().st_size for path in heavy.iterdir())
        pulled(hub.registry, name, heavy, tmp_path / "out")

    def test_the_command_again_goes_on_where_it_was_given_up(self, hub, heavy, tmp_path, monkeypatch):
        monkeypatch.setattr(sending, "FIRST_PAUSE", 0.01)
        with cutting(hub.url, [5 * MIB]) as proxy:
            registry, done = client(hub, tmp_path, proxy.url), threading.Event()

            def refuse_after_the_cut() -> None:
                while proxy.cuts_left and not done.wait(0.001):
                    pass
                proxy.refusing = True

            watcher = threading.Thread(target=refuse_after_the_cut)
            watcher.start()
            with pytest.raises(ServerUnreachable, match="Run the same command again"):
                registry.push(heavy, base="org/llama", name="team/given-up")
            done.set()
            watcher.join()
        with cutting(hub.url, []) as proxy:
            client(hub, tmp_path, proxy.url).push(heavy, base="org/llama", name="team/given-up")
            assert proxy.sent < BIG - 5 * MIB + 2 * MIB
        pulled(hub.registry, "team/given-up", heavy, tmp_path / "out")

    def test_what_is_there_does_not_travel(self, hub, heavy, tmp_path):
        client(hub, tmp_path).push(heavy, base="org/llama", name="team/once")
        other = retrained(heavy, tmp_path / "other", 3.0)
        with cutting(hub.url, []) as proxy:
            client(hub, tmp_path, proxy.url).push(other, base="org/llama", name="team/once")
            assert proxy.sent < MIB

    def test_two_who_push_the_same_files_at_once_both_succeed(self, hub, heavy, tmp_path):
        found: list[str] = []

        def go(i: int) -> None:
            registry = client(hub, tmp_path / str(i))
            found.append(registry.push(heavy, base="org/llama", name="team/three-at-once").version.digest)

        threads = [threading.Thread(target=go, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 3
        assert len(set(found)) == 1
        pulled(hub.registry, "team/three-at-once", heavy, tmp_path / "out")

    def test_a_file_that_changes_while_it_is_sent_is_refused_and_nothing_of_it_is_kept(
        self,
        hub,
        heavy,
        tmp_path,
        monkeypatch,
    ):
        real, hashed, files_of = Remote.send_rest, threading.Event(), Hashing.__call__

        def then(self, sources):
            files = files_of(self, sources)
            hashed.set()
            return files

        def changed(self, where, source, *, offset, size):
            assert hashed.wait(30)
            with (heavy / "train.log").open("r+b") as log:
                log.write(b"other bytes")
            return real(self, where, source, offset=offset, size=size)

        monkeypatch.setattr(Hashing, "__call__", then)
        monkeypatch.setattr(Remote, "send_rest", changed)
        with pytest.raises(DigestMismatch, match="nothing was stored"):
            client(hub, tmp_path).push(heavy, base="org/llama", name="team/changed")
        assert len(list((hub.cli.home / "blobs" / "incoming").iterdir())) == 0


class TestBeforeTheDigestIsKnown:
    @pytest.fixture
    def sent_to(self, monkeypatch) -> list[str]:
        """The addresses that large files are sent to, in order."""
        real, found = Remote.send_rest, []

        def seen(self, where, source, *, offset, size):
            found.append(where.split("/")[6])
            return real(self, where, source, offset=offset, size=size)

        monkeypatch.setattr(Remote, "send_rest", seen)
        return found

    def test_a_large_file_that_is_surely_missing_travels_by_its_sketch(self, hub, heavy, tmp_path, sent_to):
        client(hub, tmp_path).push(heavy, base="org/llama", name="team/ahead")
        assert sent_to == ["uploads"]
        pulled(hub.registry, "team/ahead", heavy, tmp_path / "out")

    def test_a_file_that_may_be_there_travels_by_its_digest(self, hub, heavy, tmp_path, sent_to):
        client(hub, tmp_path).push(heavy, base="org/llama", name="team/alike")
        with (heavy / "train.log").open("r+b") as log:
            log.seek(MIB)
            log.write(b"between the pieces")
        client(hub, tmp_path).push(heavy, base="org/llama", name="team/alike-2")
        assert sent_to == ["uploads", "blobs"]
        pulled(hub.registry, "team/alike-2", heavy, tmp_path / "out")

    def test_a_server_that_knows_no_sketches_gets_the_same_files(self, hub, heavy, tmp_path, sent_to, monkeypatch):
        real = Remote.call

        def older(self, function, given):
            if function is upload.unknown:
                raise NotFound("there is no such address.")
            return real(self, function, given)

        monkeypatch.setattr(Remote, "call", older)
        client(hub, tmp_path).push(heavy, base="org/llama", name="team/older")
        assert sent_to == ["blobs"]
        pulled(hub.registry, "team/older", heavy, tmp_path / "out")

    def test_nothing_of_a_refused_adapter_is_stored(self, hub, heavy, tmp_path, sent_to):
        (heavy / "adapter_config.json").write_text("{}")
        blobs = hub.cli.home / "blobs" / "sha256"
        before = sorted(blobs.rglob("*"))
        with pytest.raises(PushRefused):
            client(hub, tmp_path).push(heavy, base="org/llama", name="team/refused")
        assert sorted(blobs.rglob("*")) == before

    def test_one_of_two_equal_files_travels(self, hub, heavy, tmp_path, sent_to):
        (heavy / "train.txt").write_bytes((heavy / "train.log").read_bytes())
        told: list[int] = []
        client(hub, tmp_path).push(heavy, base="org/llama", name="team/equal", progress=told.append)
        assert sent_to == ["uploads"]
        assert sum(told) == sum(path.stat().st_size for path in heavy.iterdir())
        pulled(hub.registry, "team/equal", heavy, tmp_path / "out")


SKETCHED = "/api/v1/adapters/team/pieces/uploads/{sketch}"


class TestPiecesOfASketch:
    @pytest.fixture
    def data(self) -> bytes:
        return os.urandom(3 * MIB)

    def append(self, hub, data, offset, piece, **more):
        path = SKETCHED.format(sketch=sketch(data))
        return ask(hub, "PATCH", path, piece, Upload_Offset=str(offset), Upload_Length=str(len(data)), **more)

    def unknown(self, hub, adapter, data, **more):
        body = json.dumps({"sketches": [sketch(data)]})
        status, _, answer = ask(hub, "POST", f"/api/v1/adapters/{adapter}/uploads/unknown", body, **more)
        assert status == 201, answer
        return [each["received"] for each in json.loads(answer)]

    def test_the_digest_is_answered_with_the_last_byte_and_the_file_is_unknown_no_more(self, hub, data):
        assert self.unknown(hub, "team/pieces", data) == [0]
        status, _, answer = self.append(hub, data, 0, data[:MIB])
        assert (status, json.loads(answer)["digest"]) == (200, None)
        assert self.unknown(hub, "team/pieces", data) == [MIB]
        status, _, answer = self.append(hub, data, MIB, data[MIB:])
        assert (status, json.loads(answer)["digest"]) == (201, of_bytes(data))
        assert self.unknown(hub, "team/pieces", data) == []

    def test_nobody_learns_of_bytes_that_are_neither_their_namespaces_nor_theirs_to_read(self, hub, data):
        self.append(hub, data, 0, data)
        elsewhere = hub.token_of(f"u-ahead-{of_bytes(data)[7:19]}", ("other/*", "writer"))
        assert self.unknown(hub, "other/pieces", data, token=elsewhere) == [0]
        files = json.dumps({"files": [{"path": "train.log", "size": len(data), "digest": of_bytes(data)}]})
        missing = ask(hub, "POST", "/api/v1/adapters/other/pieces/missing", files, token=elsewhere)[2]
        assert json.loads(missing) == [of_bytes(data)]

    def test_nobody_goes_on_with_the_upload_of_another_account(self, hub, data):
        self.append(hub, data, 0, data[:MIB])
        colleague = hub.token_of(f"u-ahead-2-{of_bytes(data)[7:19]}", ("team/*", "writer"))
        assert self.unknown(hub, "team/pieces", data, token=colleague) == [0]
        assert self.append(hub, data, MIB, data[MIB:], token=colleague)[0] == 409

    def test_readers_send_nothing(self, hub, data):
        reader = hub.token_of(f"u-ahead-3-{of_bytes(data)[7:19]}", ("team/*", "reader"))
        assert self.append(hub, data, 0, data, token=reader)[0] == 403

    @pytest.mark.parametrize("text", ["sent", "0" * 63, "sha256:", "%2e%2e"])
    def test_an_address_that_is_no_sketch_is_refused(self, hub, text):
        path = SKETCHED.format(sketch=text)
        assert ask(hub, "PATCH", path, b"x", Upload_Offset="0", Upload_Length="1")[0] in (404, 422)

    def test_a_bucket_takes_none_before_its_digest_is_known(self, large_hub, data):
        assert self.unknown(large_hub, "team/pieces", data) == []


ADDRESS = "/api/v1/adapters/team/pieces/blobs/{digest}"


class TestWhatNobodyExamined:
    """The server believes no client: what is wrong with weights is found, whether they came at once or in pieces."""

    @pytest.fixture
    def broken(self, lora_folder, tmp_path) -> list[tuple[File, bytes]]:
        folder = copied(lora_folder, tmp_path / "broken")
        tensors = load_file(folder / WEIGHTS)
        name = min(tensors)
        tensors[name][0, 0] = np.nan
        save_file(tensors, folder / WEIGHTS, metadata={"salt": os.urandom(8).hex()})
        return [(file_of(path.read_bytes(), path.name), path.read_bytes()) for path in sorted(folder.iterdir())]

    @pytest.mark.parametrize("cuts", [(), (100,), (9, 3000)], ids=["at once", "in two", "in three"])
    def test_weights_with_a_nan_are_refused(self, hub, broken, cuts):
        for file, data in broken:
            path = SKETCHED.format(sketch=sketch(data)) + f"?path={file.path}"
            for start, end in pairwise((0, *cuts, len(data)) if file.path == WEIGHTS else (0, len(data))):
                headers = {"Upload_Offset": str(start), "Upload_Length": str(len(data))}
                status, _, _ = ask(hub, "PATCH", path, data[start:end], **headers)
            assert status == 201
        files = [file for file, _ in broken]
        with pytest.raises(PushRefused) as refused:
            Remote(hub.url, hub.token).call(
                push.commit, {"adapter": "team/pieces", "base": "org/llama", "files": files}
            )
        assert [problem.code for problem in refused.value.problems] == ["not-finite"]


class TestPieces:
    @pytest.fixture
    def data(self) -> bytes:
        return os.urandom(3 * MIB)

    def append(self, hub, data, offset, piece, **more):
        path = ADDRESS.format(digest=of_bytes(data))
        return ask(hub, "PATCH", path, piece, Upload_Offset=str(offset), Upload_Length=str(len(data)), **more)

    def state(self, hub, data, **more):
        status, headers, _ = ask(hub, "HEAD", ADDRESS.format(digest=of_bytes(data)), **more)
        return status, headers["Upload-Offset"]

    def test_pieces_make_a_blob(self, hub, data):
        assert self.state(hub, data) == (200, "0")
        assert self.append(hub, data, 0, data[:MIB])[0] == 200
        assert self.state(hub, data) == (200, str(MIB))
        status, headers, answer = self.append(hub, data, MIB, data[MIB:])
        assert (status, headers["Upload-Offset"]) == (201, str(len(data)))
        assert json.loads(answer) == {"digest": of_bytes(data), "size": len(data), "received": len(data)}
        assert self.state(hub, data) == (200, "0")

    def test_a_piece_for_another_place_changes_nothing(self, hub, data):
        self.append(hub, data, 0, data[:MIB])
        for offset in (0, MIB - 1, MIB + 1):
            assert self.append(hub, data, offset, b"x")[0] == 409
        assert self.state(hub, data) == (200, str(MIB))

    def test_pieces_that_make_something_else_are_not_kept(self, hub, data):
        self.append(hub, data, 0, data[:MIB])
        status, _, answer = self.append(hub, data, MIB, b"\0" * (2 * MIB))
        assert (status, json.loads(answer)["code"]) == (422, "digest-mismatch")
        assert self.state(hub, data) == (200, "0")

    def test_more_than_was_announced_is_refused(self, hub, data):
        self.append(hub, data, 0, data[:MIB])
        assert self.append(hub, data, MIB, data[MIB:] + b"x")[0] == 413

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Upload_Offset": "0"},
            {"Upload_Offset": "-1", "Upload_Length": "5"},
            {"Upload_Offset": "0", "Upload_Length": "9" * 40},
            {"Upload_Offset": "²", "Upload_Length": "5"},
            {"Upload_Offset": "0", "Upload_Length": str(1 << 40)},
            {"Upload_Offset": "7", "Upload_Length": "5"},
        ],
        ids=str,
    )
    def test_headers_that_make_no_sense_are_refused(self, hub, data, headers):
        sent = {name: value.encode("latin-1", "replace").decode("latin-1") for name, value in headers.items()}
        status, _, answer = ask(hub, "PATCH", ADDRESS.format(digest=of_bytes(data)), b"x", **sent)
        assert status in (409, 413, 422)
        assert json.loads(answer)["detail"]

    def test_nobody_sees_or_goes_on_with_the_upload_of_another_account_or_namespace(self, hub, data):
        self.append(hub, data, 0, data[:MIB])
        colleague = hub.token_of(f"u-colleague-{of_bytes(data)[7:19]}", ("team/*", "writer"))
        assert self.state(hub, data, token=colleague) == (200, "0")
        assert self.append(hub, data, MIB, data[MIB:], token=colleague)[0] == 409
        elsewhere = "/api/v1/adapters/other/pieces/blobs/" + of_bytes(data)
        assert ask(hub, "HEAD", elsewhere)[1]["Upload-Offset"] == "0"

    def test_readers_send_nothing(self, hub, data):
        reader = hub.token_of(f"u-reader-{of_bytes(data)[7:19]}", ("team/*", "reader"))
        assert self.state(hub, data, token=reader)[0] == 403
        assert self.append(hub, data, 0, data, token=reader)[0] == 403
        stranger = hub.token_of(f"u-stranger-{of_bytes(data)[7:19]}", ("other/*", "writer"))
        assert self.append(hub, data, 0, data, token=stranger)[0] == 404

    def test_a_bucket_takes_up_no_upload_and_says_so(self, large_hub, data):
        assert self.state(large_hub, data) == (404, None)
        status, _, answer = self.append(large_hub, data, 0, data[:MIB])
        assert (status, json.loads(answer)["code"]) == (422, "unsupported")


class TestSeveralRequestsOnOneConnection:
    """A large body is received past the parser of HTTP; the connection is as good as before behind it."""

    def head(self, hub, data: bytes, *, last: int | None = None, digest: str = "") -> bytes:
        path = ADDRESS.format(digest=digest or of_bytes(data))
        length = f"Content-Length: {len(data)}\r\n" + (
            "" if last is None else f"Upload-Offset: 0\r\nUpload-Length: {last}\r\n"
        )
        method = "PUT" if last is None else "PATCH"
        host = hub.url.removeprefix("http://")
        lines = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {hub.token}\r\n{length}\r\n"
        return lines.encode()

    def answers(self, hub, sent: bytes, count: int, *, pieces: int) -> list[tuple[int, bytes]]:
        """(status, body) of each answer to what is sent on one connection, in pieces of this size."""
        host, _, port = hub.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:

            def send() -> None:
                for start in range(0, len(sent), pieces):
                    connection.sendall(sent[start : start + pieces])

            sender = threading.Thread(target=send)
            sender.start()
            found = []
            # One buffered reader for all: what it read ahead belongs to the next answer.
            stream = connection.makefile("rb")
            for _ in range(count):
                status = int(stream.readline().split()[1])
                headers = http.client.parse_headers(stream)
                found.append((status, stream.read(int(headers["content-length"]))))
            sender.join()
        return found

    @pytest.mark.parametrize("pieces", [1000, MIB, 7 * MIB + 1, 40 * MIB])
    def test_large_bodies_and_small_questions_follow_each_other(self, hub, pieces):
        first, second = os.urandom(5 * MIB + 3), os.urandom(4 * MIB)
        health = f"GET /health HTTP/1.1\r\nHost: {hub.url.removeprefix('http://')}\r\n\r\n".encode()
        sent = self.head(hub, first) + first + health + self.head(hub, second, last=len(second)) + second + health
        found = self.answers(hub, sent, 4, pieces=pieces)
        assert [status for status, _ in found] == [201, 200, 201, 200]
        assert json.loads(found[0][1])["digest"] == of_bytes(first)
        assert json.loads(found[2][1])["digest"] == of_bytes(second)

    @pytest.mark.parametrize("announced", [MIB, 3 * MIB], ids=["too much", "far too much"])
    def test_the_rest_of_a_body_that_is_refused_is_read_past(self, hub, announced):
        data, other = os.urandom(12 * MIB), os.urandom(3 * MIB)
        sent = self.head(hub, data, last=announced) + data + self.head(hub, other) + other
        found = self.answers(hub, sent, 2, pieces=MIB)
        assert [status for status, _ in found] == [413, 201]
        assert json.loads(found[1][1])["digest"] == of_bytes(other)

    def test_large_bytes_that_are_something_else_leave_nothing(self, hub):
        data, other = os.urandom(5 * MIB), os.urandom(3 * MIB)
        sent = self.head(hub, data, digest=of_bytes(other)) + data + self.head(hub, other) + other
        found = self.answers(hub, sent, 2, pieces=MIB)
        assert [status for status, _ in found] == [422, 201]
        assert list((hub.cli.home / "blobs" / "incoming").iterdir()) == []

    def test_every_byte_is_counted(self, hub):
        def received() -> float:
            text = ask(hub, "GET", "/metrics")[2].decode()
            return float(re.search(r"^adapters_received_bytes_total (\S+)", text, re.MULTILINE)[1])

        data, before = os.urandom(5 * MIB), received()
        assert self.answers(hub, self.head(hub, data) + data, 1, pieces=MIB)[0][0] == 201
        assert received() - before >= len(data)


class TestStraightToTheBucket:
    @pytest.fixture
    def direct_only(self, monkeypatch) -> None:
        def refuse(*_arguments, **_given):
            raise AssertionError("bytes went through the server")

        monkeypatch.setattr(Remote, "send", refuse)
        monkeypatch.setattr(Remote, "send_rest", refuse)

    @pytest.fixture
    def remote(self, large_hub) -> Iterator[Remote]:
        return Remote(large_hub.url, large_hub.token)

    def begin(self, remote: Remote, adapter: str, data: bytes):
        [found] = remote.call(upload.begin, {"adapter": adapter, "files": [file_of(data)]})
        return found

    def finish(self, remote: Remote, adapter: str, data: bytes, ticket: str) -> tuple[Digest, ...]:
        sent = Sent(of_bytes(data), len(data), ticket)
        return remote.call(upload.finish, {"adapter": adapter, "sent": [sent]})

    def put(self, found, data: bytes) -> int:
        return sending._put(found.direct, io.BytesIO(data))[0]

    def owned(self, remote: Remote, adapter: str, data: bytes) -> bool:
        return remote.call(push.missing, {"adapter": adapter, "files": [file_of(data)]}) == ()

    def test_no_byte_of_a_push_goes_through_the_server(self, large_hub, heavy, tmp_path, direct_only):
        told: list[int] = []
        pushed = client(large_hub, tmp_path).push(heavy, base="org/llama", name="team/direct", progress=told.append)
        assert "sent-through-server" not in [notice.code for notice in pushed.notices]
        assert sum(told) == sum(path.stat().st_size for path in heavy.iterdir())
        pulled(large_hub.registry, "team/direct", heavy, tmp_path / "out")

    def test_bytes_of_another_namespace_have_to_be_sent_for_real(self, remote):
        data = os.urandom(MIB)
        first = self.begin(remote, "team/a", data)
        assert self.put(first, data) == 200
        assert self.finish(remote, "team/a", data, first.ticket) == (of_bytes(data),)
        other = self.begin(remote, "other/a", data)
        assert self.finish(remote, "other/a", data, other.ticket) == ()
        assert self.finish(remote, "other/a", data, first.ticket) == ()
        assert not self.owned(remote, "other/a", data)
        with pytest.raises(Conflict, match="not in the store"):
            remote.call(push.commit, {"adapter": "other/a", "base": "org/llama", "files": [file_of(data)]})
        assert self.put(other, data) == 200
        assert self.finish(remote, "other/a", data, other.ticket) == (of_bytes(data),)
        assert self.owned(remote, "other/a", data)

    def test_an_upload_counts_for_whom_it_was_begun_and_only_when_it_is_there(self, large_hub, remote):
        data = os.urandom(MIB)
        found = self.begin(remote, "team/b", data)
        assert self.finish(remote, "team/b", data, found.ticket) == ()
        assert self.put(found, data[::-1]) == 400
        assert self.finish(remote, "team/b", data, found.ticket) == ()
        assert self.put(found, data) == 200
        colleague = Remote(large_hub.url, large_hub.token_of("d-colleague", ("team/*", "writer")))
        assert self.finish(colleague, "team/b", data, found.ticket) == ()
        for ticket in ("", "0" * 32, "../" * 10, found.direct.headers["x-amz-meta-proof"]):
            assert self.finish(remote, "team/b", data, ticket) == ()
        assert not self.owned(remote, "team/b", data)
        assert self.finish(remote, "team/b", data, found.ticket) == (of_bytes(data),)
        assert self.finish(remote, "team/b", data, found.ticket) == (of_bytes(data),)

    def test_two_who_send_the_same_new_bytes_at_once_both_succeed(self, large_hub, heavy, tmp_path):
        found: list[str] = []

        def go(i: int) -> None:
            registry = client(large_hub, tmp_path / str(i))
            found.append(registry.push(heavy, base="org/llama", name=f"team{i}/both").version.digest)

        threads = [threading.Thread(target=go, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 2
        assert len(set(found)) == 1

    def test_a_bucket_whose_name_means_nothing_here_is_gone_around_at_once(
        self, large_hub, heavy, tmp_path, monkeypatch
    ):
        real, asked = Remote.call, []

        def elsewhere(self, function, given):
            answer = real(self, function, given)
            if function is not upload.begin:
                return answer
            asked.extend(answer)
            nowhere = "http://bucket.invalid:9000/"
            return tuple(dataclasses.replace(u, direct=dataclasses.replace(u.direct, url=nowhere)) for u in answer)

        monkeypatch.setattr(Remote, "call", elsewhere)
        monkeypatch.setattr(sending, "FIRST_PAUSE", 3600)
        pushed = client(large_hub, tmp_path).push(heavy, base="org/llama", name="team/nowhere")
        assert asked
        [notice] = [notice for notice in pushed.notices if notice.code == "sent-through-server"]
        assert "bucket.invalid:9000 is not reached" in str(notice)

    @pytest.mark.parametrize("failure", ["silence", "refusal"])
    def test_a_bucket_that_cannot_be_reached_from_here_is_gone_around_and_that_is_said(
        self,
        large_hub,
        heavy,
        tmp_path,
        monkeypatch,
        failure,
    ):
        def put(_address, _body):
            if failure == "silence":
                raise OSError("no route to host")
            return 403, "AccessDenied"

        monkeypatch.setattr(sending, "_put", put)
        monkeypatch.setattr(sending, "FIRST_PAUSE", 0.01)
        pushed = client(large_hub, tmp_path).push(heavy, base="org/llama", name=f"team/around-{failure}")
        [notice] = [notice for notice in pushed.notices if notice.code == "sent-through-server"]
        assert "no route to host" in str(notice) or "403 AccessDenied" in str(notice)
        pulled(large_hub.registry, f"team/around-{failure}", heavy, tmp_path / "out")

    def test_a_file_that_changes_while_it_is_sent_is_refused(
        self,
        large_hub,
        heavy,
        tmp_path,
        monkeypatch,
    ):
        real = sending._put

        def changed(address, body):
            with (heavy / "train.log").open("r+b") as log:
                log.write(b"other bytes")
            return real(address, body)

        monkeypatch.setattr(sending, "_put", changed)
        with pytest.raises(DigestMismatch, match="nothing was stored"):
            client(large_hub, tmp_path).push(heavy, base="org/llama", name="team/changed")

    @pytest.mark.parametrize(
        "document", [{"files": [{"path": "a", "size": -1, "digest": "0" * 64}]}, {"files": [{"path": "a"}]}, {}]
    )
    def test_an_upload_that_makes_no_sense_is_refused_with_a_reason(self, large_hub, document):
        status, _, answer = ask(large_hub, "POST", "/api/v1/adapters/team/a/uploads", json.dumps(document))
        assert status == 422
        assert json.loads(answer)["detail"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"ADAPTERS_BLOBS_URL": "s3://no-such-bucket"}, "does not exist. Create it"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "refuses these credentials"),
    ],
)
def test_a_server_does_not_start_on_a_bucket_that_it_cannot_use(cli, s3_server, wrong, told):
    settings = {
        "ADAPTERS_BLOBS_URL": f"s3://{s3_server.fresh_bucket()}",
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
    }
    command = [*cli.command, "serve", "--port", "0"]
    environment = {**cli.environment, **settings, **wrong}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def sketch(data: bytes) -> str:
    return sketch_of(len(data), lambda size, at: data[at : at + size])


def file_of(data: bytes, path: str = "train.log") -> File:
    return File(path, len(data), of_bytes(data))
