"""Every kind of work, with an eye in it: it tells what its child process sees, or takes too much, and then computes."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapter_registry.jobs.compose import Compose
from adapter_registry.jobs.diff import Diff
from adapter_registry.jobs.evaluate import Evaluate
from adapter_registry.jobs.extract import Extract
from adapter_registry.jobs.flatten import Flatten
from adapter_registry.jobs.merge import Merge
from tests.jobs_worker import network_seen


class Eye:
    """Stands before a kind; `take` and `sleep` are options of the tests."""

    def compute(self, recipe, scratch: Path, report) -> dict[str, Any]:
        asked = {name: recipe.options[name] for name in ("take", "sleep") if name in recipe.options}
        if size := asked.get("take"):
            bytearray(size)
        time.sleep(asked.get("sleep", 0))
        options = {name: value for name, value in recipe.options.items() if name not in asked}
        seen = {
            "parent": os.getppid(),
            "environment": dict(os.environ),
            "network": network_seen(),
            "memory": resource.getrlimit(resource.RLIMIT_DATA)[1],
            "cpu": resource.getrlimit(resource.RLIMIT_CPU)[1],
        }
        return {**super().compute(replace(recipe, options=options), scratch, report), "seen": seen}  # type: ignore[misc]


class EyedMerge(Eye, Merge): ...


class EyedDiff(Eye, Diff): ...


class EyedCompose(Eye, Compose): ...


class EyedExtract(Eye, Extract): ...


class EyedEvaluate(Eye, Evaluate): ...


class EyedFlatten(Eye, Flatten): ...


_ALL = (EyedMerge(), EyedDiff(), EyedCompose(), EyedExtract(), EyedEvaluate(), EyedFlatten())
EYED = {kind.name: kind for kind in _ALL}
