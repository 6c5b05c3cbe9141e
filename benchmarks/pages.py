"""Pages of a server with 100,000 versions and 1,000,000 scores stored: median and slowest, in milliseconds.

python -m benchmarks.pages [versions]
"""

from __future__ import annotations

import http.client
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.resolve_reference import fill, with_one_version

METRICS = 10
TIMES = 20
PAGES = {
    "list, newest first": "/ui/adapters",
    "list, by name": "/ui/adapters?sort=name&after=bench/a4",
    "list, searched": "/ui/adapters?q=a7",
    "list, in prod": "/ui/adapters?stage=prod",
    "adapter": "/ui/adapters/bench/a7",
    "adapter, an old page": "/ui/adapters/bench/a7?before=60",
    "stages, unchanged or not": "/ui/adapters/bench/a7/stages",
    "version": "/ui/adapters/bench/a7/versions/v3",
    "version, scores": "/ui/adapters/bench/a7/versions/v3/scores",
    "version, gates": "/ui/adapters/bench/a7/versions/v3/gates",
    "version, lineage": "/ui/adapters/bench/a7/versions/v3/lineage",
    "version, how it was made": "/ui/adapters/bench/a7/versions/v3/made",
    "trends": "/ui/adapters/bench/a7/trends",
    "compare six": "/ui/compare?" + "&".join(f"v=bench/a7@v{number}" for number in range(1, 7)),
}


def score(settings) -> None:  # type: ignore[no-untyped-def]
    """METRICS scores of every version."""
    from sqlalchemy import insert, select

    from adapter_registry.app import engine_of
    from adapter_registry.domain.score import Direction, RecordedScore, Score
    from adapter_registry.storage import tables
    from adapter_registry.storage.rows import to_text

    with engine_of(settings).begin() as connection:
        digests = connection.execute(select(tables.versions.c.digest)).scalars().all()
        for begin in range(0, len(digests), 1000):
            rows = []
            for n, digest in enumerate(digests[begin : begin + 1000]):
                for metric in range(METRICS):
                    value = 0.5 + (n % 40) / 100
                    each = Score(f"task{metric}/acc", value, Direction.HIGHER, stderr=0.01, n=1000)
                    told = RecordedScore(digest, "", each, "ann", "2026-01-01T00:00:00.000000Z")
                    rows.append({"subject": digest, "metric": each.metric, "value": value, "document": to_text(told)})
            connection.execute(insert(tables.scores), rows)


def ask(host: str, token: str, path: str) -> float:
    """Milliseconds that one page took; it must be a good one."""
    connection = http.client.HTTPConnection(host, timeout=60)
    began = time.perf_counter()
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    answer.read()
    took = (time.perf_counter() - began) * 1000
    assert answer.status == 200, (path, answer.status)
    connection.close()
    return took


def main() -> None:
    versions = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    from tests.server_process import serving

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = with_one_version(folder)
        fill(settings, versions)
        score(settings)
        with serving(folder, {}) as server:
            for label, path in PAGES.items():
                ask(server.host, server.token, path)
                took = [ask(server.host, server.token, path) for _ in range(TIMES)]
                print(f"{label:<26} {statistics.median(took):7.0f} ms  slowest {max(took):5.0f} ms")


if __name__ == "__main__":
    main()
