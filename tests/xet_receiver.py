"""A toy hub that takes what the real Xet client sends, keeps it in memory and writes down every request.

It judges nothing: the tests read its `xorbs` and `shards` with the code under test. The client runs in a process of
its own, so that its caches, its settings and its threads are nobody else's.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

PUSH = """
import sys
from pathlib import Path
from huggingface_hub import CommitOperationAdd, HfApi
api = HfApi(token="hf_toy")
files = sorted(Path(sys.argv[1]).iterdir())
if sys.argv[2] == "path":
    for file in files:
        api.upload_file(path_or_fileobj=str(file), path_in_repo=file.name, repo_id="team/toy")
else:
    api.create_commit("team/toy", [CommitOperationAdd(f.name, f.read_bytes()) for f in files], commit_message="all")
"""


@dataclass
class Received:
    """What one or more pushes left here: `log` holds (method, path, headers, bytes of the body) in order."""

    url: str = ""
    log: list[tuple[str, str, dict[str, str], int]] = field(default_factory=list)
    xorbs: dict[str, bytes] = field(default_factory=dict)
    shards: list[bytes] = field(default_factory=list)
    commits: list[bytes] = field(default_factory=list)

    def committed(self) -> dict[str, str]:
        """The sha256 of each file that was committed, by name."""
        lines = [json.loads(line) for commit in self.commits for line in commit.splitlines()]
        return {line["value"]["path"]: line["value"]["oid"] for line in lines if line["key"] == "lfsFile"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    received: Received

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _any(self) -> None:
        body = self._body()
        self.received.log.append((self.command, self.path, dict(self.headers), len(body)))
        self._answer(*self._reply(body))

    do_GET = do_POST = do_PUT = _any

    def _reply(self, body: bytes) -> tuple[int, object]:
        path, got = self.path, self.received
        if "/preupload/" in path:
            asked = json.loads(body)["files"]
            return 200, {"files": [{"path": f["path"], "uploadMode": "lfs", "shouldIgnore": False} for f in asked]}
        if "/xet-write-token/" in path:
            cas = f"{got.url}/cas/{secrets.token_hex(8)}"
            return 200, {"casUrl": cas, "exp": int(time.time()) + 3600, "accessToken": "toy"}
        if "/v1/xorbs/default/" in path:
            got.xorbs[path.rpartition("/")[2]] = body
            return 200, {"was_inserted": True}
        if path.endswith("/v1/shards"):
            got.shards.append(body)
            return 200, {"result": 1}
        if "/commit/" in path:
            got.commits.append(body)
            return 200, {"success": True, "commitOid": "0" * 40, "commitUrl": f"{got.url}/team/toy/commit/{'0' * 40}"}
        return 404, {"error": "no such route"}


@contextmanager
def receiver() -> Iterator[Received]:
    """A toy hub on a free port of this machine, for as long as the block runs."""
    received = Received()
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"received": received})) as server:
        received.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()


def push(received: Received, contents: Mapping[str, bytes], *, home: Path, way: str = "path") -> None:
    """Upload these contents with the installed huggingface_hub and hf_xet, from paths one by one or as bytes at once.

    `home` is an empty folder: the files and the client's own caches go there.
    """
    folder = home / "files"
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGINGFACE_"))}
    own = {"HF_ENDPOINT": received.url, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    own |= {"NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PUSH, str(folder), way],
        env=kept | own,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
