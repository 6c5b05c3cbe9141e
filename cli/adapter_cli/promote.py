"""`adapters promote`, `rollback`, `history`."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import click

from adapter_cli.access import seconds_of
from adapter_cli.output import (
    digest_text,
    human_time,
    note,
    note_moved_on,
    output_options,
    print_json,
    print_table,
    say,
    styled,
)
from adapter_registry.client import History, Judged, Overriding, Registry, connect
from adapter_registry.domain.audit.event import Event
from adapter_registry.domain.digest import parse as parse_digest
from adapter_registry.domain.figures import count
from adapter_registry.domain.promotions.finding import Finding
from adapter_registry.domain.promotions.promotion import Result
from adapter_registry.domain.promotions.request import Request, State
from adapter_registry.domain.promotions.stage import place_of

STYLES = {
    "pass": "green",
    "waived": "cyan",
    "overridden": "magenta",
    "fail": "red",
    "pending": "yellow",
    "inconclusive": "yellow",
    "incomparable": "yellow",
    "error": "red",
}


LANE = click.option("--lane", metavar="NAME", help="A lane of the stage; `prod --lane canary` is prod.canary.")


@click.command()
@click.argument("reference")
@click.argument("stage")
@LANE
@click.option("--dry-run", "--explain", "dry_run", is_flag=True, help="Judge and show every rule; move nothing.")
@click.option("--reason", default="", help="Why, for the record.")
@click.option("--hotfix", is_flag=True, help="The hotfix path: no soak time, one more approval; needs --reason.")
@click.option(
    "--override", "rules", multiple=True, metavar="RULE", help="Pass over this rule; once for each, with --reason."
)
@click.option("--ticket", default="", help="Where the override is discussed, for the record.")
@click.option(
    "--seen",
    metavar="DIGEST",
    help="Only if version, base, policy, evidence and incumbent are what --explain printed this digest of.",
)
@click.option(
    "--wait", metavar="TIME", help="Wait until it is applied or over, at most 90s, 30m or 12h; never: for ever."
)
@output_options
def promote(
    reference: str,
    stage: str,
    lane: str | None,
    dry_run: bool,
    reason: str,
    hotfix: bool,
    rules: tuple[str, ...],
    ticket: str,
    seen: str | None,
    wait: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Judge REFERENCE by the gates of STAGE (dev, staging, prod, or one you declared) and move the stage to it.

    Refused with every blocker at once. Exit code 0 moved (or there already), 3 refused, 4 waiting for something,
    5 the evidence cannot decide. What waits becomes a request (P-214), which is applied by itself as soon as the last
    blocker falls. Every attempt is recorded, refusals included.

    \b
    Examples:
      adapters promote v3 prod
      adapters promote sql-lora@^1.2 staging --explain
      adapters promote v4 prod --lane canary
      adapters promote v3 prod --seen sha256:...
      adapters promote v3 prod --override soak --reason "outage since noon" --ticket OPS-142
    """
    most = seconds_of(wait) if wait else 0
    if dry_run and seen:
        raise click.UsageError("--explain prints the digest that --seen takes later.")
    held_to = parse_digest(seen) if seen else None
    registry, stage = connect(), place_of(stage, lane)
    if dry_run:
        judged = registry.explain(reference, stage, hotfix=hotfix, override=rules)
    else:
        asked = Overriding(rules, ticket) if rules else None
        judged = registry.attempt(reference, stage, reason=reason, hotfix=hotfix, override=asked, seen=held_to)
    if as_json:
        print_json({"exit_code": judged.decision.exit_code, "dry_run": dry_run, **_fields(judged)})
    elif quiet:
        click.echo(judged.version.reference)
    else:
        print_judged(judged, dry_run)
        if dry_run and not judged.already and judged.decision.outcome in (Result.PROMOTE, Result.WAITING):
            note(f"to promote exactly this, or nothing: --seen {judged.seen}")
    note_moved_on(registry)
    request = judged.request
    if wait and request.id and request.state.is_open:
        raise SystemExit(_waited(registry, request, most, quiet))
    raise SystemExit(judged.decision.exit_code)


def _waited(registry: Registry, request: Request, most: int | None, quiet: bool) -> int:
    """The exit code after the request ended, or `most` seconds are over."""
    deadline = time.monotonic() + (math.inf if most is None else most)
    while request.state.is_open and (left := deadline - time.monotonic()) > 0:
        request = registry.request(request.name, after=request.changed, wait_seconds=min(left, 30))
    if not quiet:
        note(f"{request.name} is {request.state}{': ' + request.ended if request.ended else ''}")
    return 4 if request.state.is_open else 0 if request.state is State.APPLIED else 3


def _fields(judged: Judged) -> dict[str, object]:
    return {
        "reference": judged.version.reference,
        "digest": judged.version.digest,
        "stage": judged.stage,
        "incumbent": judged.incumbent.reference if judged.incumbent else None,
        "policy_revision": judged.in_force.revision,
        "outcome": judged.decision.outcome,
        "findings": judged.decision.findings,
        "decision": judged.decision.digest,
        "seen": judged.seen,
        "moved": judged.promotion is not None,
        "already": judged.already,
        "request": judged.request.name if judged.request.id else None,
        "override": judged.request.override,
    }


def print_judged(judged: Judged, dry_run: bool) -> None:
    """Every rule with what it said, what to do next, and the outcome."""
    version = judged.version
    incumbent = judged.incumbent
    before = f"incumbent v{incumbent.number} ({digest_text(incumbent.digest)})" if incumbent else "no incumbent"
    in_force = judged.in_force
    revision = f"policy {in_force.policy.stage}@{in_force.revision}" if in_force.revision else "policy solo, built in"
    say(f"{version.reference} ({digest_text(version.digest)}) -> {judged.stage}   {before}   {revision}", style="bold")
    print_findings(judged.decision.findings)
    shadows = sum(finding.would_block for finding in judged.decision.findings)
    if shadows:
        note(f"{shadows} shadow rule{'' if shadows == 1 else 's'} would have blocked")
    say(_summary(judged, dry_run), style="green" if judged.decision.promotes else "red")


def print_findings(findings: Sequence[Finding]) -> None:
    """Every rule with what it said, and what to do about those that stand in the way."""
    print_table(["", "rule", "finding"], [_finding_row(finding) for finding in findings])
    for finding in findings:
        if finding.blocks and finding.fix:
            note(f"to do, {finding.rule}: {finding.fix}")


def _finding_row(finding: Finding) -> tuple[object, ...]:
    said = f"shadow {finding.outcome}" if finding.shadow else str(finding.outcome)
    return (styled(said.upper(), "dim" if finding.shadow else STYLES[finding.outcome]), finding.rule, finding.reason)


def _summary(judged: Judged, dry_run: bool) -> str:
    target = f"v{judged.version.number} -> {judged.stage}"
    blockers = len(judged.decision.blockers)
    blocked = f"{blockers} blocker{'' if blockers == 1 else 's'}"
    texts = {
        Result.REFUSED: f"refused: {target}, {blocked}",
        Result.WAITING: f"waiting: {target}, {blocked}",
        Result.UNDECIDED: f"undecided: {target}, {blocked} that the evidence cannot decide",
    }
    if not judged.decision.promotes:
        return f"{texts[judged.decision.outcome]}; {judged.stage} did not move{_goes_on(judged, dry_run)}"
    if judged.already:
        return f"{judged.stage} points to v{judged.version.number} already"
    if dry_run:
        return f"would move {target}{_instead(judged)}; nothing was moved"
    return f"moved {target}{_instead(judged)}"


def _goes_on(judged: Judged, dry_run: bool) -> str:
    """What becomes of it by itself."""
    request = judged.request
    if request.id:
        by_itself = f"; {request.name} is applied by itself once nothing is missing{_instead(judged)}"
        return by_itself if request.state.is_open else ""
    waits = dry_run and judged.decision.outcome is Result.WAITING and not judged.already
    by_itself = f"; without --explain it becomes a request, applied by itself once nothing is missing{_instead(judged)}"
    return by_itself if waits else ""


def _instead(judged: Judged) -> str:
    """The request that is given up for it."""
    other = judged.instead_of
    if other is None:
        return ""
    given = f", with {count(len(other.approvals), 'approval')}" if other.approvals else ""
    return f", in place of {other.name} (v{other.number}{given})"


@click.command()
@click.argument("adapter")
@click.argument("stage")
@LANE
@click.option("--to", help="An earlier incumbent, v2; default: the one before the current one.")
@click.option("--reason", default="", help="Why, for the record.")
@output_options
def rollback(
    adapter: str, stage: str, lane: str | None, to: str | None, reason: str, as_json: bool, quiet: bool
) -> None:
    """Move STAGE of ADAPTER back to an earlier incumbent, at once: no scores are asked.

    \b
    Example:
      adapters rollback sql-lora prod --reason "wrong joins since noon"
    """
    registry = connect()
    promotion = registry.rollback(adapter, place_of(stage, lane), to=to, reason=reason)
    if as_json:
        print_json(promotion)
    elif quiet:
        click.echo(f"{promotion.adapter}@v{promotion.number}")
    else:
        moved = f"{promotion.stage} of {promotion.adapter}: v{promotion.previous} -> v{promotion.number}"
        say(f"rolled back {moved} ({digest_text(promotion.version)})", style="green")
        if registry.hold(promotion.adapter, promotion.stage) is not None:
            lift = f"adapters hold clear {promotion.adapter} {promotion.stage}"
            note(f"machines promote nothing there until a person does, or lifts the hold: {lift}")


@click.command()
@click.argument("adapter", required=False)
@click.argument("stage", required=False)
@click.option("--at", metavar="TIME", help="What was true then: 2026-03-01 (end of that day, UTC) or 2026-03-01T14:30.")
@click.option("--all", "everything", is_flag=True, help="Every recorded attempt, refusals included.")
@output_options
def history(
    adapter: str | None, stage: str | None, at: str | None, everything: bool, as_json: bool, quiet: bool
) -> None:
    """Show what the stages of ADAPTER pointed to, and when.

    \b
    Examples:
      adapters history sql-lora prod
      adapters history sql-lora prod --at 2026-03-01
      adapters history sql-lora --all
    """
    registry = connect()
    if everything:
        _print_attempts(registry.events(registry.adapter(adapter)), as_json)
        return
    found = registry.history(adapter, stage, at=at)
    if as_json:
        print_json(found)
    elif quiet:
        name = registry.adapter(adapter)
        click.echo("\n".join(f"{name}@v{number}" for number in found.pointing.values()), nl=bool(found.pointing))
    else:
        _print_history(registry.adapter(adapter), stage, found)


def _print_history(adapter: str, stage: str | None, found: History) -> None:
    when = f"at {human_time(found.at)} UTC" if found.at else "now"
    pointing = ", ".join(f"{name} = v{number}" for name, number in found.pointing.items())
    nothing = f"{stage} points to nothing" if stage else "no stage points anywhere"
    say(f"{adapter} {when}: {pointing or nothing}", style="bold")
    if found.moves:
        print_table(
            ["when", "stage", "#", "version", "digest", "before", "how", "who", "reason"],
            [
                (
                    human_time(move.at),
                    move.stage,
                    move.sequence,
                    f"v{move.number}",
                    digest_text(move.version),
                    f"v{move.previous}" if move.previous else "-",
                    "OVERRIDE" if move.override else move.kind,
                    move.actor,
                    str(move.override) if move.override else move.reason,
                )
                for move in found.moves
            ],
            right=["#"],
        )
    for move in found.moves:
        for doubt in found.doubts.get(f"{move.stage}#{move.sequence}", ()):
            note(f"{move.stage} #{move.sequence}, v{move.number}, rested on evidence that counts no more: {doubt}")


def _print_attempts(events: tuple[Event, ...], as_json: bool) -> None:
    from adapter_cli.show import print_events  # noqa: PLC0415

    if as_json:
        print_json(events)
    else:
        print_events(events)
