"""A real OpenID provider, and a server that knows it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from adapter_registry.client import Registry
from tests.acceptance.hub.conftest import HubServer, hub, serving  # noqa: F401  a fixture
from tests.openid_provider import ProviderServer, provider

RULES = "ml-admins = * admin; search = search/* writer promote:prod; * = team/* reader"


@dataclass(frozen=True)
class Known:
    """A server and the provider that it knows."""

    server: HubServer
    provider: ProviderServer

    @property
    def registry(self) -> Registry:
        """The administrator's client."""
        return self.server.registry

    def registry_of(self, token: str) -> Registry:
        """The client of who has a token."""
        return replace(self.server, token=token).registry

    def post(self, path: str, body: Any, *, form: bool = False) -> tuple[int, dict[str, Any]]:
        """What the server answers without a token of its own."""
        kind = "application/x-www-form-urlencoded" if form else "application/json"
        connection = http.client.HTTPConnection(self.server.url.removeprefix("http://"), timeout=30)
        try:
            connection.request("POST", path, body if form else json.dumps(body), {"Content-Type": kind})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def exchange(self, token: str, trust: str | None = None) -> tuple[int, dict[str, Any]]:
        """What an exchange of a pipeline's token answers."""
        return self.post("/api/v1/tokens/exchange", {"subject_token": token, **({"trust": trust} if trust else {})})


@contextmanager
def known(folder: Path, *options: str, **settings: str) -> Iterator[Known]:
    """A fresh provider and a fresh server that knows it."""
    with provider(folder / "provider") as signing:
        (folder / "server").mkdir()
        with serving(folder / "server", signing.settings(ADAPTERS_OIDC_GRANTS=RULES, **settings), *options) as server:
            signing.client(f"{server.url}/auth/callback")
            yield Known(server, signing)


@pytest.fixture(scope="module")
def there(tmp_path_factory, llama_folder, lora_folder) -> Iterator[Known]:
    """With a base, the adapter team/sql-lora, and the service account ci that may do most things in two namespaces."""
    with known(tmp_path_factory.mktemp("identity")) as running:
        registry = running.registry
        registry.add_base("org/llama", llama_folder)
        registry.push(lora_folder, base="org/llama", name="team/sql-lora")
        make_ci(running)
        yield running


def make_ci(running: Known) -> None:
    from adapter_registry.domain.people.account import AccountKind

    running.registry.create_account("ci", kind=AccountKind.SERVICE)
    for scope in ("team/*", "other/*"):
        running.registry.grant("ci", scope, ("maintainer",))
