"""`adapters worker`: does what was submitted."""

from __future__ import annotations

import os
import sys
import threading

import click

from adapter_cli.output import note, say
from adapter_registry.domain.errors import Unsupported
from adapter_registry.domain.job import QUEUES
from adapter_registry.settings import read_settings

ONCE_SECONDS = 2.0


@click.command()
@click.option("--queue", "queues", multiple=True, type=click.Choice(QUEUES), help="Take from these; default: cpu.")
@click.option("--once", is_flag=True, help="End when nothing is queued any more.")
@click.option("--idle-seconds", type=click.FloatRange(0), help="End after having had nothing to do for this long.")
@click.option("--beside", is_flag=True, hidden=True, help="End when standard input does: a server started it.")
def worker(queues: tuple[str, ...], once: bool, idle_seconds: float | None, beside: bool) -> None:
    """Do submitted jobs, one at a time, on this machine.

    \b
    On the embedded store   a server starts one by itself; any number may run beside it
    On PostgreSQL           one on each machine, or one for each GPU with CUDA_VISIBLE_DEVICES set and --queue cuda

    A worker may be killed at any moment: what it did goes on elsewhere. Needs the jobs extra, and the store's settings,
    not a server's address.
    """
    settings = read_settings()
    if settings.url and not beside:
        raise Unsupported("a worker works on the store itself, not through a server: unset ADAPTERS_URL there.")
    from adapter_registry.worker import Worker  # noqa: PLC0415  an engine and a database are slow to import

    if beside:
        threading.Thread(target=_end_with_input, daemon=True).start()
    took = queues or ("cpu",)
    made = Worker(settings, queues=took)
    if not beside:
        say(f"worker {made.name} takes {', '.join(took)} jobs of {settings.store}", style="green")
        note("Ctrl-C stops it; what it does then goes on elsewhere, or when the next one starts")
    made.run(idle_seconds=ONCE_SECONDS if once else idle_seconds)


def _end_with_input() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(0)
