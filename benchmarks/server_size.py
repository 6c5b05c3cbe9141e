"""What a server needs: memory and CPU of a process, connections, the catalog's size; the figures of docs/deploying.md.

Promises nothing. ADAPTERS_DATABASE_URL measures that database (it must be empty) instead of SQLite. CPU seconds are
counted, not time: others may use the machine meanwhile.

    python -m benchmarks.server_size [VERSIONS]
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.resolve_reference import CLIENTS, ask, fill, with_one_version
from benchmarks.servers import adapters_serve

WORKERS = 2
MIB = 1 << 20


def workers(pid: int) -> list[int]:
    """The processes that serve."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]


def memory(pid: int) -> tuple[float, float]:
    """MiB of a process: resident, and its proportional share of what several have in common."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    resident, share = (int(re.search(rf"^{name}: +(\d+)", text, re.M)[1]) / 1024 for name in ("Rss", "Pss"))
    return resident, share


def cpu(pids: list[int]) -> float:
    """User and system seconds of processes."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def told(name: str, pids: list[int]) -> None:
    found = [memory(pid) for pid in pids]
    print(f"{name}: {max(r for r, _ in found):.0f} MiB resident, {max(s for _, s in found):.0f} MiB proportional")


def catalog_bytes(settings) -> int:  # type: ignore[no-untyped-def]
    from sqlalchemy import text

    from adapter_registry.app import engine_of

    if settings.database_url is None:
        return sum(path.stat().st_size for path in settings.home.glob("registry.db*"))
    with engine_of(settings).connect() as connection:
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


def connections(settings) -> int | None:  # type: ignore[no-untyped-def]
    from sqlalchemy import text

    from adapter_registry.app import engine_of

    if settings.database_url is None:
        return None
    counted = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with engine_of(settings).connect() as connection:
        return int(connection.execute(text(counted)).scalar_one())


def under_load(host: str, token: str, path: str, pids: list[int]) -> None:
    before = cpu(pids)
    found, _ = ask(host, token, path)
    print(f"{path}: {len(found) / (cpu(pids) - before):.0f} requests per CPU second of the server")


def main() -> None:
    versions = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        settings = with_one_version(folder)
        before = catalog_bytes(settings)
        fill(settings, versions)
        print(f"catalog: {(catalog_bytes(settings) - before) / versions * 1000 / MIB:.2f} MiB per 1,000 versions")
        with adapters_serve(folder, None, "--workers", str(WORKERS)) as server:
            time.sleep(4)
            pids = workers(server.pid)
            assert len(pids) == WORKERS
            told("a process, idle", pids)
            told("its parent", [server.pid])
            host = server.url.removeprefix("http://")
            for path in ("/api/v1/adapters/bench/a{}/versions/live", "/api/models/bench/a{}/revision/live"):
                under_load(host, server.token, path, pids)
            told("a process, after load", pids)
            print(f"connections of {WORKERS} processes after {CLIENTS} clients: {connections(settings)}")


if __name__ == "__main__":
    main()
