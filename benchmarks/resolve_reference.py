"""Resolving a tag on a server with 100,000 versions stored, 16 clients at a time: p50 and p99 in milliseconds.

Promised: p99 under 20 ms. ADAPTERS_DATABASE_URL measures that database (it must be empty) instead of SQLite.

    python -m benchmarks.resolve_reference [VERSIONS]
"""

from __future__ import annotations

import os
import re
import selectors
import socket
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from sqlalchemy import insert, select

from benchmarks.servers import adapters_serve, cpu_seconds

CLIENTS, REQUESTS, ADAPTERS = 16, 500, 1_000


def fill(settings, versions: int) -> None:  # type: ignore[no-untyped-def]
    """Copy the one real version there is, under other names and digests."""
    from adapter_registry.app import engine_of
    from adapter_registry.domain.versioning import precedence
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
                    "precedence": precedence(f"1.0.{n}"),
                    "digest": f"sha256:{i:032x}{n:032x}",
                }
                for n in range(per)
            ]
            connection.execute(insert(tables.versions), rows)
            copies = [{**each, "version_id": r["id"]} for r in rows for each in files]
            connection.execute(insert(tables.version_files), copies)
            tag = {"adapter_id": 10 + i, "name": "live", "version_id": rows[-1]["id"], "moved_by": "", "moved_at": ""}
            connection.execute(insert(tables.tags), [tag])


def answered(data: bytes) -> bool:
    """Whether `data` is a whole answer; it must be a good one."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return False
    assert head.startswith(b"HTTP/1.1 200"), head
    size = int(re.search(rb"content-length: (\d+)", head.lower())[1])
    return len(body) >= size


def ask(host: str, token: str, path: str, requests: int = CLIENTS * REQUESTS) -> tuple[list[float], float]:
    """(seconds of each answer, answers per second) of CLIENTS that ask again as soon as they are answered.

    One thread and no HTTP library: sixteen of Python's HTTP clients would need more of the machine than the server.
    """
    name, port = host.split(":")
    selector, found, sent = selectors.DefaultSelector(), [], 0
    head = f" HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"

    def send(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(f"GET {path.format(sent * 37 % ADAPTERS)}{head}".encode())
        selector.modify(connection, selectors.EVENT_READ, [time.perf_counter(), b""])
        sent += 1

    for _ in range(CLIENTS):
        connection = socket.create_connection((name, int(port)))
        selector.register(connection, selectors.EVENT_READ)
        send(connection)
    began = time.perf_counter()
    while len(found) < requests:
        for key, _ in selector.select():
            key.data[1] += key.fileobj.recv(1 << 16)
            if answered(key.data[1]):
                found.append(time.perf_counter() - key.data[0])
                if sent < requests:
                    send(key.fileobj)
    rate = requests / (time.perf_counter() - began)
    for key in list(selector.get_map().values()):
        key.fileobj.close()
    return found, rate


def with_one_version(folder: Path):  # type: ignore[no-untyped-def]
    """Settings of a registry in `folder` with one real version, for `fill` to copy."""
    from peft import LoraConfig

    from adapter_registry.client import Registry
    from adapter_registry.settings import read_settings
    from tests.adapter_builders import adapter, llama

    homes = {"ADAPTERS_HOME": str(folder / "home"), "ADAPTERS_CACHE": str(folder / "cache")}
    settings = read_settings({**os.environ, **homes})
    registry, base = Registry(settings), llama(folder / "base")
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"])
    registry.add_base("b", base)
    registry.push(adapter(folder / "lora", base, config), base="b", name="bench/first")
    return settings


def main() -> None:
    versions = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        settings = with_one_version(folder)
        fill(replace(settings), versions)
        with adapters_serve(folder, None, "--workers", "2") as server:
            paths = ("/api/v1/adapters/bench/a{}/versions/live", "/api/models/bench/a{}/revision/live")
            time.sleep(3)
            for path in paths:
                ask(server.url.removeprefix("http://"), server.token, path, 500)
                before = cpu_seconds(server.pid)
                found, rate = ask(server.url.removeprefix("http://"), server.token, path)
                cpu = (cpu_seconds(server.pid) - before) / len(found) * 1e3
                cut = statistics.quantiles(found, n=100)
                took = f"p50 {cut[49] * 1e3:.1f} ms, p99 {cut[98] * 1e3:.1f} ms (promised 20)"
                print(f"{path}: {took}, {rate:.0f}/s, {cpu:.2f} ms of CPU each")


if __name__ == "__main__":
    main()
