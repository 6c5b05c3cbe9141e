"""`adapters export`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click
import msgspec

from adapter_cli.compose import print_fits, refuse_occupied, scratch_for
from adapter_cli.output import note, output_options, print_json, say, steps_bar
from adapter_cli.submitting import refuse_local, submit_options, submitted
from adapter_registry.client import Registry, connect
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.lineage import ModuleFit
from adapter_registry.domain.recipe import Ingredient, Recipe, check_recipe
from adapter_registry.jobs.kind import OUT


@click.command()
@click.argument("reference")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder to make.")
@click.option("--flatten", is_flag=True, help="One rank, alpha = rank, a list of modules: what every stack reads.")
@click.option("--gguf", is_flag=True, help="One file for llama.cpp, by its own converter. With --base.")
@click.option("--base", metavar="FOLDER", help="With --gguf: the checkpoint that it is to be loaded onto.")
@click.option("--push", is_flag=True, help="With --flatten: store it as a version, with its lineage.")
@click.option("--name", help="With --push: [namespace/]name of its adapter. Default: that of REFERENCE.")
@click.option("--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="Of factors. Default: as stored.")
@click.option("--rank", type=click.IntRange(1), help="With --flatten: what to pad to. Default: the largest there is.")
@click.option("--tolerance", type=float, help="Error that rounding may cost a module, as a share of its delta: 0.0078.")
@submit_options
@output_options
def export(
    reference: str,
    out: Path | None,
    flatten: bool,
    gguf: bool,
    base: str | None,
    push: bool,
    name: str | None,
    submit: bool,
    priority: int,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Write REFERENCE into a folder for a serving stack: as it is, or flattened; or into a file for llama.cpp.

    Some stacks ignore rank and alpha patterns and rank-stabilised scaling, and serve a wrong adapter without a word
    (`adapters servable` says which). --flatten pads every factor with zeros to the largest rank, or to --rank, and
    multiplies the true scale into lora_B: r = lora_alpha, no patterns, targets as a list. What was written is read
    again and held against the original in float64; the error is printed. With --push it is a version of its own, with
    its digest and lineage.

    --gguf has llama.cpp's convert_lora_to_gguf.py make one file of it (ADAPTERS_GGUF_CONVERTER says where that is).
    What GGUF cannot say, and a version for another base than --base, is refused.

    \b
    Examples:
      adapters export sql-lora@prod -o ./sql-lora
      adapters export sql-lora@v3 --flatten -o ./sql-lora-plain
      adapters export sql-lora@v3 --flatten --push --name sql-lora-plain
      adapters export sql-lora@v3 --gguf --base ./mistral-7b -o ./sql-lora.gguf
    """
    registry = connect()
    if gguf or base:
        if not (gguf and base and out) or flatten or push or name or submit or any(options.values()):
            raise click.UsageError("--gguf goes with --base and -o, and with nothing else.")
        _as_gguf(registry, reference, out, base=base, quiet=quiet, as_json=as_json)
        return
    if not flatten:
        given = {**options, "name": name, "push": push or None, "submit": submit or None}
        _as_it_is(registry, reference, out, given=given, quiet=quiet, as_json=as_json)
        return
    exact = registry.reference(reference)
    if name and not (push or submit):
        raise click.UsageError("--name is the adapter of the version that --push stores.")
    into = registry.adapter(name or exact.partition("@")[0])
    said = {key: value for key, value in options.items() if value is not None}
    recipe = Recipe("flatten", (Ingredient(exact),), options=said, into=into)
    if submit:
        refuse_local(out=out)
        submitted(registry, recipe, priority=priority, as_json=as_json, quiet=quiet)
        return
    if out is None and not push:
        raise click.UsageError("name a folder to write (-o), or store a version (--push).")
    _flattened(registry, recipe, out=out, push=push, as_json=as_json, quiet=quiet)


def _as_it_is(
    registry: Registry, reference: str, out: Path | None, *, given: dict[str, Any], quiet: bool, as_json: bool
) -> None:
    without = [f"--{name}" for name, value in given.items() if value is not None]
    if without:
        raise click.UsageError(f"{', '.join(without)} goes with --flatten.")
    if out is None:
        raise click.UsageError("name the folder to write with -o.")
    pulled = registry.pull(reference, out)
    if as_json:
        print_json({"version": pulled.version, "folder": str(out)})
    elif quiet:
        click.echo(str(out))
    else:
        say(f"{'wrote' if pulled.fetched else 'already in'} {out}: {pulled.version.reference} as it is", style="green")


def _as_gguf(registry: Registry, reference: str, out: Path, *, base: str, quiet: bool, as_json: bool) -> None:
    from adapter_registry.serving.admission import Admission  # noqa: PLC0415  `--help` needs none of it
    from adapter_registry.serving.gguf import FILE, converted  # noqa: PLC0415

    if out.exists():
        raise InvalidInput(f"{out} is there already: name a file that is not.")
    version = registry.resolve(reference)
    Admission(registry, base=base, stack="llama.cpp").check(version)
    pulled = registry.pull(f"{version.adapter}@{version.digest}")
    with scratch_for(out) as scratch:
        converter = registry.settings.serving.gguf_converter
        [file] = converted(pulled, scratch, base=base, converter=converter).files
        (scratch / FILE).rename(out)
    if as_json:
        print_json({"version": version, "file": {"path": str(out), "size": file.size, "digest": file.digest}})
    elif quiet:
        click.echo(str(out))
    else:
        say(f"wrote {out}: {version.reference} in GGUF", style="green")


def _flattened(registry: Registry, recipe: Recipe, *, out: Path | None, push: bool, as_json: bool, quiet: bool) -> None:
    from adapter_registry.jobs.flatten import Flatten  # noqa: PLC0415  numpy, which `--help` does not need

    refuse_occupied(out)
    kind, stored = Flatten(), dict[str, Any]()
    with scratch_for(out) as scratch, steps_bar("gathering") as progress:
        exact = kind.check(registry, check_recipe(recipe))
        kind.gather(registry, exact, scratch)
        outcome = kind.compute(exact, scratch, progress)
        if push:
            stored = kind.publish(registry, exact, scratch, outcome)
        if out is not None:
            if out.exists():
                out.rmdir()
            shutil.move(scratch / OUT, out)
    if as_json:
        print_json({"recipe": exact, **outcome, **stored, **({"folder": str(out)} if out else {})})
    elif quiet:
        click.echo(stored.get("reference", str(out)))
    else:
        _print(stored, outcome, out)


def _print(stored: dict[str, Any], outcome: dict[str, Any], out: Path | None) -> None:
    if stored:
        verb = "made" if stored["created"] else "already"
        say(f"{verb} {stored['reference']}  {stored['digest']}", style="green")
    if out is not None:
        say(f"wrote {out}", style="green")
    if outcome["modules"]:
        print_fits(msgspec.convert(outcome["modules"], list[ModuleFit]), outcome["error"])
    for each in (*outcome["notes"], *stored.get("notices", ())):
        note(f"note: {each}")
