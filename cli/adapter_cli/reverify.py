"""`adapters reverify`: a version that stays in a stage is found good again, or it is said what is missing."""

from __future__ import annotations

import click

from adapter_cli.output import output_options, print_json, print_table, say
from adapter_cli.promote import LANE, print_findings
from adapter_registry.client import Registry, connect
from adapter_registry.domain.promotions.stage import place_of


@click.command()
@click.argument("adapter", required=False)
@click.argument("stage", required=False)
@LANE
@output_options
def reverify(adapter: str | None, stage: str | None, lane: str | None, as_json: bool, quiet: bool) -> None:
    """Ask the gates of STAGE about the version of ADAPTER that is in it; without STAGE, list what is due.

    Where all pass it counts as verified from now on, for as long as the policy's `reverify_every` says. Where they do
    not, nothing moves: score it anew, or promote another version. Exit code as of `promote`.

    \b
    Examples:
      adapters reverify
      adapters reverify sql-lora prod
    """
    registry = connect()
    if stage is None:
        _list(registry, registry.adapter(adapter) if adapter else None, as_json, quiet)
        return
    found = registry.reverify(registry.adapter(adapter), place_of(stage, lane))
    decision, reference = found.decision, f"{found.adapter}@v{found.number}"
    if as_json:
        said = {"exit_code": decision.exit_code, "stage": found.stage, "reference": reference, "at": found.at}
        print_json({**said, "decision": decision})
    elif quiet:
        click.echo(reference)
    else:
        print_findings(decision.findings)
        outcome = "is verified again" if decision.promotes else "is not verified again, and stays where it is"
        say(f"{reference} in {found.stage} {outcome}", style="green" if decision.promotes else "red")
    raise SystemExit(decision.exit_code)


def _list(registry: Registry, adapter: str | None, as_json: bool, quiet: bool) -> None:
    found = registry.due(adapter)
    if as_json:
        print_json(found)
    elif quiet:
        click.echo("\n".join(f"{each.adapter}@{each.stage}" for each in found), nl=bool(found))
    elif not found:
        say("nothing has to be verified again soon")
    else:
        rows = [
            (
                "overdue" if each.overdue else "due",
                f"{each.adapter}@v{each.number}",
                each.stage,
                each.verified_at[:10],
                each.due_at[:10],
                "; ".join(each.blockers) or "nothing: adapters reverify",
            )
            for each in found
        ]
        print_table(["", "version", "stage", "verified", "until", "missing"], rows)
