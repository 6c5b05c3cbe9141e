"""`adapters score suite`: what is measured together."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_cli.output import digest_text, note, output_options, print_json, print_table, say
from adapter_registry.client import connect
from adapter_registry.domain.evidence.suite import document


@click.group()
def suite() -> None:
    """Set, show or list suites: metrics that are measured together, in versions."""


@suite.command("set")
@click.argument("file", type=click.Path(path_type=Path))
@output_options
def set_suite(file: Path, as_json: bool, quiet: bool) -> None:
    """Store the suite in FILE (YAML or TOML) as its next version; the same metrics again change nothing.

    \b
    A document:
      apiVersion: adapters/v1
      kind: EvalSuite
      name: core
      metrics:
      - {metric: gsm8k/exact_match@strict-match, setting: {shots: 5, task_version: 3}}
      - {metric: mmlu/acc}
    """
    from adapter_cli.files import read_text  # noqa: PLC0415
    from adapter_registry.domain.evidence.suite_file import read_suite  # noqa: PLC0415  pydantic and yaml are slow

    stored = connect().set_suite(read_suite(read_text(file), name=file.name))
    if as_json:
        print_json(stored)
    elif quiet:
        click.echo(stored.reference)
    else:
        say(f"{stored.reference}: {len(stored.metrics)} metrics, {digest_text(stored.digest)}", style="green")


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
