"""The child process that computes: it limits itself, cuts its network, and only then imports what it is to run.

Run as `python -I -B child.py` with one line of JSON on its standard input, which is held open: when it ends, so does
the child. What it has to say goes to the descriptor named there, a line of JSON each.
"""

import importlib
import json
import os
import sys
import threading
import traceback
from pathlib import Path


def watch_input() -> None:
    """End when standard input does: its other end is the parent's, and not every system tells of a parent's end."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Do what the line on standard input says."""
    given = json.loads(sys.stdin.buffer.readline())
    sys.path[:] = given["path"]
    from adapter_registry.checkpoints import confined  # noqa: PLC0415  after the path is set

    with os.fdopen(given["tell"], "w", buffering=1, encoding="utf-8") as told:

        def tell(**what: object) -> None:
            told.write(json.dumps(what) + "\n")

        confined.limit(given["memory"], given["seconds"])
        tell(network=confined.cut_network())
        confined.end_with(given["parent"])
        watch_input()
        try:
            tell(outcome=_done(given, tell))
        except BaseException as error:  # noqa: BLE001  the edge of the process: whatever it was, the parent is told
            tell(**_failure(error, confined.OUT_OF_MEMORY))


def _done(given: dict, tell) -> object:  # type: ignore[no-untyped-def, type-arg]
    import msgspec  # noqa: PLC0415  when it is confined

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


def _failure(error: BaseException, out_of_memory: tuple[str, ...]) -> dict[str, object]:
    code = getattr(error, "code", None)
    if isinstance(code, str) and hasattr(error, "text"):
        return {"refused": code, "text": error.text}
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or any(sign in text for sign in out_of_memory):
        return {"memory": text[:500]}
    traceback.print_exception(error)
    return {"failed": text[:1000]}


if __name__ == "__main__":
    main()
