"""A question that may take for ever, asked of a child process with limits on CPU, memory and time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

WALL_SECONDS = 5
MEMORY_BYTES = 512 * 1024 * 1024


class PatternTooExpensive(Exception):
    """The child did not answer within its limits."""


def answered(child: Path, question: Any, *, cpu_seconds: int, packages: bool = False) -> Any:
    """What the program `child` answers to `question`, both JSON.

    Args:
        child: a file of this package; it is given its limits as arguments and sets them itself.
        question: JSON values.
        cpu_seconds: of the child.
        packages: whether it imports what is installed.

    Raises:
        PatternTooExpensive: no answer within the limits.
    """
    isolated = ["-I", "-B"] if packages else ["-I", "-S", "-B"]
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter on our own file
            [sys.executable, *isolated, str(child), str(cpu_seconds), str(MEMORY_BYTES)],
            input=json.dumps(question).encode(),
            capture_output=True,
            timeout=WALL_SECONDS,
            env={},
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PatternTooExpensive from error
    if done.returncode != 0:
        raise PatternTooExpensive
    return json.loads(done.stdout)
