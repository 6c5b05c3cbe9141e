"""`adapters deploy`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from adapter_cli.output import note, output_options, print_json, print_table
from adapter_registry.client import connect
from adapter_registry.domain.errors import InvalidInput, InvalidServing, RegistryError
from adapter_registry.settings import read_settings

EVERY_SECONDS = 30


@click.command()
@click.argument("reference", required=False)
@click.option("-f", "--fleet", "file", type=click.Path(path_type=Path), help="The replicas: docs/serving.md.")
@click.option("--to", "name", metavar="NAME", help="What requests call it. Default: the adapter's name.")
@click.option("--new-answers", is_flag=True, help="Take what replicas answer now for right, as after their upgrade.")
@click.option("--status", is_flag=True, help="Say what replicas serve; without --fleet, what was told of an adapter.")
@click.option("--reconcile", is_flag=True, help="Load again what replicas forgot when they were restarted.")
@click.option("--follow", is_flag=True, help="Keep what the document's `serve` names at what it says, until stopped.")
@click.option(
    "--every", type=click.IntRange(1), metavar="SECONDS", help="With --follow (30) or --reconcile: between two looks."
)
@output_options
def deploy(
    reference: str | None,
    file: Path | None,
    name: str | None,
    new_answers: bool,
    status: bool,
    reconcile: bool,
    follow: bool,
    every: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Have every replica of a fleet serve REFERENCE under a name, over HTTP.

    The files are staged first, in a folder named by digest. Then the replicas move one at a time, each only from what
    was deployed before. Each is asked a fixed prompt, with the adapter and without: the two answers must differ, and be
    those that PEFT gives (`answers: peft`), or that the same version and base gave first. When one replica does not
    take it, all serve what they served before.

    --follow deploys by itself: at each move of a stage at once, and again what replicas forgot. What came of it on each
    replica is told to the registry, where --status ADAPTER shows it to who may read the adapter.

    Exit code: 0 when every replica serves what was deployed, 1 when one does not, 8 when the document is wrong.

    \b
    Examples:
      adapters deploy team/sql-lora@prod --to sql --fleet fleet.yaml
      adapters deploy --follow --fleet fleet.yaml
      adapters deploy --status --fleet fleet.yaml
      adapters deploy --status team/sql-lora
      adapters deploy --reconcile --every 30 --fleet fleet.yaml
    """
    _check(reference, file, status=status, once=name or new_answers, modes=reconcile + follow, every=every)
    if file is None:
        _told(reference or "", as_json=as_json, quiet=quiet)
    fleet, deploying = _deploying(file)
    if follow:
        step, wait = _following(fleet, deploying)
        _for_ever(step, wait, every or EVERY_SECONDS, as_json=as_json, quiet=quiet)
    if every:
        _for_ever(deploying.reconcile, time.sleep, every, as_json=as_json, quiet=quiet)
    if reference is not None:
        lines = _once(fleet, deploying, reference, name, new_answers=new_answers)
    else:
        lines = deploying.status() if status else deploying.reconcile()
    if not lines:
        note("nothing was deployed here so far")
    _print(lines, as_json=as_json, quiet=quiet)
    raise click.exceptions.Exit(0 if all(line.good for line in lines) else 1)


def _check(reference: str | None, file: Path | None, *, status: bool, once: Any, modes: int, every: int | None) -> None:
    if file is None and not (status and reference):
        raise click.UsageError("name the replicas with --fleet; or say --status ADAPTER for what was told of it.")
    if file is not None and (reference is not None) + status + modes != 1:
        raise click.UsageError("name a REFERENCE to deploy, or --status, --reconcile or --follow: one of them.")
    if (every and not modes) or (once and (reference is None or status)) or (file is None and modes):
        raise click.UsageError(
            "--every goes with --reconcile and --follow; --to and --new-answers go with a REFERENCE to deploy."
        )


def _deploying(file: Path) -> tuple[Any, Any]:
    from adapter_registry.serving.deploying import Deploying  # noqa: PLC0415  `--help` needs none of it
    from adapter_registry.serving.fleet_file import read_fleet  # noqa: PLC0415
    from adapter_registry.serving.pointing import impatient  # noqa: PLC0415

    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'not text'}.") from error
    fleet = read_fleet(text, str(file))
    return fleet, Deploying(fleet, connect(impatient(read_settings())), clock=time.time)


def _once(fleet: Any, deploying: Any, reference: str, name: str | None, *, new_answers: bool) -> tuple[Any, ...]:
    from adapter_registry.serving.telling import tell  # noqa: PLC0415

    exact = deploying.registry.reference(reference)
    called = name or exact.partition("@")[0].rpartition("/")[2]
    lines: tuple[Any, ...] = deploying.deploy(exact, called, anew=new_answers)
    try:
        tell(deploying.registry, fleet, called, lines, follows=lines[0].version)
    except RegistryError as error:
        note(f"this was not told to the registry: {error.text}")
    return lines


def _following(fleet: Any, deploying: Any) -> tuple[Callable[[], Any], Callable[[float], Any]]:
    from adapter_registry.domain.reference import parse  # noqa: PLC0415
    from adapter_registry.serving.fleet_keeping import FleetKeeping  # noqa: PLC0415
    from adapter_registry.serving.pointing import FIRST_SECONDS, Moves  # noqa: PLC0415

    if not fleet.serve:
        raise InvalidServing("the fleet's document has no `serve`, which says what to keep it at: sql: team/sql@prod.")
    namespace = deploying.registry.settings.namespace
    moves = Moves([parse(each, namespace=namespace) for each in fleet.serve.values()], deploying.registry)
    keeping = FleetKeeping(fleet, deploying, clock=time.monotonic)
    return keeping.step, lambda seconds: moves.wait(max(FIRST_SECONDS, min(seconds, keeping.left())))


def _for_ever(
    look: Callable[[], Sequence[Any]], wait: Callable[[float], Any], every: int, *, as_json: bool, quiet: bool
) -> NoReturn:
    """Look until stopped; a line is printed when it is news."""
    told: set[tuple[Any, ...]] = set()
    while True:
        try:
            lines = look()
            news = [line for line in lines if _gist(line) not in told or line.outcome == "loaded again"]
            _print(news, as_json=as_json, quiet=quiet)
            told = {_gist(line) for line in lines}
        except RegistryError as error:
            note(error.text)
        wait(every)


def _gist(line: Any) -> tuple[Any, ...]:
    """What makes a line news: not that a replica that moved is there."""
    return (line.replica, line.name, line.version, line.good or line.outcome, line.why)


def _told(reference: str, *, as_json: bool, quiet: bool) -> NoReturn:
    """Print what was told of an adapter, and end."""
    registry = connect()
    found = registry.deployments(registry.adapter(reference.partition("@")[0]))
    if as_json:
        print_json(found)
    elif quiet:
        for each in found:
            click.echo(f"{each.fleet} {each.name} {each.version} {'good' if each.good else 'bad'}")
    elif found:
        rows = [row for each in found for row in _rows(each)]
        print_table(["fleet", "name", "replica", "outcome", "of", "at", "why"], rows)
    else:
        note("no deployment of it was told to the registry")
    raise click.exceptions.Exit(0 if all(each.good for each in found) else 1)


def _rows(told: Any) -> list[tuple[str, ...]]:
    """A row for each replica, and one for what stands in the way of all of them."""
    rows: list[tuple[str, ...]] = [
        (told.fleet, told.name, each.url, each.outcome, told.version, told.at[:19], each.why) for each in told.replicas
    ]
    if told.because:
        rows.append((told.fleet, told.name, "", "refused", told.version, told.at[:19], told.because))
    if told.meant != told.version:
        now = f"{told.follows} is {told.meant or 'nothing'} now"
        rows.append((told.fleet, told.name, "", "behind", told.version, told.at[:19], now))
    return rows


def _print(lines: Sequence[Any], *, as_json: bool, quiet: bool) -> None:
    if as_json:
        for line in lines:
            print_json(line, line=True)
    elif quiet:
        for line in lines:
            click.echo(f"{line.replica} {line.name} {line.outcome}")
    elif lines:
        rows = [(line.outcome, line.replica, line.name, line.version, line.serves, line.why) for line in lines]
        print_table(["outcome", "replica", "name", "version", "serves", "why"], rows)
