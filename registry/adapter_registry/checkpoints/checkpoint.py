"""A checkpoint whose headers and small files were read, wherever it lies, and the Base that it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapter_registry.checkpoints.base_config import BaseConfig, is_tied, read_config, vocabulary_rows
from adapter_registry.checkpoints.base_files import Read, WeightNames, table_problems, unlisted
from adapter_registry.checkpoints.header import Header
from adapter_registry.checkpoints.tokenizer import tokenizer_digest
from adapter_registry.domain.base import Base, SpotCheck, Tensor, WeightFile, files_root, identity, weights_root
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import InvalidInput, Notice, Problem

MAX_BASE_HEADER = 100_000_000
MAX_BASE_TENSORS = 1_000_000
LISTED = 20


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a checkpoint is from: a folder or `hf://...`, and the Hub repository and commit where that is known."""

    source: str
    repository: str | None = None
    commit: str | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint of which no tensor byte was read.

    Attributes:
        origin: where it is from.
        headers: name and header of each weight file, by name.
        config: facts of its config.json.
        tokenizer: digest of its tokenizer's vocabulary; None without one.
        notices: what was left out or is odd.
    """

    origin: Origin
    headers: tuple[tuple[str, Header], ...]
    config: BaseConfig
    tokenizer: Digest | None
    notices: tuple[Notice, ...]

    def tensors(self, digests: Mapping[str, str] | None = None) -> tuple[Tensor, ...]:
        """The table of tensors by name, with BLAKE3 digests by tensor name where they are known."""
        known = digests or {}
        entries = (entry for _, header in self.headers for entry in header.tensors)
        rows = (Tensor(e.name, e.dtype, e.shape, known.get(e.name)) for e in entries)
        return tuple(sorted(rows, key=lambda row: row.name))

    def base(
        self,
        sha256: Sequence[str],
        *,
        digests: Mapping[str, str] | None = None,
        spot: SpotCheck | None = None,
    ) -> Base:
        """The Base that this checkpoint is.

        Args:
            sha256: of each weight file, in the order of `headers`.
            digests: of every tensor, when bytes were read.
            spot: slices for the quick check, when bytes were read.
        """
        tensors = self.tensors(digests)
        files = tuple(
            WeightFile(name, header.size, digest) for (name, header), digest in zip(self.headers, sha256, strict=True)
        )
        root = weights_root(tensors) if digests is not None else None
        return Base(
            digest=identity(weights=root or files_root(files), tokenizer=self.tokenizer),
            files=files,
            tensors=tensors,
            config=self.config.digest,
            tokenizer=self.tokenizer,
            architecture=self.config.architecture,
            model_type=self.config.model_type,
            vocab_size=vocabulary_rows(tensors, self.config),
            tied=is_tied(tensors, self.config),
            root=root,
            repository=self.origin.repository,
            commit=self.origin.commit,
            quantization=self.config.quantization,
            spot=spot,
            source=self.origin.source,
            notices=self.notices,
        )


def sound(origin: Origin, weights: WeightNames, *, headers: Sequence[tuple[str, Header]], read: Read) -> Checkpoint:
    """The checkpoint that these files are together.

    Args:
        origin: where it is from.
        weights: the weight files.
        headers: of each of them, in order.
        read: for config.json and the tokenizer.

    Raises:
        InvalidInput: the files contradict each other or their index; every contradiction is told.
    """
    require_none(list(table_problems(headers, weights.weight_map)), source=origin.source)
    notices = (*weights.notices, *unlisted(headers, weights.weight_map))
    config = read_config(read("config.json"), source=origin.source)
    tokenizer = tokenizer_digest(read, source=origin.source)
    return Checkpoint(origin, tuple(headers), config, tokenizer, notices)


def require_none(problems: Sequence[Problem], *, source: str) -> None:
    """Refuse a checkpoint with all its problems.

    Raises:
        InvalidInput: there are any.
    """
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems[:LISTED])
        more = f"\n  and {len(problems) - LISTED:,} more" if len(problems) > LISTED else ""
        raise InvalidInput(f"{source} is not a sound checkpoint:{listed}{more}", problems=problems)
