"""A process of its own that matches a `.gitignore`: patterns become regular expressions, which may never return.

Run as `python -I -B ignored_child.py CPU_SECONDS MEMORY_BYTES`: one JSON question on stdin, one JSON answer on stdout.
"""

import json
import resource
import sys


def answer(question: dict[str, object]) -> dict[str, object]:
    """The paths that are left out, or why the file is none."""
    from pathspec import GitIgnoreSpec  # noqa: PLC0415  within the limits

    try:
        spec = GitIgnoreSpec.from_lines(str(question["gitignore"]).splitlines(), backend="simple")
    except (ValueError, RecursionError) as error:
        return {"error": " ".join(str(error).split()) or "not a pattern.", "ignored": []}
    paths = question["paths"]
    return {"error": "", "ignored": list(spec.match_files(paths)) if isinstance(paths, list) else []}


if __name__ == "__main__":
    cpu_seconds, memory_bytes = map(int, sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
