"""Every kind of work that jobs do."""

from __future__ import annotations

from adapter_registry.jobs.evaluate import Evaluate
from adapter_registry.jobs.kind import Kind

KINDS: dict[str, Kind] = {kind.name: kind for kind in (Evaluate(),)}
