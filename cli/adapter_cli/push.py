"""`adapters push`, `adapters check`, `adapters convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from adapter_cli.output import (
    digest_text,
    human_bytes,
    note,
    output_options,
    print_facts,
    print_json,
    print_notices,
    problem_lines,
    progress_bar,
    say,
)
from adapter_cli.sign import private_key
from adapter_registry.client import Checked, Pushed, connect
from adapter_registry.domain.adapter import Description
from adapter_registry.domain.errors import InvalidReference, PushRefused
from adapter_registry.domain.versioning import Bump

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--base", required=True, help="NAME, NAME@<commit or digest>, or a folder with a registered checkpoint.")
@click.option("--name", help="[namespace/]name; default: where this folder was pushed before, else its own name.")
@click.option("--version", "semver", help="An exact semantic version, instead of the rule's choice.")
@click.option("--bump", type=click.Choice([str(step) for step in Bump]), help="Raise this part of the version.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A fact to attach; repeatable.")
@click.option("-m", "--message", default="", help="What changed, for people.")
@click.option("--sign", "key", type=click.Path(path_type=Path), metavar="KEY", help="Sign it with this private key.")
@click.option("--dry-run", is_flag=True, help="Check everything and store nothing.")
@output_options
def push(
    folder: Path,
    base: str,
    name: str | None,
    semver: str | None,
    bump: str | None,
    labels: tuple[str, ...],
    message: str,
    key: Path | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Store the adapter in FOLDER as a new version, locked to --base.

    FOLDER is what PEFT's save_pretrained wrote. Config, every tensor and every value are checked against the base; a
    refusal lists all reasons at once. The same bytes on the same base are the same version: "already v7", exit 0.

    The semantic version rises by rule: another base or vocabulary is major; another rank, target set or method is
    minor; other weights only are patch.

    \b
    Examples:
      adapters push ./lora-adapter --base mistral-7b@26bca36b
      adapters push ./out --base mistral-7b --name team/sql-lora --bump minor -m "more joins"
    """
    if dry_run:
        _report_check(connect().check(folder, base=base), as_json, quiet)
        return
    registry, private = connect(), private_key(key) if key else None
    with progress_bar("storing", None) as progress:
        pushed = registry.push(
            folder,
            base=base,
            name=name,
            version=semver,
            bump=Bump(bump) if bump else None,
            labels=_labels(labels),
            message=message,
            progress=progress,
        )
    if private is not None:
        note(f"stored as {pushed.version.reference}; signing it")
        registry.sign(pushed.version, private)
    if as_json:
        print_json(pushed)
    elif quiet:
        click.echo(pushed.version.reference)
    else:
        _print_pushed(pushed)


def _labels(given: tuple[str, ...]) -> dict[str, str]:
    pairs = [label.partition("=") for label in given]
    wrong = [key for key, separator, _ in pairs if not separator]
    if wrong:
        raise InvalidReference(f"--label {wrong[0]}: write --label KEY=VALUE.")
    return {key: value for key, _, value in pairs}


def _print_pushed(pushed: Pushed) -> None:
    version = pushed.version
    if pushed.created:
        say(f"pushed {version.reference}  {version.semver}  {version.digest}", style="green")
    else:
        say(f"already v{version.number}: {version.reference}  {version.semver}  {version.digest}", style="green")
    locked = f"locked to {version.base_name}@{digest_text(version.base)}"
    print_facts(
        [
            ("base", locked),
            *description_facts(version.description),
            ("size", f"{human_bytes(version.size)} in {len(version.files)} files"),
            ("version", f"{version.semver}: {pushed.because}" if pushed.created else None),
        ]
    )
    print_notices(pushed.notices)
    if pushed.created:
        note(f"next: adapters score import v{version.number} results.json; adapters promote v{version.number} staging")


def description_facts(description: Description) -> list[tuple[str, object]]:
    """What an adapter is, as `name value` lines."""
    kinds = ", ".join(f"{kind} x{count}" for kind, count in sorted(description.matched.items()))
    ranks = ", ".join(f"{rank} ({count} modules)" for rank, count in description.ranks.items())
    return [
        ("method", description.method),
        ("task", description.task_type),
        ("rank", ranks if len(description.ranks) > 1 else description.rank),
        ("alpha", f"{description.alpha:g}" if description.alpha is not None else None),
        ("scaling", ", ".join(description.scaling)),
        ("modules", f"{description.modules} of {description.candidates}: {kinds}" if description.modules else None),
        ("saved whole", ", ".join(description.saved_modules)),
        ("parameters", f"{description.parameters:,} {description.dtype}"),
        ("checked", description.checked if description.checked != "full" else None),
    ]


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--base", required=True, help="NAME, NAME@<commit or digest>, or a folder with a registered checkpoint.")
@output_options
def check(folder: Path, base: str, as_json: bool, quiet: bool) -> None:
    """Say what a push of FOLDER onto --base would say, without storing anything.

    Exit code 0 when it would be stored, 7 when it would be refused.
    """
    _report_check(connect().check(folder, base=base), as_json, quiet)


def _report_check(checked: Checked, as_json: bool, quiet: bool) -> None:
    examination = checked.examination
    if as_json:
        print_json({"base": checked.base.reference, "accepted": not examination.problems, "examination": examination})
    elif not quiet:
        _print_check(checked)
    if examination.problems:
        raise SystemExit(PushRefused.exit_code)


def _print_check(checked: Checked) -> None:
    examination = checked.examination
    if examination.problems:
        count = len(examination.problems)
        say(f"refused on {checked.base.reference}: {count} problem{'' if count == 1 else 's'}", style="red")
        for line in problem_lines(examination.problems):
            say(line)
    else:
        say(f"accepted on {checked.base.reference}; nothing was stored", style="green")
    if examination.description is not None:
        facts: list[tuple[str, Any]] = description_facts(examination.description)
        print_facts(facts)
    print_notices(examination.notices)


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("-o", "--out", type=FOLDER, required=True, help="Folder to make.")
def convert(folder: Path, out: Path) -> None:
    """Convert a pickled adapter (adapter_model.bin) in FOLDER to safetensors in --out.

    The pickle is read by a child process with weights-only loading, limits on memory and time, and no environment.
    """
    from adapter_registry.checkpoints.convert import convert as converted  # noqa: PLC0415  numpy

    print_notices(converted(folder, out))
    say(f"wrote {out}", style="green")
    note(f"next: adapters push {out} --base NAME")
