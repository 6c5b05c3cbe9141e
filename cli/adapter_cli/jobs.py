"""`adapters jobs`: what was submitted, how far it is, and what came of it; `adapters worker` does it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from adapter_cli.output import human_time, note, output_options, print_facts, print_json, print_table, say
from adapter_registry.client import Registry, connect
from adapter_registry.domain.digest import short
from adapter_registry.domain.job import QUEUES, Job, LogLine, Progress, State

EXIT_CODES = {State.SUCCEEDED: 0, State.FAILED: 1, State.CANCELLED: 130}
POLL_SECONDS = 0.5
LONGEST = 100
"""Characters of a result that is shown as it is."""


@click.group()
def jobs() -> None:
    """Look at jobs, and cancel or repeat them."""


@jobs.command("ls")
@click.option("--state", type=click.Choice([str(state) for state in State]), help="Only these.")
@click.option("--kind", help="Only merge, compose, diff, extract or evaluate.")
@click.option("--queue", type=click.Choice(QUEUES), help="Only for this kind of device.")
@click.option("--by", metavar="ACCOUNT", help="Only what they submitted.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@output_options
def list_jobs(
    state: str | None, kind: str | None, queue: str | None, by: str | None, limit: int, as_json: bool, quiet: bool
) -> None:
    """List the newest jobs."""
    found = connect().jobs(state=State(state) if state else None, kind=kind, queue=queue, by=by, limit=limit)
    if as_json:
        print_json(found)
    elif quiet:
        click.echo("\n".join(each.id for each in found), nl=bool(found))
    else:
        columns = ["job", "kind", "for", "state", "progress", "queue", "by", "submitted"]
        print_table(columns, [_row(each) for each in found])


def _row(job: Job) -> list[str]:
    recipe = job.recipe
    state = "cancelling" if job.cancelling else str(job.state)
    submitted = human_time(job.submitted_at)
    return [job.id, recipe.kind, recipe.into, state, _far(job.progress), job.queue, job.submitted_by, submitted]


def _far(progress: Progress) -> str:
    rate = f", {progress.throughput:,.4g} {progress.unit}/s" if progress.throughput else ""
    message = f" {progress.message}" if progress.message else ""
    return f"{progress.fraction:.0%}{message}{rate}"


@jobs.command()
@click.argument("id")
@output_options
def show(id: str, as_json: bool, quiet: bool) -> None:
    """Show job ID: what it works on, where it stands, what came of it."""
    _tell(connect().job(id), as_json, quiet)


def _tell(job: Job, as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json(job)
    elif quiet:
        click.echo(job.id)
    else:
        recipe = job.recipe
        say(f"{job.id}  {recipe.kind} for {recipe.into}: {job.state}")
        print_facts(
            [
                ("inputs", "\n".join(f"{each.reference} x {each.weight:g}" for each in recipe.inputs)),
                ("base", short(recipe.base) if recipe.base else ""),
                ("options", ", ".join(f"{name}={value}" for name, value in recipe.options.items())),
                ("recipe", short(recipe.digest)),
                ("queue", f"{job.queue}, priority {job.priority}"),
                ("progress", _far(job.progress)),
                ("attempts", job.attempts or ""),
                ("worker", job.worker),
                ("submitted", f"{human_time(job.submitted_at)} by {job.submitted_by}"),
                ("ended", human_time(job.ended_at) if job.ended_at else ""),
                ("result", "\n".join(_made(job.result))),
                ("error", job.error),
            ]
        )


@jobs.command()
@click.argument("id")
@click.option("--wait", is_flag=True, help="Print nothing but how it ended.")
@output_options
def watch(id: str, wait: bool, as_json: bool, quiet: bool) -> None:
    """Follow job ID until it ends; the exit status is its outcome: 0 succeeded, 1 failed, 130 cancelled."""
    follow(connect(), id, as_json=as_json, quiet=quiet or wait)


def follow(registry: Registry, id: str, *, as_json: bool = False, quiet: bool = False) -> None:
    """Show a job until it ends, then exit as it did."""
    before = ""
    for job in registry.watch_job(id):
        line = f"{job.state} {_far(job.progress)}"
        if not (as_json or quiet) and line != before:
            note(line)
        before = line
    if as_json:
        print_json(job)
    elif job.state is State.SUCCEEDED:
        say(f"{job.id} succeeded", style="green")
    else:
        say(f"{job.id} {job.state}{f': {job.error}' if job.error else ''}", style="red")
    raise SystemExit(EXIT_CODES[job.state])


@jobs.command()
@click.argument("id")
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until the job ends.")
@output_options
def logs(id: str, following: bool, as_json: bool, quiet: bool) -> None:
    """Print the log of job ID, of which the newest 2,000 lines are kept."""
    registry = connect()
    for line in _lines(registry, id, following):
        if as_json:
            print_json(line, line=True)
        else:
            click.echo(line.text if quiet else f"{line.at[11:19]}  {line.text}")


def _lines(registry: Registry, id: str, following: bool) -> Iterator[LogLine]:
    after = 0
    while True:
        ended = registry.job(id).state.ended
        for line in registry.job_log(id, after=after):
            after = line.number
            yield line
        if ended or not following:
            return
        time.sleep(POLL_SECONDS)


@jobs.command()
@click.argument("id")
@output_options
def cancel(id: str, as_json: bool, quiet: bool) -> None:
    """Cancel job ID; a running one ends within a second or two, and publishes nothing."""
    job = connect().cancel_job(id)
    if as_json or quiet:
        _tell(job, as_json, quiet)
    else:
        say(f"{job.id} is {'being ' if job.cancelling else ''}cancelled", style="green")


@jobs.command()
@click.argument("id")
@output_options
def retry(id: str, as_json: bool, quiet: bool) -> None:
    """Queue the failed or cancelled job ID again."""
    registry = connect()
    job = registry.retry_job(id)
    place = registry.start_worker(job.queue)
    if as_json or quiet:
        _tell(job, as_json, quiet)
    else:
        say(f"{job.id} is queued again, {place}", style="green")


def _made(result: Mapping[str, Any]) -> Iterator[str]:
    """One line for each thing that a job made; what does not fit on one is for programs."""
    for name, value in result.items():
        text = str(value)
        if isinstance(value, dict | list) and not value:
            continue
        yield f"{name}: {text}" if len(text) <= LONGEST else f"{name}: see --json"
