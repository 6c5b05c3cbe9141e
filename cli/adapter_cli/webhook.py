"""`adapters webhook`: tell other programs what happened, and see whether they heard."""

from __future__ import annotations

import click

from adapter_cli.output import human_time, note, output_options, print_json, print_table, say
from adapter_registry.client import connect
from adapter_registry.domain.webhooks.webhook import EVENTS, State, Webhook


@click.group()
def webhook() -> None:
    """Tell other programs what happened.

    A server posts a signed JSON message for each event: HMAC-SHA256 as Standard Webhooks describes, in order for each
    adapter, tried again for almost a day when the receiver fails.
    """


@webhook.command()
@click.argument("url")
@click.option("--scope", default="*", show_default=True, help="team/sql-lora, 'team/*', or '*' for everything.")
@click.option("--event", "events", multiple=True, help=f"Only these; may be repeated: {', '.join(EVENTS)}.")
@output_options
def add(url: str, scope: str, events: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Post a message to URL for each event, and print the secret that signs them, this once.

    \b
    Examples:
      adapters webhook add https://ci.example.org/adapters
      adapters webhook add https://deploy.example.org/hook --scope 'search/*' --event stage.moved
    """
    made = connect().add_webhook(url, scope=scope, events=events or ("*",))
    if as_json:
        print_json(made)
        return
    click.echo(made.secret)
    if not quiet:
        note(f"webhook {made.webhook.id}; this is the secret that its messages are signed with, not shown again")


@webhook.command("ls")
@output_options
def list_webhooks(as_json: bool, quiet: bool) -> None:
    """List webhooks: where they go, what about, whether they are paused."""
    found = connect().webhooks()
    if as_json:
        print_json(found)
    elif quiet:
        click.echo("\n".join(each.id for each in found), nl=bool(found))
    else:
        print_table(["id", "url", "scope", "events", "state", "set up"], map(_row, found))


def _row(each: Webhook) -> list[str]:
    state = "active" if each.active else "paused"
    return [each.id, each.url, each.scope, ", ".join(each.events), state, f"{human_time(each.created_at)}"]


@webhook.command("log")
@click.argument("id")
@click.option("--state", type=click.Choice([str(state) for state in State]), help="Only these.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@output_options
def log(id: str, state: str | None, limit: int, as_json: bool, quiet: bool) -> None:
    """Show what webhook ID was told, newest first, and what came of it. `--state dead`: what was given up."""
    found = connect().deliveries(id, state=State(state) if state else None, limit=limit)
    if as_json:
        print_json(found)
    elif quiet:
        click.echo("\n".join(each.id for each in found), nl=bool(found))
    else:
        rows = (
            [
                each.id,
                each.kind,
                each.about,
                str(each.state),
                str(each.attempts),
                human_time(each.attempted_at) if each.attempted_at else "never",
                each.error or (f"answered {each.status}" if each.status else "-"),
            ]
            for each in found
        )
        print_table(["delivery", "event", "about", "state", "tries", "last try", "outcome"], rows)


@webhook.command()
@click.argument("id")
@click.argument("delivery", required=False)
@output_options
def replay(id: str, delivery: str | None, as_json: bool, quiet: bool) -> None:
    """Send again: one DELIVERY of webhook ID, or every one that was given up."""
    again = connect().replay(id, delivery)
    if as_json:
        print_json(again)
    elif not quiet:
        say(f"{len(again)} sent again" if again else "nothing was given up", style="green")


@webhook.command()
@click.argument("id")
@click.option("--undo", is_flag=True, help="Let it go on; what waited meanwhile is sent.")
@output_options
def pause(id: str, undo: bool, as_json: bool, quiet: bool) -> None:
    """Send nothing to webhook ID for now, and note nothing new for it."""
    changed = connect().change_webhook(id, active=undo)
    if as_json:
        print_json(changed)
    elif not quiet:
        say(f"{changed.id} is {'active' if changed.active else 'paused'}", style="green")


@webhook.command()
@click.argument("id")
@output_options
def rotate(id: str, as_json: bool, quiet: bool) -> None:
    """Give webhook ID a new secret and print it, this once; for a day messages are signed with both."""
    made = connect().rotate_webhook(id)
    if as_json:
        print_json(made)
        return
    click.echo(made.secret)
    if not quiet:
        note("the secret before signs along for a day")


@webhook.command("rm")
@click.argument("id")
@output_options
def remove(id: str, as_json: bool, quiet: bool) -> None:
    """Forget webhook ID and everything that waits for it."""
    gone = connect().remove_webhook(id)
    if as_json:
        print_json(gone)
    elif not quiet:
        say(f"removed {gone.id} ({gone.url})", style="green")
