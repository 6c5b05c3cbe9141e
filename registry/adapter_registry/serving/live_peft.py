"""Load a Version onto a live transformers model, after holding that model against the Version's lock.

from adapter_registry import load

model = AutoModelForCausalLM.from_pretrained("./mistral-7b")
model = load(model, "team/sql-lora@prod")
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapter_registry.client import Registry, connect
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.digest import short
from adapter_registry.domain.errors import Conflict, IncompatibleBase, InvalidInput, Problem, Unsupported
from adapter_registry.domain.lock import Difference, Level, Verdict

if TYPE_CHECKING:
    from peft import PeftModel

VERIFY = ("weights", "structure")
_PREFIX = "base_model.model."


class LoadWarning(UserWarning):
    """Something about a load that was allowed and is worth knowing: what was not proved, or who declared a stand-in."""


def load(
    model: Any,
    reference: str,
    *,
    registry: Registry | None = None,
    adapter_name: str | None = None,
    verify: str = "weights",
) -> PeftModel:
    """Attach a Version to a live model by PEFT and make it the active adapter.

    The live model is held against the Version's lock first: names, shapes, and every byte of every weight. A model in
    a wider dtype than its checkpoint is converted back; where weights cannot be proved (a narrower dtype, quantised in
    memory, offloaded), the files the model was loaded from are read instead, of a folder or of the Hub's cache, and a
    LoadWarning says so.

    Args:
        model: a transformers model, or a PeftModel to attach one more adapter to. It is changed in place, as PEFT does.
        reference: `name@prod`, `name@v3`, ...
        registry: default: the one the environment names.
        adapter_name: PEFT's name for it; default: the adapter's name and number, `sql-lora-v3`.
        verify: `weights`, or `structure` to compare names and shapes only.

    Returns:
        The PeftModel, in evaluation mode; `model` itself when it is one.

    Raises:
        IncompatibleBase: the live model is not the base the Version is locked to; the model was not touched.
        Conflict: the model bears an adapter of that name.
        InvalidInput: `verify` is neither.
    """
    if verify not in VERIFY:
        raise InvalidInput(f"verify is {verify!r}; it is {' or '.join(map(repr, VERIFY))}.")
    _require_peft()
    source = registry or connect()
    version = source.resolve(reference)
    name = adapter_name or _name(version)
    _require_free(model, name)
    verdict, proved = _held(model, version, registry=source, verify=verify)
    _require(verdict, version, allow_structure=verify == "structure")
    if not proved:
        warnings.warn(f"{version.reference}: {'; '.join(verdict.notes)}", LoadWarning, stacklevel=2)
    folder = Path(source.pull(f"{version.adapter}@{version.digest}"))
    _require_places(model, folder, version)
    return _attach(model, folder, name, version)


def _held(model: Any, version: Version, *, registry: Registry, verify: str) -> tuple[Verdict, bool]:
    """How a live model fits the lock of a Version, and whether its own weights proved it.

    Where they cannot, the files that the model says it was loaded from decide.
    """
    from adapter_registry.serving.live_origin import files_verdict, origin_of  # noqa: PLC0415  needs torch
    from adapter_registry.serving.live_weights import live_differences  # noqa: PLC0415  needs torch

    base = registry.base(version.base).base
    resized = version.description.vocab_resized
    live = live_differences(model, base, resized=resized, values=verify == "weights")
    if verify == "structure" or live.differences or live.accepted:
        return live, live.accepted
    return files_verdict(origin_of(model), version.base, registry=registry, live=live), False


def _require_peft() -> None:
    try:
        import peft  # noqa: F401, PLC0415
        import torch  # noqa: F401, PLC0415
    except ImportError as error:
        raise Unsupported(
            f"loading onto a live model needs {error.name}, which is not installed: "
            "pip install 'adapter-registry[jobs]'."
        ) from error


def _name(version: Version) -> str:
    # PEFT keeps adapters in a module dictionary, whose keys hold no dot, and takes `lora_` in a name for its own.
    plain = re.sub(r"[^A-Za-z0-9]+", "-", version.adapter.rpartition("/")[2])
    return f"{plain}-v{version.number}"


def _require_free(model: Any, name: str) -> None:
    if name in (getattr(model, "peft_config", None) or {}):
        raise Conflict(
            f"the model bears an adapter called {name!r} already; nothing was changed. Choose another adapter_name, or "
            f"remove that one with model.delete_adapter({name!r})."
        )


def _require(verdict: Verdict, version: Version, *, allow_structure: bool) -> None:
    unproved = verdict.level is Level.STRUCTURAL and not verdict.differences
    if verdict.accepted or (allow_structure and unproved):
        return
    if unproved:
        raise IncompatibleBase(
            f"{_locked(version)}, and the live model's weights cannot be proved to be that base: "
            f"{'; '.join(verdict.notes)}. The model was not touched. Load it in the dtype of its checkpoint "
            "(dtype='auto') or from a folder on this machine, or pass verify='structure': names and shapes only."
        )
    raise _incompatible(version, str(verdict), verdict.differences)


def _incompatible(version: Version, found: str, differences: tuple[Difference, ...]) -> IncompatibleBase:
    listed = "".join(f"\n  {difference}" for difference in differences)
    return IncompatibleBase(
        f"{_locked(version)}, and the live model is {found}. The model was not touched.{listed}\n"
        f"Load {version.base_name} as it was registered (adapters base show {version.base_name}), or choose a version "
        "that is locked to this model's base.",
        problems=[Problem("base-differs", "live model", d.what, d.expected, d.found, "") for d in differences],
    )


def _locked(version: Version) -> str:
    return f"{version.reference} is locked to {version.base_name}@{short(version.base)}"


def _require_places(model: Any, folder: Path, version: Version) -> None:
    """Refuse weights that the live model has no place for, e.g. of a head it lacks: PEFT would leave them out."""
    from safetensors import safe_open  # noqa: PLC0415

    from adapter_registry.serving.live_names import unwrapped  # noqa: PLC0415

    with safe_open(folder / "adapter_model.safetensors", framework="numpy") as weights:
        paths = [key.removeprefix(_PREFIX) for key in weights.keys() if key.startswith(_PREFIX)]  # noqa: SIM118
    there = {name for name, _ in unwrapped(model).named_children()}
    absent = sorted({path.split(".", 1)[0] for path in paths} - there)
    if absent:
        kind = type(unwrapped(model)).__name__
        raise _incompatible(
            version,
            f"another class of model, {kind}",
            tuple(
                Difference(name, "a part of the model, which the adapter has weights for", "absent") for name in absent
            ),
        )


def _attach(model: Any, folder: Path, name: str, version: Version) -> PeftModel:
    from peft import PeftModel  # noqa: PLC0415

    if isinstance(model, PeftModel):
        left_out = model.load_adapter(str(folder), adapter_name=name).missing_keys
        if left_out:
            model.delete_adapter(name)
            raise _half_loaded(version, ", ".join(left_out))
        model.set_adapter(name, inference_mode=True)
        return model
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        attached = PeftModel.from_pretrained(model, str(folder), adapter_name=name)
    for each in told:
        if "missing adapter keys" in str(each.message):
            attached.unload()
            raise _half_loaded(version, str(each.message))
        warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    return attached


def _half_loaded(version: Version, told: str) -> IncompatibleBase:
    return IncompatibleBase(
        f"{version.reference} fits the live model only in part, so it was taken off again: PEFT found no weights for "
        f"{told[:400]}. Load the class of model it was trained on ({version.description.task_type or 'see its card'})."
    )
