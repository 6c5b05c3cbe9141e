"""A process of its own that matches patterns: Python's regex engine backtracks, and a hostile pattern never returns.

Run as `python -I -S -B pattern_child.py`: one JSON question on stdin, one JSON answer on stdout, nothing imported but
the standard library. The parent limits its CPU time, memory and wall time.
"""

import json
import re
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


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
