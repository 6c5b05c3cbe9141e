"""An adapter's folder opened for arithmetic: its layers beside the base it is locked to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapter_registry.checkpoints.adapter_files import survey
from adapter_registry.checkpoints.adapter_keys import Key
from adapter_registry.checkpoints.header import Header
from adapter_registry.checkpoints.header import read as read_header
from adapter_registry.checkpoints.json_strict import JsonRefused, parse
from adapter_registry.checkpoints.lora import Place
from adapter_registry.checkpoints.modules import OUTPUT_HEAD
from adapter_registry.checkpoints.subject import Subject, subject_of
from adapter_registry.checkpoints.targets import scaling_of
from adapter_registry.domain.base import Base, Tensor
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.peft.config import AdapterConfig, read_config
from adapter_registry.domain.peft.fields import CONFIG, WEIGHTS
from adapter_registry.tensors.arrays import Float32, WeightFile
from adapter_registry.tensors.layers import Layer

MAX_CONFIG = 1 << 20
TRANSPOSED_EXPERTS = frozenset({"gpt_oss", "llama4", "llama4_text"})
"""Model types whose stacks of experts are (experts, in, out); told by sizes where those differ."""

_PARTS = {"lora_A": ("lora_A", "lora_embedding_A"), "lora_B": ("lora_B", "lora_embedding_B")}


@dataclass(frozen=True)
class Loaded:
    """An adapter for arithmetic.

    Attributes:
        folder: where it is.
        base: what it is locked to.
        config: as read.
        subject: the adapter beside the base; `subject.keys` has every tensor, `subject.modules` the base's names.
        layers: its LoRA layers in order of their names; empty for other methods.
        full: its full parameters: `modules_to_save`, biases, embeddings saved whole, trained tokens are not among them.
        weights: its tensors.
    """

    folder: Path
    base: Base
    config: AdapterConfig
    subject: Subject
    layers: tuple[Layer, ...]
    full: tuple[Key, ...]
    weights: WeightFile

    def array(self, key: Key) -> Float32:
        """One of its tensors as float32."""
        return self.weights.array(key.entry.name)


@contextmanager
def loaded(folder: Path, base: Base) -> Iterator[Loaded]:
    """Open an adapter's folder, which was examined when it was pushed; its tensors are read as they are asked for.

    Raises:
        InvalidInput: the folder holds no adapter that can be read.
        HeaderRefused: its weight file is damaged.
    """
    by_path = {file.path: file for file in survey(folder).files}
    if CONFIG not in by_path or WEIGHTS not in by_path:
        raise InvalidInput(f"{folder} holds no {CONFIG if CONFIG not in by_path else WEIGHTS}: it is no adapter.")
    config = _config(folder)
    source = by_path[WEIGHTS]
    with source.open() as stream:
        header: Header = read_header(stream, size=source.size, file=WEIGHTS)
    subject = subject_of(config, header, base, source)
    with WeightFile(folder / WEIGHTS, header) as weights:
        layers = tuple(sorted(_layers(subject, base, weights), key=lambda layer: layer.name))
        full = tuple(key for key in subject.keys if not key.method)
        yield Loaded(folder, base, config, subject, layers, full, weights)


def _config(folder: Path) -> AdapterConfig:
    try:
        reading = read_config(parse((folder / CONFIG).read_bytes(), max_bytes=MAX_CONFIG, max_depth=16))
    except JsonRefused as error:
        raise InvalidInput(f"{folder / CONFIG} cannot be read: {error}.") from error
    if reading.config is None:
        raise InvalidInput(f"{folder / CONFIG}: {reading.problems[0]}", problems=reading.problems)
    return reading.config


def _layers(subject: Subject, base: Base, weights: WeightFile) -> Iterator[Layer]:
    for place in subject.places:
        yield Layer(
            name=place.name,
            place=place,
            tensor=_tensor(place, subject),
            scale=scaling_of(place.name, subject.config, subject.targets),
            kind=_kind(place, subject, base),
            experts=place.shape[0] if place.parameter and place.shape and len(place.shape) == 3 else 1,
            read=_reader(place.layer.parts, weights),
        )


def _tensor(place: Place, subject: Subject) -> Tensor | None:
    if place.parameter:
        return subject.modules.tensors.get(place.name)
    module = subject.modules.find(place.name)
    return subject.modules.tensors.get(module.weight) if module else None


def _kind(place: Place, subject: Subject, base: Base) -> str:
    """How the weight is stored: by the sizes where those tell, else by what the model is known to do."""
    shape, factors = place.shape, place.layer.factors
    if place.layer.embedding:
        return "embedding"
    if shape is None or factors is None:
        return "linear"
    if len(shape) > 2 and not place.parameter:
        return "convolution"
    sizes, square = (factors.up[0], factors.down[1]), shape[-1] == shape[-2]
    if len(shape) == 3:
        swapped = base.model_type in TRANSPOSED_EXPERTS if square else shape[1:] != sizes
        return "experts-transposed" if swapped else "experts"
    conv1d = subject.modules.conv1d and not OUTPUT_HEAD.fullmatch(place.name)
    return "transposed" if (conv1d if square else shape != sizes) else "linear"


def _reader(parts: Mapping[str, Key], weights: WeightFile) -> Callable[[str], Float32 | None]:
    def read(part: str) -> Float32 | None:
        key = next((parts[name] for name in _PARTS.get(part, (part,)) if name in parts), None)
        return weights.array(key.entry.name) if key else None

    return read
