"""`adapters score`: evidence, bound to digests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from adapter_cli.files import read_bytes
from adapter_cli.output import note, output_options, print_json, print_table, say
from adapter_registry.client import Registry, connect
from adapter_registry.domain.errors import InvalidReference
from adapter_registry.domain.metric import known_direction
from adapter_registry.domain.score import Direction, RecordedScore, Score


@click.group()
def score() -> None:
    """Add or import scores of a version, or of a base so that a first version can be compared with it."""


BASE = click.option("--base", help="Bind to this base instead of a version.")


@score.command("add")
@click.argument("reference", required=False)
@click.option("--metric", required=True, help="task/metric as gates name it: gsm8k/exact_match, heldout/loss.")
@click.option("--value", type=float, required=True)
@click.option("--better", type=click.Choice([str(d) for d in Direction]), help="Which way is better.")
@click.option("--stderr", type=float, help="Standard error of the value; comparisons need it, or --n for rates.")
@click.option("--n", type=click.IntRange(min=1), help="Number of samples.")
@click.option(
    "--setting", "settings", multiple=True, metavar="KEY=VALUE", help="What must agree to compare; repeatable."
)
@BASE
@output_options
def add(
    reference: str | None,
    metric: str,
    value: float,
    better: str | None,
    stderr: float | None,
    n: int | None,
    settings: tuple[str, ...],
    base: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Add one score by hand.

    \b
    Examples:
      adapters score add v3 --metric sql/accuracy --value 0.91 --better higher --n 500
      adapters score add --base mistral-7b --metric heldout/loss --value 2.31 --stderr 0.02 --better lower
    """
    direction = Direction(better) if better else known_direction(metric)
    setting = dict(sorted(_settings(settings).items()))
    given = Score(metric, value, direction, stderr=stderr, n=n, setting=setting, producer="by hand", source="cli")
    _report(_bind(connect(), reference, base, (given,), ""), as_json, quiet)


def _settings(given: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    wrong = [key for key, separator, _ in pairs if not separator]
    if wrong:
        raise InvalidReference(f"--setting {wrong[0]}: write --setting KEY=VALUE.")
    return {key: value for key, _, value in pairs}


@score.command("import")
@click.argument("arguments", nargs=-1, required=True, metavar="[REFERENCE] FILE")
@BASE
@output_options
def import_(arguments: tuple[str, ...], base: str | None, as_json: bool, quiet: bool) -> None:
    """Import a results file of lm-evaluation-harness, lighteval or Inspect.

    The scores are bound to the digest of REFERENCE because you say so; what the file claims to be about is kept and
    shown beside them.

    \b
    Examples:
      adapters score import v3 results_2026-03-01.json
      adapters score import --base mistral-7b results_base.json
    """
    from adapter_registry.domain.results import read_results  # noqa: PLC0415  with the command that needs it

    expected = 1 if base else 2
    if len(arguments) != expected:
        raise click.UsageError("write `score import REFERENCE FILE`, or `score import --base NAME FILE`.")
    file = Path(arguments[-1])
    results = read_results(read_bytes(file), name=file.name)
    claimed = results.claimed
    reference = None if base else arguments[0]
    recorded = _bind(connect(), reference, base, results.scores, claimed)
    _report(recorded, as_json, quiet)
    for each in results.notices:
        note(f"note: {each}")
    if claimed and not as_json and not quiet:
        note(f"the file says it measured {claimed}; bound to {recorded[0].subject_name} because you said so")


def _bind(
    registry: Registry, reference: str | None, base: str | None, scores: Sequence[Score], claimed: str
) -> tuple[RecordedScore, ...]:
    if (reference is None) == (base is None):
        raise click.UsageError("name a version, or a base with --base, and not both.")
    if base is not None:
        return registry.add_base_scores(base, tuple(scores), claimed=claimed)
    return registry.add_scores(reference or "", tuple(scores), claimed=claimed)


def _report(recorded: tuple[RecordedScore, ...], as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json(recorded)
        return
    if quiet:
        click.echo("\n".join(each.score.metric for each in recorded))
        return
    say(
        f"recorded {len(recorded)} score{'' if len(recorded) == 1 else 's'} of {recorded[0].subject_name}",
        style="green",
    )
    print_table(
        ["metric", "value", "stderr", "n", "better"],
        [
            (
                each.score.metric,
                f"{each.score.value:.6g}",
                f"{each.score.stderr:.3g}" if each.score.stderr is not None else "-",
                each.score.n if each.score.n is not None else "-",
                each.score.direction or "unknown",
            )
            for each in recorded
        ],
        right=["value", "stderr", "n"],
    )


@score.command("ls")
@click.argument("reference", required=False)
@BASE
@output_options
def list_scores(reference: str | None, base: str | None, as_json: bool, quiet: bool) -> None:
    """List the scores of a version or a base."""
    if (reference is None) == (base is None):
        raise click.UsageError("name a version, or a base with --base, and not both.")
    registry = connect()
    recorded = registry.base_scores(base) if base else registry.scores(reference or "")
    if as_json:
        print_json(recorded)
    elif not recorded:
        say("no scores yet: adapters score import VERSION results.json")
    else:
        _report(recorded, as_json, quiet)
