"""Every page of a full server: median and slowest, in milliseconds. Promised: under 200.

120,000 versions, 20,000 of them of one adapter and 100 of each other, with 1,200,000 scores; 200,000 events, 30,000
moves, 50,000 messages, 5,000 requests and as many jobs. ADAPTERS_DATABASE_URL measures that database (it must be empty)
instead of SQLite.

    python -m benchmarks.pages [VERSIONS]
"""

from __future__ import annotations

import http.client
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import pages_fill
from benchmarks.resolve_reference import fill, with_one_version
from benchmarks.servers import Served, adapters_serve

TIMES = 20
ONE, LONG = "/ui/adapters/bench/a7", "/ui/adapters/bench/long"
PAGES = {
    "adapters, newest first": "/ui/adapters",
    "adapters, by name": "/ui/adapters?sort=name&after=bench/a4",
    "adapters, searched": "/ui/adapters?q=a7",
    "adapters, in prod": "/ui/adapters?stage=prod",
    "adapters, filtered": "/ui/adapters?where=rank%3C%3D16",
    "adapters, none matches": "/ui/adapters?where=rank%3E999",
    "adapters, no score matches": "/ui/adapters?where=score.%22task1/acc%22%3E9",
    "adapter": ONE,
    "adapter of 20,000 versions": LONG,
    "the same, an old page": f"{LONG}?before=10000",
    "stages, unchanged or not": f"{ONE}/stages",
    "timeline of an adapter": f"{ONE}/timeline",
    "version": f"{LONG}/versions/v3",
    "version, scores": f"{LONG}/versions/v3/scores",
    "version, gates": f"{ONE}/versions/v3/gates",
    "version, lineage": f"{ONE}/versions/v3/lineage",
    "version, files": f"{ONE}/versions/v3/files",
    "version, events": f"{ONE}/versions/v1/events",
    "version, how it was made": f"{ONE}/versions/v3/made",
    "trends": f"{ONE}/trends",
    "trends of 20,000 versions": f"{LONG}/trends",
    "compare six": "/ui/compare?" + "&".join(f"v=bench/a7@v{number}" for number in range(1, 7)),
    "promote": f"{LONG}/versions/5/promote/dev",
    "roll back": f"{ONE}/stages/dev/rollback",
    "timeline": "/ui/timeline",
    "timeline, one stage": "/ui/timeline?stage=prod",
    "requests that wait for me": "/ui/requests",
    "requests, all": "/ui/requests?whose=all&ended=1",
    "requests of an adapter": "/ui/requests?whose=all&ended=1&adapter=bench/a7",
    "request": "/ui/requests/P-150",
    "policies": "/ui/policies",
    "policy": "/ui/policies/prod",
    "freezes": "/ui/freezes",
    "audit": "/ui/audit",
    "audit of a version": "/ui/audit?subject=bench/a7@v1",
    "audit of an adapter": "/ui/audit?subject=bench/a7",
    "audit, who did nothing": "/ui/audit?actor=nobody",
    "audit, what nobody did": "/ui/audit?action=nothing",
    "jobs": "/ui/jobs",
    "jobs of nobody": "/ui/jobs?by=nobody",
    "job, new": "/ui/jobs/new",
    "bases": "/ui/bases",
    "suites": "/ui/suites",
    "trusts": "/ui/access/trusts",
    "webhooks": "/ui/webhooks",
    "access": "/ui/access",
    "storage": "/ui/storage",
}
FOUND = {"base": ("/ui/bases", r"/ui/bases/[0-9a-f]{64}"), "webhook": ("/ui/webhooks", r"/ui/webhooks/[0-9a-f]+")}
"""Pages whose address stands on another one."""


def ask(server: Served, token: str, path: str) -> tuple[float, str]:
    """Milliseconds that one page took, and the page; it must be a good one."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    began = time.perf_counter()
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    text = answer.read().decode()
    took = (time.perf_counter() - began) * 1000
    assert answer.status == 200, (path, answer.status)
    connection.close()
    return took, text


def filled(folder: Path, versions: int) -> str:
    """A full registry in `folder`; the token of an administrator."""
    from adapter_registry.app import engine_of
    from adapter_registry.client import Registry

    settings = with_one_version(folder)
    fill(settings, versions)
    token = pages_fill.act(Registry(settings))
    with engine_of(settings).begin() as connection:
        pages_fill.multiply(connection)
    return token


def pages(server: Served, token: str) -> Iterator[tuple[str, str]]:
    """(what, address) of each page."""
    yield from PAGES.items()
    for what, (path, pattern) in FOUND.items():
        found = re.search(pattern, ask(server, token, path)[1])
        assert found, f"no {what} on {path}"
        yield what, found[0]


def main() -> None:
    versions = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as name:
        token = filled(Path(name), versions)
        with adapters_serve(Path(name)) as server:
            for what, path in pages(server, token):
                ask(server, token, path)
                took = [ask(server, token, path)[0] for _ in range(TIMES)]
                print(f"{what:<28} {statistics.median(took):7.0f} ms  slowest {max(took):5.0f} ms", flush=True)


if __name__ == "__main__":
    main()
