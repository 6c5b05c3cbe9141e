"""What only PEFT computes, asked of a child process: its own merge, and logits of base and adapter."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from adapter_registry.domain.errors import Unsupported

CHILD = Path(__file__).with_name("torch_child.py")
LAST = 3
"""Lines of the child's errors that are told."""


def asked(question: dict[str, Any]) -> Any:
    """The child's answer.

    Raises:
        Unsupported: torch, transformers or PEFT is missing, or refuses; nothing was written.
    """
    missing = [name for name in ("torch", "transformers", "peft") if importlib.util.find_spec(name) is None]
    if missing:
        raise Unsupported(f"this needs {', '.join(missing)}: pip install 'adapter-registry[jobs]'.")
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(  # noqa: S603  our own interpreter on our own file
            [sys.executable, "-I", "-B", str(CHILD)],
            input=json.dumps(question).encode(),
            capture_output=True,
            env={"PATH": os.defpath, "HOME": home, "HF_HOME": home, "OMP_NUM_THREADS": str(_cores())},
            cwd="/",
            check=False,
        )
    if done.returncode != 0:
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        told = " ".join(lines[-LAST:])[:600] or f"it ended with {done.returncode}"
        raise Unsupported(f"PEFT cannot do this: {told}. Nothing was written.")
    return json.loads(done.stdout.splitlines()[-1])


def merged(base: Path, adapter: Path, out: Path) -> None:
    """Have PEFT merge an adapter into a base and save the checkpoint in `out`."""
    asked({"do": "merge", "base": str(base.resolve()), "adapter": str(adapter.resolve()), "out": str(out.resolve())})


def _cores() -> int:
    return len(os.sched_getaffinity(0))
