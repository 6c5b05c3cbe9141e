"""Servable: what serving stacks do with a Version, from its config and what intake found."""

from __future__ import annotations

from adapter_registry.checkpoints.header import HeaderRefused, read
from adapter_registry.checkpoints.json_strict import JsonRefused, parse
from adapter_registry.domain.adapter import File, Version
from adapter_registry.domain.errors import NotFound
from adapter_registry.domain.peft.fields import CONFIG, WEIGHTS
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.reference import parse as parse_reference
from adapter_registry.domain.servable import Report, facts_of, judged, stacks_of
from adapter_registry.domain.servable_facts import Facts
from adapter_registry.services.references import version_of

MAX_CONFIG = 1 << 20


def servable(backend: Backend, *, reference: str, stacks: str = "") -> tuple[Report, ...]:
    """What each stack does with a version.

    Args:
        backend: the registry.
        reference: which version.
        stacks: comma-separated, `vllm:0.33,sglang`; empty for every one that rules are known for.

    Raises:
        InvalidInput: a stack that no rules are known for.
        NotFound: no such version, or the store lost its files.
    """
    asked = stacks_of(stacks)
    with backend.catalog.reading() as tx:
        version = version_of(tx, parse_reference(reference, namespace=backend.namespace))
        found = facts(backend, tx, version)
    if found is None:
        raise NotFound(
            f"the store lost {CONFIG} or {WEIGHTS} of {version.reference}: restore it from a backup, or push it again."
        )
    return judged(found, asked)


def facts(backend: Backend, tx: Transaction, version: Version) -> Facts | None:
    """What decides about a version; None when the store lost its config or its weights."""
    there = {file.path: file for file in version.files}
    config, weights = there.get(CONFIG), there.get(WEIGHTS)
    if config is None:
        return None
    try:
        with backend.blobs.open(config.digest) as stream:
            document = parse(stream.read(MAX_CONFIG + 1), max_bytes=MAX_CONFIG, max_depth=16)
        tensors = _names(backend, weights) if weights else ()
    except (NotFound, JsonRefused, HeaderRefused):
        return None
    return facts_of(version.description, document, tx.bases.get(version.base), tensors=tensors)


def _names(backend: Backend, weights: File) -> tuple[str, ...]:
    with backend.blobs.open(weights.digest) as stream:
        return tuple(entry.name for entry in read(stream, size=weights.size, file=weights.path).tensors)
