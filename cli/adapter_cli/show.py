"""`adapters ls` and `adapters show`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from msgspec import to_builtins

from adapter_cli.due import due_of, print_due
from adapter_cli.output import (
    digest_text,
    human_bytes,
    human_time,
    output_options,
    print_facts,
    print_json,
    print_table,
    say,
    styled,
)
from adapter_cli.standing import evidence
from adapter_registry.client import History, Registry, connect
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.audit.event import Event
from adapter_registry.domain.evidence.score import RecordedScore
from adapter_registry.domain.integrity.scan import newest
from adapter_registry.domain.lineage import Lineage
from adapter_registry.domain.promotions.stage import of_place
from adapter_registry.domain.promotions.verification import Due
from adapter_registry.domain.views.listing import AdapterLine

STAGE_STYLES = {"dev": "cyan", "staging": "yellow", "prod": "green"}


@click.command()
@click.argument("adapter", required=False)
@click.option("--stage", help="Only adapters with a version in this stage.")
@click.option("--base", help="Only adapters whose newest version is locked to this base.")
@click.option("--search", help="Only names that contain this.")
@click.option("--where", metavar="FILTER", help="Only versions for which this holds: 'rank<=16 and score.acc>0.5'.")
@output_options
def ls(
    adapter: str | None,
    stage: str | None,
    base: str | None,
    search: str | None,
    where: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """List the adapters, or the versions of ADAPTER.

    \b
    FILTER is about each version, or about the newest version of each adapter:
      rank <= 16 and score.gsm8k/exact_match > 0.5
      stage = prod and not method = IA3
      label.team in (search, ads) or base ~ mistral
    """
    registry = connect()
    if adapter is not None:
        _list_versions(registry.versions(adapter, where=where), as_json, quiet)
        return
    lines = registry.adapters(stage=stage, base=base, search=search, where=where)
    due = registry.due() if lines and not quiet else ()
    if as_json:
        print_json([{**to_builtins(line), "due": _of(due, line.adapter)} for line in lines])
    elif quiet:
        click.echo("\n".join(line.adapter for line in lines), nl=bool(lines))
    elif not lines:
        filtered = stage or base or search or where
        say("no adapter matches." if filtered else "no adapter yet: adapters push FOLDER --base NAME")
    else:
        for line in lines:
            print_due(_of(due, line.adapter))
        _print_adapters(lines)


def _of(found: Sequence[Due], adapter: str) -> list[Due]:
    return [each for each in found if each.adapter == adapter]


def _print_adapters(lines: Sequence[AdapterLine]) -> None:
    print_table(
        ["adapter", "latest", "method", "rank", "base", "stages", "versions", "size", "pushed"],
        [
            (
                line.adapter,
                f"v{line.latest} {line.semver}",
                line.method,
                line.rank if line.rank is not None else "-",
                f"{line.base_name}@{digest_text(line.base)}",
                _pointers({stage: f"v{number}" for stage, number in line.stages.items()}),
                line.versions,
                human_bytes(line.size),
                human_time(line.pushed_at),
            )
            for line in lines
        ],
        right=["rank", "versions", "size"],
    )


def _pointers(stages: dict[str, str]) -> Any:
    known = [*STAGE_STYLES]
    order = sorted(stages, key=lambda place: (known.index(s) if (s := of_place(place)) in known else len(known), place))
    text = " ".join(f"{stage}={stages[stage]}" if stages[stage] else stage for stage in order)
    return styled(text or "-", STAGE_STYLES.get(of_place(order[-1]), "") if order else "dim")


def _list_versions(versions: Sequence[Version], as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json(versions)
    elif quiet:
        click.echo("\n".join(version.reference for version in versions), nl=bool(versions))
    elif not versions:
        say("no version is left: all were removed.")
    else:
        say(versions[0].adapter, style="bold")
        print_table(
            ["version", "semver", "digest", "stages", "tags", "method", "rank", "modules", "size", "pushed", "message"],
            [_version_row(version) for version in versions],
            right=["rank", "modules", "size"],
        )


def _version_row(version: Version) -> tuple[object, ...]:
    description = version.description
    return (
        f"v{version.number}",
        version.semver,
        digest_text(version.digest),
        _pointers(dict.fromkeys(version.stages, "")),
        " ".join(version.tags) or "-",
        description.method,
        description.rank if description.rank is not None else "-",
        f"{description.modules}/{description.candidates}" if description.modules else "-",
        human_bytes(version.size),
        f"{human_time(version.created_at)} {version.created_by}",
        _mark(version) or (version.message.splitlines()[0][:60] if version.message else ""),
    )


def _mark(version: Version) -> str:
    """What everybody has to know of a version before its own words."""
    if version.revoked_because is not None:
        return f"REVOKED: {version.revoked_because}"[:60]
    return f"MADE OF REVOKED {', '.join(version.revoked_ancestors)}" if version.revoked_ancestors else ""


@click.command()
@click.argument("reference")
@click.option("--files", is_flag=True, help="List its files with digests.")
@click.option("--scores", is_flag=True, help="List its scores only.")
@click.option("--events", is_flag=True, help="List what happened to it.")
@output_options
def show(reference: str, files: bool, scores: bool, events: bool, as_json: bool, quiet: bool) -> None:
    """Show one version: what it is, its lock, where it is, its scores."""
    registry = connect()
    version = registry.resolve(reference)
    if quiet:
        click.echo(version.reference)
        return
    recorded = registry.scores(version.reference)
    happened = registry.events(version.reference) if events else ()
    due = due_of(registry, version)
    if as_json:
        told = {"signatures": registry.signatures(version), "scans": registry.scans(version)}
        print_json(
            {"version": version, "scores": recorded, "due": due, **told, **({"events": happened} if events else {})}
        )
        return
    print_due(due)
    if not scores:
        _print_version(registry, version)
    _print_scores(recorded)
    if files:
        _print_files(version)
    if events:
        print_events(happened)


def _print_version(registry: Registry, version: Version) -> None:
    from adapter_cli.push import description_facts  # noqa: PLC0415  `ls` does not need the push commands
    from adapter_cli.sign import scan_text, signed_lines  # noqa: PLC0415  nor these

    say(f"{version.reference}  {version.semver}", style="bold")
    labels = ", ".join(f"{key}={value}" for key, value in sorted(version.labels.items()))
    stand_ins = [
        f"{digest_text(e.other)} (declared by {e.declared_by}: {e.because})"
        for e in registry.equivalences(version.base)
    ]
    history = registry.history(version.adapter)
    print_facts(
        [
            ("digest", version.digest),
            ("locked to", f"{version.base_name}@{digest_text(version.base)}  {version.base}"),
            ("stand-ins", "\n".join(stand_ins)),
            ("stages", ", ".join(version.stages) or "none"),
            ("revoked", version.revoked_because or ""),
            ("ancestry", _ancestry(version)),
            ("derived", "\n".join(_derived(registry, version))),
            ("overridden", "\n".join(_overrides(history, version))),
            ("in doubt", "\n".join(_doubts(history, version))),
            ("signed by", signed_lines(registry.signatures(version))),
            ("scanned by", "\n".join(map(scan_text, newest(registry.scans(version)).values()))),
            ("tags", ", ".join(version.tags)),
            ("labels", labels),
            *description_facts(version.description),
            ("size", f"{human_bytes(version.size)} in {len(version.files)} files"),
            ("pushed", f"{human_time(version.created_at)} by {version.created_by}"),
            *_made_of(version.lineage),
            ("message", version.message),
            ("notes", "\n".join(str(each) for each in version.description.notices)),
        ]
    )


def _ancestry(version: Version) -> str:
    """What of its ancestors was withdrawn: it may have inherited what was wrong with them."""
    listed = ", ".join(version.revoked_ancestors)
    return f"made of {listed}, revoked since; policies refuse it unless they only warn" if listed else ""


def _derived(registry: Registry, version: Version) -> list[str]:
    return [
        each.reference + (f"  in {', '.join(each.stages)}" if each.stages else "")
        for each in registry.derived(version.reference)
    ]


def _overrides(history: History, version: Version) -> list[str]:
    """Every promotion of the version that rules were passed over for: a mark that stays."""
    return [
        f"{move.stage}, {human_time(move.at)} by {move.actor}: {move.override}"
        for move in history.moves
        if move.override and move.number == version.number
    ]


def _doubts(history: History, version: Version) -> list[str]:
    """Every promotion of the version that rested on evidence which was declared invalid since."""
    return [
        f"{move.stage}, {human_time(move.at)}, rested on {doubt}"
        for move in history.moves
        if move.number == version.number
        for doubt in history.doubts.get(f"{move.stage}#{move.sequence}", ())
    ]


def _made_of(lineage: Lineage | None) -> list[tuple[str, object]]:
    if lineage is None:
        return []
    worst = [f"{fit.error:<8.3g} {fit.name} (rank {fit.rank})" for fit in lineage.worst(5) if fit.error]
    libraries = ", ".join(f"{name} {version}" for name, version in sorted(lineage.libraries.items()))
    return [
        ("made by", f"{lineage.kind}: {lineage.recipe}, seed {lineage.seed}"),
        ("made of", "\n".join(f"{p.reference} x {p.weight:g}  {digest_text(p.digest)}" for p in lineage.parents)),
        ("error", f"{lineage.error:.3g} of the exact delta's norm, over {len(lineage.modules)} modules"),
        ("worst", "\n".join(worst)),
        ("kept", "\n".join(lineage.notes)),
        ("made with", f"{libraries} on {lineage.device}"),
    ]


def _print_scores(recorded: Sequence[RecordedScore]) -> None:
    if not recorded:
        say("  no scores yet: adapters score import VERSION results.json")
        return
    print_table(
        ["metric", "value", "stderr", "n", "better", "measured by", "recorded", "evidence", "file"],
        [
            (
                each.score.metric,
                f"{each.score.value:.6g}",
                f"{each.score.stderr:.3g}" if each.score.stderr is not None else "-",
                each.score.n if each.score.n is not None else "-",
                each.score.direction or "unknown",
                each.score.producer or each.score.source,
                f"{human_time(each.recorded_at)} {each.recorded_by}",
                evidence(each),
                digest_text(each.score.evidence) if each.score.evidence else "-",
            )
            for each in recorded
        ],
        right=["value", "stderr", "n"],
    )


def _print_files(version: Version) -> None:
    print_table(
        ["file", "size", "digest"],
        [(file.path, f"{file.size:,}", file.digest) for file in version.files],
        right=["size"],
    )


def print_events(events: Sequence[Event]) -> None:
    print_table(
        ["#", "when", "who", "what", "outcome", "detail"],
        [
            (
                event.sequence,
                human_time(event.entry.at),
                event.entry.actor,
                f"{event.entry.action} {event.entry.subject}",
                event.entry.outcome,
                ", ".join(f"{k}={v}" for k, v in event.entry.detail.items() if isinstance(v, str | int))[:120],
            )
            for event in events
        ],
        right=["#"],
    )
