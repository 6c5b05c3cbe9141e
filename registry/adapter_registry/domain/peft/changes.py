"""What differs between two adapter_config.json, after what says the same was brought into one form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapter_registry.domain.diff import FieldDiff

SETS = frozenset(
    """
    target_modules exclude_modules modules_to_save target_parameters layers_pattern feedforward_modules
    layers_to_transform
    """.split()  # noqa: SIM905  a paragraph of names reads better than a column of strings
)
"""Lists whose order says nothing."""

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "": {"inference_mode": False, "fan_in_fan_out": False, "bias": "none", "ensure_weight_tying": False},
    "LORA": {
        "r": 8,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "use_rslora": False,
        "use_dora": False,
        "lora_bias": False,
        "init_lora_weights": True,
        "merge_weights": False,
        "megatron_core": "megatron.core",
        "use_qalora": False,
        "qalora_group_size": 16,
        "runtime_config": {"ephemeral_gpu_offload": False},
    },
    "IA3": {"init_ia3_weights": True},
    "LOHA": {"r": 8, "alpha": 8, "rank_dropout": 0.0, "module_dropout": 0.0, "init_weights": True},
    "LOKR": {"r": 8, "alpha": 8, "rank_dropout": 0.0, "module_dropout": 0.0, "init_weights": True},
    "VERA": {"r": 256, "projection_prng_key": 0, "save_projection": True, "vera_dropout": 0.0, "d_initial": 0.1},
    "ADALORA": {"target_r": 8, "init_r": 12, "lora_alpha": 8, "lora_dropout": 0.0, "init_lora_weights": True},
}
"""What PEFT, whichever release wrote the file, takes for a field that is missing or null; "" for every method."""

RECORDS = frozenset(
    """
    peft_version auto_mapping base_model_name_or_path revision inference_mode runtime_config unsloth_fixed
    tokenizer_name_or_path megatron_config megatron_core
    """.split()  # noqa: SIM905  a paragraph of names reads better than a column of strings
)
"""Fields that only record something, or say how to run it."""
TRAINING = frozenset(
    """
    lora_dropout rank_dropout module_dropout vera_dropout init_weights init_ia3_weights loftq_config
    eva_config corda_config lora_ga_config merge_weights d_initial init_r tinit tfinal deltaT beta1 beta2
    orth_reg_weight total_step task_type velora_config
    """.split()  # noqa: SIM905  a paragraph of names reads better than a column of strings
)
"""Fields that say how it was trained; `init_lora_weights` is none of them: some values change the base on loading."""

_ORDER = ("weights", "training", "record")


def config_changes(
    first: Mapping[str, Any], second: Mapping[str, Any], *, same_modules: bool = False
) -> tuple[FieldDiff, ...]:
    """The fields that differ, what matters most first.

    Args:
        first: a parsed adapter_config.json.
        second: another.
        same_modules: whether both adapt the same modules, so that differing selections are only differing words.
    """
    mine, other = _canonical(first), _canonical(second)
    differing = [name for name in sorted(mine.keys() | other.keys()) if mine.get(name) != other.get(name)]
    sides = ((name, _shown(name, mine, first), _shown(name, other, second)) for name in differing)
    found = (_field(*side, same_modules) for side in sides)
    return tuple(sorted(found, key=lambda each: _ORDER.index(each.matters)))


@dataclass(frozen=True, slots=True)
class FieldRow:
    """One field of several configs side by side: their values as JSON text, `-` where PEFT has none."""

    field: str
    values: tuple[str, ...]
    matters: str

    @property
    def differs(self) -> bool:
        """Whether they are not all the same."""
        return len(set(self.values)) > 1


def side_by_side(documents: Sequence[Mapping[str, Any]]) -> tuple[FieldRow, ...]:
    """Every field that any of several configs sets, in one form, what matters most first; `{}` for one that is none."""
    forms = [(_canonical(document), document) for document in documents]
    names = sorted({name for canonical, _ in forms for name in canonical})
    rows = (FieldRow(name, tuple(_shown(name, *form) for form in forms), _matters(name)) for name in names)
    return tuple(sorted(rows, key=lambda row: _ORDER.index(row.matters)))


def _matters(name: str) -> str:
    return "record" if name in RECORDS else "training" if name in TRAINING else "weights"


def _field(name: str, first: str, second: str, same_modules: bool) -> FieldDiff:
    if same_modules and name in ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"):
        return FieldDiff(name, first, second, "record", "other words for the same modules")
    return FieldDiff(name, first, second, _matters(name))


def _canonical(document: Mapping[str, Any]) -> dict[str, Any]:
    """Fields with a value that is not the default, in one form; a field that is left out has its default."""
    defaults = _defaults(document)
    found = {name: _value(name, value) for name, value in document.items()}
    return {
        name: value
        for name, value in found.items()
        if value is not None and value != defaults.get(name) and (value not in ([], {}) or name == "target_modules")
    }


def _defaults(document: Mapping[str, Any]) -> dict[str, Any]:
    return {**DEFAULTS[""], **DEFAULTS.get(str(document.get("peft_type")), {})}


def _shown(name: str, canonical: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """The value; of a field at its default that default, or `-` where PEFT has none."""
    value = canonical.get(name, _defaults(document).get(name))
    return "-" if value is None else _text(value)


def _value(name: str, value: Any) -> Any:
    if name == "layers_to_transform" and isinstance(value, int):
        value = [value]
    if name in SETS and isinstance(value, list):
        return sorted(value, key=_text)
    return value


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
