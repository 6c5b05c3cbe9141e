"""`adapters hold`, `freeze`, `group`: what keeps stages still, and who approves."""

from __future__ import annotations

import click

from adapter_cli.output import human_time, note_moved_on, output_options, print_json, print_table, say
from adapter_registry.client import connect


@click.group()
def hold() -> None:
    """Show or lift the hold that a rollback set: until then machines do not promote."""


@hold.command("show")
@click.argument("adapter")
@click.argument("stage")
@output_options
def show_hold(adapter: str, stage: str, as_json: bool, quiet: bool) -> None:
    """Show the hold of STAGE of ADAPTER."""
    registry = connect()
    found = registry.hold(registry.adapter(adapter), stage)
    if as_json:
        print_json(found)
    elif found is None:
        say(f"nothing holds {stage}")
    elif quiet:
        click.echo(found.by)
    else:
        say(f"held since {human_time(found.at)} by {found.by}{': ' + found.reason if found.reason else ''}")


@hold.command("clear")
@click.argument("adapter")
@click.argument("stage")
@output_options
def clear_hold(adapter: str, stage: str, as_json: bool, quiet: bool) -> None:
    """Lift the hold of STAGE of ADAPTER; a promotion by a person lifts it too."""
    registry = connect()
    lifted = registry.lift_hold(registry.adapter(adapter), stage)
    if as_json:
        print_json(lifted)
    elif not quiet:
        say(f"lifted the hold on {stage} of {lifted.adapter}", style="green")
    note_moved_on(registry)


@click.group()
def freeze() -> None:
    """Times in which stages stand still; rollbacks are exempt unless a policy says otherwise."""


@freeze.command("ls")
@output_options
def ls_freezes(as_json: bool, quiet: bool) -> None:
    """List freeze windows."""
    found = connect().freezes()
    if as_json:
        print_json(found)
    elif quiet:
        click.echo("\n".join(str(each.id) for each in found), nl=bool(found))
    else:
        rows = [(w.id, w.scope, w.stage or "every", w.begins, w.ends, w.zone, w.reason, w.by) for w in found]
        print_table(["id", "scope", "stage", "from", "until", "zone", "reason", "by"], rows)


@freeze.command("add")
@click.argument("begins")
@click.argument("ends")
@click.option("--zone", default="UTC", show_default=True, help="Of the IANA database: Europe/Berlin.")
@click.option("--scope", default="*", show_default=True, help="namespace/*, namespace/name or *.")
@click.option("--stage", help="Only this stage and its lanes, or only this lane.")
@click.option("--reason", required=True, help="What those who wait read.")
@output_options
def add_freeze(
    begins: str, ends: str, zone: str, scope: str, stage: str | None, reason: str, as_json: bool, quiet: bool
) -> None:
    """Let stages stand still from BEGINS until ENDS, local times in --zone; once, or every week.

    \b
    Examples:
      adapters freeze add 2026-12-24T00:00 2027-01-02T00:00 --zone Europe/Berlin --stage prod --reason holidays
      adapters freeze add 'fri 16:00' 'mon 08:00' --zone Europe/Berlin --stage prod --reason "nobody is there"
    """
    made = connect().freeze(begins, ends, reason=reason, zone=zone, scope=scope, stage=stage)
    if as_json:
        print_json(made)
    elif quiet:
        click.echo(str(made.id))
    else:
        when = str(made) if made.weekly else f"{made.begins} to {made.ends} {made.zone}"
        say(f"freeze {made.id}: {made.scope} {made.stage or 'every stage'}, {when}")


@freeze.command("rm")
@click.argument("freeze", type=int)
@output_options
def rm_freeze(freeze: int, as_json: bool, quiet: bool) -> None:
    """Remove a freeze window by its id."""
    registry = connect()
    registry.thaw(freeze)
    if as_json:
        print_json({"removed": freeze})
    elif not quiet:
        say(f"removed freeze {freeze}")
    note_moved_on(registry)


@click.group()
def group() -> None:
    """Groups of accounts, which policies name as group:NAME."""


@group.command("ls")
@output_options
def ls_groups(as_json: bool, quiet: bool) -> None:
    """List groups and their members."""
    _print_groups(connect().groups(), as_json, quiet)


@group.command("add")
@click.argument("group")
@click.argument("accounts", nargs=-1, required=True)
@output_options
def add_members(group: str, accounts: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Put ACCOUNTS into GROUP."""
    _set(group, accounts, True, as_json, quiet)


@group.command("rm")
@click.argument("group")
@click.argument("accounts", nargs=-1, required=True)
@output_options
def rm_members(group: str, accounts: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Take ACCOUNTS out of GROUP; what they approved as its members counts no more."""
    _set(group, accounts, False, as_json, quiet)


def _set(group: str, accounts: tuple[str, ...], member: bool, as_json: bool, quiet: bool) -> None:
    registry = connect()
    for account in accounts:
        after = registry.set_member(group, account, member=member)
    _print_groups({group: after.members} if after.members else {}, as_json, quiet)


def _print_groups(groups: dict[str, tuple[str, ...]], as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json(groups)
    elif quiet:
        click.echo("\n".join(groups), nl=bool(groups))
    else:
        print_table(["group", "members"], [(name, ", ".join(who)) for name, who in groups.items()])
