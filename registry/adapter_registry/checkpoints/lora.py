"""LoRA's tensors against its config and the base: every factor present, of the right rank and the right size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from adapter_registry.checkpoints.adapter_keys import Key
from adapter_registry.checkpoints.modules import Module, Modules
from adapter_registry.checkpoints.targets import Targets, rank_of, scaling_of
from adapter_registry.domain.errors import Problem
from adapter_registry.domain.peft import AdapterConfig

WEIGHTS = "adapter_model.safetensors"
RESAVE = "Save the adapter again from the model it was trained on."


@dataclass(frozen=True, slots=True)
class Layer:
    """One adapted module: its path and its tensors by part."""

    path: str
    parts: Mapping[str, Key]

    @property
    def embedding(self) -> bool:
        """Whether it adapts an embedding."""
        return "lora_embedding_A" in self.parts or "lora_embedding_B" in self.parts

    @property
    def down(self) -> Key | None:
        """The factor that reads the input: `lora_A`."""
        return self.parts.get("lora_A") or self.parts.get("lora_embedding_A")

    @property
    def up(self) -> Key | None:
        """The factor that writes the output: `lora_B`."""
        return self.parts.get("lora_B") or self.parts.get("lora_embedding_B")


def layers_of(keys: list[Key]) -> list[Layer]:
    """The adapted modules of a LoRA file, by path."""
    parts: dict[str, dict[str, Key]] = {}
    for key in keys:
        if key.method and key.part.startswith("lora_"):
            parts.setdefault(key.path, {})[key.part] = key
    return [Layer(path, found) for path, found in sorted(parts.items())]


def module_path(path: str) -> str:
    """The module under `.base_layer` wrappers of a second adapted parameter."""
    while path.endswith(".base_layer"):
        path = path.removesuffix(".base_layer")
    return path


def lora_problems(layers: list[Layer], config: AdapterConfig, targets: Targets, modules: Modules) -> Iterator[Problem]:
    """Everything wrong with the factors."""
    there = {module_path(layer.path) for layer in layers}
    replicated = bool(config.layer_replication)
    for layer in layers:
        yield from _layer_problems(layer, config, targets, modules, replicated=replicated)
    if targets.modules is not None and not replicated:
        if targets.complete:
            for path in sorted(targets.modules - there):
                fix = f"{RESAVE} Its config targets this module."
                yield Problem("missing-tensors", WEIGHTS, path, "lora_A and lora_B of it", "neither", fix)
        for path in sorted(there - targets.modules - _parameter_owners(config, modules)):
            fix = "Add it to target_modules, or remove its tensors: PEFT would ignore them."
            yield Problem("not-targeted", WEIGHTS, path, "a module that the config targets", "tensors of it", fix)


def _is_parameter(live: str, config: AdapterConfig) -> bool:
    """Whether `target_parameters` names the parameter at `live`, by its whole path or its end, as PEFT compares."""
    return any(live == text or live.endswith(f".{text}") for text in config.target_parameters)


def _parameter_owners(config: AdapterConfig, modules: Modules) -> set[str]:
    """Paths of the modules whose parameters `target_parameters` names."""
    if not config.target_parameters:
        return set()
    live = modules.by_path.keys() | modules.tensors.keys()
    return {name.rpartition(".")[0] for name in live if _is_parameter(name, config)}


def _layer_problems(
    layer: Layer, config: AdapterConfig, targets: Targets, modules: Modules, *, replicated: bool
) -> Iterator[Problem]:
    module = modules.find(module_path(layer.path)) or _parameter(layer, config, modules)
    if module is None and not replicated:
        fix = "Name the base it was trained on with --base."
        yield Problem("module-not-in-base", WEIGHTS, layer.path, "a module of the base", "no such module", fix)
    down, up = layer.down, layer.up
    if down is None or up is None:
        missing, there = ("lora_A", "lora_B") if down is None else ("lora_B", "lora_A")
        yield Problem("missing-tensors", WEIGHTS, layer.path, f"{missing} beside {there}", f"{there} alone", RESAVE)
        return
    factors = down.entry.shape, up.entry.shape
    if any(len(shape) < 2 or 0 in shape for shape in factors):
        yield _shape(layer.path, "two factors of two dimensions or more, none of size 0", *factors)
        return
    rank = rank_of(_pattern_path(layer, config, modules), config, targets)
    yield from _rank_problems(layer, config, rank, module, *factors)
    if module is not None and module.shape is not None:
        yield from _size_problems(layer, config, modules, module, *factors)
    yield from _variant_problems(layer, config, up.entry.shape)


def _parameter(layer: Layer, config: AdapterConfig, modules: Modules) -> Module | None:
    """The parameter that `target_parameters` adapts in this module, e.g. a stack of experts."""
    path = module_path(layer.path)
    candidates = [
        module
        for live, module in modules.by_path.items()
        if live.rpartition(".")[0] == path and _is_parameter(live, config)
    ]
    fitting = [module for module in candidates if layer.down and _stack_fits(module, layer)]
    return next(iter(fitting or candidates), None)


def _stack_fits(module: Module, layer: Layer) -> bool:
    if not (module.shape and len(module.shape) >= 2 and layer.down and layer.up):
        return False
    return sorted((layer.down.entry.shape[-1], layer.up.entry.shape[0])) == sorted(module.shape[-2:])


def _pattern_path(layer: Layer, config: AdapterConfig, modules: Modules) -> str:
    """What `rank_pattern` and `alpha_pattern` are matched against: the module, or its adapted parameter."""
    path = module_path(layer.path)
    if not config.target_parameters or modules.find(path) is not None:
        return path
    parameter = _parameter(layer, config, modules)
    return parameter.path if parameter else path


def _rank_problems(
    layer: Layer,
    config: AdapterConfig,
    rank: int,
    module: Module | None,
    down: tuple[int, ...],
    up: tuple[int, ...],
) -> Iterator[Problem]:
    stacked = module is not None and module.shape is not None and len(module.shape) == 3
    experts = module.shape[0] if stacked and module is not None and module.shape else 1
    if down[0] != up[1]:
        yield _shape(layer.path, "lora_A and lora_B of the same rank", down, up)
    elif down[0] != rank * experts and not (module is None and config.target_parameters):
        expected = f"rank {rank}, as r and rank_pattern say" + (f", for each of {experts} experts" if stacked else "")
        fix = "Correct r or rank_pattern, or save the adapter again."
        yield Problem("rank-mismatch", WEIGHTS, layer.path, expected, f"rank {down[0]} in its tensors", fix)


def _size_problems(
    layer: Layer,
    config: AdapterConfig,
    modules: Modules,
    module: Module,
    down: tuple[int, ...],
    up: tuple[int, ...],
) -> Iterator[Problem]:
    expected = _expected_sizes(layer, config, modules, module)
    found = (down[1:], (up[0], *up[2:]))
    if found not in expected:
        (reads, writes), *_ = expected
        fix = "Name the base it was trained on with --base."
        want = f"lora_A (r, {_joined(reads)}) and lora_B ({_joined(writes[:1])}, r)"
        have = f"lora_A {list(down)} and lora_B {list(up)}"
        yield Problem(
            "shape-mismatch", WEIGHTS, layer.path, f"{want} for a weight {list(module.shape or ())}", have, fix
        )


def _expected_sizes(
    layer: Layer, config: AdapterConfig, modules: Modules, module: Module
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(what lora_A has after r, what lora_B has but r) that fit the base's weight."""
    shape = module.shape or ()
    if layer.embedding:
        return [((shape[0],), (shape[1],))]
    if len(shape) == 3 and module.weight.endswith((".0", module.path)):
        return [((shape[2],), (shape[1],)), ((shape[1],), (shape[2],))]
    if len(shape) > 2:
        ones = (1,) * (len(shape) - 2)
        return [(shape[1:], (shape[0], *ones))]
    linear, transposed = ((shape[1],), (shape[0],)), ((shape[0],), (shape[1],))
    if modules.conv1d or config.fan_in_fan_out:
        return [transposed, linear] if not modules.conv1d else [transposed]
    return [linear]


def _variant_problems(layer: Layer, config: AdapterConfig, up: tuple[int, ...]) -> Iterator[Problem]:
    magnitude = layer.parts.get("lora_magnitude_vector")
    if config.use_dora and magnitude is None:
        yield Problem("missing-tensors", WEIGHTS, layer.path, "lora_magnitude_vector, as use_dora says", "none", RESAVE)
    if magnitude is not None and not config.use_dora:
        fix = "Set use_dora, or remove it: PEFT would ignore it."
        yield Problem("not-targeted", WEIGHTS, layer.path, "no lora_magnitude_vector without use_dora", "one", fix)
    if magnitude is not None and up[0] not in magnitude.entry.shape:
        yield _shape(layer.path, f"lora_magnitude_vector of {up[0]}", magnitude.entry.shape, up)
    bias = layer.parts.get("lora_B.bias")
    if (bias is not None) != config.lora_bias:
        found = "one" if bias is not None else "none"
        expected = "a lora_B.bias, as lora_bias says" if config.lora_bias else "no lora_B.bias without lora_bias"
        yield Problem("not-targeted", WEIGHTS, layer.path, expected, found, RESAVE)
    if bias is not None and bias.entry.shape != (up[0],):
        yield _shape(layer.path, f"lora_B.bias of {up[0]}", bias.entry.shape, up)


def ranks_and_scalings(
    layers: list[Layer], config: AdapterConfig, targets: Targets, modules: Modules
) -> tuple[dict[str, int], dict[str, int], int | None]:
    """(rank -> modules, scaling -> modules, largest rank) as the tensors and the config have them."""
    ranks = Counter(layer.down.entry.shape[0] for layer in layers if layer.down and layer.down.entry.shape)
    scalings = Counter(f"{scaling_of(_pattern_path(layer, config, modules), config, targets):.6g}" for layer in layers)
    ordered = {str(rank): count for rank, count in sorted(ranks.items())}
    return ordered, dict(sorted(scalings.items())), max(ranks, default=None)


def _shape(path: str, expected: str, first: tuple[int, ...], second: tuple[int, ...]) -> Problem:
    return Problem("shape-mismatch", WEIGHTS, path, expected, f"{list(first)} and {list(second)}", RESAVE)


def _joined(sizes: tuple[int, ...]) -> str:
    return ", ".join(map(str, sizes))
