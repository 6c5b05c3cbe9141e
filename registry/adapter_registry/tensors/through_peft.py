"""What only PEFT computes, asked of a child process: its own merge, and logits of base and adapter."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from adapter_registry.checkpoints.confined import OUT_OF_MEMORY, Limits
from adapter_registry.domain.errors import JobFailed, RegistryError, Unsupported

CHILD = Path(__file__).with_name("torch_child.py")
LAST = 3
"""Lines of the child's errors that are told."""


def asked(question: dict[str, Any], limits: Limits | None = None) -> Any:
    """The child's answer; `network` in it says how its network was cut.

    Args:
        question: what to do.
        limits: of the child; None leaves those of this process, which a job's child has.

    Raises:
        Unsupported: torch, transformers or PEFT is missing, or refuses; nothing was written.
        JobFailed: it took more memory or time than it may.
    """
    missing = [name for name in ("torch", "transformers", "peft") if importlib.util.find_spec(name) is None]
    if missing:
        raise Unsupported(f"this needs {', '.join(missing)}: pip install 'adapter-registry[jobs]'.")
    bounds = {"memory": limits.memory, "seconds": limits.seconds} if limits else None
    path = [each or str(Path.cwd()) for each in sys.path]
    with tempfile.TemporaryDirectory() as home:
        try:
            done = subprocess.run(  # noqa: S603  our own interpreter on our own file
                [sys.executable, "-I", "-B", str(CHILD)],
                input=json.dumps({**question, "limits": bounds, "path": path, "parent": os.getpid()}).encode(),
                capture_output=True,
                env={"PATH": os.defpath, "HOME": home, "HF_HOME": home, "OMP_NUM_THREADS": str(_cores())},
                cwd="/",
                timeout=limits.seconds if limits else None,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            assert limits is not None  # noqa: S101  for the type checker
            raise JobFailed(f"PEFT was asked, and {limits.over_time()} Nothing was written.") from error
    if done.returncode != 0:
        raise _refusal(done, limits)
    return json.loads(done.stdout.splitlines()[-1])


def _refusal(done: subprocess.CompletedProcess[bytes], limits: Limits | None) -> RegistryError:
    lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    told = " ".join(lines[-LAST:])[:600] or f"it ended with {done.returncode}"
    if limits is not None and done.returncode == -signal.SIGXCPU:
        return JobFailed(f"PEFT was asked, and {limits.over_time()} Nothing was written.")
    if limits is not None and any(sign in line for line in lines for sign in OUT_OF_MEMORY):
        return JobFailed(f"PEFT was asked, and {limits.over_memory(told)} Nothing was written.")
    return Unsupported(f"PEFT cannot do this: {told}. Nothing was written.")


def merged(base: Path, adapter: Path, out: Path, *, limits: Limits | None = None) -> None:
    """Have PEFT merge an adapter into a base and save the checkpoint in `out`; see `asked`."""
    places = {"base": base, "adapter": adapter, "out": out}
    asked({"do": "merge", **{name: str(path.resolve()) for name, path in places.items()}}, limits)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
