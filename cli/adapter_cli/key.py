"""`adapters key`: pairs to sign with, and the public keys whose signatures count."""

from __future__ import annotations

import os
from pathlib import Path

import click

from adapter_cli.access import seconds_of
from adapter_cli.files import read_text, write_text
from adapter_cli.output import digest_text, note, output_options, print_json, print_table, say
from adapter_registry.client import connect
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.integrity.key import Key
from adapter_registry.domain.integrity.signing import key_id, new_private, public_of

FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def key() -> None:
    """Make keys to sign with, and say whose signatures count.

    A private key stays in its file: the registry knows public keys only. Policies ask for signatures by
    `integrity: {signature: any-trusted-key}`, or for those of keys by name.
    """


@key.command()
@click.argument("file", type=FILE)
@output_options
def new(file: Path, as_json: bool, quiet: bool) -> None:
    """Make a pair: the private key in FILE, which only you can read, and the public one in FILE.pub.

    \b
    Example:
      adapters key new ci.key        then: adapters key add ci ci.key.pub
    """
    private, beside = new_private(), file.with_name(f"{file.name}.pub")
    if beside.exists():
        raise InvalidInput(f"{beside} exists; nothing was written.")
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be made: {error.strerror}; nothing was written.") from error
    with os.fdopen(descriptor, "w") as stream:
        stream.write(private)
    public = public_of(private)
    write_text(beside, public)
    if as_json:
        print_json({"id": key_id(public), "public": public, "file": str(file)})
    elif quiet:
        click.echo(key_id(public))
    else:
        say(f"{key_id(public)}", style="green")
        note(f"private: {file}; public: {beside}. Have it trusted: adapters key add NAME {beside}")


@key.command()
@click.argument("name")
@click.argument("public", metavar="FILE.pub", type=FILE)
@click.option("--scope", "scopes", multiple=True, help="Counts only for namespace/* or namespace/name; repeatable.")
@click.option("--lifetime", default="never", show_default=True, help="How long it makes signatures: 365d.")
@output_options
def add(name: str, public: Path, scopes: tuple[str, ...], lifetime: str, as_json: bool, quiet: bool) -> None:
    """Trust the public key in FILE.pub (Ed25519, PEM) as NAME: its signatures count from now on."""
    added = connect().trust_key(
        name, read_text(public), scopes=scopes or ("*",), expires_in_seconds=seconds_of(lifetime)
    )
    if as_json:
        print_json(added)
    elif quiet:
        click.echo(added.name)
    else:
        say(f"{added.name} {added.id} counts for {', '.join(added.scopes)}", style="green")


@key.command("ls")
@output_options
def list_keys(as_json: bool, quiet: bool) -> None:
    """List the keys, those that were revoked included."""
    found = connect().signing_keys()
    if as_json:
        print_json(found)
    elif quiet:
        click.echo("\n".join(each.name for each in found), nl=bool(found))
    elif not found:
        say("no key is trusted yet: adapters key add NAME FILE.pub")
    else:
        print_table(["key", "id", "counts for", "added by", "on", "until"], map(_row, found))


def _row(each: Key) -> list[object]:
    until = each.expires_at[:10] if each.expires_at else "-"
    if each.revoked:
        until = f"REVOKED {each.revoked.at[:10]} by {each.revoked.by}: {each.revoked.because}"
    return [each.name, digest_text(each.id), ", ".join(each.scopes), each.added_by, each.added_at[:10], until]


@key.command()
@click.argument("name")
@click.option("--because", required=True, help="Why, in one line.")
@output_options
def rm(name: str, because: str, as_json: bool, quiet: bool) -> None:
    """Revoke a key for good: nothing that it ever signed counts any more, and approvals that relied on it are stale."""
    gone = connect().revoke_key(name, because=because)
    if as_json:
        print_json(gone)
    elif not quiet:
        say(f"revoked {gone.name} {gone.id}; its record stays", style="green")
