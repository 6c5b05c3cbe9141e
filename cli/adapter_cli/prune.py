"""`adapters prune`: retention."""

from __future__ import annotations

from collections.abc import Sequence

import click

from adapter_cli.access import seconds_of
from adapter_cli.output import digest_text, human_bytes, human_time, note, output_options, print_json, print_table, say
from adapter_registry.client import connect
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.figures import count
from adapter_registry.domain.views.retention import KEEP, MOST_KEPT, Pruned

MOST_SHOWN = 50


@click.command()
@click.argument("adapters", nargs=-1, metavar="[ADAPTER]...")
@click.option("--all", "every", is_flag=True, help="Every adapter that you may read.")
@click.option("--older-than", "age", required=True, metavar="TIME", help="Pushed longer ago than 90d or 12h.")
@click.option(
    "--keep",
    type=click.IntRange(1, MOST_KEPT),
    default=KEEP,
    show_default=True,
    metavar="N",
    help="The newest N of each adapter stay however old they are.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go and what needs the rest; remove nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output_options
def prune(
    adapters: tuple[str, ...],
    every: bool,
    age: str,
    keep: int,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Remove versions that are old and that nothing needs; their numbers and labels are never used again.

    A version stays while a stage or tag points at it, while a stage may go back to it, while a request for it is open,
    a fleet serves it, a job works on it or another version was made of it. A revoked one stays to say why. Tag what is
    to be kept for good. `adapters admin collect` frees the bytes.

    \b
      adapters prune sql-lora --older-than 90d --dry-run
      adapters prune --all --older-than 180d --keep 10 --yes
    """
    seconds = seconds_of(age)
    if seconds is None:
        raise InvalidInput("--older-than never: nothing is that old; write 90d or 12h.")
    if every == bool(adapters):
        raise click.UsageError("name adapters, or all of them by --all.")
    registry = connect()
    names = [line.adapter for line in registry.adapters()] if every else [registry.adapter(each) for each in adapters]

    def asked(only_say: bool) -> list[Pruned]:
        return [registry.prune(name, older_than_seconds=seconds, keep=keep, dry_run=only_say) for name in names]

    if not dry_run and not yes:
        planned = asked(True)
        if doomed := sum(len(each.removed) for each in planned):
            if not as_json and not quiet:
                _print(planned, "would be removed")
            click.confirm(f"remove {count(doomed, 'version')}?", abort=True, err=True)
    found = asked(dry_run)
    if as_json:
        print_json(found)
    elif not quiet:
        _print(found, "would be removed" if dry_run else "removed")


def _print(found: Sequence[Pruned], word: str) -> None:
    gone = [version for each in found for version in each.removed]
    rows = [
        (version.reference, digest_text(version.digest), human_bytes(version.size), human_time(version.created_at))
        for version in gone[:MOST_SHOWN]
    ]
    if rows:
        print_table([word, "digest", "size", "pushed"], rows, right=["size"])
        if len(gone) > len(rows):
            note(f"and {len(gone) - len(rows):,} more; --json lists them")
    else:
        say(f"nothing {'was removed' if word == 'removed' else word}")
    kept = [needed for each in found for needed in each.kept]
    for needed in kept[:MOST_SHOWN]:
        note(f"{needed.reference} stays: {'; '.join(needed.because)}")
    if len(kept) > MOST_SHOWN:
        note(f"and {len(kept) - MOST_SHOWN:,} more stay; --json lists them")
