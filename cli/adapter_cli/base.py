"""`adapters base`: the exact checkpoints that adapters are locked to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapter_cli.output import (
    digest_text,
    human_bytes,
    human_time,
    note,
    output_options,
    print_facts,
    print_json,
    print_notices,
    print_table,
    progress_bar,
    say,
)
from adapter_registry.client import KnownBase, Registered, Registration, Registry, Storing, connect
from adapter_registry.domain.errors import RegistryError

if TYPE_CHECKING:
    from adapter_registry.checkpoints.base_copy import Copy


@click.group()
def base() -> None:
    """Register base checkpoints, store them, list them, declare stand-ins."""


@base.command("add")
@click.argument("name")
@click.argument("source")
@click.option("--store", is_flag=True, help="Store its bytes too, so that Hub clients load it from this registry.")
@output_options
def add(name: str, source: str, store: bool, as_json: bool, quiet: bool) -> None:
    """Register the exact checkpoint in SOURCE under NAME.

    SOURCE is a folder of safetensors, a Hub cache folder, or hf://org/repo@<commit> (read without downloading
    weights). Every byte of a local folder is hashed, once: the second time is instant.

    With --store, weights, config, tokenizer and what else is safe are stored, and served to Hugging Face clients as
    NAME and, where the folder says it, as its Hub repository. Pickles and programs are left out. What hf:// names is
    downloaded first, into the Hub's cache.

    \b
    Examples:
      adapters base add mistral-7b ~/models/mistral-7b
      adapters base add mistral-7b hf://mistralai/Mistral-7B-v0.3@d8cadc0
      adapters base add mistralai/Mistral-7B-v0.3 ~/models/mistral-7b --store
    """
    registry = connect()
    source = str(registry.fetch_base(source)) if store else source
    copy = registry.copy_of(source, name=name) if store else None
    total = _bytes_in(Path(source).expanduser())
    with progress_bar(f"hashing {source}", total) as progress:
        registration = registry.add_base(name, source, progress=progress)
    storing = None
    if copy is not None:
        storing = _stored(registry, registration, copy, source)
        names = {*registration.base.served_as, *(each.name for each in storing.stored)}
        served = replace(registration.base, served_as=tuple(sorted(names)))
        registration = replace(registration, base=served)
    if as_json:
        print_json(registration)
    elif quiet:
        click.echo(registration.base.reference)
    else:
        _print_registration(registration)
        if storing is not None and copy is not None:
            _print_storing(storing, copy)
            print_notices(copy.notices)


def _stored(registry: Registry, registration: Registration, copy: Copy, source: str) -> Storing:
    try:
        with progress_bar(f"storing {source}", sum(file.size for file in copy.files)) as progress:
            return registry.store_base(registration, copy, progress=progress)
    except RegistryError:
        note(f"{registration.base.reference} is registered; its bytes are not stored")
        raise


def _print_storing(storing: Storing, copy: Copy) -> None:
    stored = storing.stored[0]
    what = "stored" if storing.created else "already stored"
    say(f"{what} {len(stored.files)} files, {human_bytes(stored.size)}", style="green")
    names = [each.name for each in storing.stored]
    print_facts([("served as", ", ".join(names)), ("at commit", stored.commit)])
    if copy.repository not in (None, *names):
        note(f"not served as {copy.repository}: that takes the verb push on it")


@base.command("unstore")
@click.argument("name")
@output_options
def unstore(name: str, as_json: bool, quiet: bool) -> None:
    """Stop serving the base stored as NAME, or NAME@prefix of several; it stays registered.

    `adapters admin collect` frees the bytes when nothing else refers to them.
    """
    gone = connect().unstore_base(name)
    if as_json:
        print_json(gone)
    elif not quiet:
        for each in gone:
            say(f"no longer served as {name}: {digest_text(each.base)} at commit {each.commit[:12]}", style="green")


def _bytes_in(source: Path) -> int | None:
    if source.is_file():
        return source.stat().st_size
    return sum(path.stat().st_size for path in source.glob("*.safetensors")) or None


def _print_registration(registration: Registration) -> None:
    registered, known = registration.base, registration.base.base
    also = f", also known as {', '.join(registration.also)}" if registration.also else ""
    headline = {
        Registered.ADDED: f"added {registered.reference}",
        Registered.NAMED: f"named {registered.reference}{also}: the same base",
        Registered.ALREADY: f"already {registered.reference}{also}",
        Registered.LEARNED: f"learned the tensors of {registered.reference}, known by its file digests until now{also}",
    }[registration.outcome]
    say(headline, style="green")
    if registration.resharded:
        note("the same tensors as registered, spread over other files")
    print_facts(
        [
            ("digest", known.digest),
            ("architecture", known.architecture),
            ("parameters", f"{registered.base.parameters:,}" if known.tensors else None),
            ("tensors", registered.tensors),
            ("files", f"{len(known.files)}, {human_bytes(known.bytes)}"),
            ("vocabulary", known.vocab_size),
            ("quantization", known.quantization),
            ("commit", known.commit),
            ("bytes read", "no: file digests only, from the Hub" if known.root is None else None),
        ]
    )
    print_notices(known.notices)


@base.command("ls")
@output_options
def list_bases(as_json: bool, quiet: bool) -> None:
    """List the registered bases."""
    bases = connect().bases()
    if as_json:
        print_json(bases)
        return
    if quiet:
        click.echo("\n".join(each.reference for each in bases), nl=bool(bases))
        return
    if not bases:
        say("no base is registered yet: adapters base add NAME FOLDER")
        return
    print_table(
        ["base", "architecture", "tensors", "size", "commit", "stored", "added", "by"],
        [
            (
                each.reference,
                each.base.architecture or "-",
                each.tensors,
                human_bytes(each.base.bytes),
                (each.base.commit or "-")[:12],
                "yes" if each.served_as else "no",
                human_time(each.added_at),
                each.added_by,
            )
            for each in bases
        ],
        right=["tensors", "size"],
    )


@base.command("show")
@click.argument("name")
@click.option("--tensors", is_flag=True, help="List every tensor.")
@output_options
def show_base(name: str, tensors: bool, as_json: bool, quiet: bool) -> None:
    """Show one base: files, digests, tensors. NAME is a name, name@prefix or a checkpoint folder."""
    known = connect().base(name)
    if as_json:
        print_json(known)
    elif quiet:
        click.echo(known.registered.reference)
    else:
        _print_base(known, tensors)


def _print_base(known: KnownBase, tensors: bool) -> None:
    checkpoint = known.base
    say(known.registered.reference, style="bold")
    print_facts(
        [
            ("digest", checkpoint.digest),
            ("tensor root", checkpoint.root or "unknown: its bytes were not read"),
            ("tokenizer", checkpoint.tokenizer),
            ("config", checkpoint.config),
            ("repository", checkpoint.repository),
            ("commit", checkpoint.commit),
            ("source", checkpoint.source),
            ("made by", next((each.text for each in checkpoint.notices if each.code == "merged-from"), None)),
            ("architecture", checkpoint.architecture),
            ("parameters", f"{checkpoint.parameters:,}{' (tied embeddings)' if checkpoint.tied else ''}"),
            ("vocabulary", checkpoint.vocab_size),
            ("quantization", checkpoint.quantization),
            ("added", f"{human_time(known.registered.added_at)} by {known.registered.added_by}"),
            ("stored", f"served as {', '.join(known.registered.served_as)}" if known.registered.served_as else "no"),
            ("locked to it", f"{known.versions} version{'' if known.versions == 1 else 's'}"),
        ]
    )
    for each in known.equivalences:
        say(f"  stand-in {digest_text(each.other)}, declared by {each.declared_by}: {each.because}")
    say("")
    print_table(
        ["file", "size", "sha256"],
        [(file.path, human_bytes(file.size), file.sha256) for file in checkpoint.files],
        right=["size"],
    )
    if tensors:
        say("")
        print_table(
            ["tensor", "dtype", "shape", "blake3"],
            [(t.name, t.dtype, "x".join(map(str, t.shape)) or "scalar", t.digest or "-") for t in checkpoint.tensors],
        )


@base.command("equivalent")
@click.argument("name")
@click.argument("other")
@click.option("--because", required=True, help="Why OTHER may stand in for NAME; every load repeats it.")
@output_options
def equivalent(name: str, other: str, because: str, as_json: bool, quiet: bool) -> None:
    """Declare that OTHER may stand in for NAME, e.g. as a quantised copy of it.

    Adapters locked to NAME may then be loaded onto OTHER. Who declared it, when and why is recorded and shown.
    """
    declared = connect().declare_equivalent(name, other, because=because)
    if as_json:
        print_json(declared)
    elif not quiet:
        say(f"declared: {other} may stand in for {name}; {declared.declared_by} says: {because}", style="green")
