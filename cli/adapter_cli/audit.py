"""`adapters audit`: the log of every attempt, exported and verified."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_cli.output import output_options, print_json, say
from adapter_registry.client import connect
from adapter_registry.domain.audit.file import exported, verified


@click.group()
def audit() -> None:
    """Export the log of every attempt, refusals included, and verify that nobody changed it."""


@audit.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@output_options
def export(file: Path, as_json: bool, quiet: bool) -> None:
    """Write the whole log into FILE: one event a line, the last line its length and its head.

    Keep the head elsewhere: with it, `audit verify` notices a log that was cut or written anew.
    """
    from adapter_cli.files import write_text  # noqa: PLC0415

    events = connect().events()
    write_text(file, exported(events))
    head = events[-1].digest if events else ""
    if as_json:
        print_json({"events": len(events), "head": head})
    elif quiet:
        click.echo(head)
    else:
        say(f"{len(events):,} events into {file}; head {head}")


@audit.command("verify")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--head", default="", help="Digest of the last event, as it was exported or noted.")
@output_options
def verify(file: Path | None, head: str, as_json: bool, quiet: bool) -> None:
    """Verify the chain of FILE without any registry, or that of the registry.

    Exit code 7 when an event was changed, removed, inserted or reordered.
    """
    if file is None:
        text = exported(connect().events())
    else:
        from adapter_cli.files import read_text  # noqa: PLC0415

        text = read_text(file)
    found = verified(text, head=head)
    if as_json:
        print_json(found)
    elif not quiet:
        say(f"{found.events:,} events, each follows from the one before; head {found.head}", style="green")
