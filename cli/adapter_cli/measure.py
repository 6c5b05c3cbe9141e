"""`adapters score run`: scores that are measured, here or by a worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapter_cli.output import note, output_options, print_json, print_table, say, steps_bar
from adapter_cli.submitting import check_device, refuse_local, submit_options, submitted
from adapter_cli.suite import meant, stored
from adapter_registry.client import Registry, connect
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import InvalidReference
from adapter_registry.domain.evidence.suite import Suite
from adapter_registry.domain.job import QUEUES
from adapter_registry.domain.recipe import Ingredient, Recipe

if TYPE_CHECKING:
    from adapter_registry.jobs.evaluate import Evaluate
    from adapter_registry.local.suite_files import SuiteFiles

BASE = click.option("--base", help="Bind to this base instead of a version.")


def check_subject(reference: str | None, base: str | None) -> None:
    """Refuse two subjects, or none; raises UsageError."""
    if (reference is None) == (base is None):
        raise click.UsageError("name a version, or a base with --base, and not both.")


@click.command("run")
@click.argument("reference", required=False)
@click.option(
    "--suite",
    default="",
    help="What is measured: the file or folder of a suite or of tasks, which is stored; or a stored one: core@3, core.",
)
@click.option("--data", type=click.Path(path_type=Path), help="Text that it was not trained on: its loss is measured.")
@click.option("--field", help="The data is JSONL, and this field of each line is its text.")
@click.option("--task", default="heldout", show_default=True, help="The loss is named TASK/loss and TASK/perplexity.")
@click.option(
    "--tasks",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A task of lm-evaluation-harness, a YAML file with its data beside it, that is no suite; repeatable.",
)
@click.option("--shots", type=click.IntRange(0, 1000), help="Of tasks: examples before each question.")
@click.option("--limit", type=click.IntRange(1), help="Of tasks: only so many samples of each.")
@click.option("--batch", type=click.IntRange(1, 4096), default=8, show_default=True, help="Windows at a time.")
@click.option("--max-length", type=click.IntRange(8), default=1024, show_default=True, help="Tokens of a window.")
@click.option("--device", type=click.Choice(QUEUES), default="cpu", show_default=True)
@click.option("--base-path", type=click.Path(path_type=Path), help="Folder with the base, if it moved.")
@submit_options
@BASE
@output_options
def run(
    reference: str | None,
    suite: str,
    data: Path | None,
    field: str | None,
    task: str,
    tasks: tuple[Path, ...],
    shots: int | None,
    limit: int | None,
    batch: int,
    max_length: int,
    device: str,
    base_path: Path | None,
    submit: bool,
    priority: int,
    base: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure a version, or a base alone, and record its scores: a suite, tasks, or the loss on held-out text.

    Float32, on base and adapter as PEFT puts them together, in a process of its own without network. What was measured
    with which data, base and library is bound to the scores by digest. Tasks are run by lm-evaluation-harness (extra
    `eval`); docs/evidence.md says what a task may hold. A suite's file is stored with its data: the same bytes are the
    same version of the suite, changed ones the next.

    \b
    Examples:
      adapters eval run sql-lora@v3 --suite sql-questions.yaml
      adapters eval run sql-lora@v3 --suite sql-questions@1 --submit
      adapters eval run sql-lora@v3 --data heldout.jsonl --field text --submit
      adapters eval run --base mistral-7b --data heldout.txt
    """
    from adapter_registry.jobs.evaluate import Evaluate  # noqa: PLC0415  as needed
    from adapter_registry.jobs.evaluate_tasks import require_harness  # noqa: PLC0415
    from adapter_registry.local.folders import file_digest  # noqa: PLC0415

    check_subject(reference, base)
    _check_measured(data, tasks, suite, of_data=field, of_tasks=(shots, limit))
    if submit:
        refuse_local(base_path=base_path)
    else:
        check_device(device)
        if data is None:
            require_harness()
    if data is not None and not data.is_file():
        raise InvalidReference(f"{data} is no file.")
    registry = connect()
    exact = registry.resolve(reference).reference if reference else None
    into = exact.partition("@")[0] if exact else registry.adapter((base or "").partition("@")[0].rpartition("/")[2])
    of_base = registry.base(base).base.digest if base else None
    options: dict[str, object] = {"batch": batch, "max_length": max_length, "device": device}
    paths: Mapping[str, Path] | None
    digests: dict[str, Digest] = {}
    if data is not None:
        options |= {"task": task, **({"format": "jsonl", "field": field} if field else {})}
        paths = {"data": data}
    else:
        measured_by, paths = _tasks(registry, suite, tasks, into)
        options |= {"shots": shots, "limit": limit, "suite": measured_by.reference if measured_by else ""}
        digests = measured_by.files if measured_by else {}
    digests = digests or {name: file_digest(path) for name, path in (paths or {}).items()}
    inputs = (Ingredient(exact),) if exact else ()
    recipe = Recipe("evaluate", inputs, base=of_base, options=options, files=digests, into=into)
    if submit:
        for path in (paths or {}).values():
            registry.keep_file(path, adapter=into)
        submitted(registry, recipe, priority=priority, as_json=as_json, quiet=quiet, queue=device)
    else:
        _evaluated(registry, Evaluate(paths, base_path), recipe, as_json, quiet)


def _check_measured(
    data: Path | None, tasks: tuple[Path, ...], suite: str, *, of_data: object | None, of_tasks: tuple[object, ...]
) -> None:
    of_harness = bool(tasks or suite)
    if (data is None) != of_harness:
        raise click.UsageError("say what is measured: --suite FILE, --tasks FILE, or --data FILE for the loss on text.")
    if of_harness and of_data is not None:
        raise click.UsageError("--field is for --data.")
    if not of_harness and any(each is not None for each in of_tasks):
        raise click.UsageError("--shots and --limit are for tasks.")


def _tasks(
    registry: Registry, suite: str, tasks: tuple[Path, ...], into: str
) -> tuple[Suite | None, Mapping[str, Path] | None]:
    """The suite that is measured, if any, and where its files are; None where the registry has them."""
    from adapter_registry.local.suite_files import files_of_tasks  # noqa: PLC0415  yaml and pydantic are slow

    found = meant(registry, suite) if suite else None
    if found is None:
        return None, files_of_tasks(tasks)
    has_files = bool(_suite(found).files)
    if has_files and tasks:
        raise click.UsageError(f"--tasks: {suite} says itself which tasks it is measured with; leave --tasks out.")
    if not has_files and not tasks:
        raise click.UsageError(
            f"{suite} says what is measured, and not with which tasks: name them with --tasks FILE, or list their "
            "files in it (`tasks: [sql-questions.yaml]`)."
        )
    kept = stored(registry, found, adapter=into)
    if tasks:
        return kept, files_of_tasks(tasks)
    return kept, None if isinstance(found, Suite) else found.paths


def _suite(found: Suite | SuiteFiles) -> Suite:
    return found if isinstance(found, Suite) else found.suite


def _evaluated(registry: Registry, kind: Evaluate, recipe: Recipe, as_json: bool, quiet: bool) -> None:
    from adapter_registry.jobs.run import fresh_scratch, run_here  # noqa: PLC0415  with the command that needs it

    with steps_bar("evaluating") as report:
        result = run_here(registry, kind, recipe, fresh_scratch(registry), report)
    if as_json:
        print_json(result)
    elif quiet:
        click.echo("\n".join(result["scores"]))
    else:
        say(f"recorded {len(result['scores'])} scores of {result['subject']}", style="green")
        print_table(["metric", "value"], [(name, f"{value:.6g}") for name, value in result["scores"].items()])
        for each in result.get("notes", ()):
            note(f"note: {each}")
