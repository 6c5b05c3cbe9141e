"""`adapters trust`: which pipelines get tokens of which service account."""

from __future__ import annotations

import click

from adapter_cli.access import limits_of, seconds_of
from adapter_cli.output import note, output_options, print_json, print_table, say
from adapter_registry.client import connect
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.people.access import ROLES
from adapter_registry.domain.people.trust import Trust
from adapter_registry.settings import read_settings

ISSUERS = {"github": "https://token.actions.githubusercontent.com", "gitlab": "https://gitlab.com"}


@click.group()
def trust() -> None:
    """Let pipelines in by their provider's tokens, without a secret of ours.

    A trust names an issuer, what its tokens have to say, and a service account. A pipeline whose token says that gets a
    token of the account for a few minutes: `adapters token exchange`.
    """


@trust.command()
@click.argument("account")
@click.option("--issuer", required=True, help="The provider's exact issuer URL, or github, or gitlab.")
@click.option("--claim", "claims", multiple=True, required=True, help="NAME=VALUE; * for any characters. Repeatable.")
@click.option("--audience", help="What its tokens are made out to; default: ADAPTERS_URL.")
@click.option("--scope", "scopes", multiple=True, help="Only namespace/* or namespace/name; may be repeated.")
@click.option("--allow", "verbs", multiple=True, help=f"Only these verbs, or a role: {', '.join(ROLES)}. Repeatable.")
@click.option("--lifetime", default="15m", show_default=True, help="How long a token is good; at most 1h.")
@output_options
def add(
    account: str,
    issuer: str,
    claims: tuple[str, ...],
    audience: str | None,
    scopes: tuple[str, ...],
    verbs: tuple[str, ...],
    lifetime: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Let pipelines with these claims act as the service account ACCOUNT, or less where --scope and --allow narrow it.

    \b
    Examples:
      adapters trust add ci --issuer github --claim repository=team/sql-lora --claim ref=refs/heads/main
      adapters trust add ci --issuer gitlab --claim 'sub=project_path:team/sql-lora:*' --allow push --scope 'search/*'
    """
    made_out_to = audience or read_settings().url
    if not made_out_to:
        raise InvalidInput("what are the tokens made out to? Give --audience; usually it is this server's address.")
    seconds = seconds_of(lifetime)
    if seconds is None:
        raise InvalidInput("an exchanged token ends; give --lifetime as 15m or 1h.")
    made = connect().add_trust(
        account,
        issuer=ISSUERS.get(issuer, issuer),
        audience=made_out_to,
        claims=_claims(claims),
        limits=limits_of(scopes, verbs),
        seconds=seconds,
    )
    if as_json:
        print_json(made)
    elif quiet:
        click.echo(made.id)
    else:
        say(f"trust {made.id}: tokens of {made.issuer} for {made.audience} are good for {account}", style="green")
        note(f"in the pipeline: adapters token exchange --trust {made.id}")


@trust.command("ls")
@output_options
def list_trusts(as_json: bool, quiet: bool) -> None:
    """List trusts: who is let in, as whom."""
    found = connect().trusts()
    if as_json:
        print_json(found)
    elif quiet:
        click.echo("\n".join(each.id for each in found), nl=bool(found))
    else:
        print_table(["id", "account", "issuer", "audience", "claims", "limits", "good for"], map(_row, found))


@trust.command()
@click.argument("trust_id", metavar="ID")
@output_options
def rm(trust_id: str, as_json: bool, quiet: bool) -> None:
    """End a trust, and every token that it gave."""
    gone = connect().remove_trust(trust_id)
    if as_json:
        print_json(gone)
    elif not quiet:
        say(f"removed trust {gone.id} of {gone.account}; its tokens are revoked", style="green")


def _claims(given: tuple[str, ...]) -> dict[str, str]:
    claims: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name in claims:
            raise InvalidInput(f"--claim {text[:60]!r} is not NAME=VALUE, or names a claim twice.")
        claims[name] = value
    return claims


def _row(each: Trust) -> list[str]:
    limits = "; ".join(f"{g.scope}: {', '.join(g.verbs)}" for g in each.limits or ()) or "-"
    claims = ", ".join(f"{name}={value}" for name, value in each.claims.items())
    return [each.id, each.account, each.issuer, each.audience, claims, limits, f"{each.seconds // 60}m"]
