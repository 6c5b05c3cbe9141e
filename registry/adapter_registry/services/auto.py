"""Auto-promotion: where a stage's policy has auto_promote, the registry asks for what comes from the stages below."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.audit.event import Outcome
from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.people.access import SYSTEM
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.promotions.promotion import Result
from adapter_registry.domain.promotions.request import Request
from adapter_registry.domain.promotions.stage import Stage
from adapter_registry.services.judgement import Judged, Weighed, in_force, judged, settled, weighing
from adapter_registry.services.progress import attempt, moved, opened

LOG = logging.getLogger("adapters.requests")
ACTOR = "(registry)"
"""Who does what nobody asked for; no account can have this name."""


def follow(backend: Backend, *, adapter: str | None = None) -> tuple[Judged, ...]:
    """Promote, or open a request for, what is new in the stages that a stage with auto_promote comes from.

    It is the newest version there that is newer than what the stage has, was never in the stage, and was never asked
    for there: what a person took back, declined or cancelled does not come again by itself. Freeze windows, holds, soak
    time and approvals are waited for as ever; while a person's request is open, nothing is asked for beside it.

    Args:
        backend: the registry.
        adapter: only this one.
    """
    mine = replace(backend, actor=ACTOR, asks=replace(SYSTEM, name=ACTOR, machine=True))
    with mine.catalog.reading() as tx:
        stages = [each for each in tx.stages.ladder().stages if in_force(tx, each.name).policy.process.auto]
    return tuple(done for stage in stages for done in _into(mine, stage, adapter))


def following(backend: Backend, *, adapter: str) -> None:
    """As `follow`, after something else that is done: what fails here is left for the next look, and logged."""
    try:
        follow(backend, adapter=adapter)
    except RegistryError as error:
        LOG.warning("what comes from %s by itself cannot be looked at: %s", adapter, error.text)


def _into(backend: Backend, stage: Stage, only: str | None) -> Iterator[Judged]:
    with backend.catalog.reading() as tx:
        wanted = [(name, number) for name, number in _new(tx, stage) if only in (None, name)]
        eligible = [each for each in wanted if _acts(_looked(backend, tx, stage.name, *each))]
    for name, number in eligible:
        if done := _done(backend, stage, name, number):
            yield done


def _done(backend: Backend, stage: Stage, adapter: str, number: int) -> Judged | None:
    """Promoted, or asked for; None when by now there is nothing to do."""
    return settled(
        lambda: weighing(backend, stage.name, lambda tx: tx.versions.numbered(adapter, number)),
        lambda before: _acted(backend, stage, adapter, number, before),
    )


def _acted(backend: Backend, stage: Stage, adapter: str, number: int, before: Weighed | None) -> Judged | None:
    with backend.catalog.writing() as tx:
        tx.stages.hold(adapter, stage.name)
        if not _is_new(tx, stage, adapter, number):
            return None
        found = _looked(backend, tx, stage.name, adapter, number, before)
        if found is None or not _acts(found):
            return None
        if found.decision.promotes:
            return moved(backend, tx, found)
        found = opened(backend, tx, found, before=before)
        tx.events.append(attempt(backend, found, Outcome.REFUSED))
        return found


def _new(tx: Transaction, stage: Stage) -> Iterator[tuple[str, int]]:
    """(adapter, number) of what the stages that it comes from have, where that may be new to it."""
    sources = in_force(tx, stage.name).policy.process.sources
    newest: dict[str, int] = {}
    for source in sources.stages if sources else ():
        for adapter, number in tx.stages.standing(source).items():
            newest[adapter] = max(number, newest.get(adapter, 0))
    held = tx.stages.standing(stage.name)
    for adapter, number in newest.items():
        if number > held.get(adapter, 0) and _is_new(tx, stage, adapter, number):
            yield adapter, number


def _is_new(tx: Transaction, stage: Stage, adapter: str, number: int) -> bool:
    if not stage.has(adapter) or tx.stages.entered(adapter, stage.name, number=number):
        return False
    there = tx.requests.open_for(adapter, stage.name)
    return (there is None or there.auto) and not tx.requests.asked(adapter, stage.name, number=number)


def _looked(
    backend: Backend, tx: Transaction, stage: str, adapter: str, number: int, before: Weighed | None = None
) -> Judged | None:
    version = tx.versions.numbered(adapter, number)
    if version is None or version.revoked_because is not None:
        return None
    return judged(backend, tx, version, _request(backend, version, stage), before=before)


def _request(backend: Backend, version: Version, stage: str) -> Request:
    return Request(
        *(0, version.adapter, stage, version.number, version.digest, backend.actor),
        machine=True,
        hotfix=False,
        reason="auto_promote",
        opened_at=backend.clock(),
        auto=True,
    )


def _acts(found: Judged | None) -> bool:
    """Whether there is something to do: it promotes, or waits for something other than to come from below."""
    if found is None or (found.incumbent and found.incumbent.number >= found.version.number):
        return False
    waits = found.decision.outcome is Result.WAITING and all(each.rule != "from" for each in found.decision.blockers)
    return found.decision.promotes or waits
