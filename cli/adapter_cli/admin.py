"""`adapters admin`: keep the store sound."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_cli.output import human_bytes, note, output_options, print_facts, print_json, progress_bar, say
from adapter_registry.client import GRACE_SECONDS, connect


@click.group()
def admin() -> None:
    """Check, collect, migrate and back up the store; let the administrator in."""


@admin.command("check")
@click.option("--read-data", is_flag=True, help="Hash every byte, not sizes only.")
@output_options
def check(read_data: bool, as_json: bool, quiet: bool) -> None:
    """Hold the catalog against the bytes, and the audit log against itself. Exit code 7 when something is wrong."""
    with progress_bar("checking", None) as progress:
        report = connect().verify_store(read_data=read_data, progress=progress)
    if as_json:
        print_json(report)
    elif not quiet:
        print_facts(
            [
                ("blobs", f"{report.blobs:,}, {human_bytes(report.bytes)}"),
                ("audit log", f"{report.events:,} events"),
                ("read", "every byte" if report.read else "sizes only; --read-data hashes every byte"),
            ]
        )
        for damage in report.damage:
            say(f"{damage.what}: {damage.text}", style="red")
            if damage.affected:
                say(f"  needed by {', '.join(damage.affected)}")
        if not report.damage:
            say("sound", style="green")
    if report.damage:
        raise SystemExit(7)


@admin.command("collect")
@click.option("--grace", type=click.IntRange(min=0), default=int(GRACE_SECONDS), show_default=True, metavar="SECONDS")
@click.option("--dry-run", is_flag=True, help="Say what would go and remove nothing.")
@output_options
def collect(grace: int, dry_run: bool, as_json: bool, quiet: bool) -> None:
    """Remove bytes that no version refers to and that nobody touched for --grace seconds.

    It runs beside pushes: what a push relies on counts as touched.
    """
    collected = connect().collect(grace_seconds=grace, dry_run=dry_run)
    if as_json:
        print_json(collected)
    elif not quiet:
        verb = "would remove" if dry_run else "removed"
        leftovers = f" and {collected.leftovers} leftovers of interrupted writes" if collected.leftovers else ""
        say(f"{verb} {collected.blobs} blobs ({human_bytes(collected.bytes)}){leftovers}")


@admin.command("migrate")
def migrate() -> None:
    """Bring the database to the schema of this version. The embedded store does it by itself."""
    say(f"the database is at schema {connect().migrate()}", style="green")


@admin.command("pointer-key")
def pointer_key() -> None:
    """Print the public key that what stages point to is signed with; give it to clients as ADAPTERS_POINTER_KEY."""
    click.echo(connect().pointer_key())


@admin.command("token")
@output_options
def token(as_json: bool, quiet: bool) -> None:
    """Make a token of the administrator and print it, this once.

    For the first sign-in to a server that runs with --no-token, or when the first token is lost. It needs no token: it
    runs where the store is, with the server's own settings, and what it did is in the audit log.

    \b
    Examples:
      docker compose exec server adapters admin token
      kubectl -n adapters exec deploy/adapters -- adapters admin token
    """
    made = connect().admin_token()
    if as_json:
        print_json(made)
        return
    click.echo(made.secret)
    if not quiet:
        note(f"token {made.token.id} of {made.token.account}, good for ever; it is not shown again")


@admin.command("backup")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--blobs-only", is_flag=True, help="The database was dumped before, by other means.")
@output_options
def backup(folder: Path, blobs_only: bool, as_json: bool, quiet: bool) -> None:
    """Back the registry up into FOLDER while it is used: the database first, then the bytes it refers to.

    Bytes that an earlier backup left in FOLDER are not copied again. A catalog in PostgreSQL is dumped by pg_dump.
    With SQLite, FOLDER is itself a registry that ADAPTERS_HOME may name.
    """
    with progress_bar("backing up", None) as progress:
        copied = connect().back_up(folder, blobs_only=blobs_only, progress=progress)
    if as_json:
        print_json(copied)
    elif not quiet:
        say(f"{copied.blobs} blobs ({human_bytes(copied.bytes)}), {copied.new} of them new, in {folder}", style="green")


@admin.command("restore")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--blobs-only", is_flag=True, help="The database is restored by other means.")
@output_options
def restore(folder: Path, blobs_only: bool, as_json: bool, quiet: bool) -> None:
    """Fill an empty registry from a backup: the bytes first, then the database."""
    with progress_bar("restoring", None) as progress:
        copied = connect().restore(folder, blobs_only=blobs_only, progress=progress)
    if as_json:
        print_json(copied)
    elif not quiet:
        say(f"{copied.blobs} blobs ({human_bytes(copied.bytes)}) restored", style="green")
        note("next: adapters admin check --read-data")
