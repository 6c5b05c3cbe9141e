"""Policy: what a Stage asks of a Version before it may enter. Owned by the stage, never by the adapter it judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from adapter_registry.domain.digest import Digest, canonical_json, of_json
from adapter_registry.domain.errors import InvalidReference
from adapter_registry.domain.lock import Level
from adapter_registry.domain.policies import integrity as policy_integrity
from adapter_registry.domain.policies.evals import DAY, EVERY_METRIC, documents
from adapter_registry.domain.policies.evals import Bound as Bound
from adapter_registry.domain.policies.evals import Comparison as Comparison
from adapter_registry.domain.policies.evals import Demands as Demands
from adapter_registry.domain.policies.evals import EvalGroup as EvalGroup
from adapter_registry.domain.policies.evals import Evals as Evals
from adapter_registry.domain.policies.evals import Margin as Margin
from adapter_registry.domain.policies.evals import Test as Test
from adapter_registry.domain.policies.evals import WaiveIf as WaiveIf
from adapter_registry.domain.policies.evals import is_amount as is_amount
from adapter_registry.domain.policies.integrity import Integrity as Integrity
from adapter_registry.domain.policies.integrity import Scanners as Scanners
from adapter_registry.domain.policies.integrity import Signers as Signers
from adapter_registry.domain.policies.process import (
    Approvals,
    Duty,
    Process,
    Rollbacks,
    Soak,
    Sources,
    beside,
    required,
)
from adapter_registry.domain.promotions.stage import Ladder, Stage

API_VERSION = "adapters/v1"
KIND = "StagePolicy"


class Matched(StrEnum):
    """How many of the base's modules of the targeted kinds an adapter must change."""

    ALL = "all"
    SOME = "some"


@dataclass(frozen=True, slots=True)
class Health:
    """What must be true of the adapter itself.

    Attributes:
        matched_modules: `all`: it changes every module of the base that bears a targeted name; `some`: at least one.
            Methods that adapt no module (prompts, prefixes) satisfy both.
        finite: it holds no NaN or infinity.
        nonzero: it changes something.
    """

    matched_modules: Matched | None = None
    finite: bool = False
    nonzero: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything one stage asks.

    Attributes:
        stage: the stage it is for.
        verdicts: acceptable answers of the Lock's check against the Base; empty asks nothing.
        health: of the adapter itself; None asks nothing.
        metadata: labels that must be set; `description` is also satisfied by the version's message.
        evals: scores.
        process: the way in: from where, how long, who agrees.
        revoked_ancestors_pass: whether what was made of withdrawn versions is only warned of.
        integrity: of the files; None asks nothing.
        serving: stacks that have to serve it as it is, `vllm:0.33`.
    """

    stage: str
    verdicts: tuple[Level, ...] = ()
    health: Health | None = None
    metadata: tuple[str, ...] = ()
    evals: Evals = field(default_factory=Evals)
    process: Process = field(default_factory=Process)
    revoked_ancestors_pass: bool = False
    integrity: Integrity | None = None
    serving: tuple[str, ...] = ()

    @property
    def digest(self) -> Digest:
        """Over the document: equal rules give equal digests, however they were written."""
        return of_json(document(self))


def document(policy: Policy) -> dict[str, Any]:
    """The policy as `policies.file.read_policy` reads it: JSON types only, what is not asked left out."""
    require: dict[str, Any] = {}
    if policy.integrity is not None:
        require["integrity"] = policy_integrity.document(policy.integrity)
    if policy.verdicts:
        require["compatibility"] = {"verdict": [str(level) for level in policy.verdicts]}
    if policy.health is not None:
        require["health"] = _health(policy.health)
    if policy.revoked_ancestors_pass:
        require["ancestry"] = {"revoked": "warn"}
    if policy.metadata:
        require["metadata"] = list(policy.metadata)
    if policy.serving:
        require["serving"] = list(policy.serving)
    if evals := documents(policy.evals):
        require["evals"] = evals
    require |= required(policy.process)
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "stage": policy.stage,
        **beside(policy.process),
        "require": require,
    }


def to_json(policy: Policy) -> bytes:
    """Canonical JSON of the document; its sha256 is the policy's digest."""
    return canonical_json(document(policy))


def _health(health: Health) -> dict[str, Any]:
    asked: dict[str, Any] = {"finite": health.finite, "nonzero": health.nonzero}
    if health.matched_modules is None:
        return asked
    return {"matched_modules": str(health.matched_modules), **asked}


DEFAULT_PRESET = "solo"

NOT_WORSE = Comparison(EVERY_METRIC, Test.NON_INFERIOR, Margin(0.02, relative=True))
"""What `solo` asks before prod.

With 95 % confidence on each side, a clearly better version passes, one that is worse by clearly more than 2 % of the
incumbent's value is refused, and what lies within the noise of the two measurements is inconclusive. A margin of 0
would let only significant improvements pass: an adapter that helps its own task and leaves the others alone would never
get in. Several metrics need no correction here: all of them must pass, so the chance of a wrong pass is at most that
of one.
"""

SOUND = Health(Matched.SOME, finite=True, nonzero=True)
"""`some`, because an adapter on a few layers only is as legitimate as one on all."""


def solo(stage: str) -> Policy:
    """One person, productive at once: dev is free, staging and prod want a sound adapter that was measured."""
    verdicts = (Level.EXACT, Level.EQUIVALENT)
    if stage == "dev":
        return Policy(stage, verdicts)
    return Policy(stage, verdicts, SOUND, evals=Evals(any=True, comparisons=(NOT_WORSE,) if stage == "prod" else ()))


def team(stage: str) -> Policy:
    """As `solo`, and prod takes one approval, not the author's, and evidence of ninety days on every sample."""
    asked = solo(stage)
    if stage != "prod":
        return asked
    group = EvalGroup(Demands(max_age=90 * DAY, full_run=True), any=True, comparisons=(NOT_WORSE,))
    process = Process(approvals=Approvals(1, excluded=(Duty.AUTHOR,)))
    return replace(asked, metadata=("description",), evals=Evals(groups=(group,)), process=process)


REGULATED = Process(
    Sources(("staging",), hotfix=("dev",)),
    Soak("staging", DAY),
    Approvals(2, ("ml-leads", "safety"), each_group=1),
    rollbacks=Rollbacks(5, reason_required=True),
    reverify_seconds=90 * DAY,
)
"""A day in staging, two approvals of two groups, a hotfix path from dev, reasons for going back, and good again every
ninety days."""


def regulated(stage: str) -> Policy:
    """Staging and prod count only what this registry measured itself.

    Prod of thirty days, signed, found clean by its scanner, and on the way of REGULATED.
    """
    asked = team(stage)
    if stage == "dev":
        return asked
    prod = stage == "prod"
    demands = Demands(verified=True, max_age=30 * DAY if prod else None, full_run=True)
    group = EvalGroup(demands, any=True, comparisons=(NOT_WORSE,) if prod else ())
    described = ("description", "license", "training_data_ref", "owner") if prod else ()
    return replace(
        asked,
        integrity=Integrity(signature=Signers(), scan=Scanners()) if prod else Integrity(),
        health=Health(Matched.ALL, finite=True, nonzero=True),
        metadata=described,
        evals=Evals(groups=(group,)),
        process=REGULATED if prod else Process(),
    )


PRESETS: dict[str, Callable[[str], Policy]] = {"solo": solo, "team": team, "regulated": regulated}


def preset(name: str, *, stage: Stage | str) -> Policy:
    """The policy that a named preset has for a stage: that of the stage it is like, by the way it was declared with.

    Args:
        name: `solo`, `team` or `regulated`.
        stage: as it was declared, or one of a registry that declared none.

    Raises:
        InvalidReference: there is no such preset or stage.
    """
    if name not in PRESETS:
        raise InvalidReference(f"{name!r} is not a policy preset; there is {', '.join(sorted(PRESETS))}.")
    declared = stage if isinstance(stage, Stage) else Ladder().get(stage)
    asked = PRESETS[name](declared.like)
    process = asked.process
    if declared.sources:
        soak = replace(process.soak, stage=declared.sources.stages[0]) if process.soak else None
        process = replace(process, sources=declared.sources, soak=soak)
    return replace(asked, stage=declared.name, process=process)
