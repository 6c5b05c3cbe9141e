"""`adapters servable`."""

from __future__ import annotations

import click

from adapter_cli.output import note, output_options, print_json, print_table, styled
from adapter_registry.client import connect
from adapter_registry.domain.servable import Report, Servable, flattening

STYLES = {
    Servable.LOADS: "green",
    Servable.FLAGS: "green",
    Servable.FLATTEN: "yellow",
    Servable.WRONG: "red",
    Servable.REFUSED: "red",
}


@click.command()
@click.argument("reference")
@click.option(
    "--for",
    "stacks",
    multiple=True,
    metavar="STACK",
    help="vllm:0.33, sglang, tgi, ... Default: all.",
)
@output_options
def servable(reference: str, stacks: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Say which serving stacks load REFERENCE, why not, and with which flags.

    Verdicts: loads; loads with flags; loads after flattening (`adapters export --flatten`); loads but wrong: the stack
    leaves a part of the adapter out without a word; refused. A stage can ask for it: `serving: [vllm:0.33]` in its
    policy. Exit code 3 where a named stack does not serve it as it is.

    \b
    Examples:
      adapters servable sql-lora@v3
      adapters servable sql-lora@v3 --for vllm:0.33 --for sglang
    """
    registry = connect()
    reports = registry.servable(reference, ",".join(stacks))
    if as_json:
        print_json(reports)
    elif quiet:
        for each in reports:
            click.echo(f"{each.stack}\t{each.verdict}")
    else:
        _print(reference, reports)
    if stacks and not all(each.verdict.serves for each in reports):
        raise SystemExit(3)


def _print(reference: str, reports: tuple[Report, ...]) -> None:
    rows = [
        (each.stack, styled(each.verdict, STYLES[each.verdict]), "; ".join(each.reasons) or "-", each.flags or "-")
        for each in reports
    ]
    print_table(["stack", "verdict", "why", "start it with"], rows)
    for each in reports:
        for text in each.notes:
            note(f"{each.stack}: {text}")
    if (how := flattening(reports)) is not None:
        note(f"flatten it: adapters export {reference} {how} --push")
    note("none of these stacks holds the weights it runs against the adapter's lock: docs/serving.md says what does")
