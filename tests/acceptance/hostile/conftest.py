"""A server with a victim's adapter, an attacker who has rights elsewhere, and tokens of every bad kind."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.people.access import Grant
from tests.acceptance.hostile.routes import Places
from tests.acceptance.hostile.wire import Answer, ask, head, proper
from tests.acceptance.hub.conftest import HubServer, serving
from tests.acceptance.test_life import retrained
from tests.adapter_builders import changed_config

CANARY = "canary-7f3a-of-the-victim"
VICTIM, NOBODY, MINE = "victim/secret", "victim/secreu", "mallory/own"
"""Somebody else's adapter, one that does not exist with as long a name, and the attacker's own."""
_CHANGES_BY_READING = {"tokens": ("last_used_at",)}
_NOT_STATE = {"events", "answers", "alembic_version"}


class Tables:
    """The tables of a catalog, read only when somebody committed something."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self._last: tuple[int | None, dict[str, str]] = (None, {})

    def digests(self) -> dict[str, str]:
        """table -> a digest of its rows."""
        [change] = self._connection.execute("PRAGMA data_version").fetchone()
        if change != self._last[0]:
            named = self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = {name for [name] in named} - _NOT_STATE
            self._last = change, {table: self._digest(table) for table in tables}
        return self._last[1]

    def _digest(self, table: str) -> str:
        cursor = self._connection.execute(f'SELECT * FROM "{table}"')
        skipped = _CHANGES_BY_READING.get(table, ())
        kept = [i for i, column in enumerate(cursor.description) if column[0] not in skipped]
        rows = sorted(repr([row[i] for i in kept]) for row in cursor)
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()

    def close(self) -> None:
        self._connection.close()


@dataclass(frozen=True)
class Site:
    """A running server and who is known there.

    Attributes:
        hub: the server.
        tokens: admin, mallory (maintainer of mallory/*), reader (of mallory/*), victim, expired, revoked, disabled.
        version: v1 of the victim's adapter.
        own: v1 of the attacker's.
        tables: of the server's catalog.
    """

    hub: HubServer
    tokens: dict[str, str] = field(repr=False)
    version: Version
    own: Version
    tables: Tables

    @property
    def url(self) -> str:
        return self.hub.url

    def ask(self, method: str, target: str | bytes, *, by: str = "mallory", **given) -> Answer:
        """A request whose answer is a proper one, whatever it says."""
        return proper(ask(self.url, method, target, token=self.tokens[by], **given), method, target)

    def head(self, first: str, *headers: str) -> bytes:
        """The head of a request by mallory, written as it is."""
        return head(self.url, self.tokens["mallory"], first, *headers)

    def places(self, repo: str = MINE, **changes: str) -> Places:
        """Values for the places of addresses."""
        version = self.version if repo == VICTIM else self.own
        commit = version.digest.removeprefix("sha256:")[:40]
        known = {"digest": version.digest.removeprefix("sha256:"), "rev": "main", "selector": "v1", "commit": commit}
        return Places(repo, {**known, **changes})

    def state(self) -> dict[str, str]:
        """A digest of every table that a refused request must leave alone."""
        return self.tables.digests()


@pytest.fixture(scope="session")
def site(tmp_path_factory, llama_folder, lora_folder) -> Iterator[Site]:
    """One server for everything that must not get in."""
    folder = tmp_path_factory.mktemp("site")
    with serving(folder, {}) as running:
        made = filled(running, folder, llama_folder, lora_folder)
        yield made
        made.tables.close()


def filled(running: HubServer, folder: Path, llama_folder: Path, lora_folder: Path) -> Site:
    """The Site on a fresh server."""
    registry = running.registry
    registry.add_base("org/llama", llama_folder)
    secret = retrained(lora_folder, folder / "secret", 2.0)
    (secret / "README.md").write_text(f"---\ntags: [a]\n---\n{CANARY}\n")
    registry.push(secret, base="org/llama", name=VICTIM, message=CANARY, labels={"who": CANARY})
    registry.tag(f"{VICTIM}@v1", "good")
    registry.attempt(f"{VICTIM}@v1", "dev")
    registry.add_scores(f"{VICTIM}@v1", (Score(f"x/{CANARY}", 0.5, Direction.HIGHER, n=1000),))
    own = retrained(lora_folder, folder / "own", 3.0)
    changed_config(own, base_model_name_or_path="org/llama")
    registry.push(own, base="org/llama", name=MINE)
    registry.tag(f"{MINE}@v1", "good")
    for name in ("mallory/play", "mallory/spent"):
        registry.push(own, base="org/llama", name=name)
    registry.create_account("toy")
    tokens = {
        "nobody": "",
        "admin": running.token,
        "mallory": running.token_of("mallory", ("mallory/*", "maintainer")),
        "reader": running.token_of("rita", ("mallory/*", "reader")),
        "narrow": running.token_of("nora", (MINE, "maintainer")),
        "victim": running.token_of("victor", ("victim/*", "maintainer")),
        "garbage": "adapters_" + "x" * 43,
        **_spent(running),
    }
    versions = (registry.resolve(f"{name}@v1") for name in (VICTIM, MINE))
    return Site(running, tokens, *versions, Tables(running.cli.home / "registry.db"))


def _spent(running: HubServer) -> dict[str, str]:
    """Tokens that were good once."""
    registry = running.registry
    registry.create_account("late")
    expired = registry.create_token(account="late", expires_in_seconds=1).secret
    revoked = registry.create_token(account="late", limits=(Grant("victim/*", ("reader",)),))
    registry.revoke_token(revoked.token.id)
    disabled = running.token_of("shut-out", ("victim/*", "maintainer"))
    registry.disable("shut-out")
    time.sleep(1.1)
    return {"expired": expired, "revoked": revoked.secret, "disabled": disabled}


@pytest.fixture
def unchanged(site) -> Iterator[None]:
    """Nothing that the test asks changes the catalog."""
    before = site.state()
    yield
    after = site.state()
    assert before == after, [table for table in before if before[table] != after[table]]


def as_json(document: object) -> bytes:
    """JSON with everything that is not ASCII escaped, lone surrogates included."""
    return json.dumps(document).encode()


@pytest.fixture
def nothing_open(site) -> Iterator[None]:
    """Requests that the test opened are taken back: the server would move them on while others look."""
    yield
    for each in site.hub.registry.requests():
        site.hub.registry.cancel(each)
