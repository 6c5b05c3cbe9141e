"""The stages of a registry: which there are, in which order, and what a version has to come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.errors import Conflict, InUse, InvalidInput
from adapter_registry.domain.names import STAGE_NAMES
from adapter_registry.domain.policies.lint import misplaced
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.promotions.stage import Ladder, Stage, of_place
from adapter_registry.services.judgement import in_force

MOST_REQUESTS = 10_000
SHOWN = 3


def stages(backend: Backend) -> Ladder:
    """The stages there are, lowest first."""
    with backend.catalog.reading() as tx:
        return tx.stages.ladder()


def is_stage(backend: Backend, name: str) -> bool:
    """Whether a name is a stage, or reads as a lane of one."""
    return of_place(name) in (*STAGE_NAMES, *stages(backend).names)


def declare(backend: Backend, *, stage: str, declared: Stage, new: bool = False) -> Ladder:
    """Add a stage, or declare one anew; all stages afterwards.

    Args:
        backend: the registry.
        stage: its name.
        declared: what it is from now on.
        new: whether it must not be there yet.

    Raises:
        InvalidReference: a name that a stage cannot have, or a stage that there is not.
        InvalidInput: it would stand below itself, or a policy names a stage that would not be below its own any more.
        Conflict: it is there, or an adapter has a tag or branch of that name.
        InUse: a lane or an adapter that would be left out is in it.
    """
    if declared.name != stage:
        raise InvalidInput(f"the declaration is of {declared.name!r}, not of {stage!r}; nothing was changed.")
    with backend.catalog.writing() as tx:
        before = tx.stages.ladder()
        if new and stage in before.names:
            raise Conflict(f"{stage} is a stage already; nothing was changed. Change it: adapters stage set {stage}")
        after = before.declared(declared)
        there, wanted = next((each for each in before.stages if each.name == stage), None), after.get(stage)
        if there is not None:
            _require_unused(tx, there, besides=wanted)
        _require_names(tx, wanted, known=there.places if there else ())
        _require_policies(tx, after)
        if after != before:
            tx.stages.set_ladder(after, by=backend.actor, at=backend.clock())
            detail = {"before": asdict(there) if there else None, "after": asdict(wanted)}
            tx.events.append(Entry("stage.set", stage, Outcome.DONE, backend.actor, backend.clock(), detail))
    return after


def remove(backend: Backend, *, stage: str) -> Ladder:
    """Take a stage away that nothing is in; all stages afterwards. Its policy and what is recorded of it stay.

    Raises:
        NotFound: there is none.
        InUse: an adapter is in it, or a request for it is open.
        Conflict: another stage comes from it, or it is the last.
    """
    with backend.catalog.writing() as tx:
        before = tx.stages.ladder()
        after = before.without(stage)
        _require_unused(tx, before.get(stage))
        _require_policies(tx, after)
        tx.stages.set_ladder(after, by=backend.actor, at=backend.clock())
        detail = {"before": asdict(before.get(stage)), "after": None}
        tx.events.append(Entry("stage.remove", stage, Outcome.DONE, backend.actor, backend.clock(), detail))
    return after


def _require_unused(tx: Transaction, stage: Stage, *, besides: Stage | None = None) -> None:
    """Refuse to leave out a place of a stage that something is in; `besides` is what stays."""

    def stays(place: str, adapter: str) -> bool:
        return besides is not None and place in besides.places and besides.has(adapter)

    held = [(place, each) for place in stage.places for each in tx.stages.standing(place) if not stays(place, each)]
    if held:
        listed = _some([f"{adapter}@{place}" for place, adapter in held])
        raise InUse(
            f"{listed} would not resolve any more; nothing was changed. A stage that an adapter entered stays: what "
            "serves from it asks by that name."
        )
    asked = tx.requests.listed(still_open=True, limit=MOST_REQUESTS)
    waiting = [each.name for each in asked if each.stage in stage.places and not stays(each.stage, each.adapter)]
    if waiting:
        raise InUse(
            f"{_some(waiting)} wait for {stage.name}; nothing was changed. Take them back first: "
            f"adapters requests cancel {waiting[0]}"
        )


def _require_names(tx: Transaction, stage: Stage, known: Sequence[str]) -> None:
    for place in stage.places:
        taken = [each for each in tx.stages.named(place) if stage.has(each)] if place not in known else []
        if taken:
            raise Conflict(
                f"{_some(taken)} {'has' if len(taken) == 1 else 'have'} a tag or branch that {place!r} would shadow; "
                f"nothing was changed. Choose another name, or remove it: adapters tag {taken[0]} {place} --delete"
            )


def _require_policies(tx: Transaction, ladder: Ladder) -> None:
    for stage in ladder.stages:
        if tx.stages.policy(stage.name) is None:
            continue
        if wrong := misplaced(in_force(tx, stage.name).policy, ladder):
            raise InvalidInput(
                f"the policy of {stage.name} would not hold: {wrong[0].text}; nothing was changed. Change the policy "
                f"first: adapters policy set {stage.name} FILE"
            )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
