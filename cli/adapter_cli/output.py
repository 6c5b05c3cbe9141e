"""How answers look: tables and colour for people, JSON and bare ids for programs, errors on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from adapter_registry.domain.digest import short
from adapter_registry.domain.errors import Notice, Problem, RegistryError

if TYPE_CHECKING:
    from adapter_registry.calls.asking import Asking

Command = TypeVar("Command", bound=Callable[..., Any])

LISTED_PROBLEMS = 40


def output_options(command: Command) -> Command:
    """Add `--json` and `-q`."""
    quiet = click.option("-q", "--quiet", is_flag=True, help="Print identifiers only, one a line.")
    as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
    return as_json(quiet(command))


def print_json(value: object, *, line: bool = False) -> None:
    """JSON of domain values on stdout, indented, or on one line of its own for what comes one after the other."""
    import msgspec  # noqa: PLC0415  commands that print tables do not need it

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=-1 if line else 2).decode())


def say(text: str, *, style: str = "") -> None:
    """One line for people on stdout; markup in `text` is not interpreted."""
    _console().print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """One line for people on stderr, for what is not the answer itself."""
    _console(stderr=True).print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


def note_moved_on(registry: Asking) -> None:
    """What became of the requests that what was done moved on, on stderr."""
    for each in registry.moved_on:
        note(f"{each.name} is {each.state}: {each.reference} -> {each.stage}")


def print_notices(notices: Sequence[Notice]) -> None:
    """Each notice on a line of its own, on stderr."""
    for each in notices:
        _console(stderr=True).print(f"note: {each}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """A plain table without lines; cells are text, never markup. Wide terminals or pipes get whole cells."""
    from rich.table import Table  # noqa: PLC0415  programs that ask for JSON do not need it
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    console = _console()
    if not console.is_terminal:
        console.width = 4000
    for line in _trimmed(console, table):
        click.echo(line)


def _trimmed(console: Any, table: Any) -> Iterator[str]:
    with console.capture() as captured:
        console.print(table)
    return (line.rstrip() for line in captured.get().splitlines())


def styled(text: str, style: str) -> Any:
    """`text` in a colour, as a table cell."""
    from rich.text import Text  # noqa: PLC0415

    return Text(text, style=style)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Aligned `name  value` lines; empty values are left out."""
    kept = [(name, str(value)) for name, value in facts if value not in (None, "", (), [])]
    width = max((len(name) for name, _ in kept), default=0)
    for name, value in kept:
        first, *more = value.splitlines() or [""]
        say(f"  {name:<{width}}  {first}")
        for line in more:
            say(f"  {'':<{width}}  {line}")


def print_error(error: RegistryError) -> None:
    """The error on stderr: its code, its text, its problems; as JSON when the command line asked for JSON."""
    if "--json" in sys.argv:
        print_json({"error": {"code": error.code, "text": error.text, "problems": list(error.problems)}})
        return
    console = _console(stderr=True)
    console.print(f"adapters: {error.text}", style="red", markup=False, highlight=False, soft_wrap=True)


def problem_lines(problems: Sequence[Problem]) -> Iterator[str]:
    """Each problem on a line, the first ones; the rest are counted."""
    yield from (f"  {problem.code}: {problem}" for problem in problems[:LISTED_PROBLEMS])
    if len(problems) > LISTED_PROBLEMS:
        yield f"  ... and {len(problems) - LISTED_PROBLEMS} more; --json lists them all"


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar of bytes on stderr while a terminal watches; silent otherwise."""
    console = _console(stderr=True)
    if not console.is_terminal:
        yield lambda _bytes: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, advance=done)


@contextmanager
def steps_bar(title: str) -> Iterator[Callable[[Any], None]]:
    """A bar of a job's progress on stderr while a terminal watches; silent otherwise."""
    console = _console(stderr=True)
    if not console.is_terminal:
        yield lambda _progress: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[now]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=1.0, now="")
        yield lambda progress: bar.update(task, completed=progress.fraction, now=progress.message)


def human_bytes(size: float) -> str:
    """1.8 MB, 538 MB: powers of ten, as disks and downloads are sold."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable: TB ends the loop")


def human_time(at: str) -> str:
    """`2026-11-24 10:15` of an ISO time."""
    return at[:16].replace("T", " ")


def digest_text(digest: str) -> str:
    """The short form people see."""
    return short(digest)


def _console(*, stderr: bool = False) -> Any:
    from rich.console import Console  # noqa: PLC0415  a quarter of the time of `adapters --help`

    return Console(stderr=stderr)
