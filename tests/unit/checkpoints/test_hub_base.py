"""A Base from a Hub repository: the real client against a small server; no weights are fetched."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.checkpoints.hub_base import HubUnreachable, read_hub_base
from adapter_registry.domain.base import Base
from adapter_registry.domain.errors import InvalidInput, InvalidReference, NotFound, RegistryError
from adapter_registry.domain.lock import Level, compare

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"
TIME = "2026-01-31T12:00:00.000Z"
INDEX = "model.safetensors.index.json"
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32}
TOKENIZER = {"added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}


def files(*, shards: int = 1) -> dict[str, bytes]:
    """A checkpoint with tensors much larger than their headers."""
    names = [f"model.layers.{i}.weight" for i in range(3 * shards)]
    made: dict[str, bytes] = {"config.json": json.dumps(CONFIG).encode()}
    made["tokenizer.json"] = json.dumps(TOKENIZER).encode()
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors" if shards > 1 else "model.safetensors"
        held = names[shard::shards]
        made[file] = save({name: np.full((300, 200), shard, dtype=np.float32) for name in held})
        weight_map |= dict.fromkeys(held, file)
    if shards > 1:
        made[INDEX] = json.dumps({"metadata": {}, "weight_map": weight_map}).encode()
    return made


@dataclass
class Hub:
    """What the server holds and what it was asked for.

    Attributes:
        files: of the one repository, org/name.
        plain: names of weight files it keeps without LFS, as the Hub does with small ones.
        ignores_range: answers 200 with everything, as some proxies do.
        refusal: status and error code for everything.
        sent: bytes sent of each file.
    """

    files: Mapping[str, bytes]
    endpoint: str = ""
    plain: frozenset[str] = frozenset()
    ignores_range: bool = False
    refusal: tuple[int, str] | None = None
    sent: dict[str, int] = field(default_factory=dict)

    def siblings(self) -> list[dict[str, object]]:
        return [self._sibling(name, data) for name, data in self.files.items()]

    def _sibling(self, name: str, data: bytes) -> dict[str, object]:
        sibling: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": "0" * 40}
        if name.endswith(".safetensors") and name not in self.plain:
            sibling["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return sibling

    def read(self, revision: str = COMMIT) -> Base:
        return read_hub_base(f"hf://org/name@{revision}", endpoint=self.endpoint)

    def refused(self, kind: type[RegistryError], url: str = f"hf://org/name@{COMMIT}") -> str:
        with pytest.raises(kind) as refused:
            read_hub_base(url, endpoint=self.endpoint)
        return str(refused.value)


class Routes(BaseHTTPRequestHandler):
    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.hub.refusal:
            self.error(*self.hub.refusal)
        elif found := re.fullmatch(r"/api/models/org/name/revision/(.+)", path):
            self.info(found[1])
        elif path.startswith("/api/models/org/name/commits/"):
            self.json([{"id": c, "title": "", "message": "", "authors": [], "date": TIME} for c in (COMMIT, OTHER)])
        elif found := re.fullmatch(rf"/org/name/resolve/{COMMIT}/(.+)", path):
            self.file(found[1])
        else:
            self.error(404, "RepoNotFound")

    def info(self, revision: str) -> None:
        if revision not in ("main", "v1.0", COMMIT):
            return self.error(404, "RevisionNotFound")
        return self.json({"id": "org/name", "modelId": "org/name", "sha": COMMIT, "siblings": self.hub.siblings()})

    def file(self, name: str) -> None:
        data = self.hub.files[name]
        asked = re.fullmatch(r"bytes=0-(\d+)", self.headers.get("Range", ""))
        part = data[: int(asked[1]) + 1] if asked and not self.hub.ignores_range else data
        status = 206 if asked and not self.hub.ignores_range else 200
        self.hub.sent[name] = self.hub.sent.get(name, 0) + len(part)
        self.answer(status, part, {"Content-Range": f"bytes 0-{len(part) - 1}/{len(data)}", "X-Repo-Commit": COMMIT})

    def json(self, value: object) -> None:
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def error(self, status: int, code: str) -> None:
        self.answer(status, b'{"error": "no"}', {"X-Error-Code": code, "X-Error-Message": "no"})

    def answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing: the tests' output stays readable."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    held = Hub(files())
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Routes,), {"hub": held}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    held.endpoint = f"http://127.0.0.1:{server.server_port}"
    yield held
    server.shutdown()
    server.server_close()


def local(folder: Path, held: Mapping[str, bytes]) -> Base:
    for name, data in held.items():
        (folder / name).write_bytes(data)
    return read_base(folder, cache=None, progress=lambda _: None)


class TestReading:
    @pytest.mark.parametrize("shards", [1, 3])
    def test_it_is_the_folder_without_the_bytes(self, hub: Hub, tmp_path: Path, shards: int):
        hub.files = files(shards=shards)
        remote, here = hub.read(), local(tmp_path, hub.files)
        assert remote.files == here.files
        assert [(t.name, t.dtype, t.shape) for t in remote.tensors] == [
            (t.name, t.dtype, t.shape) for t in here.tensors
        ]
        assert (remote.config, remote.tokenizer, remote.architecture) == (
            here.config,
            here.tokenizer,
            "LlamaForCausalLM",
        )
        assert (remote.root, remote.spot) == (None, None)
        assert compare(remote, here).level is Level.EXACT

    def test_where_it_is_from_is_recorded(self, hub: Hub):
        base = hub.read()
        assert (base.repository, base.commit, base.source) == ("org/name", COMMIT, f"hf://org/name@{COMMIT}")
        assert base.notices == ()

    @pytest.mark.parametrize("shards", [1, 3])
    def test_of_the_weights_only_headers_are_fetched(self, hub: Hub, shards: int):
        hub.files = files(shards=shards)
        hub.read()
        for name, data in hub.files.items():
            if name.endswith(".safetensors"):
                header = 8 + int.from_bytes(data[:8], "little")
                assert header <= hub.sent[name] <= header + 72 < len(data) / 100

    def test_a_server_that_ignores_ranges_is_cut_off(self, hub: Hub):
        hub.ignores_range = True
        assert len(hub.read().tensors) == 3

    @pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:7]])
    def test_a_branch_a_tag_or_the_start_of_a_commit_is_resolved_and_it_is_said(self, hub: Hub, revision: str):
        base = hub.read(revision)
        assert base.commit == COMMIT
        assert f"{revision} is commit {COMMIT} now" in str(base.notices[0])

    def test_a_weight_file_kept_without_a_sha256_is_fetched_to_have_one(self, hub: Hub, tmp_path: Path):
        hub.plain = frozenset({"model.safetensors"})
        assert hub.read().files == local(tmp_path, hub.files).files

    def test_copies_beside_the_checkpoint_and_files_in_folders_are_left_out(self, hub: Hub):
        more = {"consolidated.safetensors": b"x" * 100, "original/model.safetensors": b"x" * 100}
        hub.files = {**files(shards=2), **more}
        base = hub.read()
        assert [notice.file for notice in base.notices] == ["consolidated.safetensors"]
        assert not hub.sent.keys() & more.keys()

    def test_a_base_without_config_and_tokenizer_is_read(self, hub: Hub):
        hub.files = {name: data for name, data in files().items() if name.endswith(".safetensors")}
        assert (hub.read().config, hub.read().tokenizer) == (None, None)


class TestRefusals:
    @pytest.mark.parametrize("url", ["hf://org/name", "hf://@main", "hf://a/b/c@main", "hf://org/name@", "hf://a b@c"])
    def test_an_address_without_repository_or_revision(self, hub: Hub, url: str):
        assert "write hf://org/repo@<commit>" in hub.refused(InvalidReference, url)

    def test_an_id_that_the_hub_has_not(self, hub: Hub):
        assert "hf://or--g/name@main: " in hub.refused(InvalidReference, "hf://or--g/name@main")

    def test_no_such_repository(self, hub: Hub):
        assert "no such repository, or HF_TOKEN may not see it" in hub.refused(NotFound, "hf://org/other@main")

    @pytest.mark.parametrize("revision", ["nightly", OTHER])
    def test_no_such_revision(self, hub: Hub, revision: str):
        assert "the revision does not" in hub.refused(NotFound, f"hf://org/name@{revision}")

    def test_no_such_start_of_a_commit(self, hub: Hub):
        assert "no commit begins with abcdef0" in hub.refused(NotFound, "hf://org/name@abcdef0")

    def test_a_gated_repository(self, hub: Hub):
        hub.refusal = (403, "GatedRepo")
        assert "is gated: accept its terms on the Hub and set HF_TOKEN" in hub.refused(NotFound)

    def test_a_wrong_token(self, hub: Hub):
        hub.refusal = (401, "")
        assert "answers wrongly" in hub.refused(HubUnreachable)

    def test_nobody_listens(self, hub: Hub):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            hub.endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
            text = hub.refused(HubUnreachable)
        assert "the Hub cannot be reached" in text
        assert "register a downloaded folder" in text

    @pytest.mark.parametrize(
        ("held", "told"),
        [
            ({"pytorch_model.bin": b"x"}, "its weights are pickled"),
            ({"model.gguf": b"x"}, "its weights are GGUF"),
            ({"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}, "holds an adapter, not a base"),
            ({INDEX: b'{"weight_map": {"a": "../x.safetensors"}}'}, "in the same folder"),
            ({INDEX: b'{"weight_map": {"a": "x.safetensors"}}'}, "lacks 1 of 1 shards: x.safetensors"),
            ({"model.safetensors": b"version https://git-lfs.github.com/spec/v1\n" + b"x" * 99}, "Git LFS pointer"),
            ({"model.safetensors": b""}, "an empty file"),
            ({"model.safetensors": files()["model.safetensors"][:-5]}, "5 bytes are missing"),
            ({"model.safetensors": (1 << 60).to_bytes(8, "little") + b"{}"}, "a number no file has"),
        ],
    )
    def test_no_sound_safetensors_there(self, hub: Hub, held: dict[str, bytes], told: str):
        hub.files = held
        assert told in hub.refused(InvalidInput)


def test_a_checkpoint_read_here_and_there_is_one_base_in_the_registry(hub: Hub, tmp_path: Path):
    save_file({"model.layers.0.weight": np.zeros(3, dtype=np.float32)}, tmp_path / "model.safetensors")
    hub.files = {"model.safetensors": (tmp_path / "model.safetensors").read_bytes()}
    here = read_base(tmp_path, cache=None, progress=lambda _: None)
    assert compare(hub.read(), here).accepted
    assert compare(here, hub.read()).accepted
