"""`adapters stage`: which stages there are, and their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from adapter_cli.output import output_options, print_json, print_table, say
from adapter_registry.client import connect
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.names import STAGE_NAMES
from adapter_registry.domain.policies.process import Mode, Sources
from adapter_registry.domain.promotions.stage import Ladder, Stage


@click.group()
def stage() -> None:
    """Stages, lowest first: what a version passes through on its way, each with a policy of its own.

    A registry begins with dev, staging and prod.
    """


@stage.command("ls")
@output_options
def ls_stages(as_json: bool, quiet: bool) -> None:
    """List the stages, lowest first."""
    _print(connect().ladder(), as_json, quiet)


def _declaration(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say what a stage is."""
    options = (
        click.option("--from", "below", multiple=True, metavar="STAGE", help="Versions come from it; repeat for more."),
        click.option("--one-of/--all-of", default=None, help="From one of these stages, or from all (the default)."),
        click.option("--hotfix", multiple=True, metavar="STAGE", help="`promote --hotfix` comes from it instead."),
        click.option("--no-hotfix", is_flag=True, help="End the hotfix path."),
        click.option("--like", type=click.Choice(STAGE_NAMES), help="Presets ask of it what they ask of this one."),
        click.option("--lane", "lanes", multiple=True, metavar="NAME", help="A lane of it; repeat to name them all."),
        click.option("--no-lanes", is_flag=True, help="No lane but the main one."),
        click.option("--scope", help="Adapters that have it: namespace/*, namespace/name or *."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@stage.command("add")
@click.argument("name")
@_declaration
@output_options
def add_stage(name: str, as_json: bool, quiet: bool, **said: Any) -> None:
    """Declare a new stage NAME.

    Until it has a policy of its own, the preset `solo` judges it, and asks that versions come --from where you say.

    \b
    Examples:
      adapters stage add qa --from staging --hotfix dev
      adapters stage set prod --from qa
      adapters stage set prod --lane canary --lane eu
      adapters stage add edge --from prod --like prod --scope 'search/*'
    """
    _print(connect().declare_stage(_changed(Stage(name), **said), new=True), as_json, quiet)


@stage.command("set")
@click.argument("name")
@_declaration
@output_options
def set_stage(name: str, as_json: bool, quiet: bool, **said: Any) -> None:
    """Declare stage NAME anew; what no option says stays.

    A policy that was set before says itself where versions come from: see `adapters policy show NAME`.
    """
    registry = connect()
    known = registry.ladder()
    _print(registry.declare_stage(_changed(known.get(known.whole(name)), **said)), as_json, quiet)


@stage.command("rm")
@click.argument("name")
@output_options
def rm_stage(name: str, as_json: bool, quiet: bool) -> None:
    """Remove stage NAME; refused while an adapter is in it, or another stage comes from it."""
    _print(connect().remove_stage(name), as_json, quiet)


def _changed(
    known: Stage,
    *,
    below: tuple[str, ...],
    one_of: bool | None,
    hotfix: tuple[str, ...],
    no_hotfix: bool,
    like: str | None,
    lanes: tuple[str, ...],
    no_lanes: bool,
    scope: str | None,
) -> Stage:
    """A stage with what was said of it."""
    sources = known.sources or Sources(())
    if below:
        sources = replace(sources, stages=tuple(dict.fromkeys(below)))
    if one_of is not None:
        sources = replace(sources, mode=Mode.ONE_OF if one_of else Mode.ALL)
    if hotfix or no_hotfix:
        sources = replace(sources, hotfix=tuple(dict.fromkeys(hotfix)))
    if not sources.stages and sources != Sources(()):
        raise InvalidInput(f"how versions come into {known.name} is said with --from STAGE: name the stage too.")
    asked = sources if sources.stages else None
    after = () if below else known.after
    lanes = () if no_lanes else lanes or known.lanes
    return Stage(known.name, after, asked, like or known.like, lanes, scope or known.scope)


def _print(ladder: Ladder, as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json(ladder.stages)
    elif quiet:
        click.echo("\n".join(ladder.names))
    else:
        print_table(
            ["stage", "comes from", "hotfix from", "like", "lanes", "adapters"], [_row(each) for each in ladder.stages]
        )
        say("each has a policy: adapters policy show STAGE", style="dim")


def _row(each: Stage) -> tuple[object, ...]:
    hotfix = " ".join(each.sources.hotfix) if each.sources else ""
    return (each.name, _from(each), hotfix or "-", each.like, " ".join(("main", *each.lanes)), each.scope)


def _from(each: Stage) -> str:
    if each.sources is None:
        return f"anywhere, above {' and '.join(each.after)}" if each.after else "anywhere"
    joined = " or " if each.sources.mode is Mode.ONE_OF else " and "
    return joined.join(each.sources.stages)
