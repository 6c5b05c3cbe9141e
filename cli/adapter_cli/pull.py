"""`adapters pull` and `adapters resolve`."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_cli.output import digest_text, human_bytes, note, output_options, print_facts, print_json, say
from adapter_registry.client import Pulled, connect


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
    pulled = registry.pull(version.reference, target, base=base, spot=spot, force=force)
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
@output_options
def resolve(reference: str, as_json: bool, quiet: bool) -> None:
    """Say which version REFERENCE means now: reference, semantic version, digest, base."""
    version = connect().resolve(reference)
    if as_json:
        print_json(
            {
                "reference": version.reference,
                "adapter": version.adapter,
                "number": version.number,
                "semver": version.semver,
                "digest": version.digest,
                "base": version.base,
                "base_name": version.base_name,
                "stages": version.stages,
                "tags": version.tags,
            }
        )
    elif quiet:
        click.echo(version.digest)
    else:
        say(f"{version.reference}  {version.semver}  {version.digest}  {version.base_name}@{digest_text(version.base)}")
