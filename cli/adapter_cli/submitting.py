"""`--submit`, `--priority` and `--device`: where a recipe is carried out, here or by a worker, and on what."""

from __future__ import annotations

from typing import Any

import click

from adapter_cli.output import Command, note, print_json, say
from adapter_registry.client import Registry
from adapter_registry.domain.job import PRIORITIES, QUEUES
from adapter_registry.domain.recipe import Recipe


def submit_options(command: Command) -> Command:
    """Add `--submit` and `--priority`."""
    how = "Have a worker do it; follow it with `adapters jobs watch`."
    priority = click.option(
        "--priority", type=click.IntRange(*PRIORITIES), default=0, help="With --submit: higher first."
    )
    return click.option("--submit", is_flag=True, help=how)(priority(command))


def device_option(command: Command) -> Command:
    """Add `--device`."""
    how = "What computes; with --submit, the queue too. cuda needs a GPU and torch."
    return click.option("--device", type=click.Choice(QUEUES), default="cpu", show_default=True, help=how)(command)


def check_device(name: str) -> None:
    """Refuse a device that is not here, before anything is done.

    Raises:
        Unsupported: torch or the GPU is missing.
    """
    if name != "cpu":
        from adapter_registry.tensors.devices import device_of  # noqa: PLC0415  numpy, and torch for a GPU alone

        device_of(name)


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
