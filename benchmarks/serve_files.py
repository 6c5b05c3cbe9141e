"""CPU seconds of the server per GB downloaded and uploaded, one large file at a time.

Promised: at most 1.0 s per GB for GET, and 3.0 s per GB for PUT with its hash.

    python -m benchmarks.serve_files
"""

from __future__ import annotations

import hashlib
import http.client
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.servers import adapters_serve, cpu_seconds

SIZE = 256 << 20
ROUNDS = 5
BLOCK = 1 << 20


def put(url: str, token: str, data: bytes) -> None:
    digest = hashlib.sha256(data).hexdigest()
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
    headers = {"Authorization": f"Bearer {token}"}
    connection.request("PUT", f"/api/v1/adapters/bench/x/blobs/{digest}", data, headers)
    assert connection.getresponse().status == 201
    connection.close()


def get(host: str, path: str, token: str) -> float:
    started = time.perf_counter()
    connection = http.client.HTTPConnection(host, timeout=120)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    assert response.status == 200, response.read()
    while response.read(BLOCK):
        pass
    connection.close()
    return time.perf_counter() - started


def main() -> None:
    from adapter_registry.client import Registry
    from adapter_registry.settings import read_settings
    from tests.adapter_builders import adapter, llama

    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        environment = {**os.environ, "ADAPTERS_HOME": f"{work}/home", "ADAPTERS_CACHE": f"{work}/cache"}
        with adapters_serve(folder) as server:
            settings = {**environment, "ADAPTERS_URL": server.url, "ADAPTERS_TOKEN": server.token}
            registry = Registry(read_settings(settings))
            from peft import LoraConfig

            base = llama(folder / "base")
            config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"])
            lora = adapter(folder / "lora", base, config)
            with (lora / "notes.log").open("wb") as notes:
                for _ in range(SIZE >> 20):
                    notes.write(os.urandom(1 << 19).hex().encode())
            registry.add_base("b", base)
            registry.push(lora, base="b", name="bench/x")
            puts, gets = [], []
            for _ in range(ROUNDS):
                data = os.urandom(BLOCK) * (SIZE // BLOCK)
                before = cpu_seconds(server.pid)
                put(server.url, server.token, data)
                puts.append((cpu_seconds(server.pid) - before) / (SIZE / 1e9))
                before = cpu_seconds(server.pid)
                get(server.url.removeprefix("http://"), "/bench/x/resolve/v1/notes.log", server.token)
                gets.append((cpu_seconds(server.pid) - before) / (SIZE / 1e9))
    print(f"GET: {statistics.median(gets):.2f} CPU s per GB (promised 1.0)")
    print(f"PUT with hash: {statistics.median(puts):.2f} CPU s per GB (promised 3.0)")


if __name__ == "__main__":
    main()
