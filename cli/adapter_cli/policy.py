"""`adapters policy`: what a stage asks."""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path

import click

from adapter_cli.output import (
    digest_text,
    human_time,
    note,
    note_moved_on,
    output_options,
    print_json,
    print_table,
    say,
)
from adapter_registry.client import PolicyInForce, Registry, Replayed, connect
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.policies.lint import Advice
from adapter_registry.domain.policies.policy import PRESETS, Policy, document, preset
from adapter_registry.domain.promotions.promotion import Result


@click.group()
def policy() -> None:
    """Show, set, check or try the policy a stage judges by."""


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
        from adapter_registry.domain.policies.file import to_yaml  # noqa: PLC0415  pydantic and yaml are slow

        note(_headline(in_force))
        click.echo(to_yaml(in_force.policy), nl=False)


def _headline(in_force: PolicyInForce) -> str:
    revision = f"revision {in_force.revision}" if in_force.revision else "the preset solo, never changed"
    return f"policy of {in_force.policy.stage}: {revision}, {digest_text(in_force.policy.digest)}"


@policy.command("set")
@click.argument("stage")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--preset", "named", type=click.Choice(sorted(PRESETS)), help="A preset instead of a file.")
@click.option("--dry-run", is_flag=True, help="Read and check the document; change nothing.")
@output_options
def set_policy(stage: str, file: Path | None, named: str | None, dry_run: bool, as_json: bool, quiet: bool) -> None:
    """Give STAGE the policy in FILE (YAML or TOML), or a preset, as a new revision.

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
    if (file is None) == (named is None):
        raise InvalidInput("a policy comes from a FILE or from --preset, one of them.")
    registry = connect()
    read = _read(file) if file else preset(named or "", stage=registry.ladder().get(stage))
    in_force = PolicyInForce(read, registry.policy(stage).revision) if dry_run else registry.set_policy(stage, read)
    if as_json:
        print_json({"revision": in_force.revision, "digest": read.digest, **document(read)})
    elif not quiet:
        say(f"{'valid; nothing was changed' if dry_run else _headline(in_force)}", style="green")
        for each in _advice(registry, read):
            note(f"{'impossible' if each.impossible else 'note'}, {each.rule}: {each.text}")
    note_moved_on(registry)


def _advice(registry: Registry, read: Policy) -> tuple[Advice, ...]:
    return (*registry.lint_policy(read), *registry.lint_approvals(read))


def _read(file: Path) -> Policy:
    from adapter_cli.files import read_text  # noqa: PLC0415
    from adapter_registry.domain.policies.file import read_policy  # noqa: PLC0415  pydantic and yaml are slow

    return read_policy(read_text(file), name=file.name)


@policy.command("lint")
@click.argument("file", type=click.Path(path_type=Path))
@output_options
def lint(file: Path, as_json: bool, quiet: bool) -> None:
    """Say what in the policy in FILE nothing can ever satisfy, and what is likely not meant.

    Exit code 3 when something is impossible, else 0.
    """
    registry, read = connect(), _read(file)
    advice = _advice(registry, read)
    impossible = [each for each in advice if each.impossible]
    if as_json:
        print_json(advice)
    elif not quiet:
        for each in advice:
            word = "impossible" if each.impossible else "note"
            say(f"{word:<11} {each.rule}: {each.text}", style="red" if each.impossible else "yellow")
        notes = len(advice) - len(impossible)
        counted = f"{len(impossible)} impossible, {notes} note{'' if notes == 1 else 's'}"
        say(counted if advice else "nothing to say")
    raise SystemExit(3 if impossible else 0)


@policy.command("test")
@click.argument("stage")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--last", type=click.IntRange(1, 200), default=20, show_default=True, help="How many promotions.")
@output_options
def test(stage: str, file: Path, last: int, as_json: bool, quiet: bool) -> None:
    """Judge the last promotions into STAGE again, by the policy in FILE; nothing is changed.

    Scores, the incumbent and lower stages count as they stood when each was promoted, labels, groups and accounts as
    they are now. Approvals given then count whatever the policy of then was, and are not judged where nobody had to
    approve; freeze windows are not judged. Exit code 3 when one would not have passed.
    """
    found = connect().try_policy(stage, _read(file), last=last)
    stopped = [each for each in found if each.outcome not in (None, Result.PROMOTE)]
    if as_json:
        print_json(found)
    elif quiet:
        click.echo("\n".join(each.reference for each in stopped), nl=bool(stopped))
    else:
        rows = [(human_time(e.at), e.reference, e.outcome or "version removed", _blockers(e)) for e in found]
        print_table(["promoted", "version", "would be", "because of"], rows)
        say(f"{len(stopped)} of the last {len(found)} promotions into {stage} would not have passed")
    raise SystemExit(3 if stopped else 0)


def _blockers(replayed: Replayed) -> str:
    return "; ".join(f"{finding.rule}: {finding.outcome}" for finding in replayed.blockers[:3])


@policy.command("diff")
@click.argument("stage")
@click.argument("file", type=click.Path(path_type=Path))
@output_options
def diff(stage: str, file: Path, as_json: bool, quiet: bool) -> None:
    """Show what the policy in FILE would change of the one STAGE has. Exit code 1 when something would."""
    from adapter_registry.domain.policies.file import to_yaml  # noqa: PLC0415  pydantic and yaml are slow

    before, after = connect().policy(stage), _read(file)
    old, new = to_yaml(before.policy).splitlines(), to_yaml(after).splitlines()
    lines = list(unified_diff(old, new, f"{stage}@{before.revision}", file.name, lineterm="", n=2))
    if as_json:
        print_json({"before": document(before.policy), "after": document(after), "changed": bool(lines)})
    elif not quiet:
        for line in lines:
            say(line, style={"+": "green", "-": "red"}.get(line[:1], ""))
        if not lines:
            say("nothing would change")
    raise SystemExit(1 if lines else 0)
