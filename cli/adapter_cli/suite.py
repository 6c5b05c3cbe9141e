"""`adapters score suite`: what is measured together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapter_cli.output import digest_text, note, output_options, print_json, print_table, say
from adapter_registry.client import Registry, connect
from adapter_registry.domain.errors import Ambiguous, Forbidden, NotFound
from adapter_registry.domain.evidence.suite import Suite, document, is_name

if TYPE_CHECKING:
    from adapter_registry.local.suite_files import SuiteFiles


@click.group()
def suite() -> None:
    """Set, show or list suites: metrics that are measured together, in versions."""


@suite.command("set")
@click.argument("file", type=click.Path(path_type=Path))
@output_options
def set_suite(file: Path, as_json: bool, quiet: bool) -> None:
    """Store the suite in FILE as its next version; the same metrics and tasks again change nothing.

    FILE is a document (YAML or TOML), the file of a task of lm-evaluation-harness, or a folder of such tasks. Tasks are
    stored with their data, so that `adapters eval run v3 --suite core` measures them.

    \b
    A document; without metrics, all that its tasks measure:
      apiVersion: adapters/v1
      kind: EvalSuite
      name: core
      tasks: [sql-questions.yaml]
      metrics:
      - {metric: sql-questions/acc, setting: {shots: 5}}
    """
    from adapter_registry.local.suite_files import suite_in  # noqa: PLC0415  pydantic and yaml are slow

    registry = connect()
    kept = registry.keep_suite(suite_in(file), adapter=registry.adapter("suites"))
    if as_json:
        print_json(kept)
    elif quiet:
        click.echo(kept.reference)
    else:
        say(f"{kept.reference}: {_told(kept)}, {digest_text(kept.digest)}", style="green")


def meant(registry: Registry, text: str) -> Suite | SuiteFiles:
    """The stored suite or the file of one that people mean by `core@3`, `core`, `core.yaml`, `./core`.

    Raises:
        NotFound: there is neither.
        Ambiguous: there are both.
        InvalidInput: a file that holds no suite.
    """
    path = Path(text).expanduser()
    if is_name(text):
        if "@" in text:
            return registry.suite(text)
        named = next((each for each in reversed(registry.suites()) if each.name == text), None)
        if named is not None and path.exists():
            what = "folder" if path.is_dir() else "file"
            raise Ambiguous(
                f"{text} is both a stored suite and a {what} here: write {named.reference} for the suite, ./{text} for "
                f"the {what}."
            )
        if named is not None:
            return named
    if not path.exists():
        also = ", and no suite of that name; `adapters score suite ls` lists them" if is_name(text) else ""
        raise NotFound(f"there is no file {text}{also}. Nothing was done.")
    from adapter_registry.local.suite_files import suite_in  # noqa: PLC0415  pydantic and yaml are slow

    return suite_in(path)


def stored(registry: Registry, found: Suite | SuiteFiles, *, adapter: str) -> Suite:
    """The stored version of a suite; what is in a file is stored where no version is the same, and that is said.

    Args:
        registry: where.
        found: as `meant` says.
        adapter: into whose namespace the files of a new version are sent.

    Raises:
        Forbidden: it would have to be stored, and whoever asks may not.
    """
    if isinstance(found, Suite):
        return found
    name = found.suite.name
    versions = [each for each in registry.suites() if each.name == name]
    same = next((each for each in reversed(versions) if each.digest == found.suite.digest), None)
    if same is not None:
        newer = f"; {versions[-1].reference} is newer" if same != versions[-1] else ""
        note(f"{same.reference}, as it is stored{newer}")
        return same
    try:
        kept = registry.keep_suite(found, adapter=adapter)
    except Forbidden as error:
        raise Forbidden(
            f"these files are {'another' if versions else 'no'} version of a suite {name}, and you may not store one: "
            f"{error.text} Have somebody run `adapters score suite set`, or measure tasks that are no suite (--tasks)."
        ) from error
    stale = f"; where a policy asks for {name}, what {versions[-1].reference} measured is stale now" if versions else ""
    note(f"stored {kept.reference}: {_told(kept)}{stale}")
    return kept


def stored_suite(registry: Registry, text: str, *, adapter: str) -> Suite:
    """`stored` of what is `meant` by `text`."""
    return stored(registry, meant(registry, text), adapter=adapter)


def _told(each: Suite) -> str:
    tasks = f" of {', '.join(each.tasks)}" if each.tasks else ""
    return f"{len(each.metrics)} metric{'' if len(each.metrics) == 1 else 's'}{tasks}"


@suite.command("show")
@click.argument("name")
@output_options
def show(name: str, as_json: bool, quiet: bool) -> None:
    """Show a suite, `core@3` or the newest version of `core`, as a document that `suite set` reads."""
    found = connect().suite(name)
    if as_json:
        print_json({"version": found.version, "digest": found.digest, **document(found)})
    elif quiet:
        click.echo(found.reference)
    else:
        from adapter_registry.domain.evidence.suite_file import to_yaml  # noqa: PLC0415  pydantic and yaml are slow

        note(f"{found.reference}, set by {found.set_by} at {found.set_at}")
        click.echo(to_yaml(found), nl=False)


@suite.command("ls")
@output_options
def list_suites(as_json: bool, quiet: bool) -> None:
    """List every version of every suite."""
    found = connect().suites()
    if as_json:
        print_json(found)
    elif quiet:
        click.echo("\n".join(each.reference for each in found), nl=bool(found))
    elif not found:
        say("no suites yet: adapters score suite set FILE")
    else:
        rows = [(each.reference, len(each.metrics), each.set_by, each.set_at[:10]) for each in found]
        print_table(["suite", "metrics", "set by", "on"], rows, right=["metrics"])
