"""What the rules look at: a Version with its scores, and those of whom it is compared with."""

from __future__ import annotations

from dataclasses import replace

from adapter_registry.domain import lock
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.digest import Digest, short
from adapter_registry.domain.errors import InvalidInput, NotFound
from adapter_registry.domain.evidence.outcomes import Outcomes, from_json
from adapter_registry.domain.evidence.score import RecordedScore
from adapter_registry.domain.evidence.suite import Suite, parse
from adapter_registry.domain.lock import Verdict
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.promotions.finding import Incumbent, Subject
from adapter_registry.services.scan import scanned
from adapter_registry.services.servable import facts
from adapter_registry.services.signing import signed


def gathered(
    backend: Backend, tx: Transaction, version: Version, incumbent: Version | None, *, policy: Policy, at: str = ""
) -> Subject:
    """Everything a policy judges a Version by.

    Args:
        backend: the registry.
        tx: what is read from.
        version: what is judged.
        incumbent: who holds the stage.
        policy: which suites are needed, and whether stacks, signatures and scans are asked for.
        at: a moment in the past whose scores count, as they stood then; empty for now.
    """
    moment = at or backend.clock()
    other = incumbent if incumbent and incumbent.number != version.number else None
    return Subject(
        reference=version.reference,
        digest=version.digest,
        base=version.base,
        base_reference=f"{version.base_name}@{short(version.base)}",
        verdict=_verdict(tx, version),
        description=version.description,
        labels=version.labels,
        message=version.message,
        scores=_scores(tx, version.digest, at),
        incumbent=Incumbent(other.reference, other.digest, _scores(tx, other.digest, at)) if other else None,
        base_scores=_scores(tx, version.base, at),
        at=moment,
        suites=_suites(tx, policy),
        parents=_parents(tx, version, at) if policy.evals.against_parents else (),
        revoked_ancestors=version.revoked_ancestors,
        files=tuple(file.path for file in version.files),
        outcomes=lambda digest: outcomes_of(backend, digest),
        serving=facts(backend, tx, version) if policy.serving else None,
        signatures=signed(tx, version, at=at) if policy.integrity and policy.integrity.signature else (),
        scans=scanned(tx, version, at=at) if policy.integrity and policy.integrity.scan else (),
    )


def _parents(tx: Transaction, version: Version, at: str) -> tuple[Incumbent, ...]:
    """Each version that it was made of, once; its scores count by its digest, whatever became of it."""
    named = {each.digest: each for each in version.lineage.parents} if version.lineage else {}
    return tuple(Incumbent(each.reference, digest, _scores(tx, digest, at)) for digest, each in named.items())


def _scores(tx: Transaction, subject: Digest, at: str) -> tuple[RecordedScore, ...]:
    recorded = tx.scores.of(subject)
    return tuple(_as_of(each, at) for each in recorded if each.recorded_at <= at) if at else recorded


def _as_of(each: RecordedScore, at: str) -> RecordedScore:
    """The score as it stood: what was declared invalid later counted."""
    return replace(each, invalid=None) if each.invalid and each.invalid.at > at else each


def _suites(tx: Transaction, policy: Policy) -> dict[str, Suite]:
    named = {group.demands.suite for group in policy.evals.groups if group.demands.suite}
    found = {name: tx.scores.suite(*parse(name)) for name in sorted(named)}
    return {name: suite for name, suite in found.items() if suite is not None}


def outcomes_of(backend: Backend, digest: Digest) -> Outcomes | None:
    """Stored outcomes; None when the store lost them, which leaves the comparison to values and errors."""
    try:
        with backend.blobs.open(digest) as stream:
            return from_json(stream.read())
    except (NotFound, InvalidInput):
        return None


def _verdict(tx: Transaction, version: Version) -> Verdict | None:
    base = tx.bases.get(version.base)
    return lock.compare(base, base) if base else None
