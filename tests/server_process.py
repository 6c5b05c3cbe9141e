"""`adapters serve` as a process, and requests to it."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests import servers

BACK = 10
"""Seconds within which a server works again when what it needs is back."""


class Server:
    """`adapters serve` and requests to it."""

    def __init__(self, folder: Path, settings: dict[str, str], *options: str, token: str = "") -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ADAPTERS_", "AWS_"))}
        self.environment = {**kept, "ADAPTERS_HOME": f"{folder}/home", "ADAPTERS_CACHE": f"{folder}/cache", **settings}
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("adapters"), "serve", "--port", "0", *options],
                env={**self.environment, "NO_COLOR": "1"},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.printed = self.process.stdout.readline()
        if "--no-token" not in options:
            self.printed += self.process.stdout.readline()
        found = re.search(r" at http://(\S+)", self.printed)
        assert found, self.printed + self.log.read_text()
        told = re.search(r"ADAPTERS_TOKEN=(\S+)", self.printed)
        self.host, self.token = found[1], token or (told[1] if told else "")
        assert servers._answers(self.process, f"http://{self.host}/health")

    def ask(self, method: str, path: str, body: bytes | None = None, *, seconds: float = 30, token: str = ""):
        connection = http.client.HTTPConnection(self.host, timeout=seconds)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {token or self.token}"})
            response = connection.getresponse()
            return response.status, response.read(), response.headers
        finally:
            connection.close()

    def comes_back(self, path: str) -> bool:
        """Whether it answers 200 within the promised time."""
        deadline = time.monotonic() + BACK
        while time.monotonic() < deadline:
            if self.ask("GET", path, seconds=BACK)[0] == 200:
                return True
            time.sleep(0.1)
        return False

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=60)


@contextlib.contextmanager
def serving(folder: Path, settings: dict[str, str], *options: str, token: str = "") -> Iterator[Server]:
    """A server, gone afterwards; its first token is told unless another is given."""
    server = Server(folder, settings, *options, token=token)
    try:
        yield server
    finally:
        server.close()
