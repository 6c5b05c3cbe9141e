"""Resolving a tag on a server with 100,000 versions stored, 16 clients at a time: p50 and p99 in milliseconds.

Promised: p99 under 20 ms. Usage: resolve_reference.py [VERSIONS]; ADAPTERS_DATABASE_URL measures that database (it must
be empty) instead of SQLite.
"""

from __future__ import annotations

import http.client
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

from sqlalchemy import insert, select

CLIENTS, REQUESTS, ADAPTERS = 16, 250, 1_000


def fill(settings, versions: int) -> None:  # type: ignore[no-untyped-def]
    """Copy the one real version there is, under other names and digests."""
    from adapter_registry.app import engine_of
    from adapter_registry.storage import tables

    with engine_of(settings).begin() as connection:
        row = dict(connection.execute(select(tables.versions)).one()._mapping)
        files = [dict(each._mapping) for each in connection.execute(select(tables.version_files))]
        owner = dict(connection.execute(select(tables.adapters)).one()._mapping)
        names = [{**owner, "id": 10 + i, "name": f"bench/a{i}", "folded": f"bench/a{i}"} for i in range(ADAPTERS)]
        connection.execute(insert(tables.adapters), names)
        per = versions // ADAPTERS
        for i in range(ADAPTERS):
            rows = [
                {
                    **row,
                    "id": 10 + i * per + n,
                    "adapter_id": 10 + i,
                    "number": n + 1,
                    "semver": f"1.0.{n}",
                    "digest": f"sha256:{i:032x}{n:032x}",
                }
                for n in range(per)
            ]
            connection.execute(insert(tables.versions), rows)
            copies = [{**each, "version_id": r["id"]} for r in rows for each in files]
            connection.execute(insert(tables.version_files), copies)
            tag = {"adapter_id": 10 + i, "name": "live", "version_id": rows[-1]["id"], "moved_by": "", "moved_at": ""}
            connection.execute(insert(tables.tags), [tag])


def client(host: str, token: str, path: str, found: list[float], start: threading.Barrier) -> None:
    connection = http.client.HTTPConnection(host, timeout=60)
    headers = {"Authorization": f"Bearer {token}"}
    start.wait()
    for i in range(REQUESTS):
        began = time.perf_counter()
        connection.request("GET", path.format(i * 37 % ADAPTERS), headers=headers)
        response = connection.getresponse()
        response.read()
        assert response.status == 200, response.status
        found.append(time.perf_counter() - began)


def main() -> None:
    from peft import LoraConfig

    from adapter_registry.client import Registry
    from adapter_registry.settings import read_settings
    from tests.adapter_builders import adapter, llama

    versions = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        environment = {**os.environ, "ADAPTERS_HOME": f"{work}/home", "ADAPTERS_CACHE": f"{work}/cache"}
        settings = read_settings(environment)
        registry = Registry(settings)
        base = llama(folder / "base")
        config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"])
        registry.add_base("b", base)
        registry.push(adapter(folder / "lora", base, config), base="b", name="bench/first")
        fill(replace(settings), versions)
        command = [str(Path(sys.executable).with_name("adapters")), "serve", "--port", "0", "--workers", "2"]
        server = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        try:
            lines = server.stdout.readline() + server.stdout.readline()
            url, token = re.search(r"_URL=(\S+)", lines)[1], re.search(r"_TOKEN=(\S+)", lines)[1]
            paths = ("/api/v1/adapters/bench/a{}/versions/live", "/api/models/bench/a{}/revision/live")
            time.sleep(3)
            for path in paths:
                found: list[float] = []
                start = threading.Barrier(CLIENTS)
                given = (url.removeprefix("http://"), token, path, found, start)
                threads = [threading.Thread(target=client, args=given) for _ in range(CLIENTS)]
                began = time.perf_counter()
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                rate = len(found) / (time.perf_counter() - began)
                cut = statistics.quantiles(found, n=100)
                print(f"{path}: p50 {cut[49] * 1e3:.1f} ms, p99 {cut[98] * 1e3:.1f} ms (promised 20), {rate:.0f}/s")
        finally:
            server.terminate()
            server.wait(20)


if __name__ == "__main__":
    main()
