"""`adapters use`, `tag`, `label`, `rm`."""

from __future__ import annotations

import click

from adapter_cli.output import digest_text, note_moved_on, output_options, print_json, say
from adapter_registry.client import connect
from adapter_registry.domain.errors import InvalidReference


@click.command()
@click.argument("adapter", required=False)
@output_options
def use(adapter: str | None, as_json: bool, quiet: bool) -> None:
    """Choose the adapter that a bare v3 belongs to, in this folder and those below it.

    Without ADAPTER: say which one is in use. ADAPTERS_ADAPTER wins over the choice.
    """
    registry = connect()
    if adapter is not None:
        name = registry.adapter(adapter)
        registry.versions(name)
        registry.in_use.choose(name)
    here = registry.in_use.here()
    if as_json:
        print_json({"adapter": here})
    elif quiet:
        click.echo(here or "", nl=here is not None)
    elif here is None:
        say("no adapter is in use here: adapters use NAME")
    else:
        say(f"using {here} here" if adapter else here, style="green")


@click.command()
@click.argument("reference")
@click.argument("name")
@click.option("-d", "--delete", is_flag=True, help="Remove the tag NAME from the adapter REFERENCE.")
@output_options
def tag(reference: str, name: str, delete: bool, as_json: bool, quiet: bool) -> None:
    """Point the tag NAME at REFERENCE, wherever it pointed before.

    A tag is a movable name without authority. Stages (dev, staging, prod) are not tags: they move by promotion.

    \b
    Examples:
      adapters tag sql-lora@v3 candidate
      adapters tag --delete sql-lora candidate
    """
    registry = connect()
    if delete:
        registry.untag(reference, name)
        if not quiet and not as_json:
            say(f"removed the tag {name} from {registry.adapter(reference)}", style="green")
        return
    version, before = registry.tag(reference, name)
    if as_json:
        print_json({"tag": name, "version": version, "before": before})
    elif quiet:
        click.echo(version.reference)
    else:
        moved = f", before: v{before.number}" if before and before.digest != version.digest else ""
        say(f"{version.adapter}@{name} is v{version.number} ({digest_text(version.digest)}){moved}", style="green")


@click.command()
@click.argument("reference")
@click.argument("labels", nargs=-1, required=True, metavar="KEY=VALUE | KEY-")
@output_options
def label(reference: str, labels: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Set labels of REFERENCE; `KEY-` removes one. Labels are facts for people and gates; they carry no authority.

    \b
    Example:
      adapters label v3 license=apache-2.0 owner=search-team draft-
    """
    registry = connect()
    version = registry.label(reference, dict(_parsed(text) for text in labels))
    if as_json:
        print_json(version)
    elif quiet:
        click.echo(version.reference)
    else:
        now = ", ".join(f"{key}={value}" for key, value in sorted(version.labels.items())) or "no labels"
        say(f"{version.reference}: {now}", style="green")
    note_moved_on(registry)


def _parsed(text: str) -> tuple[str, str | None]:
    key, separator, value = text.partition("=")
    if separator:
        return key, value
    if text.endswith("-"):
        return text[:-1], None
    raise InvalidReference(f"{text!r}: write KEY=VALUE to set a label, KEY- to remove one.")


@click.command()
@click.argument("reference")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output_options
def rm(reference: str, yes: bool, as_json: bool, quiet: bool) -> None:
    """Remove one exact version: name@v3, name@1.2.0 or name@sha256:...

    Refused while a stage or tag points at it. Its number and label are never used again; bytes that no other version
    shares go with the next `adapters admin collect`. `adapters prune` removes what is old and needed by nothing.
    """
    registry = connect()
    full = registry.reference(reference)
    if not yes:
        version = registry.resolve(full)
        click.confirm(f"remove {version.reference} ({digest_text(version.digest)})?", abort=True, err=True)
    removed = registry.remove(full)
    if as_json:
        print_json(removed)
    elif not quiet:
        say(f"removed {removed.reference} ({digest_text(removed.digest)})", style="green")
