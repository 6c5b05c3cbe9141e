"""Promote, and say what each stage pointed to and when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import Conflict, Forbidden, InvalidInput, Problem
from adapter_registry.domain.people.access import EVERYTHING
from adapter_registry.domain.policies.lint import Advice, lint, misplaced, unfed
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.policies.process import Overriding
from adapter_registry.domain.policies.satisfiable import unsatisfied, unsigned
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.promotions.override import Asked, Override, check_asked, check_needed, named
from adapter_registry.domain.promotions.promotion import Promotion, Result, doubts
from adapter_registry.domain.promotions.request import Request, State
from adapter_registry.domain.reference import Reference, parse
from adapter_registry.domain.webhooks.webhook import later
from adapter_registry.services.access import require_still
from adapter_registry.services.auto import following
from adapter_registry.services.judgement import (
    Judged,
    PolicyInForce,
    Weighed,
    in_force,
    judged,
    settled,
    weighing,
)
from adapter_registry.services.progress import advance, attempt, moved, opened, reworded, taken
from adapter_registry.services.pull import served
from adapter_registry.services.recorded import of_version, recorded
from adapter_registry.services.references import no_adapter, version_of


def explain(backend: Backend, *, reference: str, stage: str, hotfix: bool = False, override: str = "") -> Judged:
    """What `promote` would say now; nothing is written.

    Args:
        backend: the registry.
        reference: which version.
        stage: where to.
        hotfix: by the hotfix path.
        override: rules to pass over, one a line.
    """
    wish = Wish(stage, hotfix, override=Asked(tuple(override.splitlines())) if override else None)
    with backend.catalog.reading() as tx:
        version = _meant(tx, parse(reference, namespace=backend.namespace), stage)
        request = _mine(tx, version, wish) or _draft(backend, tx, version, wish, trial=True)
        if request.machine and not backend.asks.machine:
            request = _as_person(backend, request, wish)
        found = _needed(judged(backend, tx, version, request))
        goes_on = found.decision.outcome in (Result.WAITING, Result.PROMOTE) and not found.already
        gives_up = goes_on and not request.id
        return replace(found, instead_of=tx.requests.open_for(version.adapter, stage)) if gives_up else found


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of a version: the stage, by which path, why, passing over which rules, and what they saw."""

    stage: str
    hotfix: bool = False
    reason: str = ""
    override: Asked | None = None
    seen: Digest | None = None


def promote(
    backend: Backend,
    *,
    reference: str,
    stage: str,
    reason: str = "",
    hotfix: bool = False,
    override: Asked | None = None,
    seen: Digest | None = None,
) -> Judged:
    """Move a stage to a Version if every gate of the stage passes; open a request where something can still arrive.

    The gates are weighed first. Version, stage, scores, policy and approvals are then read and judged under the lock
    under which the stage moves, and weighed again should the gates look at anything else by then. The attempt is
    recorded either way; the answer says whether it moved, and every blocker if not.

    Args:
        backend: the registry.
        reference: which version.
        stage: where to.
        reason: why.
        hotfix: take the hotfix path: other stages to come from, no soak time, one more approval.
        override: rules to pass over, by name; takes the verb `override` and what the policy says of it.
        seen: `Judged.seen` of what the caller looked at; None for whatever is there.

    Raises:
        Conflict: it would move, or ask for it, and is no more what was `seen`.
        InvalidInput: a hotfix without a reason, or into a stage whose policy has no hotfix path; an override that the
            policy does not let anybody have, or of rules that do not stand in the way.
        Forbidden: an override by somebody without the verb, or by a service account.
    """
    wish, meant = Wish(stage, hotfix, reason, override, seen), parse(reference, namespace=backend.namespace)
    check_place(backend, stage, meant.adapter)
    asked = {"rules": list(override.rules), "ticket": override.ticket} if override else {}
    with recorded(backend, "promote", of_version(meant, stage=stage, reason=reason, **asked)):
        found = settled(
            lambda: weighing(backend, stage, lambda tx: version_of(tx, meant)),
            lambda before: _promoted(backend, meant, wish, before),
        )
    if found.promotion:
        following(backend, adapter=found.version.adapter)
    return found


def check_place(backend: Backend, stage: str, adapter: str) -> None:
    """Raise NotFound when an adapter has no such stage."""
    with backend.catalog.reading() as tx:
        tx.stages.ladder().check(stage, adapter)


def _meant(tx: Transaction, meant: Reference, stage: str) -> Version:
    """The Version that a reference means, of an adapter that has the stage."""
    tx.stages.ladder().check(stage, meant.adapter)
    return served(version_of(tx, meant))


def _promoted(backend: Backend, meant: Reference, wish: Wish, before: Weighed | None) -> Judged:
    with backend.catalog.writing() as tx:
        version = _meant(tx, meant, wish.stage)
        require_still(backend, tx, f"promote:{wish.stage}", version.adapter)
        tx.stages.hold(version.adapter, wish.stage)
        there = _mine(tx, version, wish)
        if there is None:
            draft = _draft(backend, tx, version, wish)
            if draft.override:
                require_still(backend, tx, f"override:{wish.stage}", version.adapter)
            found = _needed(judged(backend, tx, version, draft, before=before))
            return _asked(backend, tx, _as_seen(found, wish), before)
        if there.machine and not backend.asks.machine:
            there = taken(backend, tx, _as_person(backend, there, wish))
        if wish.reason and wish.reason != there.reason and there.requester == backend.actor:
            # Whoever asks again and says more is taken at the later word.
            there = reworded(backend, tx, there, wish.reason)
        found = advance(backend, tx, _as_seen(judged(backend, tx, version, there, before=before), wish))
        if found.promotion is None and found.request.state is not State.REFUSED:
            tx.events.append(attempt(backend, found, Outcome.DONE if found.already else Outcome.REFUSED))
        return found


def _as_seen(found: Judged, wish: Wish) -> Judged:
    """The same; raises Conflict when something would come of it that was not seen."""
    refused = found.decision.outcome not in (Result.PROMOTE, Result.WAITING)
    if wish.seen in (None, found.seen) or found.already or refused:
        return found
    holds = f"v{found.incumbent.number} is in {found.stage}" if found.incumbent else f"nothing is in {found.stage}"
    raise Conflict(
        f"what you saw of {found.version.reference} and {found.stage} changed meanwhile: the version there, the policy "
        f"or the evidence. Now {holds}; nothing was done. Look at it again."
    )


def _asked(backend: Backend, tx: Transaction, found: Judged, before: Weighed | None) -> Judged:
    """Carry out what was asked for the first time: move, or open a request where something can still arrive."""
    if found.decision.promotes and not found.already:
        return moved(backend, tx, found)
    if found.decision.outcome is Result.WAITING and not found.already:
        found = opened(backend, tx, found, before=before)
    tx.events.append(attempt(backend, found, Outcome.DONE if found.decision.promotes else Outcome.REFUSED))
    return found


def _needed(found: Judged) -> Judged:
    """The same; raises InvalidInput when its draft passes over what does not stand in the way."""
    if found.request.override and not found.request.id:
        check_needed(found.request.override.rules, found.decision.findings)
    return found


def _mine(tx: Transaction, version: Version, wish: Wish) -> Request | None:
    """The open request for exactly this."""
    there = tx.requests.open_for(version.adapter, wish.stage)
    if there is None or there.version != version.digest or there.hotfix != wish.hotfix:
        return None
    rules = named(wish.override.rules) if wish.override else ()
    return there if rules == (there.override.rules if there.override else ()) else None


def _as_person(backend: Backend, there: Request, wish: Wish) -> Request:
    """The same, asked for by a person, so that no hold stops it."""
    return replace(there, requester=backend.actor, machine=False, auto=False, reason=wish.reason)


def _draft(backend: Backend, tx: Transaction, version: Version, wish: Wish, *, trial: bool = False) -> Request:
    """The request that this would be; for a trial nobody has to be able to make it, or say why."""
    process = in_force(tx, wish.stage).policy.process
    if wish.hotfix and not process.hotfixes:
        raise InvalidInput(
            f"the policy of {wish.stage} declares no hotfix path; nothing was changed. Promote without --hotfix, or "
            "give `from` a `hotfix` in the policy."
        )
    if wish.hotfix and not trial and not wish.reason.strip():
        raise InvalidInput("a hotfix needs a reason; nothing was changed. Give one with --reason.")
    return Request(
        *(0, version.adapter, wish.stage, version.number, version.digest, backend.actor),
        machine=backend.asks.machine,
        hotfix=wish.hotfix,
        reason=wish.reason,
        opened_at=backend.clock(),
        override=_override(backend, version, wish, process.overriding, trial=trial),
    )


def _override(backend: Backend, version: Version, wish: Wish, by: Overriding | None, *, trial: bool) -> Override | None:
    if wish.override is None:
        return None
    verb, who = f"override:{wish.stage}", backend.asks
    if not trial and (who.machine or not who.may(verb, version.adapter)):
        why = "is a service account" if who.machine else f"needs the verb {verb!r} on {version.adapter}"
        raise Forbidden(f"{backend.actor} cannot override rules: it {why}. Nothing was changed.")
    given = replace(wish.override, ticket=wish.override.ticket or "-") if trial else wish.override
    asked = check_asked(given, wish.reason or "-" if trial else wish.reason, by, stage=wish.stage)
    expires = later(backend.clock(), by.seconds if by else 0)
    return Override(asked.rules, backend.actor, wish.reason.strip(), "" if trial else asked.ticket, expires)


@dataclass(frozen=True, slots=True)
class History:
    """Moves of an adapter's stages.

    Attributes:
        moves: newest first; up to `at` when that was asked.
        at: the moment asked about, ISO 8601 in UTC; None for now.
        pointing: stage -> version number it pointed to at that moment.
        doubts: `prod#3`, the third move of prod -> what it rested on and was declared invalid since, with the reason.
    """

    moves: tuple[Promotion, ...]
    at: str | None
    pointing: dict[str, int]
    doubts: dict[str, tuple[str, ...]] = field(default_factory=dict)


def history(backend: Backend, *, adapter: str, stage: str | None = None, at: str | None = None) -> History:
    """Which version each stage pointed to and when.

    Args:
        backend: the registry.
        adapter: `namespace/name`.
        stage: only this stage.
        at: a moment; a date alone means the end of that day, in UTC.
    """
    until = moment(at) if at else None
    with backend.catalog.reading() as tx:
        if stage is not None:
            tx.stages.ladder().check(stage)
        moves = tx.stages.history(adapter, stage)
        if not moves and tx.versions.spelled(adapter) != adapter:
            raise no_adapter(tx, adapter)
        kept = tuple(move for move in moves if until is None or move.at <= until)
        found = doubted(tx, kept)
    pointing = {move.stage: move.number for move in reversed(kept)}
    return History(kept, until, pointing, found)


def doubted(tx: Transaction, moves: Sequence[Promotion]) -> dict[str, tuple[str, ...]]:
    """See History.doubts, of moves of one adapter."""
    scores = cache(tx.scores.of)
    version = cache(lambda number: tx.versions.numbered(moves[0].adapter, number) if number else None)
    found: dict[str, tuple[str, ...]] = {}
    for move in moves:
        now, before = version(move.number), version(move.previous)
        if now is None or not move.findings:
            continue
        others = (*(scores(before.digest) if before else ()), *scores(now.base))
        if told := doubts(move, scores(now.digest), others):
            found[f"{move.stage}#{move.sequence}"] = told
    return found


def moment(text: str) -> str:
    """A moment as the catalog writes it; a date alone means the end of that day, in UTC."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(
            f"{text!r} is not a time; write 2026-03-01, 2026-03-01T14:30 or 2026-03-01T14:30+02:00."
        ) from error
    if len(text) <= len("2026-03-01"):
        parsed = parsed.replace(hour=23, minute=59, second=59, microsecond=999_999)
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def policy(backend: Backend, *, stage: str) -> PolicyInForce:
    """The policy a stage judges by."""
    with backend.catalog.reading() as tx:
        return in_force(tx, tx.stages.ladder().check(stage))


def set_policy(backend: Backend, *, stage: str, policy: Policy, seen: int | None = None) -> PolicyInForce:
    """Give a stage a new revision of its policy; the same rules again change nothing.

    Args:
        backend: the registry.
        stage: whose policy it is.
        policy: the rules.
        seen: the revision that they were written from; None for whatever is there.

    Raises:
        Conflict: another revision than `seen` is in force.
        InvalidInput: the document is for another stage, or asks for what nothing could satisfy: a stage that is not
            below it, approvals that nobody could give, a floor on a loss, a suite that there is not.
    """
    if policy.stage != stage:
        raise InvalidInput(f"the document is a policy for {policy.stage!r}, not for {stage!r}; nothing was changed.")
    with backend.catalog.writing() as tx:
        tx.stages.ladder().whole(stage)
        before = in_force(tx, stage)
        _require_admin(backend, before.policy, policy)
        if seen not in (None, before.revision):
            raise Conflict(
                f"{stage} judges by revision {before.revision} by now, and this was written from revision {seen}; "
                "nothing was changed. Look at what changed, then set it again."
            )
        _check_possible((*lint(policy, tx.scores.suites()), *_advice(tx, policy)))
        if before.policy.digest == policy.digest and before.revision:
            return before
        revision = tx.stages.set_policy(policy, by=backend.actor, at=backend.clock())
        detail = {"stage": stage, "revision": revision, "digest": policy.digest, "before": before.policy.digest}
        tx.events.append(Entry("policy.set", stage, Outcome.DONE, backend.actor, backend.clock(), detail))
    return PolicyInForce(policy, revision)


def _check_possible(advice: Iterable[Advice]) -> None:
    impossible = [each for each in advice if each.impossible]
    if impossible:
        told = "; ".join(f"{each.rule}: {each.text}" for each in impossible)
        raise InvalidInput(
            f"nothing could satisfy this policy, so nothing was changed: {told}.",
            problems=[
                Problem("policy-invalid", "", each.rule, "a rule", each.text, "Correct it.") for each in impossible
            ],
        )


def _require_admin(backend: Backend, before: Policy, after: Policy) -> None:
    """Refuse who may write policies and is no administrator wherever a stage promotes by itself, before or after.

    A policy that such a stage judges by decides alone what enters it, so whoever may change that could promote.
    """
    if (before.process.auto or after.process.auto) and not backend.asks.may(EVERYTHING):
        verb = "has" if before.process.auto else "would have"
        raise Forbidden(
            f"the policy of {after.stage} {verb} auto_promote, and only an administrator of the registry (role `admin` "
            "on '*') switches it or changes such a policy; nothing was changed."
        )


def lint_policy(backend: Backend, *, stage: str, policy: Policy) -> tuple[Advice, ...]:
    """What of a policy's process nothing could satisfy, as stages, accounts and groups are now."""
    with backend.catalog.reading() as tx:
        tx.stages.ladder().whole(stage)
        return _advice(tx, policy)


def _advice(tx: Transaction, policy: Policy) -> tuple[Advice, ...]:
    people = unsatisfied(policy, tx.accounts.all(), tx.requests.groups())
    keys = unsigned(policy, tx.integrity.all_keys())
    return (*misplaced(policy, tx.stages.ladder()), *unfed(policy), *people, *keys)
