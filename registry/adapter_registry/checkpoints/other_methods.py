"""Methods that are not modelled: no base weight is overwritten, every module exists, and what sizes are told fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapter_registry.checkpoints.adapter_keys import PROMPT_WRAPPER, Key
from adapter_registry.checkpoints.full_weights import DigestAs, declared_by, full_problems
from adapter_registry.checkpoints.header import TensorEntry
from adapter_registry.checkpoints.modules import Module, Modules
from adapter_registry.checkpoints.selection import OTHER_BASE
from adapter_registry.domain.errors import Problem
from adapter_registry.domain.peft.config import AdapterConfig
from adapter_registry.domain.peft.fields import WEIGHTS

_OUT, _IN, _ANY = "out", "in", ""
SIZES: dict[str, dict[str, tuple[str, ...]]] = {
    "ADALORA": {"lora_A": (_ANY, _IN), "lora_B": (_OUT, _ANY)},
    "BEFT": {"beft_bias": (_ANY, _OUT)},
    "BOFT": {"boft_s": (_OUT, _ANY)},
    "DEFT": {"deft_P": (_OUT, _ANY), "deft_R": (_ANY, _IN)},
    "DELORA": {"delora_A": (_ANY, _IN), "delora_B": (_OUT, _ANY)},
    "HIRA": {"hira_A": (_ANY, _IN), "hira_B": (_OUT, _ANY)},
    "HRA": {"hra_u": (_IN, _ANY)},
    "LN_TUNING": {"ln_tuning_layers.weight": (_OUT,), "ln_tuning_layers.bias": (_OUT,)},
    "LOHA": {
        "hada_w1_a": (_OUT, _ANY),
        "hada_w1_b": (_ANY, _IN),
        "hada_w2_a": (_OUT, _ANY),
        "hada_w2_b": (_ANY, _IN),
    },
    "OSF": {"osf_svd_params.U_low": (_OUT, _ANY), "osf_svd_params.V_low": (_ANY, _IN)},
    "TRAINABLE_TOKENS": {"trainable_tokens_delta": (_ANY, _IN), "token_adapter.trainable_tokens_delta": (_ANY, _IN)},
    "VERA": {"vera_lambda_b": (_OUT,)},
}
"""Method -> part of a module -> what its dimensions are: of the module's output, of its input, or of the method."""


def other_problems(
    keys: Sequence[Key],
    foreign: Sequence[TensorEntry],
    config: AdapterConfig,
    modules: Modules,
    digest_as: DigestAs,
) -> Iterator[Problem]:
    """Everything that can be told to be wrong with the tensors of a method we do not model."""
    for entry in foreign:
        if not entry.name.startswith(PROMPT_WRAPPER) and config.peft_type != "XLORA":
            fix = "Save the adapter with PEFT's save_pretrained; PEFT would ignore this tensor."
            yield Problem("foreign-tensor", WEIGHTS, entry.name, "a name that begins with base_model.", "none", fix)
    adapted = {module.path for key in keys if (module := owner_of(key, modules)) is not None}
    own = [key for key in keys if _is_full(key, config, modules)]
    yield from full_problems(own, config, modules, adapted, digest_as)
    for key in keys:
        if key in own:
            continue
        module = owner_of(key, modules)
        if module is not None:
            yield from _size_problems(key, module, config, modules)
        elif config.peft_type in SIZES or not _in_container(key, modules):
            found = "none of it"
            yield Problem("module-not-in-base", WEIGHTS, key.entry.name, "a module of the base", found, OTHER_BASE)


def owner_of(key: Key, modules: Modules) -> Module | None:
    """The module of the base that a tensor belongs to: the longest beginning of its name that is one."""
    name = f"{key.module}.{key.part}"
    ends = [i for i, c in enumerate(name) if c == "."]
    return next((found for i in reversed(ends) if (found := modules.find(name[:i])) is not None), None)


def _is_full(key: Key, config: AdapterConfig, modules: Modules) -> bool:
    if key.method:
        return False
    return (
        key.base_layer
        or f"{key.module}.{key.part}" in modules.tensors
        or declared_by(key.module, config) is not None
        or (key.part in ("weight", "bias") and modules.find(key.module) is not None)
    )


def _in_container(key: Key, modules: Modules) -> bool:
    """A method may sit on a module that holds no weight itself, e.g. an attention block; never on a missing layer."""
    name = f"{key.module}.{key.part}"
    ends = [i for i, c in enumerate(name) if c == "."]
    inside = next((i for i in reversed(ends) if name[:i] in modules.containers), None)
    return inside is not None and "." in name[:inside] and not name[inside + 1 :].split(".")[0].isdigit()


def _size_problems(key: Key, module: Module, config: AdapterConfig, modules: Modules) -> Iterator[Problem]:
    part = f"{key.module}.{key.part}".removeprefix(f"{module.path}.")
    wanted = SIZES.get(config.peft_type, {}).get(part if key.part != "token_delta" else "trainable_tokens_delta")
    if wanted is None or module.shape is None or len(module.shape) > 2:
        return
    first, last = module.shape[0], module.shape[-1]
    sizes = {_OUT: last if modules.conv1d else first, _IN: first if modules.conv1d else last}
    shape = key.entry.shape
    if len(shape) != len(wanted) or any(
        sizes.get(kind, size) != size for kind, size in zip(wanted, shape, strict=True)
    ):
        want = f"[{', '.join(str(sizes.get(kind, 'any')) for kind in wanted)}] for a weight {list(module.shape)}"
        yield Problem("shape-mismatch", WEIGHTS, key.entry.name, want, f"{list(shape)}", OTHER_BASE)
