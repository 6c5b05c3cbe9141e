"""`--submit` and `--priority`: a recipe given to a worker instead of being carried out here."""

from __future__ import annotations

from typing import Any

import click

from adapter_cli.output import Command, note, print_json, say
from adapter_registry.client import Registry
from adapter_registry.domain.job import PRIORITIES
from adapter_registry.domain.recipe import Recipe


def submit_options(command: Command) -> Command:
    """Add `--submit` and `--priority`."""
    how = "Have a worker do it; follow it with `adapters jobs watch`."
    priority = click.option(
        "--priority", type=click.IntRange(*PRIORITIES), default=0, help="With --submit: higher first."
    )
    return click.option("--submit", is_flag=True, help=how)(priority(command))


def refuse_local(**given: Any) -> None:
    """Refuse options that mean something on this machine only.

    Raises:
        UsageError: one of them is given.
    """
    for name, value in given.items():
        if value:
            option = f"-{'o' if name == 'out' else '-' + name.replace('_', '-')}"
            raise click.UsageError(f"a worker does it, and {option} is of this machine: leave it out.")


def submitted(
    registry: Registry, recipe: Recipe, *, priority: int, as_json: bool, quiet: bool, queue: str = "cpu"
) -> None:
    """Submit a recipe, and say where it is done and how to follow it."""
    job = registry.submit(recipe, queue=queue, priority=priority)
    place = registry.start_worker(queue)
    if as_json:
        print_json(job)
    elif quiet:
        click.echo(job.id)
    else:
        say(f"{job.id} is queued, {place}", style="green")
        note(f"adapters jobs watch {job.id}")
