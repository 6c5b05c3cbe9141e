"""Base: an exact base checkpoint, identified by its bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from adapter_registry.domain.digest import Digest, of_json, short
from adapter_registry.domain.errors import Notice


@dataclass(frozen=True, slots=True)
class Tensor:
    """One row of a checkpoint's table of tensors.

    Attributes:
        name: as in the safetensors header.
        dtype: as in the safetensors header: `F32`, `BF16`, `U8`, ...
        shape: as in the safetensors header; `()` for a scalar.
        digest: BLAKE3-256 of the tensor's bytes, 64 hex digits; None when the bytes were not read.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One weight file of a checkpoint: path inside it, size in bytes, sha256 as 64 hex digits."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SpotCheck:
    """What a quick look at a few keyed slices of every tensor must find.

    Attributes:
        key: 32 hex digits, drawn at random when the Base was registered; it decides where the slices lie.
        slices: how many slices of each tensor are read.
        length: bytes of a slice.
        digests: tensor name -> BLAKE3-128 (32 hex digits) over its slices.
    """

    key: str
    slices: int
    length: int
    digests: dict[str, str]


@dataclass(frozen=True, slots=True)
class Base:
    """An exact base checkpoint.

    Two checkpoints are the same Base when they hold the same tensors (name, dtype, shape, bytes) and the same
    tokenizer, however the tensors are spread over files. A Base known from the Hub's file digests alone
    (no byte was read) has no `root`.

    Attributes:
        digest: identity, see `identity`.
        files: the weight files, sorted by path.
        tensors: the table of tensors, sorted by name.
        config: digest of the parts of config.json that change what the model computes; None without one.
        tokenizer: digest of the tokenizer's vocabulary, independent of formatting; None without one.
        architecture: first entry of `architectures`, e.g. `LlamaForCausalLM`.
        model_type: `model_type` of config.json, e.g. `llama`.
        vocab_size: rows of the input embedding.
        tied: whether input and output embeddings are one tensor.
        root: digest over (name, dtype, shape, tensor digest) of every tensor; None when bytes were not read.
        repository: Hub repository id, if known.
        commit: 40-hex commit of that repository, if known.
        quantization: method named by `quantization_config` (`bitsandbytes`, `gptq`, ...); None when unquantised.
        spot: expected slices for the quick check; None when bytes were not read.
        source: where it was read from: a folder or `hf://...`. For people, never trusted.
        notices: what was left out or is odd about it, as seen when it was read; no part of its identity.
    """

    digest: Digest
    files: tuple[WeightFile, ...]
    tensors: tuple[Tensor, ...]
    config: Digest | None
    tokenizer: Digest | None
    architecture: str | None
    model_type: str | None
    vocab_size: int | None
    tied: bool
    root: Digest | None
    repository: str | None
    commit: str | None
    quantization: str | None
    spot: SpotCheck | None
    source: str
    notices: tuple[Notice, ...] = ()

    @property
    def parameters(self) -> int:
        """Number of scalar weights in the files; a tied embedding stored once counts once."""
        return sum(size_of(tensor.shape) for tensor in self.tensors)

    @property
    def bytes(self) -> int:
        """Total size of the weight files."""
        return sum(file.size for file in self.files)


def size_of(shape: Iterable[int]) -> int:
    """Number of elements of a tensor of this shape, exact."""
    count = 1
    for dimension in shape:
        count *= dimension
    return count


def weights_root(tensors: Iterable[Tensor]) -> Digest:
    """One digest over every tensor's name, dtype, shape and bytes, independent of files and of their order.

    Raises:
        ValueError: a tensor has no digest.
    """
    rows = sorted((t.name, t.dtype, list(t.shape), t.digest) for t in tensors)
    if any(row[3] is None for row in rows):
        raise ValueError("weights_root needs the digest of every tensor")
    return of_json({"format": "adapters.tensors/1", "tensors": rows})


def files_root(files: Iterable[WeightFile]) -> Digest:
    """One digest over the sha256 of the weight files, whatever they are called."""
    return of_json({"format": "adapters.files/1", "sha256": sorted(file.sha256 for file in files)})


def identity(*, weights: Digest, tokenizer: Digest | None) -> Digest:
    """The digest of a Base: its weights (root over tensors, else over files) and its tokenizer."""
    return of_json({"format": "adapters.base/1", "weights": weights, "tokenizer": tokenizer})


@dataclass(frozen=True, slots=True)
class RegisteredBase:
    """A Base under one of the names it was registered by.

    Attributes:
        name: as in references, e.g. `mistral-7b`.
        base: the checkpoint; listings leave its table of tensors empty.
        tensors: number of tensors in its table.
        added_by: who registered it under this name.
        added_at: when, ISO 8601 in UTC.
        served_as: ids it is served under, because its bytes are stored here; empty when they are not.
    """

    name: str
    base: Base
    tensors: int
    added_by: str
    added_at: str
    served_as: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """`name@<12 hex of the digest>`."""
        return f"{self.name}@{short(self.base.digest)}"
