"""`adapters policy`: what a stage asks."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_cli.output import digest_text, note, output_options, print_json, say
from adapter_registry.client import PolicyInForce, connect
from adapter_registry.domain.policy import document


@click.group()
def policy() -> None:
    """Show or set the policy a stage judges by."""


@policy.command("show")
@click.argument("stage")
@output_options
def show(stage: str, as_json: bool, quiet: bool) -> None:
    """Show the policy of STAGE as a document that `policy set` reads."""
    in_force = connect().policy(stage)
    if as_json:
        print_json({"revision": in_force.revision, "digest": in_force.policy.digest, **document(in_force.policy)})
    elif quiet:
        click.echo(in_force.policy.digest)
    else:
        from adapter_registry.domain.policy_file import to_yaml  # noqa: PLC0415  pydantic and yaml are slow

        note(_headline(in_force))
        click.echo(to_yaml(in_force.policy), nl=False)


def _headline(in_force: PolicyInForce) -> str:
    revision = f"revision {in_force.revision}" if in_force.revision else "the preset solo, never changed"
    return f"policy of {in_force.policy.stage}: {revision}, {digest_text(in_force.policy.digest)}"


@policy.command("set")
@click.argument("stage")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Read and check the document; change nothing.")
@output_options
def set_policy(stage: str, file: Path, dry_run: bool, as_json: bool, quiet: bool) -> None:
    """Give STAGE the policy in FILE (YAML or TOML) as a new revision.

    \b
    A document:
      apiVersion: adapters/v1
      kind: StagePolicy
      stage: prod
      require:
        compatibility: {verdict: [exact, equivalent]}
        health: {matched_modules: all, finite: true, nonzero: true}
        metadata: [description, license]
        evals:
        - {metric: gsm8k/exact_match, min: 0.42}
        - {metric: gsm8k/exact_match, test: non-inferior, margin: 0.01}
    """
    from adapter_cli.files import read_text  # noqa: PLC0415
    from adapter_registry.domain.policy_file import read_policy  # noqa: PLC0415  pydantic and yaml are slow

    registry = connect()
    read = read_policy(read_text(file), name=file.name)
    in_force = PolicyInForce(read, registry.policy(stage).revision) if dry_run else registry.set_policy(stage, read)
    if as_json:
        print_json({"revision": in_force.revision, "digest": read.digest, **document(read)})
    elif not quiet:
        say(f"{'valid; nothing was changed' if dry_run else _headline(in_force)}", style="green")
