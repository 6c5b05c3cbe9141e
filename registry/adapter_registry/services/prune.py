"""Retention: remove old versions that nothing needs, and say of each that stays what needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.draft import MAIN
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.promotions.promotion import earlier_incumbents
from adapter_registry.domain.views.retention import KEEP, MOST_KEPT, Needed, Pruned
from adapter_registry.services import deployment
from adapter_registry.services.collect import before
from adapter_registry.services.judgement import in_force
from adapter_registry.services.references import no_adapter

BATCH = 50
"""Versions that are removed while writers wait."""


@dataclass(frozen=True, slots=True)
class _Needs:
    """Number of a version -> what of an adapter needs it; and the digests that jobs work on."""

    numbers: dict[int, list[str]]
    digests: dict[Digest, str]


def prune(
    backend: Backend, *, adapter: str, older_than_seconds: float, keep: int = KEEP, dry_run: bool = False
) -> Pruned:
    """Remove the versions of an adapter that are older than so and that nothing needs; numbers are never used again.

    A version stays while a stage or tag points at it or a branch ends in it, while a stage may go back to it, while a
    request for it is open, a fleet was told to serve it, a job that has not ended works on it, or another version was
    made of it; and when it was revoked, so that whoever asks for it is told why.

    Args:
        backend: the registry.
        adapter: `namespace/name`.
        older_than_seconds: since it was pushed.
        keep: how many of the newest stay however old they are, 1 to 1,000.
        dry_run: only say what would be removed.

    Raises:
        NotFound: there is no such adapter.
        InvalidInput: an age or a number that is none.
    """
    if not 1 <= keep <= MOST_KEPT:
        raise InvalidInput(f"keeping the newest {keep}: expected 1 to {MOST_KEPT:,}.")
    cutoff = before(backend, older_than_seconds)
    with backend.catalog.reading() as tx:
        if tx.versions.spelled(adapter) != adapter:
            raise no_adapter(tx, adapter)
        old = [version for version in tx.versions.all_of(adapter) if version.created_at < cutoff]
    removed: list[Version] = []
    kept: list[Needed] = []
    for start in range(0, len(old), BATCH):
        some, fleets = old[start : start + BATCH], _fleets(backend, adapter)
        with backend.catalog.reading() if dry_run else backend.catalog.writing() as tx:
            needs = _needs(tx, adapter, keep, fleets)
            for version in _still_there(tx, some):
                if because := _because(tx, needs, version):
                    kept.append(Needed(version.reference, because))
                    continue
                removed.append(version)
                if not dry_run:
                    _remove(backend, tx, version)
    return Pruned(adapter, tuple(removed), tuple(kept))


def _still_there(tx: Transaction, versions: Sequence[Version]) -> list[Version]:
    found = (tx.versions.numbered(version.adapter, version.number) for version in versions)
    return [version for version in found if version is not None]


def _fleets(backend: Backend, adapter: str) -> list[tuple[str, str]]:
    """(version, the fleet that was told last to serve it)."""
    return [(each.version, each.fleet) for each in deployment.deployments(backend, adapter=adapter)]


def _needs(tx: Transaction, adapter: str, keep: int, fleets: Sequence[tuple[str, str]]) -> _Needs:
    numbers: dict[int, list[str]] = {}

    def need(number: int | None, why: str) -> None:
        if number is not None:
            numbers.setdefault(number, []).append(why)

    for version in tx.versions.all_of(adapter, limit=keep):
        need(version.number, f"one of the newest {keep}")
    for stage in tx.stages.ladder().of(adapter):
        for number in _backwards(tx, adapter, stage):
            need(number, f"{stage} may go back to it")
        asked = tx.requests.open_for(adapter, stage)
        need(asked.number if asked else None, f"a request for it to enter {stage} is open")
    for branch in tx.branches.of(adapter):
        need(branch.number if branch.name != MAIN else None, f"branch {branch.name} ends in it")
    for reference, fleet in fleets:
        need(int(reference.rpartition("@v")[2]), f"the fleet {fleet} serves it")
    jobs = {Digest(each.reference.rpartition("@")[2]): job.id for job in tx.jobs.open() for each in job.recipe.inputs}
    return _Needs(numbers, jobs)


def _backwards(tx: Transaction, adapter: str, stage: str) -> tuple[int, ...]:
    """The numbers that the policy of a stage lets it go back to."""
    window = in_force(tx, stage).policy.process.rollbacks.window
    return earlier_incumbents(tx.stages.history(adapter, stage))[:window]


def _because(tx: Transaction, needs: _Needs, version: Version) -> tuple[str, ...]:
    """What needs a version; empty for nothing."""
    children = tx.ancestry.descendants(version)
    job = needs.digests.get(version.digest)
    return (
        *(f"{stage} points at it" for stage in version.stages),
        *(f"tag {tag} points at it" for tag in version.tags),
        *dict.fromkeys(needs.numbers.get(version.number, ())),
        *([f"job {job} works on it"] if job else []),
        *([f"{children[0].reference} was made of it"] if children else []),
        *(["it was revoked, and says why"] if version.revoked_because is not None else []),
    )


def _remove(backend: Backend, tx: Transaction, version: Version) -> None:
    tx.versions.remove(version, by=backend.actor, at=backend.clock())
    detail = {"digest": version.digest, "pointers": [], "because": "old, and needed by nothing"}
    tx.events.append(Entry("remove", version.reference, Outcome.DONE, backend.actor, backend.clock(), detail))
