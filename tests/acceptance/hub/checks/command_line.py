"""The client's own command line, each command a process.

Most of a command's time is its import, so commands are forked from a process that has done it, and that itself was
forked before this one had threads and connections. Settings are read on import: a command with other ones is started
from nothing.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import check
from huggingface_hub.cli.hf import main


def _forking():
    """Ends of two pipes: for JSON lines of arguments and a file for what is said, and for exit codes."""
    (asked, ask), (told, tell) = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.close(ask)
        for line in os.fdopen(asked):
            arguments, said = json.loads(line)
            if (command := os.fork()) == 0:
                _run(arguments, said)
            os.write(tell, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(command, 0)[1]))
        os._exit(0)
    return os.fdopen(ask, "w", buffering=1), os.fdopen(told)


def _run(arguments, said):
    for numbers, path in (((0,), os.devnull), ((1, 2), said)):
        for number in numbers:
            os.dup2(os.open(path, os.O_RDWR | os.O_APPEND), number)
    sys.argv[:] = ["hf", *arguments]
    sys.exit(main())


_ask, _told = _forking()


def hf(*arguments, code=0, **environment):
    """Run the command; (its exit code was right, what it said)."""
    arguments = list(map(str, arguments))
    if environment:
        program = str(Path(sys.executable).with_name("hf"))
        given = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 120}
        done = subprocess.run([program, *arguments], check=False, env={**os.environ, **environment}, **given)
        return (done.returncode == 0) == (code == 0), done.stdout + done.stderr
    with tempfile.NamedTemporaryFile("r") as said:
        print(json.dumps([arguments, said.name]), file=_ask)
        return (int(_told.readline()) == 0) == (code == 0), said.read()


def command(name, *arguments, code=0, says="", **environment):
    """Note whether the command ends as it should and says something."""
    right, said = hf(*arguments, code=code, **environment)
    # The 0.36 line prints a traceback of its own for every refusal.
    holds = right and says in said and not (code == 0 and "Traceback" in said)
    check(name if holds else f"{name}: {said[-600:]}", holds)
    return said
