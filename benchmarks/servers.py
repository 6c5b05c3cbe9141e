"""What the benchmarks measure with: servers that last as long as a measurement, and the CPU that they take."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Served:
    """A server under measurement.

    Attributes:
        pid: its first process.
        url: where it is.
        token: what it is asked with; empty for one that asks for none.
    """

    pid: int
    url: str
    token: str = ""


@contextmanager
def adapters_serve(work: Path, settings: Mapping[str, str] | None = None, *options: str) -> Iterator[Served]:
    """`adapters serve` with one process on `work/home`: SQLite and a folder unless `settings` say otherwise."""
    homes = {"ADAPTERS_HOME": str(work / "home"), "ADAPTERS_CACHE": str(work / "cache")}
    with subprocess.Popen(
        [str(BIN / "adapters"), "serve", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **homes, **(settings or {})},
    ) as server:
        try:
            lines = server.stdout.readline() + server.stdout.readline()
            url, token = re.search(r"_URL=(\S+)", lines)[1], re.search(r"_TOKEN=(\S+)", lines)[1]
            yield Served(server.pid, url, token)
        finally:
            server.terminate()
            server.wait(60)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def answering(command: list[str], url: str, *, log: Path, env: Mapping[str, str] | None = None) -> Iterator[Served]:
    """A program that serves `url`, from when it answers there; it says what it has to say in `log`."""
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env=env) as server:
        try:
            until = time.monotonic() + 120
            while not _answers(url):
                if server.poll() is not None or time.monotonic() > until:
                    sys.exit(f"{command[0]} does not serve {url}:\n{log.read_text()[-2000:]}")
                time.sleep(0.1)
            yield Served(server.pid, url)
        finally:
            server.terminate()
            server.wait(60)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def cpu_seconds(pid: int) -> float:
    """User and system time that a process and all below it took by now, as Linux counts it."""
    tree, total = [pid], 0.0
    for each in tree:
        tree += [int(child) for child in Path(f"/proc/{each}/task/{each}/children").read_text().split()]
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def found(program: str, how: str) -> str:
    """The path of a program; ends with `how` to get it when it is not there."""
    path = shutil.which(program)
    if path is None:
        sys.exit(f"not measured: there is no {program!r} here. {how}")
    return path


def load() -> str:
    """The machine's load averages: a figure taken on a busy machine says little."""
    return "load average {:.1f}, {:.1f}, {:.1f} on {} cores".format(*os.getloadavg(), os.cpu_count())
