"""`adapters sign`, `adapters verify` and `adapters scan`: what stands for the files of a version."""

from __future__ import annotations

import stat
from pathlib import Path

import click

from adapter_cli.files import read_bytes, read_text, write_text
from adapter_cli.output import note, output_options, print_facts, print_json, say
from adapter_registry.client import connect
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.integrity.key import Signed
from adapter_registry.domain.integrity.scan import Scan
from adapter_registry.domain.integrity.signing import envelope_of, read_envelope

FILE = click.Path(path_type=Path, dir_okay=False)


def private_key(file: Path) -> str:
    """The private key in a file; raises InvalidInput when others may read it, as ssh does."""
    try:
        status = file.stat()
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}.") from error
    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
        raise InvalidInput(f"others may read {file} (mode {status.st_mode & 0o777:o}): chmod 600 {file}")
    return read_text(file)


@click.command()
@click.argument("reference")
@click.option("--key", type=FILE, required=True, help="The private key; /dev/stdin takes it from a pipe.")
@output_options
def sign(reference: str, key: Path, as_json: bool, quiet: bool) -> None:
    """Sign the version that REFERENCE means now, and attach the signature.

    What is signed is an in-toto statement in a DSSE envelope: the adapter's name, the version's digest, and its
    manifest, which names its base and every file by digest. The key does not leave this machine.

    \b
    Examples:
      adapters sign sql-lora@v3 --key ci.key
      printenv SIGNING_KEY | adapters sign sql-lora@v3 --key /dev/stdin
    """
    private, registry = private_key(key), connect()
    version = registry.resolve(reference)
    made = registry.sign(version, private)
    if as_json:
        print_json(made)
    elif quiet:
        click.echo(made.key.name)
    else:
        say(f"signed {version.reference} {version.digest} by {made.key}", style="green")


@click.command()
@click.argument("reference")
@click.option("--key", "public", type=FILE, metavar="FILE.pub", help="Only signatures of this public key count.")
@click.option("--envelope", type=FILE, help="REFERENCE is a folder: hold it against this, without a registry.")
@click.option("--save", type=FILE, help="Write the signatures that hold into an envelope, for --envelope.")
@output_options
def verify(
    reference: str, public: Path | None, envelope: Path | None, save: Path | None, as_json: bool, quiet: bool
) -> None:
    """Verify the signatures of a version, or of a pulled folder; exit code 7 when none holds.

    Signatures are verified on this machine. Without --key, those of every key that the registry trusts count; that
    a key was revoked is what the registry says in either case.

    \b
    Examples:
      adapters verify sql-lora@prod --save prod.sig.json
      adapters verify ./sql-lora-v3 --envelope prod.sig.json --key ci.key.pub
    """
    key = read_text(public) if public else None
    if envelope is not None:
        _verify_folder(Path(reference), envelope, key, as_json, quiet)
        return
    registry = connect()
    version = registry.resolve(reference)
    good = registry.verify(version, key)
    if save is not None:
        from msgspec import json  # noqa: PLC0415  needed only here

        write_text(save, json.encode(envelope_of(version, good)).decode() + "\n")
    if as_json:
        print_json({"version": version.reference, "digest": version.digest, "signatures": good})
    elif quiet:
        click.echo(version.digest)
    else:
        say(f"verified {version.reference} {version.digest}", style="green")
        print_facts([("signed by", signed_lines(good))])


def signed_lines(signatures: tuple[Signed, ...]) -> str:
    """A line for each signature."""
    return "\n".join(str(each) for each in signatures)


def _verify_folder(folder: Path, envelope: Path, key: str | None, as_json: bool, quiet: bool) -> None:
    from adapter_registry.local.verifying import verify_folder  # noqa: PLC0415  needed only here

    if key is None:
        raise click.UsageError("a folder is verified with --key: without a registry, nobody says whose count.")
    said = verify_folder(folder, read_envelope(read_bytes(envelope)), key)
    if as_json:
        print_json(said)
    elif quiet:
        click.echo(said.version)
    else:
        say(f"verified {folder}: {said.adapter} {said.version}, {len(said.files)} files", style="green")


@click.command()
@click.argument("reference")
@click.option("--report", type=FILE, help="Record the SARIF report of another scanner instead.")
@output_options
def scan(reference: str, report: Path | None, as_json: bool, quiet: bool) -> None:
    """Have the registry look through every file of a version; exit code 3 when it finds something.

    Policies ask for it by `integrity: {scan: clean}`. What is looked for is in docs/signing.md.

    \b
    Examples:
      adapters scan sql-lora@v3
      adapters scan sql-lora@v3 --report clamav.sarif
    """
    registry = connect()
    version = registry.resolve(reference)
    if report is None:
        made = registry.scan(version)
    else:
        from adapter_registry.domain.integrity.sarif import read_sarif  # noqa: PLC0415  needed only here

        made = registry.report_scan(version, read_sarif(read_bytes(report)))
    if as_json:
        print_json(made)
    elif not quiet:
        say(f"{version.reference}: {scan_text(made)}", style="red" if made.found else "green")
        for each in made.found:
            note(f"  {each.code}: {each}")
    if made.found:
        raise SystemExit(3)


def scan_text(scan: Scan) -> str:
    """One line about a scan."""
    return f"{scan}, {f'found {len(scan.found)}' if scan.found else 'clean'}"
