"""`adapters` as a process of its own that need not import anything: it is forked from one that has.

What a process of its own proves is kept: arguments, environment, working folder, streams, exit code. Importing takes
most of a command's time, and is the same each time; README's session and tests of starting and stopping start from
nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(
    [
        "adapter_cli.main",
        "adapter_cli.show",
        "adapter_registry.app",
        "adapter_registry.api.asgi",
        "alembic.command",
        "safetensors.numpy",
    ]
)


def adapters(
    arguments: Sequence[str], *, environment: Mapping[str, str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    """How the command ended, with nothing on its standard input."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = _started(arguments, environment, cwd, out, err)
        process.join()
        return subprocess.CompletedProcess(arguments, process.exitcode, out.read_text(), err.read_text())


@contextmanager
def serving(
    options: Sequence[str], *, environment: Mapping[str, str], cwd: Path, out: Path, err: Path
) -> Iterator[str]:
    """`adapters serve` until the end of the context; the two lines that it prints."""
    process = _started(["serve", *options], environment, cwd, out, err)
    try:
        while not out.exists() or (printed := out.read_text()).count("\n") < 2:
            assert process.is_alive(), err.read_text()
            time.sleep(0.02)
        yield printed
    finally:
        process.terminate()
        process.join(20)


def _started(arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, *streams: Path) -> BaseProcess:
    process = _FORKING.Process(target=_run, args=(list(arguments), dict(environment), cwd, [os.devnull, *streams]))
    process.start()
    return process


def _run(arguments: list[str], environment: dict[str, str], cwd: Path, streams: list[str | Path]) -> None:
    for number, stream in enumerate(streams):
        opened = os.open(stream, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    sys.argv[1:] = arguments
    from adapter_cli.main import main

    main()
