"""`adapters diff`: what changed between two versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapter_cli.output import (
    human_bytes,
    note,
    output_options,
    print_facts,
    print_json,
    print_table,
    say,
    steps_bar,
    styled,
)
from adapter_cli.submitting import device_option, refuse_local, submit_options, submitted
from adapter_registry.client import connect
from adapter_registry.domain.diff import FACTORS, Group, ModuleDiff, ScoreDiff, State, VersionDiff, percent
from adapter_registry.domain.errors import StoreUnavailable
from adapter_registry.domain.figures import shown, signed
from adapter_registry.domain.job import Progress
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.settings import read_settings

if TYPE_CHECKING:
    from rich.text import Text

BAR = 16
LISTED = 20
"""Tensors and files that are listed one by one."""
VERDICTS = {"identical": "green", "same-delta": "green", "changed": "yellow"}


@click.command()
@click.argument("first")
@click.argument("second")
@click.option("--base", help="What a folder was trained on, if it does not say; default: the base of the other one.")
@click.option(
    "--base-path",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with the base's bytes: size against the weights, and DoRA exactly.",
)
@click.option("--intruders", is_flag=True, help="Look for intruder dimensions; reads the base's bytes. Slow at first.")
@click.option("--exact", is_flag=True, help="Count signs and largest elements over all of them, not a sample of rows.")
@click.option("--top", type=click.IntRange(0), default=10, show_default=True, help="How many modules to list.")
@click.option("--only-changed", is_flag=True, help="Leave equal files, tensors and modules out of --json.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Write a picture: an SVG file.")
@device_option
@submit_options
@output_options
def diff(
    first: str,
    second: str,
    base: str | None,
    base_path: Path | None,
    intruders: bool,
    exact: bool,
    top: int,
    only_changed: bool,
    plot: Path | None,
    device: str,
    submit: bool,
    priority: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure what changed from FIRST to SECOND, each a version or an adapter's folder.

    Every figure of a module is computed from the factors, without making the weight they stand for: norms, cosine,
    spectra, angles between the spaces that are read and written, what would meet if both were added. Equal deltas by
    other factors are recognised. docs/diffing.md explains each figure.

    \b
    Examples:
      adapters diff v3 prod
      adapters diff sql-lora@v3 ./lora-adapter --plot diff.svg
      adapters diff v1 v2 --base-path ./mistral-7b --intruders
    """
    from adapter_registry.diffing import compared  # noqa: PLC0415  numpy is needed by this command only

    if device != "cpu" and not intruders:
        raise click.UsageError("--device is for --intruders: all else is worked out on small matrices.")
    settings = read_settings()
    if submit:
        refuse_local(base=base, base_path=base_path, plot=plot, only_changed=only_changed)
        registry = connect(settings)
        inputs = tuple(Ingredient(registry.reference(each)) for each in (first, second))
        options = {"exact": exact, "intruders": intruders, "device": device}
        recipe = Recipe("diff", inputs, options=options, into=inputs[1].adapter)
        submitted(registry, recipe, priority=priority, as_json=as_json, quiet=quiet, queue=device)
        return
    with steps_bar("comparing") as tell:
        found = compared(
            connect(settings),
            first,
            second,
            base=base,
            base_path=base_path,
            cache=settings.cache,
            intruders=intruders,
            exact=exact,
            device=device,
            report=lambda share: tell(Progress(share, "modules compared")),
        )
    if plot is not None:
        _draw(found, plot)
    if as_json:
        print_json(_only_changed(found) if only_changed else found)
    elif quiet:
        click.echo(found.verdict)
    else:
        _print(found, top)
        if plot is not None:
            note(f"drawn in {plot}")


def _draw(found: VersionDiff, path: Path) -> None:
    from adapter_registry.tensors.picture import picture  # noqa: PLC0415  with the option that needs it

    try:
        path.write_text(picture(found), encoding="utf-8")
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written ({error.strerror}); nothing was drawn.") from error


def _only_changed(found: VersionDiff) -> VersionDiff:
    return replace(
        found,
        files=tuple(each for each in found.files if each.state is not State.SAME),
        tensors=tuple(each for each in found.tensors if each.state is not State.SAME),
        modules=tuple(each for each in found.modules if each.state is not State.SAME),
    )


def _print(found: VersionDiff, top: int) -> None:
    say(f"{found.first.name} -> {found.second.name}", style="bold")
    say(found.summary, style=VERDICTS.get(found.verdict, ""))
    for each in found.notes:
        note(f"note: {each}")
    _print_sides(found)
    _print_config(found)
    if found.verdict != "identical" and found.modules:
        _print_groups("kind", found.kinds)
        _print_groups("layer", found.layers)
        _print_modules(found, top)
    _print_others(found)
    _print_scores(found.scores)


def _print_sides(found: VersionDiff) -> None:
    one, other = found.first, found.second
    print_facts(
        [
            ("base", one.base if one.base_digest == other.base_digest else f"{one.base} -> {other.base}"),
            ("method", one.method if one.method == other.method else f"{one.method} -> {other.method}"),
            ("|delta|", f"{shown(found.norms[0])} -> {shown(found.norms[1])}, apart {shown(found.norms[2])}"),
            ("cosine", shown(found.cosine, digits=6) if found.cosine is not None else None),
        ]
    )


def _print_config(found: VersionDiff) -> None:
    if found.config:
        say("")
        rows = [(each.field, each.first, each.second, each.note or each.matters) for each in found.config]
        print_table(["config", found.first.name, found.second.name, "concerns"], rows)


def _print_groups(title: str, groups: Sequence[Group]) -> None:
    say("")
    largest = max((group.relative or 0.0) for group in groups)
    rows = [
        (
            group.name,
            f"{group.changed}/{group.modules}",
            shown(group.norms[0], digits=3),
            shown(group.norms[1], digits=3),
            percent(group.relative),
            _bar((group.relative or 0.0) / largest if largest else 0.0),
            percent(group.energy),
        )
        for group in groups
    ]
    print_table(
        [title, "changed", "|first|", "|second|", "change", "", "of all"],
        rows,
        right=["changed", "|first|", "|second|", "change", "of all"],
    )


def _bar(share: float) -> Text:
    eighths = round(share * BAR * 8)
    text = "█" * (eighths // 8) + ("▏▎▍▌▋▊▉"[eighths % 8 - 1] if eighths % 8 else "")
    bar: Text = styled(text, "blue")
    return bar


def _print_modules(found: VersionDiff, top: int) -> None:
    changed = [module for module in found.modules if module.state is not State.SAME]
    changed.sort(key=lambda module: -(module.relative if module.relative is not None else float("inf")))
    if not changed or not top:
        return
    say("")
    print_table(
        ["changed most", "rank", "change", "cosine", "angle", "stable", "signs", "meets", "|D|/|W|", "intruders", ""],
        [_module_row(module) for module in changed[:top]],
        right=["rank", "change", "cosine", "angle", "stable", "signs", "meets", "|D|/|W|", "intruders"],
    )
    if len(changed) > top:
        say(f"... and {len(changed) - top:,} more; --top N lists more, --json all")


def _module_row(module: ModuleDiff) -> tuple[str, ...]:
    first, second = module.rank
    left, elements = module.left, module.elements
    weights = [each for each in (module.first_base, module.second_base) if each is not None]
    stable = [shown(each.stable_rank, digits=2) for each in (module.first, module.second) if each is not None]
    found = [str(each.intruders) for each in weights if each.intruders is not None]
    return (
        module.name,
        f"{first}" if first == second else f"{first}->{second}",
        str(module.state) if module.relative is None else percent(module.relative),
        "-" if module.cosine is None else shown(module.cosine),
        f"{max(left.degrees):.1f}°" if left and left.degrees else "-",
        "->".join(dict.fromkeys(stable)),
        percent(elements.sign_conflict.value) if elements else "-",
        percent(module.interference),
        "->".join(percent(each.relative) for each in weights) or "-",
        "->".join(found) or "-",
        module.note.partition(":")[0] or ("" if module.state is State.CHANGED else str(module.state)),
    )


def _print_others(found: VersionDiff) -> None:
    """Files, and tensors that are no factors of a module."""
    rows = [
        (each.path, str(each.state), *map(_size, each.sizes)) for each in found.files if each.state is not State.SAME
    ]
    if rows:
        say("")
        print_table(["file", "", found.first.name, found.second.name], rows[:LISTED])
        _more(len(rows))
    tensors = list(_tensor_rows(found))
    if tensors:
        say("")
        print_table(["other tensors", "", "first", "second", "change"], tensors[:LISTED])
        _more(len(tensors))


def _more(count: int) -> None:
    if count > LISTED:
        say(f"... and {count - LISTED:,} more; --json lists them all")


def _tensor_rows(found: VersionDiff) -> Iterator[tuple[str, ...]]:
    for each in found.tensors:
        if each.state is State.SAME or (found.modules and each.name.endswith(FACTORS)):
            continue
        sides = (
            f"{dtype} {list(shape)}" if dtype and shape is not None else "-"
            for dtype, shape in zip(each.dtypes, each.shapes, strict=True)
        )
        yield (each.name, str(each.state), *sides, percent(each.relative))


def _size(size: int | None) -> str:
    return "-" if size is None else human_bytes(size)


def _print_scores(scores: Sequence[ScoreDiff]) -> None:
    if not scores:
        return
    say("")
    print_table(
        ["score", "first", "second", "better by", "95 %"],
        [
            (
                each.metric,
                "-" if each.first is None else shown(each.first),
                "-" if each.second is None else shown(each.second),
                _gain(each),
                "-" if each.low is None or each.high is None else f"{signed(each.low)} to {signed(each.high)}",
            )
            for each in scores
        ],
        right=["first", "second", "better by"],
    )


def _gain(score: ScoreDiff) -> str:
    if score.gain is not None:
        return signed(score.gain)
    both = score.first is not None and score.second is not None
    return "not comparable" if both and not score.comparable else "-"
