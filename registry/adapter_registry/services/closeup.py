"""One version from close up: what its lock and its health say, where it stood, and the tensors in its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adapter_registry.checkpoints import header
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.errors import InvalidInput, NotFound
from adapter_registry.domain.integrity.key import Signed
from adapter_registry.domain.integrity.scan import Scan, newest
from adapter_registry.domain.lock import Level
from adapter_registry.domain.peft.fields import WEIGHTS
from adapter_registry.domain.policies.policy import SOUND, Policy
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.promotions.finding import Finding
from adapter_registry.domain.promotions.gate import judge
from adapter_registry.domain.promotions.promotion import Promotion
from adapter_registry.domain.reference import parse
from adapter_registry.services.beside import config
from adapter_registry.services.references import version_of
from adapter_registry.services.scan import scanned
from adapter_registry.services.signing import signed
from adapter_registry.services.subject import gathered

MOST_TENSORS = 500
LOWEST = "dev"
"""What is asked of a version's lock and health is what the lowest stage asks, whatever it is called."""


@dataclass(frozen=True, slots=True)
class Closeup:
    """A Version from close up.

    Attributes:
        version: which.
        level: what its lock says when held against its registered base; None when that is not registered.
        health: the findings of its lock and of its health, as policies ask for them.
        config: its adapter_config.json; empty where that cannot be read.
        moves: of its adapter's stages to this version, newest first.
        signatures: of it, those that do not count included.
        scans: the last of each scanner.
    """

    version: Version
    level: Level | None
    health: tuple[Finding, ...]
    config: dict[str, Any]
    moves: tuple[Promotion, ...]
    signatures: tuple[Signed, ...]
    scans: tuple[Scan, ...]


@dataclass(frozen=True, slots=True)
class TensorLine:
    """One tensor of a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True)
class TensorPage:
    """A page of the tensors of a file, in the order of their bytes; `next` is where the page after begins."""

    path: str
    total: int
    metadata: dict[str, str]
    items: tuple[TensorLine, ...]
    next: int | None


def closeup(backend: Backend, *, reference: str) -> Closeup:
    """A Version, with what its lock and health say, its config, where it stood, and who stands for its files."""
    asked = Policy(LOWEST, (Level.EXACT, Level.EQUIVALENT), SOUND)
    with backend.catalog.reading() as tx:
        version = version_of(tx, parse(reference, namespace=backend.namespace))
        subject = gathered(backend, tx, version, None, policy=asked)
        moves = tx.stages.history(version.adapter, number=version.number)
        signatures, scans = signed(tx, version), tuple(newest(scanned(tx, version)).values())
    level = subject.verdict.level if subject.verdict else None
    return Closeup(version, level, judge(asked, subject), config(backend, version), moves, signatures, scans)


def tensors(backend: Backend, *, reference: str, path: str = WEIGHTS, after: int = 0, limit: int = 100) -> TensorPage:
    """The tensors of a safetensors file of a Version, a page at a time; only the file's header is read.

    Args:
        backend: the registry.
        reference: which version.
        path: of the file; default: the adapter's weights.
        after: how many tensors stand before the page: `next` of the page before.
        limit: at most this many, and at most 500.

    Raises:
        NotFound: there is no such file, or the store lost its bytes.
        InvalidInput: it is no safetensors file.
    """
    most = min(max(limit, 1), MOST_TENSORS)
    with backend.catalog.reading() as tx:
        version = version_of(tx, parse(reference, namespace=backend.namespace))
    file = next((each for each in version.files if each.path == path), None)
    if file is None:
        there = ", ".join(each.path for each in version.files)
        raise NotFound(f"{version.reference} has no file {path[:100]!r}; it has {there}.")
    if not path.endswith(".safetensors"):
        raise InvalidInput(f"{path} is no safetensors file, so there are no tensors to list.")
    with backend.blobs.open(file.digest) as stream:
        found = header.read(stream, size=file.size, file=path)
    start = max(after, 0)
    page = found.tensors[start : start + most]
    items = tuple(TensorLine(each.name, each.dtype, each.shape, each.end - each.start) for each in page)
    more = start + most < len(found.tensors)
    return TensorPage(path, len(found.tensors), found.metadata, items, start + most if more else None)
