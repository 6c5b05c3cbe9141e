"""`adapters merge`: fold adapters into their base."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapter_cli.output import (
    digest_text,
    human_bytes,
    note,
    output_options,
    print_facts,
    print_json,
    print_notices,
    print_table,
    progress_bar,
    say,
)
from adapter_cli.submitting import check_device, device_option, refuse_local, submit_options, submitted
from adapter_registry.checkpoints.confined import Limits
from adapter_registry.client import Registered, Registry, connect
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.recipe import Ingredient, Recipe, parse_ingredient
from adapter_registry.merging import Wanted, bring, resolve

if TYPE_CHECKING:
    from adapter_registry.domain.base import Base
    from adapter_registry.tensors.merging.apart import Apart
    from adapter_registry.tensors.merging.merge import Ingredient as Part
    from adapter_registry.tensors.merging.merge import Merged, Options
    from adapter_registry.tensors.merging.verify import Verified

LISTED = 12
_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[KMGT]?)I?B?", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@click.command()
@click.argument("references", metavar="REF[=WEIGHT]...", nargs=-1, required=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder to make.")
@click.option("--base-path", type=click.Path(path_type=Path), help="Folder with the base; default: where it was added.")
@click.option("--dtype", help="float32, float16 or bfloat16 for every weight; default: as in the base.")
@click.option(
    "--accumulate",
    type=click.Choice(["float32", "peft"]),
    default="float32",
    show_default=True,
    help="Sum in float32 and round once; or take the bits that PEFT computes.",
)
@click.option("--max-shard-size", help="Largest weight file, as 5GB; default: the base's files.")
@click.option(
    "--onto", type=click.Choice(["dequantized"]), help="Onto the floats that a base by bitsandbytes stands for."
)
@click.option("--original", type=click.Path(path_type=Path), help="With --onto: the unquantised base, to compare with.")
@click.option("--verify", is_flag=True, help="Compare logits with base and adapter loaded by PEFT.")
@click.option("--workers", type=int, help="Threads; default: one for each core.")
@click.option("--as", "name", metavar="NAME", help="Register the result as a base.")
@click.option("--store", is_flag=True, help="With --as: store its bytes too.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and what space it takes.")
@device_option
@submit_options
@output_options
def merge(
    references: tuple[str, ...],
    out: Path | None,
    base_path: Path | None,
    dtype: str | None,
    accumulate: str,
    max_shard_size: str | None,
    onto: str | None,
    original: Path | None,
    verify: bool,
    workers: int | None,
    name: str | None,
    store: bool,
    dry_run: bool,
    device: str,
    submit: bool,
    priority: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Merge adapters into their base: a complete checkpoint that transformers loads without PEFT.

    Several adapters are summed, each with its weight, and rounded once. The base is compared with the adapters' lock
    first. What the stored type keeps of each change is told. An interrupted merge goes on where it was.

    \b
    Examples:
      adapters merge sql-lora@prod -o ./merged
      adapters merge sql-lora@v3=1.0 chat-lora@v1=0.5 -o ./merged --dtype float32
      adapters merge sql-lora@v3 -o ./merged --as mistral-7b-sql --store
      adapters merge qlora@v1 -o ./merged --onto dequantized --original ./llama-8b
    """
    if store and not name:
        raise click.UsageError("--store needs --as NAME.")
    _check_onto(onto, original, verify=verify)
    shard = size_of(max_shard_size) if max_shard_size else None
    if submit:
        refuse_local(out=out, base_path=base_path, original=original, verify=verify, workers=workers, dry_run=dry_run)
        said = {"dtype": dtype, "max_shard_size": shard, "accumulate": accumulate, "device": device, "onto": onto}
        _submit(references, name, said, priority=priority, as_json=as_json, quiet=quiet)
        return
    if out is None:
        raise click.UsageError("name a folder to make with -o, or have a worker do it with --submit --as NAME.")
    check_device(device)
    from adapter_registry.tensors.merging.merge import Options  # noqa: PLC0415  slow to import

    registry = connect()
    limits = Limits(registry.settings.job_memory, registry.settings.job_seconds)
    options = Options(dtype, shard, accumulate, workers, device, onto, limits)
    made = _make(registry, references, options=options, asked=_Asked(out, base_path, original, verify, dry_run))
    made.tell(out, as_json=as_json, quiet=quiet)
    if name and not dry_run:
        _register(name, out, store=store, quiet=quiet or as_json)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Where the result goes and the base is; the unquantised base and PEFT, if it is to be compared with them."""

    out: Path
    base_path: Path | None
    original: Path | None
    verify: bool
    dry: bool


@dataclass(frozen=True, slots=True)
class _Made:
    """What was merged, and what came of it and of comparing it."""

    wanted: Wanted
    merged: Merged
    verified: Verified | None
    apart: tuple[Apart, ...]

    def tell(self, out: Path, *, as_json: bool, quiet: bool) -> None:
        """Print it."""
        if as_json:
            told = {"merged": self.merged, "verified": self.verified, "apart": self.apart}
            print_json({**told, "references": self.wanted.references})
        elif quiet:
            click.echo(out)
        else:
            _print(self.wanted, self.merged, self.verified, out)
            _print_apart(self.apart)


def _make(registry: Registry, references: tuple[str, ...], *, options: Options, asked: _Asked) -> _Made:
    """Bring everything here, merge and compare it."""
    from adapter_registry.tensors.merging.merge import merge as run  # noqa: PLC0415  slow to import

    wanted = resolve(registry, [parse_ingredient(each) for each in references])
    base = wanted.base.base
    with progress_bar("reading the base", base.bytes) as progress:
        source, ingredients = bring(registry, wanted, base_path=asked.base_path, progress=progress)
    apart = () if asked.dry or not asked.original else _apart(base, source, asked.original, ingredients)
    with progress_bar("merging", base.bytes) as progress:
        merged = run(base, source, ingredients, asked.out, options=options, progress=progress, dry=asked.dry)
    verified = _verified(source, ingredients, asked.out, options.limits) if asked.verify and not asked.dry else None
    return _Made(wanted, merged, verified, apart)


def _verified(source: Path, ingredients: list[Part], out: Path, limits: Limits | None) -> Verified:
    from adapter_registry.tensors.merging.verify import verify  # noqa: PLC0415  slow to import

    return verify(source, ingredients, out, limits=limits)


def _check_onto(onto: str | None, original: Path | None, *, verify: bool) -> None:
    if onto and verify:
        raise click.UsageError(
            "--verify cannot load a quantised base; --original compares with the weights it was made of."
        )
    if original and not onto:
        raise click.UsageError("--original is for --onto dequantized.")


def _submit(
    references: tuple[str, ...], name: str | None, options: dict[str, Any], *, priority: int, as_json: bool, quiet: bool
) -> None:
    """Have a worker merge; the result is a stored base."""
    if name is None:
        raise click.UsageError("a worker stores the result as a base: name it with --as NAME.")
    registry = connect()
    given = [parse_ingredient(each) for each in references]
    inputs = tuple(Ingredient(registry.reference(each.reference), each.weight) for each in given)
    recipe = Recipe("merge", inputs, options=options, into=registry.adapter(name))
    submitted(registry, recipe, priority=priority, as_json=as_json, quiet=quiet, queue=options["device"])


def size_of(text: str) -> int:
    """Bytes of `5GB`, `500 MB`, `1.5g`.

    Raises:
        InvalidInput: no size.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(f"{text!r} is no size; write 5GB or 500MB.")
    return int(float(found["number"]) * _UNITS[found["unit"].upper()])


def _register(name: str, out: Path, *, store: bool, quiet: bool) -> None:
    registry = connect()
    copy = registry.copy_of(out, name=name) if store else None
    registration = registry.add_base(name, out)
    if copy is not None:
        registry.store_base(registration, copy)
    if not quiet:
        what = "registered" if registration.outcome is Registered.ADDED else str(registration.outcome)
        say(f"{what} as base {registration.base.reference}", style="green")


def _print(wanted: Wanted, merged: Merged, verified: Verified | None, out: Path) -> None:
    estimate = merged.estimate
    told = " + ".join(
        reference if weight == 1 else f"{weight:g} x {reference}"
        for reference, weight in zip(wanted.references, wanted.weights, strict=True)
    )
    if merged.folder is None:
        say(f"would merge {told} into {wanted.base.registered.reference}", style="bold")
    else:
        say(f"merged {told} into {wanted.base.registered.reference}: {out}", style="green")
    print_facts(
        [
            ("files", f"{estimate.files}, {human_bytes(estimate.size)}, {human_bytes(estimate.computed)} computed"),
            ("space", f"{human_bytes(estimate.free)} were free"),
            ("time", f"about {estimate.seconds:.0f} s" if merged.folder is None else f"{merged.seconds:.1f} s"),
            ("kept", f"{merged.kept:.1%} of the change" if merged.modules else None),
            ("verified", str(verified) if verified else None),
        ]
    )
    if merged.modules:
        _print_modules(merged)
    if merged.files:
        print_table(
            ["file", "size", "sha256"],
            [(file.name, human_bytes(file.size), digest_text(f"sha256:{file.sha256}")) for file in merged.files],
            right=["size"],
        )
    print_notices(merged.notices)


def _print_modules(merged: Merged) -> None:
    """The modules that lose most, worst first."""
    worst = sorted(merged.modules, key=lambda each: each.kept)
    columns = ["module", "type", "change/weight", "kept", "moved", "rows read"]
    rows = [
        (m.name, m.dtype, f"{m.relative:.2g}", f"{m.kept:.1%}", f"{m.moved:.0%}", f"{m.sampled:.0%}")
        for m in worst[:LISTED]
    ]
    print_table(columns, rows, right=columns[2:])
    if len(worst) > LISTED:
        note(f"{len(worst) - LISTED} more modules keep more; --json lists all")


def _apart(base: Base, source: Path, original: Path, parts: list[Part]) -> tuple[Apart, ...]:
    from adapter_registry.tensors.merging.apart import apart_from  # noqa: PLC0415  slow to import

    return apart_from(base, source, original, parts)


def _print_apart(apart: tuple[Apart, ...]) -> None:
    """How far the result is from merging onto the original weights."""
    columns = ["kind", "modules", "apart/weight", "apart/change"]
    rows = [(each.kind, str(each.modules), f"{each.of_weights:.2g}", f"{each.of_change:.2g}") for each in apart]
    if rows:
        print_table(columns, rows, right=columns[1:])
        note("apart: this merge less the one onto the original weights, in float32")
