"""`adapters token`, `account`, `can-i`, `whoami`, `namespace`, `revoke`."""

from __future__ import annotations

import re
import sys

import click

from adapter_cli.output import human_time, note, note_moved_on, output_options, print_json, print_table, say
from adapter_registry.client import connect
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.people.access import ROLES, Grant
from adapter_registry.domain.people.account import AccountKind, Token
from adapter_registry.settings import read_settings

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds_of(text: str) -> int | None:
    """The seconds in `12h`, `90d`, `30m` or `90s`; None for `never`."""
    if text == "never":
        return None
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if found is None:
        raise InvalidInput(f"{text!r} is not a time span; write 90s, 30m, 12h, 90d or never.")
    return int(found[1]) * _UNITS[found[2]]


def limits_of(scopes: tuple[str, ...], verbs: tuple[str, ...]) -> tuple[Grant, ...] | None:
    """What --scope and --allow narrow a token to; None for no narrowing."""
    if not scopes and not verbs:
        return None
    return tuple(Grant(scope, verbs or ("admin",)) for scope in scopes or ("*",))


@click.group()
def token() -> None:
    """Make, list and revoke tokens: what programs show to a server.

    A token can do at most what its account can, and less where --scope and --allow narrow it. It is shown once.
    """


@token.command("create")
@click.option("--account", help="Whose it is; default: you.")
@click.option("--label", default="", help="What it is for, in your words.")
@click.option("--scope", "scopes", multiple=True, help="Only namespace/* or namespace/name; may be repeated.")
@click.option("--allow", "verbs", multiple=True, help=f"Only these verbs, or a role: {', '.join(ROLES)}. Repeatable.")
@click.option("--expires", default="90d", show_default=True, help="30m, 12h, 90d or never.")
@output_options
def create(
    account: str | None,
    label: str,
    scopes: tuple[str, ...],
    verbs: tuple[str, ...],
    expires: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make a token and print it, this once.

    \b
    Examples:
      adapters token create --label laptop
      adapters token create --account ci --scope team/sql-lora --allow writer --expires 30d
      adapters token create --account vllm --allow reader --expires never
    """
    made = connect().create_token(
        account=account, label=label, limits=limits_of(scopes, verbs), expires_in_seconds=seconds_of(expires)
    )
    if as_json:
        print_json(made)
        return
    click.echo(made.secret)
    if not quiet:
        until = f"until {made.token.expires_at[:16]}Z" if made.token.expires_at else "for ever"
        note(f"token {made.token.id} of {made.token.account}, good {until}; it is not shown again")


@token.command("ls")
@click.option("--account", help="Only this account's.")
@output_options
def list_tokens(account: str | None, as_json: bool, quiet: bool) -> None:
    """List tokens: whose, what for, when last used. Never the tokens themselves."""
    found = connect().tokens(account)
    if as_json:
        print_json(found)
    elif quiet:
        click.echo("\n".join(each.id for each in found), nl=bool(found))
    else:
        print_table(["id", "account", "label", "limits", "state", "created", "last used"], map(_row, found))


def _row(each: Token) -> list[str]:
    limits = "; ".join(f"{g.scope}: {', '.join(g.verbs)}" for g in each.limits or ()) or "-"
    state = "revoked" if each.revoked_at else f"until {human_time(each.expires_at)}" if each.expires_at else "good"
    used = human_time(each.last_used_at) if each.last_used_at else "never"
    return [each.id, each.account, each.label or "-", limits, state, human_time(each.created_at), used]


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@output_options
def revoke_token(token_id: str, as_json: bool, quiet: bool) -> None:
    """Make a token useless from now on."""
    gone = connect().revoke_token(token_id)
    if as_json:
        print_json(gone)
    elif not quiet:
        say(f"revoked {gone.id} of {gone.account}", style="green")


@token.command()
@click.option("--trust", help="Which trust is meant; what differs from it is told then.")
@output_options
def exchange(trust: str | None, as_json: bool, quiet: bool) -> None:
    """Exchange a pipeline's own token, read from stdin, for a token that is good for minutes; print it.

    The server at ADAPTERS_URL gives it where `adapters trust add` declared that it may. Each of the pipeline's tokens
    is good once.

    \b
    Example, GitLab CI with `id_tokens: ID_TOKEN: aud: $ADAPTERS_URL`:
      export ADAPTERS_TOKEN=$(echo "$ID_TOKEN" | adapters token exchange)
    """
    from adapter_registry.local.login import exchanged  # noqa: PLC0415  the embedded registry needs no HTTP

    settings = read_settings()
    if not settings.url:
        raise InvalidInput("which server? Set ADAPTERS_URL.")
    made = exchanged(settings.url, sys.stdin.read().strip(), trust)
    if as_json:
        print_json(made)
        return
    click.echo(made.access_token)
    if not quiet:
        note(f"token {made.token.id} of {made.token.account}, good for {made.expires_in // 60} minutes")


@click.group()
def account() -> None:
    """Make, list and grant accounts: people and services."""


@account.command("create")
@click.argument("name")
@click.option("--service", is_flag=True, help="A machine: it has tokens only, and cannot approve.")
@click.option("--password", is_flag=True, help="Ask for a password to sign in with.")
@output_options
def create_account(name: str, service: bool, password: bool, as_json: bool, quiet: bool) -> None:
    """Make an account that may do nothing yet; `account grant` changes that."""
    secret = click.prompt("password", hide_input=True, confirmation_prompt=True, err=True) if password else None
    kind = AccountKind.SERVICE if service else AccountKind.PERSON
    made = connect().create_account(name, kind=kind, password=secret)
    if as_json:
        print_json(made)
    elif not quiet:
        say(f"made {made.kind} {made.name}", style="green")
        note(f"next: adapters account grant {made.name} 'team/*' writer")


@account.command("ls")
@output_options
def list_accounts(as_json: bool, quiet: bool) -> None:
    """List accounts and what they may do."""
    found = connect().accounts()
    if as_json:
        print_json(found)
    elif quiet:
        click.echo("\n".join(each.name for each in found), nl=bool(found))
    else:
        rows = (
            [
                each.name,
                each.kind,
                "; ".join(f"{g.scope}: {', '.join(g.verbs)}" for g in each.grants) or "nothing",
                "shut out" if each.disabled_at else "good",
            ]
            for each in found
        )
        print_table(["account", "kind", "may", "state"], rows)


@account.command()
@click.argument("name")
@click.argument("scope")
@click.argument("verbs", nargs=-1, metavar="ROLE | VERB ...")
@output_options
def grant(name: str, scope: str, verbs: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Give NAME roles or verbs on SCOPE, in place of what it had there; without any, take them away.

    \b
    SCOPE is '*', 'namespace/*' or namespace/name.

    \b
    Examples:
      adapters account grant ann 'search/*' maintainer
      adapters account grant ci search/sql-lora push score promote:staging
    """
    known = connect().grant(name, scope, verbs)
    if as_json:
        print_json(known)
    elif not quiet:
        now = "; ".join(f"{g.scope}: {', '.join(g.verbs)}" for g in known.grants) or "nothing"
        say(f"{known.name} may now: {now}", style="green")


@account.command()
@click.argument("name")
@click.option("--undo", is_flag=True, help="Let it in again.")
@output_options
def disable(name: str, undo: bool, as_json: bool, quiet: bool) -> None:
    """Shut an account and all its tokens out."""
    known = connect().disable(name, disabled=not undo)
    if as_json:
        print_json(known)
    elif not quiet:
        say(f"{known.name} is {'shut out' if known.disabled_at else 'let in again'}", style="green")


@click.command()
@output_options
def whoami(as_json: bool, quiet: bool) -> None:
    """Say whom the registry takes you for, and what you may do."""
    found = connect().whoami()
    if as_json:
        print_json(found)
    elif quiet:
        click.echo(found.name)
    else:
        say(found.name, style="green")
        for each in found.limits if found.limits is not None else found.grants:
            say(f"  {each.scope}: {', '.join(each.verbs)}")


@click.command("can-i")
@click.argument("verb")
@click.argument("scope", required=False)
@output_options
def can_i(verb: str, scope: str | None, as_json: bool, quiet: bool) -> None:
    """Say whether you may do VERB to SCOPE (an adapter; default: the registry as a whole). Exit 1 for no.

    \b
    Example:
      adapters can-i promote:prod search/sql-lora
    """
    allowed = connect().may(verb, scope)
    if as_json:
        print_json({"verb": verb, "scope": scope, "may": allowed})
    elif not quiet:
        say("yes" if allowed else "no", style="green" if allowed else "red")
    if not allowed:
        raise click.exceptions.Exit(1)


@click.group()
def namespace() -> None:
    """Settings of a namespace."""


@namespace.command("default-base")
@click.argument("name")
@click.argument("base", required=False)
@output_options
def default_base(name: str, base: str | None, as_json: bool, quiet: bool) -> None:
    """Name the base of what Hub clients push to namespace NAME, when its config names none that is registered.

    Without BASE: name none any more.
    """
    digest = connect().set_default_base(name, base)
    if as_json:
        print_json({"namespace": name, "default_base": digest})
    elif not quiet:
        say(f"pushes to {name} default to {base}" if digest else f"{name} has no default base", style="green")


@click.command()
@click.argument("reference")
@click.option("--because", required=True, help="What is wrong with it, for those who used it.")
@output_options
def revoke(reference: str, because: str, as_json: bool, quiet: bool) -> None:
    """Withdraw one exact version for good: it keeps its record, is never served again and enters no stage.

    Refused while a stage points at it. Hub clients are told that the revision does not exist, which is the one answer
    that their caches obey; a client that pinned the commit in its cache never asks again. What was made of it is
    marked, listed, and refused by policies that do not say otherwise.
    """
    registry = connect()
    gone = registry.revoke(reference, because=because)
    if as_json:
        print_json(gone)
    elif not quiet:
        say(f"revoked {gone.reference}: {gone.revoked_because}", style="yellow")
        for each in registry.derived(gone.reference):
            where = f", which {' and '.join(each.stages)} serves" if each.stages else ""
            note(f"made of it: {each.reference}{where}")
    note_moved_on(registry)
