"""`adapters sync`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from adapter_cli.output import digest_text, note, output_options, print_json, print_table
from adapter_registry.client import connect
from adapter_registry.domain.errors import InvalidInput, RegistryError
from adapter_registry.settings import read_settings

LAYOUTS = ("vllm", "nim", "ray", "tgi", "lorax", "llama.cpp")


@click.command()
@click.argument("serve", nargs=-1, metavar="[NAME=REFERENCE]...")
@click.option("-f", "--file", type=click.Path(path_type=Path), help="Targets, as YAML or TOML: docs/serving.md.")
@click.option("--root", type=click.Path(path_type=Path), help="Folder that the servers read.")
@click.option("--layout", type=click.Choice(LAYOUTS), help="Stack that reads it.")
@click.option("--base", help="What the servers run: NAME@<digest> or a checkpoint folder.")
@click.option("--model", help="What the copies' config is to call the base: vLLM's --model, to the letter.")
@click.option("--seen-as", help="Path that the servers see --root at, for the TGI environment file.")
@click.option("--server", "servers", multiple=True, help="http://host:8000: asked what it uses before a removal.")
@click.option("--key-file", type=click.Path(path_type=Path), help="File with the servers' API key.")
@click.option("--remove-after", help="Remove unused versions after 30m, 24h or 7d. Default: never.")
@click.option("--once", is_flag=True, help="Sync and end, instead of following.")
@click.option(
    "--every",
    type=click.IntRange(1),
    default=30,
    show_default=True,
    help="Seconds after which to look though no stage moved: for tags, ranges and removals.",
)
@output_options
def sync(
    serve: tuple[str, ...], file: Path | None, once: bool, every: int, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Keep folders that serving stacks read at what references mean.

    Each version gets a folder of its own, NAME-vN, read-only, of links into ROOT/.store/sha256-...; a path never means
    other bytes later, because servers remember paths. A version for another base, or one that the stack would not serve
    right, is refused, and the one before stays. A stage that moves is followed at once; while the registry does not
    answer, nothing changes. With --remove-after, a folder that no name means any more is removed
    once the time is over and no --server names it; when one does not answer, nothing is removed.

    Exit code with --once: that of the first refusal.

    \b
    Examples:
      adapters sync sql=team/sql-lora@prod --root /mnt/loras --layout vllm --base ./mistral-7b \\
          --model mistralai/Mistral-7B-v0.3 --server http://gpu1:8000 --remove-after 7d
      adapters sync --file sync.yaml --once
    """
    from adapter_registry.domain.reference import parse  # noqa: PLC0415  `--help` needs none of it
    from adapter_registry.serving.pointing import Moves, impatient  # noqa: PLC0415
    from adapter_registry.serving.syncing import Syncing  # noqa: PLC0415

    targets = _targets(serve, file, options)
    registry = connect(impatient(read_settings()))
    kept = [Syncing(target, registry, clock=time.time) for target in targets]
    if once:
        lines = [line for each in kept for line in each.step()]
        _print(lines, as_json=as_json, quiet=quiet)
        raise click.exceptions.Exit(next((line.exit_code for line in lines if line.exit_code), 0))
    namespace = registry.settings.namespace
    moves = Moves([parse(each, namespace=namespace) for target in targets for each in target.serve.values()], registry)
    told: set[tuple[Any, ...]] = set()
    while True:
        lines = [line for each in kept for line in _stepped(each)]
        now = {_gist(line) for line in lines}
        _print([line for line in lines if _gist(line) not in told], as_json=as_json, quiet=quiet)
        told = now
        moves.wait(every)


def _targets(serve: tuple[str, ...], file: Path | None, options: dict[str, Any]) -> tuple[Any, ...]:
    from adapter_registry.serving.sync_file import read_targets, target_of  # noqa: PLC0415

    given = {key: value for key, value in options.items() if value}
    if file is not None:
        if serve or given:
            raise click.UsageError("--file says it all: names and other options go into it.")
        try:
            return read_targets(file.read_text(), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'not text'}.") from error
    missing = [f"--{name}" for name in ("root", "layout", "base") if name not in given]
    if not serve or missing:
        raise click.UsageError(f"name what to sync: NAME=REFERENCE, {', '.join(missing) or '...'}; or --file.")
    wanted = dict(each.partition("=")[::2] for each in serve)
    if len(wanted) < len(serve):
        raise click.UsageError("one name stands for two references.")
    texts = {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}
    return (target_of({**texts, "servers": list(options["servers"]), "serve": wanted}),)


def _stepped(syncing: Any) -> Sequence[Any]:
    try:
        return tuple(syncing.step())
    except RegistryError as error:
        note(error.text)
        return ()


def _gist(line: Any) -> tuple[Any, ...]:
    """What makes a line news while following: not that a folder is there, or how many seconds it will be kept."""
    return (line.root, line.folder, line.outcome.replace("placed", "there"), line.code)


def _print(lines: Sequence[Any], *, as_json: bool, quiet: bool) -> None:
    if as_json:
        for line in lines:
            print_json(line, line=True)
    elif quiet:
        for line in lines:
            if line.folder and line.follows:
                click.echo(str(Path(line.root) / line.folder))
    elif lines:
        print_table(["outcome", "folder", "version", "files", "why"], [_row(line) for line in lines])


def _row(line: Any) -> tuple[str, ...]:
    entry = line.entry
    version, files = (entry.version, digest_text(entry.exported)) if entry and line.outcome != "refused" else ("", "")
    folder = str(Path(line.root) / line.folder) if line.folder else line.root
    return (line.outcome, folder, version or line.follows, files, line.why)
