"""`adapters score`: evidence, bound to digests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape as glob_escape
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapter_cli.files import read_bytes
from adapter_cli.measure import BASE, check_subject, run
from adapter_cli.output import note, note_moved_on, output_options, print_json, print_table, say
from adapter_cli.standing import evidence
from adapter_cli.suite import stored_suite
from adapter_cli.suite import suite as suite_group
from adapter_registry.client import Registry, connect
from adapter_registry.domain.errors import InvalidReference
from adapter_registry.domain.evidence.metric import known_direction, off_scale
from adapter_registry.domain.evidence.outcomes import Outcomes
from adapter_registry.domain.evidence.score import Direction, RecordedScore, Score
from adapter_registry.domain.results.file import ResultsFile

if TYPE_CHECKING:
    pass


@click.group()
def score() -> None:
    """Add or import scores of a version, or of a base so that a first version can be compared with it.

    `adapters eval` is the same.
    """


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
    registry, bundle = connect(), _Bundle((given,))
    _report(_bind(registry, reference, base, bundle), as_json, quiet)
    for each in _off_scale(bundle):
        note(f"note: {each}")
    note_moved_on(registry)


def _settings(given: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    wrong = [key for key, separator, _ in pairs if not separator]
    if wrong:
        raise InvalidReference(f"--setting {wrong[0]}: write --setting KEY=VALUE.")
    return {key: value for key, _, value in pairs}


@score.command("import")
@click.argument("arguments", nargs=-1, required=True, metavar="[REFERENCE] FILE")
@click.option(
    "--samples",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A samples_*.jsonl of lm-evaluation-harness; repeatable. Those of the same run beside FILE are found.",
)
@click.option("--without-samples", is_flag=True, help="Leave out what each sample scored.")
@click.option("--suite", default="", help="The suite it was measured by: core@3, core for its newest, or its file.")
@BASE
@output_options
def import_(
    arguments: tuple[str, ...],
    samples: tuple[Path, ...],
    without_samples: bool,
    suite: str,
    base: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Import a results file of lm-evaluation-harness, lighteval or Inspect.

    The scores are bound to the digest of REFERENCE because you say so; what the file claims to be about is kept and
    shown beside them. What each sample scored is kept too, by its digest and never its text: versions measured on the
    same samples are then compared sample by sample.

    \b
    Examples:
      adapters score import v3 results_2026-03-01T10-00-00.json
      adapters score import v3 results.json --samples samples_gsm8k.jsonl --suite core@3
      adapters score import --base mistral-7b results_base.json
    """
    from adapter_registry.domain.results.formats import read_results  # noqa: PLC0415  with the command that needs it

    expected = 1 if base else 2
    if len(arguments) != expected:
        raise click.UsageError("write `score import REFERENCE FILE`, or `score import --base NAME FILE`.")
    file = Path(arguments[-1])
    results = read_results(read_bytes(file), name=file.name)
    claimed = results.claimed
    reference = None if base else arguments[0]
    outcomes, left_out = ([], []) if without_samples else _outcomes(file, samples, results)
    registry = connect()
    into = registry.resolve(reference).adapter if reference else registry.adapter("suites")
    measured_by = stored_suite(registry, suite, adapter=into).reference if suite else ""
    bundle = _Bundle(results.scores, claimed, tuple(outcomes), measured_by)
    recorded = _bind(registry, reference, base, bundle)
    _report(recorded, as_json, quiet)
    for each in [*results.notices, *left_out, *_off_scale(bundle)]:
        note(f"note: {each}")
    if claimed and not as_json and not quiet:
        note(f"the file says it measured {claimed}; bound to {recorded[0].subject_name} because you said so")
    note_moved_on(registry)


@dataclass(frozen=True, slots=True)
class _Bundle:
    """Scores and what goes with them."""

    scores: tuple[Score, ...]
    claimed: str = ""
    outcomes: tuple[Outcomes, ...] = ()
    suite: str = ""


def _off_scale(given: _Bundle) -> list[str]:
    """What is likely a percentage: bounds refuse to judge it."""
    found = [f"{each.metric} is {each.value:.6g}" for each in given.scores if off_scale(each.metric, each.value)]
    more = f" and {len(found) - 3:,} more" if len(found) > 3 else ""
    text = f"{'; '.join(found[:3])}{more}: a rate lies between 0 and 1, and no bound is held against anything else"
    return [text] if found else []


def _outcomes(file: Path, samples: Sequence[Path], results: ResultsFile) -> tuple[list[Outcomes], list[str]]:
    """(what each sample scored, what was left out and why), from the files named, or those of the same run beside."""
    from adapter_registry.domain.results.samples import attached, read_samples  # noqa: PLC0415

    moment = file.stem.removeprefix("results_")
    beside = sorted(file.parent.glob(f"samples_*_{glob_escape(moment)}.jsonl")) if moment != file.stem else []
    files = [read_samples(read_bytes(path), name=path.name) for path in samples or beside]
    return attached(results, files)


def _bind(registry: Registry, reference: str | None, base: str | None, given: _Bundle) -> tuple[RecordedScore, ...]:
    check_subject(reference, base)
    more = {"claimed": given.claimed, "suite": given.suite}
    if base is not None:
        return registry.add_base_scores(base, given.scores, outcomes=given.outcomes, **more)
    return registry.add_scores(reference or "", given.scores, outcomes=given.outcomes, **more)


def _report(recorded: tuple[RecordedScore, ...], as_json: bool, quiet: bool, *, did: str = "recorded ") -> None:
    if as_json:
        print_json(recorded)
        return
    if quiet:
        click.echo("\n".join(each.score.metric for each in recorded))
        return
    say(
        f"{did}{len(recorded)} score{'' if len(recorded) == 1 else 's'} of {recorded[0].subject_name}",
        style="green",
    )
    _print_scores(recorded)


def _print_scores(recorded: tuple[RecordedScore, ...]) -> None:
    columns = ["#", "metric", "value", "stderr", "n", "better", "evidence"]
    numbered = all(each.id for each in recorded)
    rows = [(each.id, *_row(each)) for each in recorded]
    shown = slice(None) if numbered else slice(1, None)
    print_table(columns[shown], [row[shown] for row in rows], right=["#", "value", "stderr", "n"])


def _row(each: RecordedScore) -> tuple[object, ...]:
    score = each.score
    return (
        score.metric,
        f"{score.value:.6g}",
        f"{score.stderr:.3g}" if score.stderr is not None else "-",
        score.n if score.n is not None else "-",
        score.direction or "unknown",
        evidence(each),
    )


@score.command("ls")
@click.argument("reference", required=False)
@BASE
@output_options
def list_scores(reference: str | None, base: str | None, as_json: bool, quiet: bool) -> None:
    """List the scores of a version or a base."""
    check_subject(reference, base)
    registry = connect()
    recorded = registry.base_scores(base) if base else registry.scores(reference or "")
    if as_json:
        print_json(recorded)
    elif not recorded:
        say("no scores yet: adapters score import VERSION results.json")
    else:
        _report(recorded, as_json, quiet, did="")


@score.command("invalidate")
@click.argument("reference", required=False)
@click.option("--because", required=True, help="Why, in one line; shown wherever the scores are.")
@click.option("--id", "ids", multiple=True, type=int, help="The number of a score, as `score ls` shows it; repeatable.")
@click.option("--metric", default="", help="All scores of this metric.")
@click.option("--source", default="", help="All scores from the imported file of this name or digest.")
@BASE
@output_options
def invalidate(
    reference: str | None,
    because: str,
    ids: tuple[int, ...],
    metric: str,
    source: str,
    base: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Declare that scores count no more. They are kept and marked; gates ignore them.

    \b
    Examples:
      adapters score invalidate v3 --source results_2026-03-01.json --because "ran with the old chat template"
      adapters score invalidate v3 --id 17 --because "typed the wrong value"
    """
    check_subject(reference, base)
    registry = connect()
    if base is not None:
        meant = registry.invalidate_base_scores(base, because=because, ids=ids, metric=metric, source=source)
    else:
        meant = registry.invalidate_scores(reference or "", because=because, ids=ids, metric=metric, source=source)
    if as_json:
        print_json(meant)
    elif quiet:
        click.echo("\n".join(str(each.id) for each in meant))
    else:
        say(
            f"{len(meant)} score{'' if len(meant) == 1 else 's'} of {meant[0].subject_name} count no more",
            style="green",
        )
        _print_scores(meant)
    note_moved_on(registry)


score.add_command(run)
score.add_command(suite_group)
