"""LoRA's tensors against its config and the base: every factor present, of the right rank and the right size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from adapter_registry.checkpoints.adapter_keys import EXTENSION_PARTS, Key, module_path
from adapter_registry.checkpoints.lora_sizes import Factors, fitting, packed_fit, parameter_places
from adapter_registry.checkpoints.modules import Modules
from adapter_registry.checkpoints.selection import OTHER_BASE, RESAVE, selection_problems
from adapter_registry.checkpoints.targets import Targets, rank_of, scaling_of
from adapter_registry.domain.base import size_of
from adapter_registry.domain.errors import Problem
from adapter_registry.domain.peft.config import AdapterConfig
from adapter_registry.domain.peft.fields import WEIGHTS

LOOKED_UP = frozenset({"embed_tokens", "wte", "wpe", "word_embeddings", "tok_embeddings"})
"""Names that only embeddings bear."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One adapted weight: its path and its tensors by part."""

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

    @property
    def factors(self) -> Factors | None:
        """Shapes of both; None when one is missing."""
        return Factors(self.down.entry.shape, self.up.entry.shape) if self.down and self.up else None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer sits in the base.

    Attributes:
        layer: the layer.
        name: live path of the module, or live name of the parameter: what patterns of ranks are matched against.
        shape: of the weight that is adapted; None when it is packed by quantisation or not in the base.
        parameter: whether it is a parameter that `target_parameters` names.
        packed_bits: how many bits a packed weight takes, where that is known.
    """

    layer: Layer
    name: str
    shape: tuple[int, ...] | None
    parameter: bool = False
    packed_bits: int | None = None


def layers_of(keys: Sequence[Key]) -> list[Layer]:
    """The adapted weights of a LoRA file, by path."""
    parts: dict[str, dict[str, Key]] = {}
    for key in keys:
        if key.method and key.part.startswith("lora_"):
            parts.setdefault(key.path, {})[key.part] = key
    return [Layer(path, found) for path, found in sorted(parts.items())]


def places_of(
    layers: Sequence[Layer],
    config: AdapterConfig,
    targets: Targets,
    modules: Modules,
    resized: Mapping[str, tuple[int, ...]],
) -> list[Place]:
    """Where each layer sits.

    Args:
        layers: of the file.
        config: for the ranks that tell two parameters of one module apart.
        targets: says which modules have adapted parameters.
        modules: of the base.
        resized: module -> shape of its weight as saved in the adapter, where it has other rows than the base's.
    """
    places, wrapped = [], dict[str, list[Layer]]()
    for layer in layers:
        path = module_path(layer.path)
        if path in targets.parameters:
            wrapped.setdefault(path, []).append(layer)
            continue
        module = modules.find(path)
        shape = resized.get(path, module.shape if module else None)
        places.append(Place(layer, path, shape, packed_bits=modules.packed_bits(path)))
    for path, alike in wrapped.items():
        # The parameter that is adapted first ends up innermost, under the most `.base_layer`.
        alike.sort(key=lambda layer: -layer.path.count(".base_layer"))
        shapes = {leaf: modules.parameters.get(f"{path}.{leaf}") for leaf in targets.parameters[path]}
        ranks = {leaf: rank_of(f"{path}.{leaf}", config, targets) for leaf in shapes}
        for layer, leaf in zip(alike, parameter_places([a.factors for a in alike], shapes, ranks), strict=True):
            name = path if leaf is None else f"{path}.{leaf}"
            places.append(Place(layer, name, shapes.get(leaf or ""), parameter=True))
    return places


def lora_problems(
    places: Sequence[Place], config: AdapterConfig, targets: Targets, modules: Modules
) -> Iterator[Problem]:
    """Everything wrong with the factors."""
    there = {place.name for place in places if not place.parameter}
    yield from selection_problems(there, config, targets, modules, parts="lora_A and lora_B")
    yield from _parameter_problems(places, targets)
    for place in places:
        yield from _place_problems(place, config, targets, modules)


def _parameter_problems(places: Sequence[Place], targets: Targets) -> Iterator[Problem]:
    there = Counter(place.name for place in places if place.parameter)
    wanted = {f"{owner}.{leaf}" for owner, leaves in targets.parameters.items() for leaf in leaves}
    for name in sorted(wanted - there.keys()):
        fix = f"{RESAVE} Its config targets this parameter."
        yield Problem("missing-tensors", WEIGHTS, name, "lora_A and lora_B of it", "none", fix)
    for name in sorted(there.keys() - wanted):
        fix = "Add the parameter to target_parameters, or remove its tensors: PEFT would ignore them."
        found = "one more pair of factors"
        yield Problem("not-targeted", WEIGHTS, name, "a targeted parameter", found, fix)


def _place_problems(place: Place, config: AdapterConfig, targets: Targets, modules: Modules) -> Iterator[Problem]:
    layer, name = place.layer, place.name
    factors = layer.factors
    if factors is None:
        missing, there = ("lora_A", "lora_B") if layer.down is None else ("lora_B", "lora_A")
        if layer.down is None and layer.up is None:
            missing, there = "lora_A and lora_B", ", ".join(sorted(layer.parts))
        yield Problem("missing-tensors", WEIGHTS, name, f"{missing} beside {there}", f"{there} alone", RESAVE)
        return
    if any(len(shape) < 2 or 0 in shape for shape in factors):
        yield _shape(name, "two factors of two dimensions or more, none of size 0", factors)
        return
    yield from _kind_problems(place, modules)
    yield from _factor_problems(place, factors, config, targets, modules)
    yield from _variant_problems(layer, config, factors.up)


def _kind_problems(place: Place, modules: Modules) -> Iterator[Problem]:
    """PEFT names the factors of an embedding differently, and ignores those of the other kind."""
    module = modules.by_path.get(place.name)
    if module is None or module.shape is None or len(module.shape) != 2:
        return
    wrong = not module.embedding if place.layer.embedding else module.kind in LOOKED_UP
    if wrong:
        names = ("lora_A", "lora_embedding_A")
        expected, found = names if place.layer.embedding else reversed(names)
        yield Problem("not-targeted", WEIGHTS, place.name, f"{expected}, as its kind has", f"{found}", RESAVE)


def _factor_problems(
    place: Place, factors: Factors, config: AdapterConfig, targets: Targets, modules: Modules
) -> Iterator[Problem]:
    rank = rank_of(place.name, config, targets)
    found = fitting(place.shape, place.layer.embedding, factors, config, place.name, conv1d=modules.conv1d)
    experts = place.shape[0] if place.parameter and place.shape and len(place.shape) == 3 else 1
    if not found.agree:
        yield _shape(place.name, "lora_A and lora_B of the same rank", factors)
    elif factors.down[0] != rank * experts and not (place.parameter and place.shape is None):
        expected = f"rank {rank}, as r and rank_pattern say" + (f", for each of {experts} experts" * (experts > 1))
        fix = "Correct r or rank_pattern, or save the adapter again."
        yield Problem("rank-mismatch", WEIGHTS, place.name, expected, f"rank {factors.down[0]} in its tensors", fix)
    if place.packed_bits is not None and not packed_fit(place.packed_bits, factors):
        have = f"lora_A {list(factors.down)} and lora_B {list(factors.up)}"
        want = f"sizes of a weight that is packed into {place.packed_bits // 8:,} bytes"
        yield Problem("shape-mismatch", WEIGHTS, place.name, want, have, OTHER_BASE)
    if not found.fits:
        have = f"lora_A {list(factors.down)} and lora_B {list(factors.up)}"
        want = f"{found.expected} for a weight {list(place.shape or ())}"
        yield Problem("shape-mismatch", WEIGHTS, place.name, want, have, OTHER_BASE)


def _variant_problems(layer: Layer, config: AdapterConfig, up: tuple[int, ...]) -> Iterator[Problem]:
    magnitude, bias = layer.parts.get("lora_magnitude_vector"), layer.parts.get("lora_B.bias")
    if config.use_dora and magnitude is None:
        yield Problem("missing-tensors", WEIGHTS, layer.path, "lora_magnitude_vector, as use_dora says", "none", RESAVE)
    if magnitude is not None and not config.use_dora:
        fix = "Set use_dora, or remove it: PEFT would ignore it."
        yield Problem("not-targeted", WEIGHTS, layer.path, "no lora_magnitude_vector without use_dora", "one", fix)
    if magnitude is not None and size_of(magnitude.entry.shape) != up[0]:
        yield _shape(layer.path, f"lora_magnitude_vector of {up[0]}", Factors(magnitude.entry.shape, up))
    if (bias is not None) != config.lora_bias and not layer.embedding:
        expected = "a lora_B.bias, as lora_bias says" if config.lora_bias else "no lora_B.bias without lora_bias"
        yield Problem("not-targeted", WEIGHTS, layer.path, expected, "one" if bias is not None else "none", RESAVE)
    if bias is not None and bias.entry.shape != (up[0],):
        yield _shape(layer.path, f"lora_B.bias of {up[0]}", Factors(bias.entry.shape, up))
    for part in layer.parts:
        variant = EXTENSION_PARTS.get(part.partition(".")[0])
        if part == "lora_A.bias" or (variant is not None and variant not in config.extensions):
            fix = "Remove it: PEFT would ignore it."
            yield Problem("not-targeted", WEIGHTS, layer.path, f"no {part} by this config", "one", fix)
    if "kasa" in config.extensions and "lora_diag" not in layer.parts:
        yield Problem("missing-tensors", WEIGHTS, layer.path, "lora_diag, as kasa_config says", "none", RESAVE)


def ranks_and_scalings(
    places: Sequence[Place], config: AdapterConfig, targets: Targets
) -> tuple[dict[str, int], dict[str, int], int | None]:
    """(rank -> weights, scaling -> weights, largest rank) as the tensors and the config have them."""
    ranks: Counter[int] = Counter()
    for place in places:
        if place.layer.down and place.layer.down.entry.shape:
            experts = place.shape[0] if place.parameter and place.shape and len(place.shape) == 3 else 1
            ranks[place.layer.down.entry.shape[0] // max(experts, 1)] += 1
    scalings = Counter(f"{scaling_of(place.name, config, targets):.6g}" for place in places)
    ordered = {str(rank): count for rank, count in sorted(ranks.items())}
    return ordered, dict(sorted(scalings.items())), max(ranks, default=None)


def _shape(path: str, expected: str, factors: Factors) -> Problem:
    found = f"{list(factors.down)} and {list(factors.up)}"
    return Problem("shape-mismatch", WEIGHTS, path, expected, found, RESAVE)
