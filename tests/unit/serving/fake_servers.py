"""Servers that answer as vLLM 0.33, SGLang 0.5.23 and llama.cpp do in their source, without a model.

`test_sglang_wheel.py` holds the second against the code of the wheel, `benchmarks/serving_llamacpp.py` runs the third.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO


class Fake:
    """What a server holds; tests look at it and change it.

    Attributes:
        says: route -> what it answers with 200, whatever it is asked.
        admin_key: what it asks for where adapters are loaded, if not `key`.
        trickles_at: route whose answers come byte by byte and never end, from their headers on.
        hangs_up_at: route whose requests it ends without an answer, as a server that is killed does.
    """

    def __init__(self, *, key: str | None = None, weights: str = "base") -> None:
        self.key, self.loaded, self.asked = key, dict[str, str](), list[tuple[str, Any]]()
        self.url, self.weights = "", weights
        self.refuses = self.ignores = False
        self.admin_key: str | None = None
        self.says: dict[str, Any] = {}
        self.hangs_up_at = self.trickles_at = ""

    def wanted(self, path: str) -> str | None:
        """The key that a route asks for."""
        return self.admin_key if self.admin_key and path.endswith("load_lora_adapter") else self.key

    def forget(self) -> None:
        """Restart: a server starts without adapters."""
        self.loaded.clear()

    def put(self, name: str, path: str) -> None:
        """Have a name loaded, as a request that nobody here saw would."""
        self.loaded[name] = path

    def chosen(self, path: str | None) -> list[tuple[int, float]]:
        """(token, logarithm of its probability), which follow from the base's weights and the adapter's."""
        seed = self.weights.encode()
        if path is not None and not self.ignores:
            seed += (Path(path) / "adapter_model.safetensors").read_bytes()
        return [(each, -each / 256) for each in hashlib.sha256(seed).digest()[:8]]

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
        if path == "/v1/completions":
            return self._complete(body["model"])
        return super().answer(method, path, body)

    def _complete(self, model: str) -> tuple[int, Any]:
        if model not in (*self.loaded, "base"):
            return 404, _error(f"The model `{model}` does not exist.", "NotFoundError", 404)
        rows = self.chosen(self.loaded.get(model))
        tokens, logprobs = [f"token_id:{token}" for token, _ in rows], [logprob for _, logprob in rows]
        return 200, {"choices": [{"logprobs": {"tokens": tokens, "token_logprobs": logprobs}}]}

    def _load(self, name: str, path: str, *, in_place: bool) -> tuple[int, Any]:
        if name in self.loaded and not in_place:
            return 400, _error(f"The lora adapter '{name}' has already been loaded.", "InvalidUserInput", 400)
        if not (Path(path) / "adapter_config.json").is_file():
            return 404, _error(f"Loading lora {name} failed: No adapter found for {path}", "NotFoundError", 404)
        if self.refuses:
            return 500, _error("LoRA rank 64 is greater than max_lora_rank 16.", "InternalServerError", 500)
        self.loaded[name] = path
        return 200, f"Success: LoRA adapter '{name}' added successfully."


class FakeSglang(Fake):
    """SGLang's routes: nothing in place; a request brings back what was unloaded; room is made without a word."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.remembered, self.unfinished = dict[str, str](), set[str]()
        self.most: int | None = None
        self.half = False

    def forget(self) -> None:
        """Restart."""
        super().forget()
        self.remembered.clear()
        self.unfinished.clear()

    def put(self, name: str, path: str) -> None:
        """The same, remembered."""
        self.loaded[name] = self.remembered[name] = path

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """As SGLang does."""
        name = str(body.get("lora_name"))
        if path == "/load_lora_adapter":
            return self._load(name, str(body["lora_path"]))
        if path == "/unload_lora_adapter":
            return self._unload(name)
        if path == "/generate":
            return self._generate(body.get("lora_path"))
        return super().answer(method, path, body)

    def _load(self, name: str, path: str) -> tuple[int, Any]:
        if name in self.unfinished:
            told = f"LoRA adapter '{name}' has an incomplete unload. Retry the unload before loading it again."
            return _sglang(told, None)
        if name in self.loaded:
            told = f"Failed to load LoRA adapter {name} because it is already loaded"
            return _sglang(told, self.loaded)
        if self.refuses or not (Path(path) / "adapter_config.json").is_file():
            if self.half:  # one of its processes took it, another did not
                self.unfinished.add(name)
            return _sglang(f"rank {path}", self.loaded)
        self.put(name, path)
        if self.most is not None:
            while len(self.loaded) > self.most:
                del self.loaded[next(iter(self.loaded))]
        return _sglang("", self.loaded)

    def _unload(self, name: str) -> tuple[int, Any]:
        if name not in self.loaded and name not in self.unfinished:
            return _sglang(f"LoRA with name {name} does not exist. Loaded LoRAs: {self.loaded.keys()}", None)
        self.unfinished.discard(name)
        self.loaded.pop(name, None)
        return _sglang("", self.loaded)

    def _generate(self, name: str | None) -> tuple[int, Any]:
        if name is not None and name not in self.loaded:
            if name not in self.remembered:
                return 400, {"error": {"message": f"Got LoRA adapter that has never been loaded: {name}"}}
            status, said = self._load(name, self.remembered[name])
            if status != 200:
                told = f"Failed to implicitly load LoRA adapter {name}: {said['error_message']}"
                return 400, {"error": {"message": told}}
        rows = self.chosen(self.loaded[name] if name else None)
        return 200, {
            "text": "",
            "meta_info": {"output_token_logprobs": [[logprob, token, None] for token, logprob in rows]},
        }


class FakeLlamaCpp(Fake):
    """llama.cpp's routes: what it was started with is added as much as it is told, for every request."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.known = list[dict[str, Any]]()

    def start(self, *paths: str) -> None:
        """Start with these adapters, each `--lora-scaled FILE:0`."""
        self.known = [{"id": at, "path": path, "scale": 0.0} for at, path in enumerate(paths)]

    def forget(self) -> None:
        """Restart with the same adapters."""
        self.start(*(each["path"] for each in self.known))

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """As llama.cpp does."""
        if (method, path) == ("GET", "/lora-adapters"):
            return 200, self.known
        if (method, path) == ("POST", "/lora-adapters"):
            asked = {each["id"]: each["scale"] for each in body}
            if not self.refuses:
                for each in self.known:
                    each["scale"] = asked.get(each["id"], 0.0)
            return 200, {"success": True}
        if path == "/completion":
            asked = {each["id"]: each["scale"] for each in body.get("lora", [])}
            added = [each["path"] for each in self.known if asked.get(each["id"], each["scale"])]
            seed = self.weights + "".join("" if self.ignores else Path(each).read_bytes().hex() for each in added)
            rows = [(each, -each / 256) for each in hashlib.sha256(seed.encode()).digest()[:8]]
            return 200, {"completion_probabilities": [{"id": token, "logprob": logprob} for token, logprob in rows]}
        return 404, {"error": {"message": "File Not Found", "code": 404}}


def _sglang(error: str, loaded: dict[str, str] | None) -> tuple[int, Any]:
    return 400 if error else 200, {"success": not error, "error_message": error or None, "loaded_adapters": loaded}


def _error(message: str, kind: str, code: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "code": code}}


def _trickle(sink: BinaryIO) -> None:
    """Answer a header byte by byte, until nobody listens any more."""
    with suppress(OSError):
        sink.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            sink.write(b"x")
            time.sleep(0.02)


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
            if self.path in (fake.hangs_up_at, fake.trickles_at):
                self.close_connection = True
                if self.path == fake.trickles_at:
                    _trickle(self.wfile)
                return
            key = fake.wanted(self.path)
            if key and self.headers.get("Authorization") != f"Bearer {key}":
                status, answer = 401, {"error": "Unauthorized"}
            elif self.path in fake.says:
                status, answer = 200, fake.says[self.path]
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
