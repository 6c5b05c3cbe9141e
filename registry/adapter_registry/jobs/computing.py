"""Has a kind compute in a child process: limited, without secrets, killed when it is told to stop."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from adapter_registry.checkpoints.confined import Limits
from adapter_registry.domain import errors
from adapter_registry.domain.errors import JobFailed, RegistryError
from adapter_registry.domain.job import Progress
from adapter_registry.domain.recipe import Recipe
from adapter_registry.jobs.kind import Kind

CHILD = Path(__file__).with_name("child.py")
PASSED = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "TZ")
"""What of the environment a child is given: where its devices and libraries are, and how many threads it may use."""
TICK_SECONDS = 0.2
BLOCK = 1 << 16
LONGEST_LINE = 8_000


@dataclass(frozen=True, slots=True)
class Ears:
    """Who hears what a child says.

    Attributes:
        report: told how far it is.
        say: told each line that it, or a library it uses, prints.
        stopped: asked several times a second; raises when the child is to be killed.
    """

    report: Callable[[Progress], None] = lambda _: None
    say: Callable[[str], None] = lambda _: None
    stopped: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Task:
    """What a child is to do: `compute`, `parts`, `part` or `join` of a kind."""

    kind: Kind
    recipe: Recipe
    scratch: Path
    do: str = "compute"
    part: str = ""
    outcomes: Mapping[str, Any] = field(default_factory=dict)


def computed(task: Task, limits: Limits, ears: Ears) -> Any:
    """What came of a task.

    Raises:
        JobFailed: it took more memory or time than it may, was killed, or ended by an error.
        RegistryError: what the kind refused while it computed.
    """
    tell, told = os.pipe()
    try:
        child = _start(task, limits, told)
    finally:
        os.close(told)
    try:
        heard = _Heard(child, tell, limits, ears).until_it_ends()
    finally:
        _kill(child)
        os.close(tell)
    return _outcome(heard, child.returncode, limits)


def _start(task: Task, limits: Limits, told: int) -> subprocess.Popen[bytes]:
    environment = {name: os.environ[name] for name in PASSED if name in os.environ}
    given = {
        "path": [each or str(Path.cwd()) for each in sys.path],
        "kind": f"{type(task.kind).__module__}:{type(task.kind).__qualname__}",
        "recipe": msgspec.to_builtins(task.recipe),
        "scratch": str(task.scratch),
        "do": task.do,
        "part": task.part,
        "outcomes": dict(task.outcomes),
        "memory": limits.memory,
        "seconds": limits.seconds,
        "tell": told,
        "parent": os.getpid(),
    }
    child = subprocess.Popen(  # noqa: S603  our own interpreter on our own file
        [sys.executable, "-I", "-B", str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**environment, "PATH": os.defpath, "HOME": str(task.scratch), "HF_HUB_OFFLINE": "1"},
        cwd="/",
        pass_fds=(told,),
        start_new_session=True,
    )
    assert child.stdin is not None  # noqa: S101  for the type checker
    with suppress(BrokenPipeError):  # it ended at once; what it printed says why
        child.stdin.write(json.dumps(given).encode() + b"\n")
        child.stdin.flush()
    return child


class _Heard:
    """Listens to a child until it ends, the time is up, or it is to be stopped."""

    def __init__(self, child: subprocess.Popen[bytes], tell: int, limits: Limits, ears: Ears) -> None:
        self._child, self._tell, self._limits, self._ears = child, tell, limits, ears
        self._last: dict[str, Any] = {}
        self._rest = {"told": b"", "printed": b""}

    def until_it_ends(self) -> dict[str, Any]:
        """The last thing of weight that it told."""
        deadline = time.monotonic() + self._limits.seconds
        with selectors.DefaultSelector() as ready:
            ready.register(self._tell, selectors.EVENT_READ, "told")
            ready.register(self._child.stdout, selectors.EVENT_READ, "printed")  # type: ignore[arg-type]
            while ready.get_map():
                self._ears.stopped()
                if time.monotonic() > deadline:
                    return {"late": True}
                for key, _ in ready.select(TICK_SECONDS):
                    data = os.read(key.fd, BLOCK)
                    self._take(key.data, data)
                    if not data:
                        ready.unregister(key.fd)
        return self._last

    def _take(self, source: str, data: bytes) -> None:
        *lines, rest = (self._rest[source] + data).split(b"\n")
        if not data and rest:
            lines, rest = [*lines, rest], b""
        self._rest[source] = rest if source == "told" else rest[-LONGEST_LINE:]
        for line in lines:
            if source == "told":
                self._told(json.loads(line))
            elif text := line.decode(errors="replace").rpartition("\r")[2].strip():
                self._ears.say(text)

    def _told(self, what: dict[str, Any]) -> None:
        if "progress" in what:
            self._ears.report(msgspec.convert(what["progress"], Progress))
        elif "network" in what:
            if what["network"] != "namespace":
                self._ears.say("the kernel does not let us cut the network; Python's sockets are refused instead")
        else:
            self._last = what


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End it and whatever it started."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()


def _outcome(heard: dict[str, Any], code: int, limits: Limits) -> Any:
    if "outcome" in heard:
        return heard["outcome"]
    if "refused" in heard:
        raise _refusal(heard["refused"], heard["text"])
    if "memory" in heard:
        raise JobFailed(f"{limits.over_memory(heard['memory'])} Nothing was published.")
    if "late" in heard or code == -signal.SIGXCPU:
        raise JobFailed(f"{limits.over_time()} Nothing was published.")
    if "failed" in heard:
        raise JobFailed(f"its computation failed: {heard['failed']}. Nothing was published; its log says more.")
    ending = f"by signal {-code}" if code < 0 else f"with {code}"
    hint = " That is what a system does that runs out of memory." if code == -signal.SIGKILL else ""
    raise JobFailed(f"its computation ended {ending} and without an outcome; nothing was published.{hint}")


def _refusal(code: str, text: str) -> RegistryError:
    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RegistryError))
    found = next((kind for kind in kinds if getattr(kind, "code", "") == code), JobFailed)
    error = found.__new__(found)
    RegistryError.__init__(error, text)
    return error
