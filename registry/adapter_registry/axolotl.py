"""Axolotl's plugin: `plugins: [adapter_registry.axolotl.RegistryPlugin]` pushes each checkpoint of a training.

Imported by Axolotl, in its environment; nothing else here needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from adapter_registry.training import PushCheckpoints


class Arguments(BaseModel):
    """What the plugin reads from Axolotl's configuration: see PushCheckpoints.

    Attributes:
        adapter_name: `[namespace/]name`.
        adapter_base: the registered base; default: what `base_model` is.
        adapter_labels: facts for every version.
    """

    adapter_name: str
    adapter_base: str | None = None
    adapter_labels: dict[str, str] | None = None


@cache
def _plugin() -> type:
    from axolotl.integrations.base import BasePlugin  # noqa: PLC0415  only where Axolotl asks for it

    class RegistryPlugin(BasePlugin):  # type: ignore[misc]  # Axolotl is not here
        """Adds PushCheckpoints to Axolotl's trainer."""

        def get_input_args(self) -> str:
            """Where Axolotl finds the fields that the configuration may have."""
            return f"{__name__}.{Arguments.__name__}"

        def add_callbacks_pre_trainer(self, cfg: Mapping[str, Any], model: Any) -> list[PushCheckpoints]:  # noqa: ARG002
            """The callback for one training."""
            labels = dict(cfg.get("adapter_labels") or {})
            return [PushCheckpoints(cfg["adapter_name"], base=cfg.get("adapter_base"), labels=labels)]

    return RegistryPlugin


def __getattr__(name: str) -> type:
    """`RegistryPlugin`, made when Axolotl asks for it."""
    if name == "RegistryPlugin":
        return _plugin()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
