"""`adapters requests`, `approve`, `decline`: promotions that wait."""

from __future__ import annotations

import click

from adapter_cli.output import human_time, note, output_options, print_facts, print_json, print_table, say
from adapter_registry.client import Judged, Registry, connect
from adapter_registry.domain.errors import InvalidInput, NotFound
from adapter_registry.domain.promotions.request import Request, State

_STYLES = {State.APPLIED: "green", State.WAITING: "yellow"}


@click.group()
def requests() -> None:
    """List and show promotions that wait, or take one back."""


@requests.command("ls")
@click.argument("adapter", required=False)
@click.option("--all", "everything", is_flag=True, help="Those that are over too.")
@output_options
def ls(adapter: str | None, everything: bool, as_json: bool, quiet: bool) -> None:
    """List requests, newest first; of ADAPTER, or of all."""
    registry = connect()
    found = registry.requests(registry.adapter(adapter) if adapter else None, still_open=not everything)
    if as_json:
        print_json(found)
    elif quiet:
        click.echo("\n".join(each.name for each in found), nl=bool(found))
    elif found:
        rows = [
            (each.name, each.reference, each.stage, each.state, each.requester, human_time(each.opened_at), _why(each))
            for each in found
        ]
        print_table(["request", "version", "to", "state", "asked by", "since", "because"], rows)
    else:
        say("no request is open" if not everything else "there was never a request")


def _why(each: Request) -> str:
    return each.ended or "; ".join(" ".join(line.split(": ")[0].split()[1:]) for line in each.blockers)


@requests.command("show")
@click.argument("request")
@output_options
def show(request: str, as_json: bool, quiet: bool) -> None:
    """Show REQUEST (P-214): where it stands, what is missing, and who can give it."""
    registry = connect()
    found = registry.request(request)
    if as_json:
        print_json(found)
    elif quiet:
        click.echo(found.state)
    else:
        print_request(found)
        if found.state.is_open:
            from adapter_cli.promote import print_judged  # noqa: PLC0415

            print_judged(_looked_at(registry, found), dry_run=True)


def _looked_at(registry: Registry, found: Request) -> Judged:
    rules = found.override.rules if found.override else ()
    return registry.explain(found.reference, found.stage, hotfix=found.hotfix, override=rules)


def print_request(found: Request) -> None:
    """What a request is and how it stands."""
    path = " by the hotfix path" if found.hotfix else ""
    title = f"{found.name}: {found.reference} -> {found.stage}{path}, {found.state}"
    say(title, style=_STYLES.get(found.state, "bold"))
    approvals = [
        f"{each.by}, {human_time(each.at)}{': ' + each.comment if each.comment else ''}" for each in found.approvals
    ]
    objections = [f"{each.by}, {human_time(each.at)}: {each.reason}" for each in found.objections]
    print_facts(
        [
            ("asked by", f"{found.requester}, {human_time(found.opened_at)}"),
            ("reason", found.reason),
            ("overrides", _overrides(found)),
            ("approved", "\n".join(approvals)),
            ("declined", "\n".join(objections)),
            ("ended", found.ended),
        ]
    )


def _overrides(found: Request) -> str:
    over = found.override
    return f"{over}, good until {human_time(over.expires_at)} UTC" if over else ""


@requests.command("cancel")
@click.argument("request")
@output_options
def cancel(request: str, as_json: bool, quiet: bool) -> None:
    """Take REQUEST back."""
    registry = connect()
    ended = registry.cancel(registry.request(request))
    if as_json:
        print_json(ended)
    elif not quiet:
        say(f"{ended.name} is taken back; {ended.stage} did not move")


@click.command()
@click.argument("target")
@click.argument("stage", required=False)
@click.option("--comment", default="", help="For the record.")
@output_options
def approve(target: str, stage: str | None, comment: str, as_json: bool, quiet: bool) -> None:
    """Approve a request, by its name (P-214) or as version and stage, exactly as it stands now.

    The promotion happens at once when nothing else is missing. An approval is void as soon as the version's evidence,
    the policy or the incumbent changes.

    \b
    Examples:
      adapters approve P-214
      adapters approve v3 prod --comment "checked the samples by hand"
    """
    registry = connect()
    asked = _asked(registry, target, stage)
    found = registry.approve(asked, seen=_looked_at(registry, asked).seen, comment=comment)
    if as_json:
        print_json(found.request)
    elif not quiet:
        _print_approved(found)


def _print_approved(found: Judged) -> None:
    say(f"approved {found.request.name}: {found.request.reference} -> {found.stage}", style="green")
    if found.promotion:
        say(f"moved v{found.version.number} -> {found.stage}", style="green")
    for finding in found.decision.blockers:
        note(f"still waits for {finding.rule}: {finding.reason}")


@click.command()
@click.argument("target")
@click.argument("stage", required=False)
@click.option("--reason", required=True, help="What the requester has to change.")
@output_options
def decline(target: str, stage: str | None, reason: str, as_json: bool, quiet: bool) -> None:
    """Decline a request, by its name (P-214) or as version and stage: it ends.

    Where its policy says `decline_blocks: false` it goes on, and shows who declined and why.

    \b
    Example:
      adapters decline P-214 --reason "no license in the card"
    """
    registry = connect()
    ended = registry.decline(_asked(registry, target, stage), reason=reason)
    if as_json:
        print_json(ended)
    elif not quiet:
        state = "goes on, as its policy says" if ended.state.is_open else "is over"
        say(f"declined {ended.name}: it {state}; {ended.stage} did not move")


def _asked(registry: Registry, target: str, stage: str | None) -> Request:
    """The request that P-214, or a version and a stage, mean."""
    if stage is None:
        if not target.lower().startswith("p-"):
            raise InvalidInput(f"{target!r} alone is no request; name a stage too, or write P-214.")
        return registry.request(target)
    version = registry.resolve(target)
    found = [
        each for each in registry.requests(version.adapter) if (each.number, each.stage) == (version.number, stage)
    ]
    if not found:
        raise NotFound(f"nobody asked for {version.reference} -> {stage}: adapters promote {version.reference} {stage}")
    return found[0]
