"""A registry full of everything that pages list: what `pages` measures on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, insert, select

from benchmarks.resolve_reference import ADAPTERS

METRICS = 10
LONG = 20_000
"""Versions of the one adapter that has many."""
MOVES, REQUESTS, JOBS, EVENTS, MESSAGES, ACCOUNTS = 10, 5_000, 5_000, 200_000, 50_000, 500
SEEN = "bench/a0"
"""The adapter whose real rows are copied."""


def act(registry: Any) -> str:
    """One real row of each kind: moves, an open request, a job, a webhook's message; the token of an administrator."""
    from adapter_registry.domain.policies.policy import preset
    from adapter_registry.domain.recipe import Ingredient, Recipe

    registry.add_webhook("http://127.0.0.1:1/hook", scope="bench/*")
    for stage in ("dev", "staging"):
        registry.attempt(f"{SEEN}@v1", stage, reason="measured")
    registry.set_policy("prod", preset("team", stage="prod"))
    registry.attempt(f"{SEEN}@v1", "prod", reason="measured")
    registry.submit(Recipe("diff", (Ingredient(f"{SEEN}@v1"), Ingredient(f"{SEEN}@v2")), into=SEEN))
    registry.tag(f"{SEEN}@v1", "seen")
    registry.create_account("person")
    registry.grant("person", "*", ("admin",))
    return str(registry.create_token(account="person").secret)


def multiply(connection: Connection) -> None:
    """Everything else as copies of the real rows."""
    from adapter_registry.storage import tables, tables_people, tables_work, totals

    _long(connection, tables)
    _scores(connection, tables)
    _stages(connection, tables)
    _work(connection, tables_work)
    _events(connection, tables, tables_work)
    account = _first(connection, tables_people.accounts)
    _insert(connection, tables_people.accounts, ({**account, "name": f"person{n}"} for n in range(ACCOUNTS)))
    totals.recount(connection)


def _long(connection: Connection, tables: Any) -> None:
    from adapter_registry.domain.versioning import precedence

    row = _first(connection, tables.versions)
    files = [dict(each._mapping) for each in connection.execute(select(tables.version_files).limit(3))]
    files = [each for each in files if each["version_id"] == files[0]["version_id"]]
    adapter = {**_first(connection, tables.adapters), "id": 9_000_000, "name": "bench/long", "folded": "bench/long"}
    connection.execute(insert(tables.adapters), [adapter])
    numbers = [(9_000_000 + n, n) for n in range(1, LONG + 1)]
    made = (
        {
            **row,
            "id": i,
            "adapter_id": 9_000_000,
            "number": n,
            "semver": f"1.0.{n}",
            "precedence": precedence(f"1.0.{n}"),
            "digest": f"sha256:{'f' * 32}{n:032x}",
        }
        for i, n in numbers
    )
    _insert(connection, tables.versions, made)
    _insert(connection, tables.version_files, ({**each, "version_id": i} for i, _ in numbers for each in files))


def _scores(connection: Connection, tables: Any) -> None:
    from adapter_registry.domain.evidence.score import Direction, RecordedScore, Score
    from adapter_registry.storage.rows import to_text

    def rows() -> Iterator[dict[str, object]]:
        for n, digest in enumerate(connection.execute(select(tables.versions.c.digest)).scalars().all()):
            for metric in range(METRICS):
                value = 0.5 + (n % 40) / 100
                each = Score(f"task{metric}/acc", value, Direction.HIGHER, stderr=0.01, n=1000)
                told = RecordedScore(digest, "", each, "ann", "2026-01-01T00:00:00.000000Z")
                yield {"subject": digest, "metric": each.metric, "value": value, "document": to_text(told)}

    _insert(connection, tables.scores, rows())


def _stages(connection: Connection, tables: Any) -> None:
    """dev, staging and prod of every adapter, each after MOVES moves."""
    moved = dict(
        connection.execute(select(tables.promotions).where(tables.promotions.c.stage == "dev")).first()._mapping
    )
    owners = connection.execute(
        select(tables.adapters.c.id, tables.adapters.c.name).where(tables.adapters.c.name.like("bench/a%"))
    ).all()
    owners = [(row.id, row.name) for row in owners if row.name != SEEN]
    newest = dict(
        connection.execute(
            select(tables.versions.c.adapter_id, tables.versions.c.id).where(tables.versions.c.number == 1)
        ).all()
    )
    pointers = [
        {"adapter_id": i, "stage": stage, "version_id": newest[i], "sequence": MOVES}
        for i, _ in owners
        for stage in ("dev", "staging", "prod")
    ]
    connection.execute(insert(tables.stages), pointers)
    copies = (
        {
            **moved,
            "id": 1_000_000 + (place * 3 + at) * MOVES + sequence,
            "adapter_id": i,
            "version_id": newest[i],
            "stage": stage,
            "sequence": sequence,
            "document": moved["document"].replace(SEEN, name).replace('"dev"', f'"{stage}"'),
        }
        for place, (i, name) in enumerate(owners)
        for at, stage in enumerate(("dev", "staging", "prod"))
        for sequence in range(1, MOVES + 1)
    )
    _insert(connection, tables.promotions, copies)


def _work(connection: Connection, work: Any) -> None:
    """Requests, every fifth of them open, and jobs."""
    asked = _first(connection, work.requests)
    ids = range(10, 10 + ADAPTERS)
    requests = (
        {
            **asked,
            "id": 100 + n,
            "adapter_id": ids[n % ADAPTERS],
            "stage": "prod" if n >= ADAPTERS else "dev",
            "open": 1 if n < ADAPTERS else None,
            "state": "waiting" if n < ADAPTERS else "cancelled",
            "document": asked["document"]
            .replace(SEEN, f"bench/a{n % ADAPTERS}")
            .replace('"waiting"', '"waiting"' if n < ADAPTERS else '"cancelled"')
            .replace('"id":1,', f'"id":{100 + n},'),
        }
        for n in range(REQUESTS)
    )
    _insert(connection, work.requests, requests)
    job = _first(connection, work.jobs)
    jobs = (
        {
            **job,
            "id": f"{n:012x}",
            "place": 1000 + n,
            "state": "cancelled",
            "document": job["document"].replace(job["id"], f"{n:012x}").replace('"queued"', '"cancelled"'),
        }
        for n in range(JOBS)
    )
    _insert(connection, work.jobs, jobs)


def _events(connection: Connection, tables: Any, work: Any) -> None:
    event = dict(
        connection.execute(select(tables.events).where(tables.events.c.subject == f"{SEEN}@v1")).first()._mapping
    )
    events = (
        {
            **event,
            "sequence": 1000 + n,
            "subject": f"bench/a{n % ADAPTERS}@v1",
            "entry": event["entry"].replace(SEEN, f"bench/a{n % ADAPTERS}"),
            "previous": f"sha256:{n + 1:064x}",
            "digest": f"sha256:{n + 2:064x}",
        }
        for n in range(EVENTS)
    )
    _insert(connection, tables.events, events)
    message = _first(connection, work.deliveries)
    messages = ({**message, "id": f"{n:032x}", "event": 1000 + n, "state": "delivered"} for n in range(MESSAGES))
    _insert(connection, work.deliveries, messages)


def _first(connection: Connection, table: Table, *wanted: ColumnElement[bool]) -> dict[str, Any]:
    return dict(connection.execute(select(table).where(*wanted).limit(1)).one()._mapping)


def _insert(connection: Connection, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    some: list[dict[str, Any]] = []
    for row in rows:
        some.append(row)
        if len(some) == 5_000:
            _flush(connection, table, some)
            some = []
    if some:
        _flush(connection, table, some)


def _flush(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    connection.execute(insert(table), list(rows))
