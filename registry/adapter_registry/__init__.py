"""adapter-registry: immutable versions of fine-tuned adapters, each locked to its exact base checkpoint.

    from adapter_registry import connect, load

    registry = connect()                              # push, promote, pull, ...
    model = load(model, "team/sql-lora@prod")         # attach to a live model, its weights checked first

Both names are imported when they are used, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapter_registry.client import connect
    from adapter_registry.serving.live_peft import load

__all__ = ["connect", "load"]

_HOMES = {"connect": "adapter_registry.client", "load": "adapter_registry.serving.live_peft"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
