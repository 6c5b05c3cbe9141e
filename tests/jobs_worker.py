"""A worker for tests, as a process: with kinds of work that take their time, fail, or pry, and with short waits.

`main` runs one on the settings of the environment; its arguments are QUEUE and LEASE_SECONDS.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapter_registry.domain.errors import IncompatibleBase
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.job import Progress
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs.merge import Merge

POLL_SECONDS = 0.2


def seed_text(recipe: Recipe, step: int) -> str:
    return f"{recipe.seed} {step}\n"


@dataclass(frozen=True)
class Writes:
    """Writes a file in many steps, from the files of a version; its score is what came of it."""

    name = "writes"
    verb = "score"

    def check(self, registry, recipe: Recipe) -> Recipe:
        if recipe.options.get("refuse"):
            raise IncompatibleBase("these two are locked to different bases. Nothing was queued.")
        version = registry.resolve(recipe.inputs[0].reference)
        exact = Ingredient(f"{version.adapter}@{version.digest}")
        return replace(recipe, inputs=(exact,), base=version.base)

    def gather(self, registry, recipe: Recipe, scratch: Path) -> None:
        registry.pull(recipe.inputs[0].reference, scratch / "inputs" / "adapter")

    def compute(self, recipe: Recipe, scratch: Path, report: Callable[[Progress], None]) -> dict[str, Any]:
        assert (scratch / "inputs/adapter/adapter_config.json").exists()
        steps, pause = recipe.options.get("steps", 5), recipe.options.get("pause", 0.05)
        with (scratch / "out" / "text").open("w") as out:
            for step in range(steps):
                time.sleep(pause)
                out.write(seed_text(recipe, step))
                report(Progress((step + 1) / steps, f"step {step}", 1 / max(pause, 0.001), "steps"))
        print("wrote all of it")
        return {"size": (scratch / "out" / "text").stat().st_size}

    def publish(self, registry, recipe: Recipe, scratch: Path, outcome: dict[str, Any]) -> dict[str, Any]:
        reference = recipe.inputs[0].reference
        digest = registry.keep_file(scratch / "out" / "text", adapter=recipe.into)
        if pause := recipe.options.get("publish_pause"):
            (scratch.parent / "publishing").touch()
            time.sleep(pause)
        if not any(each.score.evidence == digest for each in registry.scores(reference)):
            score = Score("writes/size", outcome["size"], Direction.LOWER, evidence=digest)
            registry.add_scores(reference, (score,))
        return {"digest": digest, "files": [digest]}


@dataclass(frozen=True)
class Shares(Writes):
    """The same, in parts that workers share."""

    name = "shares"

    def parts(self, recipe: Recipe, scratch: Path) -> list[str]:
        print("counted the parts")
        return [f"part-{index}" for index in range(recipe.options["parts"])]

    def compute_part(self, recipe: Recipe, scratch: Path, part: str, report) -> dict[str, Any]:
        time.sleep(recipe.options.get("pause", 0.05))
        (scratch / "out" / "text").write_text(seed_text(recipe, int(part.rpartition("-")[2])))
        return {"by": os.getpid()}

    def join(self, recipe: Recipe, scratch: Path, outcomes, report) -> dict[str, Any]:
        text = "".join((scratch / "parts" / part / "text").read_text() for part in outcomes)
        (scratch / "out" / "text").write_text(text)
        return {"size": len(text)}


@dataclass(frozen=True)
class Pries(Writes):
    """Tells what it can see; or takes too much."""

    name = "pries"

    def compute(self, recipe: Recipe, scratch: Path, report) -> dict[str, Any]:
        if size := recipe.options.get("allocate"):
            return {"size": len(bytearray(size))}
        if recipe.options.get("die"):
            os.kill(os.getpid(), 9)
        if recipe.options.get("kill_worker"):
            os.kill(os.getppid(), 9)
            time.sleep(30)
        if recipe.options.get("sleep"):
            time.sleep(recipe.options["sleep"])
        return {"size": 1, "environment": dict(os.environ), "network": network_seen()}

    def publish(self, registry, recipe: Recipe, scratch: Path, outcome: dict[str, Any]) -> dict[str, Any]:
        return outcome


def network_seen() -> dict[str, str]:
    found = {}
    for name, reach in (
        ("connect", lambda: socket.create_connection(("127.0.0.1", 9), timeout=1)),
        ("resolve", lambda: socket.getaddrinfo("localhost", 80)),
        ("devices", lambda: Path("/proc/net/dev").read_text()),
    ):
        try:
            found[name] = str(reach())
        except OSError as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


class SmallMerge(Merge):
    """Merging that is shared out however little there is to do."""

    shared_from = 0


KINDS = {kind.name: kind for kind in (Writes(), Shares(), Pries(), SmallMerge())}


def main() -> None:
    from adapter_registry.settings import read_settings
    from adapter_registry.worker import Worker

    queues, lease = sys.argv[1].split(","), float(sys.argv[2]) if len(sys.argv) > 2 else 30
    worker = Worker(read_settings(), queues=queues, kinds=KINDS, poll_seconds=POLL_SECONDS, lease_seconds=lease)
    print(json.dumps({"worker": worker.name}), flush=True)
    worker.run()
