"""Where a live transformers model was loaded from, and what its files say where its weights in memory cannot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_registry.client import Registry
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.lock import Level, Verdict
from adapter_registry.serving.live_names import unwrapped


@dataclass(frozen=True, slots=True)
class Origin:
    """What a model says of where it is from.

    Attributes:
        name: a folder or the id of a Hub repository; empty when the model says nothing.
        folders: where its files lie on this machine: the folder itself, or each commit of the repository that the Hub's
            cache holds, where the model does not say at which it was loaded.
    """

    name: str
    folders: tuple[Path, ...]


def origin_of(model: Any) -> Origin:
    """Where a live model, with or without PEFT's wrappers, was loaded from."""
    config = getattr(unwrapped(model), "config", None)
    name = str(getattr(config, "_name_or_path", "") or "")
    if not name:
        return Origin("", ())
    if Path(name).is_dir():
        return Origin(name, (Path(name).absolute(),))
    commits = _cached(name)
    # transformers tells the commit up to its version 5.
    told = [commit for commit in commits if commit.name == getattr(config, "_commit_hash", None)]
    return Origin(name, tuple(told or commits))


def _cached(repository: str) -> list[Path]:
    """The commits of a Hub repository that lie in the Hub's cache with weights."""
    from huggingface_hub.constants import HF_HUB_CACHE  # noqa: PLC0415  slow to import

    folder = Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots"
    commits = sorted(folder.iterdir()) if folder.is_dir() else []
    return [commit for commit in commits if any(commit.glob("*.safetensors"))]


def files_verdict(origin: Origin, locked: str, *, registry: Registry, live: Verdict) -> Verdict:
    """How the files of a model fit the Base with the digest `locked`; what `live` noted stays noted.

    `structural` without differences where that is not to be told: nothing is proved.
    """
    read = [(folder, _fits(registry, locked, folder)) for folder in origin.folders]
    found = [(folder, verdict) for folder, verdict in read if verdict is not None]
    if not found:
        told = f"the model says it was loaded from {origin.name!r}, whose files are not on this machine"
        return Verdict(Level.STRUCTURAL, notes=(*live.notes, told))
    right = [folder for folder, verdict in found if verdict.accepted]
    if right and len(right) < len(found):
        told = f"{origin.name} is cached at {len(found)} commits, of which only {', '.join(f.name for f in right)} fits"
        return Verdict(Level.STRUCTURAL, notes=(*live.notes, told))
    folder, verdict = found[-1]
    note = f"the files it was loaded from, {folder}, were read instead of its live weights"
    return Verdict(verdict.level, verdict.differences, (*live.notes, note, *verdict.notes))


def _fits(registry: Registry, locked: str, folder: Path) -> Verdict | None:
    try:
        return registry.base_verdict(locked, str(folder))
    except InvalidInput:  # half downloaded, or no safetensors
        return None
