"""`adapters deploy`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from adapter_cli.output import note, output_options, print_json, print_table
from adapter_registry.client import connect
from adapter_registry.domain.errors import InvalidInput, RegistryError


@click.command()
@click.argument("reference", required=False)
@click.option("-f", "--fleet", type=click.Path(path_type=Path), required=True, help="The replicas: docs/serving.md.")
@click.option("--to", "name", metavar="NAME", help="What requests call it. Default: the adapter's name.")
@click.option("--new-answers", is_flag=True, help="Take what replicas answer now for right, as after their upgrade.")
@click.option("--status", is_flag=True, help="Say what each replica serves, and where that is not what was deployed.")
@click.option("--reconcile", is_flag=True, help="Load again what replicas forgot when they were restarted.")
@click.option("--every", type=click.IntRange(1), metavar="SECONDS", help="With --reconcile: again and again.")
@output_options
def deploy(
    reference: str | None,
    fleet: Path,
    name: str | None,
    new_answers: bool,
    status: bool,
    reconcile: bool,
    every: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Have every replica of a fleet serve REFERENCE under a name, over HTTP.

    The files are staged first, in a folder named by digest. Then the replicas move one at a time, each only from what
    was deployed before. Each is asked a fixed prompt, with the adapter and without: the answers must be those that the
    same version and the same base gave first, and must differ from each other. When one replica does not take it, all
    serve what they served before.

    Exit code: 0 when every replica serves what was deployed, 1 when one does not.

    \b
    Examples:
      adapters deploy team/sql-lora@prod --to sql --fleet fleet.yaml
      adapters deploy --status --fleet fleet.yaml
      adapters deploy --reconcile --every 30 --fleet fleet.yaml
    """
    if (reference is not None) + status + reconcile != 1:
        raise click.UsageError("name a REFERENCE to deploy, or --status, or --reconcile: one of them.")
    if (every and not reconcile) or ((name or new_answers) and reference is None):
        raise click.UsageError("--every goes with --reconcile; --to and --new-answers go with a REFERENCE.")
    deploying = _deploying(fleet)
    if every:
        _for_ever(deploying, every, as_json=as_json, quiet=quiet)
    if reference is not None:
        exact = deploying.registry.reference(reference)
        lines = deploying.deploy(exact, name or exact.partition("@")[0].rpartition("/")[2], anew=new_answers)
    else:
        lines = deploying.status() if status else deploying.reconcile()
    if not lines:
        note("nothing was deployed here so far")
    _print(lines, as_json=as_json, quiet=quiet)
    raise click.exceptions.Exit(0 if all(line.good for line in lines) else 1)


def _deploying(fleet: Path) -> Any:
    from adapter_registry.serving.deploying import Deploying  # noqa: PLC0415  `--help` needs none of it
    from adapter_registry.serving.fleet_file import read_fleet  # noqa: PLC0415

    try:
        text = fleet.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{fleet} cannot be read: {getattr(error, 'strerror', None) or 'not text'}.") from error
    return Deploying(read_fleet(text, str(fleet)), connect(), clock=time.time)


def _for_ever(deploying: Any, every: int, *, as_json: bool, quiet: bool) -> None:
    """Reconcile until stopped; a line is printed when it is news."""
    told: tuple[Any, ...] = ()
    while True:
        try:
            lines = deploying.reconcile()
            _print([line for line in lines if line not in told], as_json=as_json, quiet=quiet)
            told = lines
        except RegistryError as error:
            note(error.text)
        time.sleep(every)


def _print(lines: Sequence[Any], *, as_json: bool, quiet: bool) -> None:
    if as_json:
        for line in lines:
            print_json(line, line=True)
    elif quiet:
        for line in lines:
            click.echo(f"{line.replica} {line.name} {line.outcome}")
    elif lines:
        rows = [(line.outcome, line.replica, line.name, line.serves, line.why) for line in lines]
        print_table(["outcome", "replica", "name", "serves", "why"], rows)
