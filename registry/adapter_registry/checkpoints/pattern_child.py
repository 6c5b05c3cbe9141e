"""A process of its own that matches patterns: Python's regex engine backtracks, and a hostile pattern never returns.

Run as `python -I -S -B pattern_child.py CPU_SECONDS MEMORY_BYTES`: one JSON question on stdin, one JSON answer on
stdout, nothing imported but the standard library. It limits itself before it reads the question; the parent limits its
wall time.
"""

import json
import re
import resource
import sys
from typing import Any


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """For each pattern: [index of a matched name, its group `idx`], and why it is no pattern."""
    names = question["names"]
    answers: list[list[list[Any]]] = []
    errors: list[str] = []
    for pattern in question["patterns"]:
        try:
            compiled = re.compile(pattern["regex"])
        except (re.error, OverflowError, RecursionError) as error:
            errors.append(str(error))
            answers.append([])
            continue
        errors.append("")
        match = compiled.fullmatch if pattern["full"] else compiled.match
        found = []
        for i, name in enumerate(names):
            hit = match(name)
            if hit is not None:
                found.append([i, hit.groupdict().get("idx")])
        answers.append(found)
    return {"answers": answers, "errors": errors}


def limit(cpu_seconds: int, memory_bytes: int) -> None:
    """Bound what this process may use; beyond it the kernel ends it."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    limit(int(sys.argv[1]), int(sys.argv[2]))
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
