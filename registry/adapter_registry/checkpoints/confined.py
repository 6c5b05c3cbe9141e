"""How a child process that computes is confined: memory, time, network. Only the standard library, so that it is first.

The child calls these before it imports anything else, and before its first thread: namespaces of users are for
processes of one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

NEW_NETWORK, NEW_USERS, DEATH_SIGNAL = 0x40000000, 0x10000000, 1
REFUSED = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo")
OUT_OF_MEMORY = ("allocate memory", "bad_alloc", "out of memory", "Cannot allocate", "MemoryError")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may take: bytes of memory that are its own, and seconds."""

    memory: int
    seconds: float

    def over_memory(self, found: str) -> str:
        """What is told of a child that took more memory."""
        return (
            f"it took more than the {self.memory / 1e9:.3g} GB of memory that it may (ADAPTERS_JOB_MEMORY_GB): {found}."
        )

    def over_time(self) -> str:
        """What is told of a child that took longer."""
        return f"it took longer than the {self.seconds:,.0f} s that it may (ADAPTERS_JOB_SECONDS), and was ended."


def limit(memory: int, seconds: float) -> None:
    """At most `memory` bytes that are its own (mapped files do not count), and `seconds` of CPU on each core."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cpu = int(seconds * (os.cpu_count() or 1)) + 1
    # Mapped files are address space: RLIMIT_AS would refuse to read a checkpoint larger than the limit.
    kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    for what, most in ((resource.RLIMIT_CPU, cpu), (kind, memory)):
        with contextlib.suppress(ValueError, OSError):  # a limit that is there already, and lower
            resource.setrlimit(what, (most, most))


def end_with(parent: int) -> None:
    """End when the parent process does, however it ends; on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def cut_network() -> str:
    """How the network was cut: `namespace` (by the kernel), or `python` where it does not let us."""
    cut = sys.platform == "linux" and _unshared()
    sys.addaudithook(_refuse_network)
    return "namespace" if cut else "python"


def _unshared() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NETWORK) == 0:
        return True
    user, group = os.getuid(), os.getgid()
    if libc.unshare(NEW_USERS | NEW_NETWORK) != 0:
        return False
    # Without these lines the files that it makes would have no owner, which the kernel refuses.
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path("/proc/self", name).write_text(text)
    return True


def _refuse_network(event: str, _arguments: object) -> None:
    if event in REFUSED:
        raise PermissionError("a job has no network")
