"""Whether an adapter in a folder is of stacks of experts, which vLLM wants to be told with each load."""

from __future__ import annotations

import json
from pathlib import Path

from adapter_registry.domain.peft.fields import CONFIG


def is_stacked(folder: Path) -> bool:
    """Whether a folder's adapter is of parameters, PEFT's `target_parameters`; not where there is no config to say so.

    vLLM calls such an adapter 3D, `is_3d_lora_weight`. It reads that only when it was started with
    `--enable-mixed-moe-lora-format`, and then takes stacks of an architecture whose experts it keeps singly.
    """
    try:
        return bool(json.loads((folder / CONFIG).read_bytes()).get("target_parameters"))
    except (OSError, ValueError, AttributeError):
        return False
