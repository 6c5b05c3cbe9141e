"""The child process that computes: it limits itself, cuts its network, and only then imports what it is to run.

Run as `python -I -B child.py` with one line of JSON on its standard input, which is held open: when it ends, so does
the child. What it has to say goes to the descriptor named there, a line of JSON each.
"""

import contextlib
import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import threading
import traceback
from pathlib import Path

NEW_NETWORK, NEW_USERS, DEATH_SIGNAL = 0x40000000, 0x10000000, 1
REFUSED = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo")
OUT_OF_MEMORY = ("allocate memory", "bad_alloc", "out of memory", "Cannot allocate")


def limit(memory: int, seconds: float) -> None:
    """At most `memory` bytes that are its own (mapped files do not count), and `seconds` of CPU on each core."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cpu = int(seconds * (os.cpu_count() or 1)) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    # Mapped files are address space: RLIMIT_AS would refuse to read a checkpoint larger than the limit.
    kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (memory, memory))


def die_with(parent: int) -> None:
    """End when the parent does, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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


def main() -> None:
    """Do what the line on standard input says."""
    given = json.loads(sys.stdin.buffer.readline())
    with os.fdopen(given["tell"], "w", buffering=1, encoding="utf-8") as told:

        def tell(**what: object) -> None:
            told.write(json.dumps(what) + "\n")

        limit(given["memory"], given["seconds"])
        tell(network=cut_network())  # before the first thread: namespaces of users are for processes of one
        die_with(given["parent"])
        try:
            tell(outcome=_done(given, tell))
        except BaseException as error:  # noqa: BLE001  the edge of the process: whatever it was, the parent is told
            tell(**_failure(error))


def _done(given: dict, tell) -> object:  # type: ignore[no-untyped-def, type-arg]
    sys.path[:] = given["path"]
    import msgspec  # noqa: PLC0415  after the path is set

    from adapter_registry.domain.recipe import Recipe  # noqa: PLC0415

    module, _, name = given["kind"].partition(":")
    kind = getattr(importlib.import_module(module), name)()
    recipe = msgspec.convert(given["recipe"], Recipe)
    scratch = Path(given["scratch"])
    os.chdir(scratch)

    def report(progress) -> None:  # type: ignore[no-untyped-def]
        tell(progress=msgspec.to_builtins(progress))

    if given["do"] == "parts":
        return kind.parts(recipe, scratch)
    if given["do"] == "part":
        return kind.compute_part(recipe, scratch, given["part"], report)
    if given["do"] == "join":
        return kind.join(recipe, scratch, given["outcomes"], report)
    return kind.compute(recipe, scratch, report)


def _failure(error: BaseException) -> dict[str, object]:
    code = getattr(error, "code", None)
    if isinstance(code, str) and hasattr(error, "text"):
        return {"refused": code, "text": error.text}
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or any(sign in text for sign in OUT_OF_MEMORY):
        return {"memory": text[:500]}
    traceback.print_exception(error)
    return {"failed": text[:1000]}


if __name__ == "__main__":
    main()
