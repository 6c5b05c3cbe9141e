"""`adapters compose` and `adapters extract`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from adapter_cli.output import note, output_options, print_facts, print_json, print_table, say, steps_bar
from adapter_cli.submitting import check_device, device_option, refuse_local, submit_options, submitted
from adapter_registry.client import Registry, connect
from adapter_registry.domain.errors import Conflict, InvalidInput
from adapter_registry.domain.lineage import ModuleFit
from adapter_registry.domain.recipe import Ingredient, Recipe, check_recipe, parse_ingredient
from adapter_registry.jobs.kind import INPUTS, OUT, Kind
from adapter_registry.local.folders import is_folder

FOLDER = click.Path(path_type=Path)
WORST = 10
"""How many modules a table of errors lists."""


@click.command()
@click.argument("versions", nargs=-1, required=True, metavar="VERSION[=WEIGHT]...")
@click.option("--method", required=True, help="NAME or NAME:DIALECT: linear, svd, cat, ties:peft (docs/composing.md).")
@click.option("--name", help="[namespace/]name of the adapter that the result is a version of.")
@click.option("-o", "--out", type=FOLDER, help="Write the folder here instead of storing a version.")
@click.option("--rank", help="Of every module, or auto. Default: the largest that a module has in any version.")
@click.option("--tolerance", type=float, help="With --rank auto: the relative error that is allowed, 0.01.")
@click.option("--one-rank", is_flag=True, help="With --rank auto: the largest rank that a module needs, for all.")
@click.option("--density", type=float, help="Share of the entries that stay, for methods that leave some out.")
@click.option("--lambda", "scale", type=float, help="Multiply the result by this.")
@click.option("--spread", type=float, help="DELLA: how far probabilities lie around the density.")
@click.option("--outliers", type=float, help="Breadcrumbs: share of the largest magnitudes that is left out.")
@click.option("--election", type=click.Choice(["total", "frequency"]), help="PEFT's TIES: how signs are elected.")
@click.option("--normalise/--no-normalise", default=None, help="Divide by the sum of weights, or do not.")
@click.option("--seed", type=int, default=0, help="Of random masks.")
@click.option("--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="Of the result's factors.")
@click.option("--equivalent", is_flag=True, help="Allow bases that are declared equivalent.")
@click.option("--base-path", type=FOLDER, help="Where the base's files are, if a version's delta depends on them.")
@click.option("--dry-run", is_flag=True, help="Compose, print the error, and keep nothing.")
@device_option
@submit_options
@output_options
def compose(
    versions: tuple[str, ...],
    method: str,
    name: str | None,
    out: Path | None,
    seed: int,
    base_path: Path | None,
    dry_run: bool,
    device: str,
    submit: bool,
    priority: int,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Compose VERSIONs of one base into one adapter: the deltas that they add, weighted, by a named method.

    The result is a normal version that PEFT loads, with its recipe, its parents and the error of each module against
    the exact composed delta; `adapters show` shows them. A weight may be negative; the default is 1.

    \b
    Examples:
      adapters compose sql@v3=0.7 chat@v1=0.3 --method svd --name sql-chat
      adapters compose sql@prod chat@prod --method ties:mergekit --density 0.2 --rank 32 --name both
      adapters compose sql@v3 toxic@v1=-0.5 --method linear --rank auto --tolerance 0.01 -o ./out
    """
    from adapter_registry.jobs.compose import Compose  # noqa: PLC0415  numpy, which `--help` does not need

    if not submit:
        check_device(device)
    registry = connect()
    inputs = tuple(_ingredient(registry, text) for text in versions)
    said = {key: value for key, value in options.items() if value not in (None, False)}
    if options["normalise"] is False:
        said["normalise"] = False
    said.update(_rank(said.get("rank")), method=method)
    if device != "cpu":
        said["device"] = device
    recipe = Recipe("compose", inputs, options=said, seed=seed, into=_target(registry, name, out, dry_run))
    if submit:
        refuse_local(out=out, base_path=base_path, dry_run=dry_run)
        submitted(registry, recipe, priority=priority, as_json=as_json, quiet=quiet, queue=device)
        return
    _run(registry, Compose(base_path), recipe, out=out, dry_run=dry_run, as_json=as_json, quiet=quiet)


@click.command()
@click.argument("checkpoint")
@click.option("--base", required=True, help="What it was trained from: NAME, NAME@<digest>, or a registered folder.")
@click.option("--rank", required=True, help="Of every module, or auto.")
@click.option("--tolerance", type=float, help="With --rank auto: the relative error that is allowed, 0.1.")
@click.option("--name", help="[namespace/]name of the adapter that the result is a version of.")
@click.option("-o", "--out", type=FOLDER, help="Write the folder here instead of storing a version.")
@click.option("--leave-out", is_flag=True, help="Leave out what no adapter can carry, instead of refusing.")
@click.option("--seed", type=int, default=0, help="Of the subspace iteration.")
@click.option("--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="Of the result's factors.")
@click.option("--base-path", type=FOLDER, help="Where the base's files are, if not where it was registered from.")
@click.option("--dry-run", is_flag=True, help="Extract, print the error, and keep nothing.")
@device_option
@submit_options
@output_options
def extract(
    checkpoint: str,
    base: str,
    rank: str,
    name: str | None,
    out: Path | None,
    seed: int,
    base_path: Path | None,
    dry_run: bool,
    device: str,
    submit: bool,
    priority: int,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Make an adapter of a fully fine-tuned CHECKPOINT: a folder, or the name of a registered base.

    What it changed in each linear weight becomes factors of the rank, by subspace iteration; the error is measured on
    what is stored. Norms and untied embeddings that changed are saved whole, biases are kept; anything else is refused,
    or left out and told with --leave-out. A checkpoint in bfloat16 holds a small change with much noise: see the error.

    \b
    Examples:
      adapters extract ./mistral-7b-sql --base mistral-7b --rank 64 --name sql
      adapters extract ./mistral-7b-sql --base mistral-7b --rank auto --tolerance 0.1 -o ./sql-lora
    """
    from adapter_registry.jobs.extract import Extract  # noqa: PLC0415  numpy, which `--help` does not need

    if not submit:
        check_device(device)
    registry = connect()
    folder = Path(checkpoint).expanduser() if is_folder(checkpoint) else None
    said: dict[str, Any] = {key: value for key, value in options.items() if value not in (None, False)}
    said.update(_rank(rank), checkpoint=registry.digest_of(folder) if folder else checkpoint)
    if device != "cpu":
        said["device"] = device
    locked = registry.base(base).base.digest
    recipe = Recipe("extract", base=locked, options=said, seed=seed, into=_target(registry, name, out, dry_run))
    if submit:
        refuse_local(out=out, base_path=base_path, dry_run=dry_run)
        submitted(registry, recipe, priority=priority, as_json=as_json, quiet=quiet, queue=device)
        return
    _run(registry, Extract(folder, base_path), recipe, out=out, dry_run=dry_run, as_json=as_json, quiet=quiet)


def _ingredient(registry: Registry, text: str) -> Ingredient:
    given = parse_ingredient(text)
    return Ingredient(registry.reference(given.reference), given.weight)


def _rank(text: str | None) -> dict[str, Any]:
    if text is None or text == "auto":
        return {"rank": text} if text else {}
    if not text.isdecimal():
        raise InvalidInput(f"--rank is auto or a whole number, not {text[:40]!r}.")
    return {"rank": int(text)}


def _target(registry: Registry, name: str | None, out: Path | None, dry_run: bool) -> str:
    """The adapter that the result belongs to; where nothing is stored, a name that nothing bears."""
    if name:
        return registry.adapter(name)
    if out is None and not dry_run:
        raise InvalidInput("name the adapter that the result is a version of (--name), or a folder to write (-o).")
    return registry.adapter("unnamed")


def _run(
    registry: Registry, kind: Kind, recipe: Recipe, *, out: Path | None, dry_run: bool, as_json: bool, quiet: bool
) -> None:
    """Carry a recipe out here: the same steps that a worker takes."""
    refuse_occupied(out)
    with scratch_for(out) as scratch, steps_bar("gathering") as progress:
        exact = kind.check(registry, check_recipe(recipe))
        kind.gather(registry, exact, scratch)
        outcome = kind.compute(exact, scratch, progress)
        stored: dict[str, Any] = {}
        if out is not None and not dry_run:
            if out.exists():
                out.rmdir()
            shutil.move(scratch / OUT, out)
        elif not dry_run:
            stored = kind.publish(registry, exact, scratch, outcome)
    if as_json:
        print_json({"recipe": exact, **outcome, **stored, **({"folder": str(out)} if out else {})})
    elif quiet:
        click.echo(stored.get("reference", str(out) if out else ""), nl=bool(stored or out))
    else:
        _print_made(stored, outcome, out=None if dry_run else out)


def refuse_occupied(out: Path | None) -> None:
    """Refuse a folder that holds something.

    Raises:
        Conflict: it does.
    """
    if out is not None and (out.is_file() or (out.exists() and any(out.iterdir()))):
        raise Conflict(f"{out} is not empty; nothing was written. Choose another folder.")


@contextmanager
def scratch_for(out: Path | None) -> Iterator[Path]:
    """A folder to work in, beside `out` so that moving the result there is one step."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".adapters-", dir=out.parent if out else None) as name:
        (Path(name) / INPUTS).mkdir()
        (Path(name) / OUT).mkdir()
        yield Path(name)


def _print_made(stored: dict[str, Any], outcome: dict[str, Any], *, out: Path | None) -> None:
    fits = msgspec.convert(outcome["modules"], list[ModuleFit])
    if stored:
        say(f"{'made' if stored['created'] else 'already'} {stored['reference']}  {stored['digest']}", style="green")
    else:
        say(f"wrote {out}" if out else "nothing was stored", style="green")
    print_fits(fits, outcome["error"])
    for each in (*outcome["notes"], *stored.get("notices", ())):
        note(f"note: {each}")


def print_fits(fits: Sequence[ModuleFit], error: float) -> None:
    """The error of the whole, and the modules with the largest."""
    ranks = sorted({fit.rank for fit in fits})
    print_facts(
        [
            ("modules", len(fits)),
            ("ranks", f"{ranks[0]} to {ranks[-1]}" if len(ranks) > 1 else ranks and ranks[0]),
            ("error", f"{error:.3g} of the exact delta's norm"),
        ]
    )
    worst = sorted(fits, key=lambda fit: (-fit.error, fit.name))[:WORST]
    if worst and worst[0].error > 0:
        rows = [(fit.name, fit.rank, f"{fit.norm:.4g}", f"{fit.error:.3g}") for fit in worst]
        print_table(["module", "rank", "norm", "error"], rows, right=["rank", "norm", "error"])
