"""`adapters pull` and `adapters resolve`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from adapter_cli.due import due_of, print_due
from adapter_cli.output import digest_text, human_bytes, note, output_options, print_facts, print_json, say
from adapter_registry.client import Pulled, Registry, connect
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.promotions.pointer import Pointer
from adapter_registry.domain.promotions.verification import Due
from adapter_registry.domain.reference import Reference, parse

WAIT_SECONDS = 30.0
"""How long one question for a move waits."""


@click.command()
@click.argument("reference")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder to make; default: ./NAME-vN.")
@click.option("--base", help="What it will be loaded onto: NAME@<digest> or a checkpoint folder. Another base: exit 6.")
@click.option("--spot", is_flag=True, help="Look at a few slices of each tensor of a checkpoint folder, not all of it.")
@click.option("--force", is_flag=True, help="Replace an earlier pull in --out.")
@output_options
def pull(
    reference: str, out: Path | None, base: str | None, spot: bool, force: bool, as_json: bool, quiet: bool
) -> None:
    """Write the files of REFERENCE into a folder that PEFT loads as it is.

    The reference is resolved once; every file is verified against its digest; the folder appears complete or not at
    all. With --base, anything but the base the adapter is locked to is refused, with every difference.

    --spot reads a few slices at secret places of every tensor: it tells apart any checkpoint that differs everywhere,
    as another training run does; a change confined to a few bytes may go unseen. The default reads every byte once
    and remembers the result.

    \b
    Example:
      adapters pull sql-lora@prod --base ./mistral-7b -o ./out
    """
    registry = connect()
    version = registry.resolve(reference)
    if not quiet and not as_json:
        note(f"{reference} is {version.reference} {version.semver} {version.digest}")
    target = out or Path(f"{version.adapter.split('/')[-1]}-v{version.number}")
    pulled = registry.pull(f"{version.adapter}@{version.digest}", target, base=base, spot=spot, force=force)
    if as_json:
        print_json({"version": version, "folder": str(pulled.folder), "verdict": pulled.verdict})
    elif quiet:
        click.echo(str(pulled.folder))
    else:
        _print_pulled(pulled)


def _print_pulled(pulled: Pulled) -> None:
    version = pulled.version
    verb = "pulled" if pulled.fetched else "already here:"
    size = f"{human_bytes(version.size)} in {len(version.files)} files, every digest verified"
    say(f"{verb} {version.reference} into {pulled.folder}", style="green")
    verdict = pulled.verdict
    print_facts(
        [
            ("files", size),
            ("locked to", f"{version.base_name}@{digest_text(version.base)}"),
            (
                "base",
                str(verdict) if verdict else "not checked: add --base FOLDER to check what it will be loaded onto",
            ),
            ("notes", "\n".join(verdict.notes) if verdict else None),
        ]
    )


@click.command()
@click.argument("reference")
@click.option("--follow", is_flag=True, help="A line now and whenever the stage moves, until stopped.")
@click.option("--after", type=click.IntRange(0), help="Wait until the stage moved beyond this move.")
@click.option(
    "--timeout", type=click.IntRange(1), metavar="SECONDS", help="With --after: exit 4 if it did not by then."
)
@output_options
def resolve(reference: str, follow: bool, after: int | None, timeout: int | None, as_json: bool, quiet: bool) -> None:
    """Say which version REFERENCE means now: reference, semantic version, digest, base.

    What a server's stage points to is believed only when it is signed by that server's key and not older than what was
    seen here before; its moves are counted.

    \b
    Examples:
      adapters resolve sql-lora@prod --json
      adapters resolve sql-lora@prod --follow
      adapters resolve sql-lora@prod --after 7 --timeout 3600
    """
    registry = connect()
    if not follow and after is None:
        version = registry.served(reference)
        due = () if quiet else due_of(registry, version)
        if not as_json:
            print_due(due)
        _print_resolved(version, None, as_json=as_json, quiet=quiet, due=due)
        return
    wanted = parse(registry.reference(reference))
    if not registry.ladder().has(wanted.selector):
        raise InvalidInput(
            f"{wanted} is no stage: --follow and --after wait for one to move, as in {wanted.name}@prod."
        )
    for pointer in _moves(registry, wanted, follow=follow, after=after, timeout=timeout):
        version = registry.resolve(pointer.reference)
        _print_resolved(version, pointer, as_json=as_json, quiet=quiet)


def _moves(
    registry: Registry, wanted: Reference, *, follow: bool, after: int | None, timeout: int | None
) -> Iterator[Pointer]:
    """Each new pointer of a stage; the first one only, unless `follow`."""
    seen, deadline = after, time.monotonic() + timeout if timeout else None
    while True:
        left = WAIT_SECONDS if deadline is None else min(WAIT_SECONDS, deadline - time.monotonic())
        pointer = registry.pointer(wanted.adapter, wanted.selector, after=seen, wait_seconds=max(left, 0.0))
        if seen is None or pointer.sequence > seen:
            yield pointer
            if not follow:
                return
            seen = pointer.sequence
        elif deadline is not None and time.monotonic() >= deadline:
            note(f"{wanted} did not move beyond move {seen} within {timeout} seconds")
            raise click.exceptions.Exit(4)


def _print_resolved(
    version: Version, pointer: Pointer | None, *, as_json: bool, quiet: bool, due: Sequence[Due] = ()
) -> None:
    if as_json:
        document = {
            "reference": version.reference,
            "adapter": version.adapter,
            "number": version.number,
            "semver": version.semver,
            "digest": version.digest,
            "base": version.base,
            "base_name": version.base_name,
            "stages": version.stages,
            "tags": version.tags,
            "due": due,
        }
        moved = {"stage": pointer.stage, "sequence": pointer.sequence, "moved_at": pointer.moved_at} if pointer else {}
        print_json({**document, **moved}, line=pointer is not None)
    elif quiet:
        click.echo(version.digest)
    else:
        move = f"move {pointer.sequence}  " if pointer else ""
        base = f"{version.base_name}@{digest_text(version.base)}"
        say(f"{move}{version.reference}  {version.semver}  {version.digest}  {base}")
