"""Every kind of work that jobs do."""

from __future__ import annotations

from adapter_registry.jobs.compose import Compose
from adapter_registry.jobs.diff import Diff
from adapter_registry.jobs.evaluate import Evaluate
from adapter_registry.jobs.extract import Extract
from adapter_registry.jobs.flatten import Flatten
from adapter_registry.jobs.kind import Kind
from adapter_registry.jobs.merge import Merge

KINDS: dict[str, Kind] = {kind.name: kind for kind in (Compose(), Diff(), Evaluate(), Extract(), Flatten(), Merge())}
