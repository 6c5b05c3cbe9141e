"""A Base whose bytes are stored here too, so that it is served over the Hub's protocol under a repository's id."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import Digest, hex_of, of_json
from adapter_registry.domain.errors import InvalidReference
from adapter_registry.domain.names import DEFAULT_NAMESPACE, STAGE_NAMES, check_base_name
from adapter_registry.domain.reference import split_adapter


@dataclass(frozen=True, slots=True)
class StoredBase:
    """The stored files of one Base under one id.

    Attributes:
        name: the id that it is served under: `gpt2`, `mistralai/Mistral-7B-v0.1`.
        base: the Base's digest.
        commit: 40 hex digits that name this state: the Hub's commit where it is known, else made of the files.
        model_type: `model_type` of its config.json, e.g. `llama`.
        files: weights, config, tokenizer and what else is safe, sorted by path.
        stored_by: who stored it.
        stored_at: when, ISO 8601 in UTC.
    """

    name: str
    base: Digest
    commit: str
    model_type: str | None
    files: tuple[File, ...]
    stored_by: str
    stored_at: str

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)


class StoredBaseRows(Protocol):
    """Bases whose bytes are stored, by the ids they are served under."""

    def add(self, stored: StoredBase) -> None:
        """Store it; the Base is not stored under that id."""

    def of(self, base: Digest) -> tuple[StoredBase, ...]:
        """The stored files of a Base under every id, by id."""

    def named(self, name: str) -> tuple[StoredBase, ...]:
        """All that are served under an id, newest first."""

    def spelled(self, name: str) -> str | None:
        """The id in use that differs at most in upper and lower case."""

    def listed(self, *, after: str = "") -> tuple[StoredBase, ...]:
        """What `main` is of every id, by id, beginning after `after`; files left empty."""

    def all(self) -> tuple[StoredBase, ...]:
        """Every one, with its files."""

    def remove(self, stored: StoredBase) -> None:
        """Forget the files of a Base under an id."""

    def local_namespace(self, namespace: str) -> bool:
        """Whether adapters or settings of the registry are in this namespace, in upper or lower case."""


def check_served(name: str, stages: Iterable[str] = ()) -> str:
    """A name that a base can be served under, as given; `stages` are those declared beside STAGE_NAMES.

    Raises:
        InvalidReference: no base's name, or one that reads as a stage of an adapter.
    """
    check_base_name(name)
    if name.rpartition(".")[2] in (*STAGE_NAMES, *stages):
        raise InvalidReference(f"{name!r} reads as a stage of an adapter: give the base another name.")
    return name


def derived_commit(files: Iterable[File]) -> str:
    """The 40-hex commit of files whose commit on a Hub is not known."""
    return hex_of(of_json({"base files": sorted([file.path, file.digest] for file in files)}))[:40]


def receiver(name: str) -> str:
    """The `namespace/name` that the bytes of a base served as `name` are received for."""
    namespace, _, last = name.rpartition("/")
    try:
        return "/".join(split_adapter(last, namespace=namespace or DEFAULT_NAMESPACE))
    except InvalidReference:
        return f"{namespace or DEFAULT_NAMESPACE}/base"
