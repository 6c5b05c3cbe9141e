"""A server that Hugging Face clients use as their hub, and what they push to it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from adapter_registry.client import Registry
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.settings import read_settings
from tests import warm_command
from tests.acceptance.conftest import Cli
from tests.acceptance.test_life import retrained
from tests.adapter_builders import changed_config, copied


@dataclass(frozen=True)
class HubServer:
    """A running server: its address, the administrator's token, and the command that reaches it."""

    url: str
    token: str
    folder: Path
    cli: Cli

    def log(self) -> str:
        """What the server wrote to standard error."""
        return (self.folder / "server.log").read_text()

    def api(self, token: str | None = None) -> HfApi:
        """The Hub's own client on it."""
        return HfApi(endpoint=self.url, token=token or self.token)

    @property
    def registry(self) -> Registry:
        """Our own client on it."""
        home = {"ADAPTERS_HOME": str(self.folder / "elsewhere"), "ADAPTERS_CACHE": str(self.folder / "cache")}
        return Registry(read_settings({**home, "ADAPTERS_URL": self.url, "ADAPTERS_TOKEN": self.token}))

    def token_of(self, name: str, *grants: tuple[str, str]) -> str:
        """A token of an account with these (scope, role) grants."""
        self.registry.create_account(name)
        for scope, role in grants:
            self.registry.grant(name, scope, (role,))
        return self.registry.create_token(account=name).secret


@pytest.fixture(scope="session")
def hub(tmp_path_factory, llama_folder, lora_folder) -> Iterator[HubServer]:
    """A server on SQLite and a folder, with the base `org/llama` and the adapter team/sql-lora at v2, prod = v1."""
    with serving(tmp_path_factory.mktemp("hub"), {}) as running:
        _fill(running, llama_folder, lora_folder)
        yield running


@pytest.fixture(scope="session")
def large_hub(tmp_path_factory, llama_folder, lora_folder, postgres_server, s3_server) -> Iterator[HubServer]:
    """The same on PostgreSQL and S3, with two server processes."""
    settings = {
        "ADAPTERS_DATABASE_URL": postgres_server.fresh_database(),
        "ADAPTERS_BLOBS_URL": f"s3://{s3_server.fresh_bucket()}/some/where",
        "AWS_ENDPOINT_URL_S3": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "AWS_REGION": s3_server.region,
    }
    with serving(tmp_path_factory.mktemp("large-hub"), settings, "--workers", "2") as running:
        _fill(running, llama_folder, lora_folder)
        yield running


@contextmanager
def serving(folder: Path, settings: dict[str, str], *options: str) -> Iterator[HubServer]:
    """A fresh server on these settings."""
    cli, err = Cli(folder / "home", folder), folder / "server.log"
    given = {"environment": {**cli.environment, **settings}, "cwd": folder, "out": folder / "printed", "err": err}
    with warm_command.serving(["--port", "0", *options], **given) as printed:
        url, token = re.search(r"ADAPTERS_URL=(\S+)", printed)[1], re.search(r"ADAPTERS_TOKEN=(\S+)", printed)[1]
        yield HubServer(url, token, folder, cli)


def _fill(running: HubServer, llama_folder: Path, lora_folder: Path) -> None:
    registry = running.registry
    registry.add_base("org/llama", llama_folder)
    registry.push(lora_folder, base="org/llama", name="team/sql-lora", message="first")
    second = retrained(lora_folder, running.folder / "second", 2.0)
    (second / "README.md").write_text("---\ntags: [sql, lora]\n---\nBetter.\n")
    registry.push(second, base="org/llama", name="team/sql-lora", message="second")
    registry.add_scores("team/sql-lora@v1", (Score("x/acc", 0.5, Direction.HIGHER, n=1000),))
    for stage in ("dev", "staging", "prod"):
        registry.attempt("team/sql-lora@v1", stage)
    registry.tag("team/sql-lora@v1", "stable")


@pytest.fixture
def pushable(tmp_path, lora_folder) -> Path:
    """An adapter as a training run leaves it: its config names the registered base."""
    folder = copied(lora_folder, tmp_path / "pushable")
    changed_config(folder, base_model_name_or_path="org/llama")
    return folder


@pytest.fixture
def hf_home(tmp_path, monkeypatch) -> Path:
    """A cache of the Hub's client that no other test has seen."""
    home = tmp_path / "hf"
    monkeypatch.setenv("HF_HOME", str(home))
    return home


def hf(hub: HubServer, *arguments: object, home: Path, code: int = 0, endpoint: str = "", token: str = "") -> str:
    """What the `hf` command line says, unchanged, with HF_ENDPOINT and HF_TOKEN set."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ADAPTERS_"))},
        "HF_ENDPOINT": endpoint or hub.url,
        "HF_TOKEN": token or hub.token,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_COLOR": "1",
    }
    command = shutil.which("hf", path=str(Path(os.sys.executable).parent))
    done = subprocess.run(
        [command, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    return done.stdout + done.stderr
