"""`adapters login` and `adapters logout`."""

from __future__ import annotations

import sys
import webbrowser
from dataclasses import replace
from urllib.parse import urlsplit

import click

from adapter_cli.output import note, output_options, print_json, say
from adapter_registry.client import Registry
from adapter_registry.domain.errors import IdentityRefused, InvalidInput, RegistryError, Unsupported
from adapter_registry.domain.people.trust import LOOPBACK
from adapter_registry.local import login as signing
from adapter_registry.settings import Login, Settings, read_login, read_settings

TRIES = 3


@click.command()
@click.argument("url", required=False)
@click.option("--oidc", is_flag=True, help="By the server's OpenID provider, in a browser.")
@click.option("--name", help="By password, as this account.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin.")
@click.option("--token-stdin", is_flag=True, help="Read a token from stdin and keep it.")
@click.option("--oidc-token-stdin", is_flag=True, help="Read a pipeline's own token from stdin and exchange it.")
@click.option("--trust", help="With --oidc-token-stdin: which trust is meant.")
@click.option("--no-browser", is_flag=True, help="Print the address instead of opening it.")
@output_options
def login(
    url: str | None,
    oidc: bool,
    name: str | None,
    password_stdin: bool,
    token_stdin: bool,
    oidc_token_stdin: bool,
    trust: str | None,
    no_browser: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Sign in to the server at URL; the commands after it ask that server, as you.

    By browser where the server has an OpenID provider, else by password. The token is good for 12 hours and kept in a
    file of yours; ADAPTERS_URL and ADAPTERS_TOKEN go before it. URL is left out to sign in to the same server again.

    \b
    Examples:
      adapters login https://adapters.example.org
      adapters login https://adapters.example.org --name ann
      adapters login --token-stdin < token
    """
    settings = read_settings()
    server = (url or settings.url or "").rstrip("/")
    if not server:
        raise InvalidInput("which server? `adapters login https://adapters.example.org`.")
    if sum((oidc, bool(name), token_stdin, oidc_token_stdin)) > 1:
        raise InvalidInput("--oidc, --name, --token-stdin and --oidc-token-stdin exclude each other.")
    if urlsplit(server).scheme == "http" and urlsplit(server).hostname not in LOOPBACK:
        note(f"{server} is not https: everybody on the way can read what is sent")
    if token_stdin or oidc_token_stdin:
        given = _stdin()
        token = given if token_stdin else signing.exchanged(server, given, trust).access_token
    elif name or password_stdin:
        token = _by_password(server, name, stdin=password_stdin)
    else:
        token = _by_browser(server, forced=oidc, show=not no_browser)
    _keep(settings, Login(server, token, made=not token_stdin), as_json=as_json, quiet=quiet)


def _keep(settings: Settings, made: Login, *, as_json: bool, quiet: bool) -> None:
    """Keep a token that the server knows, and say whose it is."""
    server, token = made.url, made.token
    found = Registry(replace(settings, url=server, token=token)).whoami()
    signing.keep(settings.login, made)
    now = read_settings()
    if (now.url, now.token) != (server, token):
        note("ADAPTERS_URL or ADAPTERS_TOKEN is set in the environment, and goes before this sign-in")
    if as_json:
        print_json({"url": server, "account": found.name})
    elif not quiet:
        say(f"signed in to {server} as {found.name}", style="green")
        if not found.grants:
            note("this account may do nothing yet; an administrator grants: `adapters account grant`")


@click.command()
@output_options
def logout(as_json: bool, quiet: bool) -> None:
    """Forget the server and token of `adapters login`, and revoke the token, unless it was given by --token-stdin."""
    settings = read_settings()
    kept = read_login(settings.login)
    if kept is None:
        raise InvalidInput("nobody is signed in.")
    revoked = kept.made and _revoked(Registry(replace(settings, url=kept.url, token=kept.token)))
    signing.forget(settings.login)
    if as_json:
        print_json({"url": kept.url, "revoked": revoked})
    elif not quiet:
        say(f"signed out of {kept.url}", style="green")


def _revoked(registry: Registry) -> bool:
    """Whether the token that asks is revoked now; why not is told."""
    try:
        registry.revoke_token(registry.whoami().token or "")
    except RegistryError as error:
        note(f"the token was not revoked: {error.text}")
        return False
    return True


def _by_password(server: str, name: str | None, *, stdin: bool) -> str:
    who = name or click.prompt("name", err=True)
    password = _stdin() if stdin else click.prompt(f"password of {who}", hide_input=True, err=True)
    return signing.signed_in(server, who, password).secret


def _by_browser(server: str, *, forced: bool, show: bool) -> str:
    """By the server's provider, or by password where it has none and nobody insisted."""
    try:
        opened = signing.begun(server)
    except Unsupported:
        if forced:
            raise
        return _by_password(server, None, stdin=False)
    click.echo(f"Sign in at this address; the page shows a code in the end:\n\n  {opened.open}\n", err=True)
    if show and sys.stderr.isatty():
        webbrowser.open(opened.open)
    for tries_left in reversed(range(TRIES)):
        try:
            return signing.finished(server, opened.secret, click.prompt("code", err=True)).secret
        except IdentityRefused as error:
            if not tries_left:
                raise
            note(error.text)
    raise AssertionError("unreachable: the last try returns or raises")


def _stdin() -> str:
    text = sys.stdin.read().strip()
    if not text:
        raise InvalidInput("there is nothing on stdin.")
    return text
