"""`adapters` as a process of its own that need not import anything: it is forked from one that has.

What a process of its own proves is kept: arguments, environment, working folder, streams, exit code. Importing takes
most of a command's time, and is the same each time: `adapters` is started from nothing by README's session and by every
test of a server.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(
    ["adapter_cli.main", "adapter_cli.show", "adapter_registry.app", "alembic.command", "safetensors.numpy"]
)


def adapters(
    arguments: Sequence[str], *, environment: Mapping[str, str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    """How the command ended, with nothing on its standard input."""
    with tempfile.TemporaryDirectory() as folder:
        streams = [os.devnull, f"{folder}/out", f"{folder}/err"]
        process = _FORKING.Process(target=_run, args=(list(arguments), dict(environment), cwd, streams))
        process.start()
        process.join()
        out, err = (Path(stream).read_text() for stream in streams[1:])
        return subprocess.CompletedProcess(arguments, process.exitcode, out, err)


def _run(arguments: list[str], environment: dict[str, str], cwd: Path, streams: list[str]) -> None:
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
