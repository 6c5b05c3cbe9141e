"""Servers that answer as vLLM 0.33 and SGLang 0.5 do in their source, without a model."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Fake:
    """What a server holds; tests look at it and change it."""

    def __init__(self, *, key: str | None = None) -> None:
        self.key, self.loaded, self.asked = key, dict[str, str](), list[tuple[str, Any]]()
        self.url = ""

    def forget(self) -> None:
        """Restart: a server starts without adapters."""
        self.loaded.clear()

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """(status, JSON or text) of a request; the subclass knows the stack's own routes."""
        if (method, path) == ("GET", "/v1/models"):
            base = {"id": "base", "root": "base", "parent": None}
            return 200, {"data": [base, *({"id": n, "root": r, "parent": "base"} for n, r in self.loaded.items())]}
        return 404, {"detail": "Not Found"}


class FakeVllm(Fake):
    """vLLM's routes that load: text on success, 400 for a name that is loaded, 404 for a path that is not there."""

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """As vLLM does."""
        name = str(body.get("lora_name"))
        if path == "/v1/load_lora_adapter":
            return self._load(name, str(body["lora_path"]), in_place=bool(body.get("load_inplace")))
        if path == "/v1/unload_lora_adapter":
            if name not in self.loaded:
                return 404, _error(f"The lora adapter '{name}' cannot be found.", "NotFoundError", 404)
            del self.loaded[name]
            return 200, f"Success: LoRA adapter '{name}' removed successfully."
        return super().answer(method, path, body)

    def _load(self, name: str, path: str, *, in_place: bool) -> tuple[int, Any]:
        if name in self.loaded and not in_place:
            return 400, _error(f"The lora adapter '{name}' has already been loaded.", "InvalidUserInput", 400)
        if not (Path(path) / "adapter_config.json").is_file():
            return 404, _error(f"Loading lora {name} failed: No adapter found for {path}", "NotFoundError", 404)
        self.loaded[name] = path
        return 200, f"Success: LoRA adapter '{name}' added successfully."


def _error(message: str, kind: str, code: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "code": code}}


@contextmanager
def running(fake: Fake) -> Iterator[Fake]:
    """The server, on a free port of this machine, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._respond({})

        def do_POST(self) -> None:
            self._respond(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _respond(self, body: dict[str, Any]) -> None:
            fake.asked.append((self.path, body))
            if fake.key and self.headers.get("Authorization") != f"Bearer {fake.key}":
                status, answer = 401, {"error": "Unauthorized"}
            else:
                status, answer = fake.answer(self.command, self.path, body)
            data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
