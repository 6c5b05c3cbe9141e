"""The plan of a merge that PEFT has computed: its tensors in place of the base's."""

from __future__ import annotations

from blake3 import blake3

from adapter_registry.checkpoints.base_folder import Opened
from adapter_registry.domain.errors import Unsupported
from adapter_registry.tensors.merging.plan import Origin, Plan, cannot

_HALVES = {"gate_up_proj": (("gate_proj", "w1"), ("up_proj", "w3")), "down_proj": (("down_proj", "w2"),)}
"""Parameter that the live model makes of single experts -> what its rows are made of, by either of two names."""


def plan_of_peft(opened: Opened, merged: Opened, name: str) -> Plan:
    """What PEFT's own merge did: the tensors of the checkpoint that it saved, where their bytes are others.

    Raises:
        Unsupported: it saved tensors under names that the base does not have.
    """
    plan = Plan({entry.name: Origin(path, entry) for path, header in opened.files for entry in header.tensors})
    for path, header in merged.files:
        for entry in header.tensors:
            own = plan.origins.get(entry.name)
            if own is None or own.entry.shape != entry.shape:
                found = f"{list(entry.shape)}"
                problem = cannot(name, entry.name, "a tensor of the base", found)
                raise Unsupported(f"PEFT's merge cannot be taken over: {problem}", problems=[problem])
            if _bytes_of(own) != _bytes_of(Origin(path, entry)):
                plan.origins[entry.name] = Origin(path, entry)
                plan.replaced[entry.name] = name
    return plan


def _bytes_of(origin: Origin) -> str:
    digest = blake3()
    with origin.path.open("rb") as stream:
        stream.seek(origin.entry.start)
        left = origin.entry.end - origin.entry.start
        while left and (block := stream.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()
