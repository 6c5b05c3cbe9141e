"""Adapter and Version: what a pushed adapter is, and how versions are numbered."""

from __future__ import annotations

from dataclasses import dataclass, field

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import Notice
from adapter_registry.domain.lineage import Lineage


@dataclass(frozen=True, slots=True)
class Description:
    """What an adapter's config and weights say it is, as checked against its Base.

    Attributes:
        peft_type: PEFT's name of the method: `LORA`, `IA3`, `PREFIX_TUNING`, ...
        variant: what modifies the method, sorted: `dora`, `rslora`, `alora`, ...
        task_type: PEFT's task type, or None.
        rank: largest rank of any module; None for methods without one.
        ranks: rank -> number of modules with it; empty for methods without one.
        alpha: `lora_alpha` of the config; None for methods without one.
        scaling: scaling factor -> number of modules with it, factor written with `%.6g`.
        target_modules: as configured: a list's entries sorted, or the one regular expression.
        matched: module kind (last path component, e.g. `q_proj`) -> how many modules of the base are adapted.
        modules: how many modules are adapted.
        candidates: how many modules of the base bear one of those kinds' names (so `modules of candidates`).
        saved_modules: full modules saved beside the method (`modules_to_save`, task heads), sorted.
        dtype: dtype of the weights, `F32`; several are joined with `+`.
        parameters: number of scalar weights in the adapter's tensors.
        nonzero: whether the adapter changes anything at all (a fresh LoRA, with every `lora_B` zero, does not).
        vocab_resized: whether its embeddings have another number of rows than the base's.
        checked: `full`, or `names and shapes only` for methods we do not model.
        notices: what is worth knowing and does not block.
    """

    peft_type: str
    variant: tuple[str, ...]
    task_type: str | None
    rank: int | None
    ranks: dict[str, int]
    alpha: float | None
    scaling: dict[str, int]
    target_modules: tuple[str, ...]
    matched: dict[str, int]
    modules: int
    candidates: int
    saved_modules: tuple[str, ...]
    dtype: str
    parameters: int
    nonzero: bool
    vocab_resized: bool
    checked: str
    notices: tuple[Notice, ...] = ()

    @property
    def method(self) -> str:
        """Method and variant for people: `LORA (dora, rslora)`."""
        return f"{self.peft_type} ({', '.join(self.variant)})" if self.variant else self.peft_type

    @property
    def flags(self) -> tuple[str, ...]:
        """What is worth a look before it is used, in a word or two each."""
        found = {
            "no effect": not self.nonzero,
            "vocabulary resized": self.vocab_resized,
            "shapes only": self.checked != "full",
        }
        return tuple(flag for flag, raised in found.items() if raised)


@dataclass(frozen=True, slots=True)
class File:
    """A path inside a Version, with its size and digest."""

    path: str
    size: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable state of an Adapter.

    Attributes:
        adapter: `namespace/name`.
        number: 1, 2, ... in order of arrival; never reused.
        semver: its semantic version label; never reused.
        digest: of the Manifest; the identity.
        base: digest of the Base it is locked to.
        base_name: a name of that Base when it was pushed, for people.
        files: sorted by path.
        description: what it is.
        message: what the pusher said about it.
        created_by: who pushed it.
        created_at: when, ISO 8601 in UTC, ending in `Z`.
        labels: key=value facts without authority.
        tags: movable names that point here now.
        stages: stages that point here now.
        revoked_because: why it was withdrawn; None while it may be served.
        lineage: what it was made of and how; None for what was uploaded.
        revoked_ancestors: references of withdrawn versions that it was made of, directly or not.
    """

    adapter: str
    number: int
    semver: str
    digest: Digest
    base: Digest
    base_name: str
    files: tuple[File, ...]
    description: Description
    message: str
    created_by: str
    created_at: str
    labels: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    revoked_because: str | None = None
    lineage: Lineage | None = None
    revoked_ancestors: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """`namespace/name@v3`."""
        return f"{self.adapter}@v{self.number}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)
