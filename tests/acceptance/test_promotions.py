"""Promotions that wait, from the command line, by several people."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass

import pytest

from tests.acceptance.conftest import Cli

POLICY = """
apiVersion: adapters/v1
kind: StagePolicy
stage: prod
from: {stages: [staging], hotfix: [dev]}
require:
  compatibility: {verdict: [exact]}
  approvals: {count: 1}
rollback: {reason: required}
"""


@dataclass(frozen=True)
class Person(Cli):
    """The same registry, used by somebody else."""

    actor: str = "bob"

    @property
    def environment(self):
        return {**super().environment, "ADAPTERS_ACTOR": self.actor}


@pytest.fixture
def people(cli, llama_folder, lora_folder):
    cli("base", "add", "llama", llama_folder)
    cli("push", lora_folder, "--base", "llama", "--name", "sql-lora")
    (cli.folder / "prod.yaml").write_text(POLICY)
    cli("policy", "set", "prod", "prod.yaml")
    return cli, Person(cli.home, cli.folder, "bob"), Person(cli.home, cli.folder, "rob")


def test_a_time_that_is_none_is_refused_before_anything_is_asked_for(people):
    _, _, rob = people
    assert "write 90s, 30m, 12h, 90d or never" in rob("promote", "v1", "prod", "--wait", "5 minutes", code=2).err
    assert rob("requests", "ls", "--json").json == []
    assert "P-1 is waiting" in rob("promote", "v1", "prod", "--wait", "1s", code=4).err


def test_a_stranger_reads_what_is_missing_and_who_can_give_it(people):
    ann, bob, rob = people
    waiting = rob("promote", "v1", "prod", code=4)
    assert "has to be in staging first" in waiting.out
    assert (
        "to do, from: adapters promote default/sql-lora@v1 staging, or the hotfix path from dev: --hotfix"
        in waiting.err
    )
    assert "P-1 is applied by itself once nothing is missing" in waiting.out
    assert "because they pushed the version" in ann("approve", "P-1", code=1).err
    assert "because they asked for the promotion" in rob("approve", "v1", "prod", code=1).err
    approved = bob("approve", "P-1", "--comment", "looks good")
    assert "still waits for from: has to be in staging first" in approved.err
    shown = ann("requests", "show", "P-1").out
    assert "bob, " in shown
    assert "looks good" in shown


def test_who_waits_hears_of_the_approval_that_moves_the_stage(people):
    ann, bob, rob = people
    ann("promote", "v1", "dev")
    waiting = subprocess.Popen(
        [*rob.command, "promote", "v1", "prod", "--hotfix", "--reason", "outage", "--wait", "2m"],
        env=rob.environment,
        cwd=rob.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (found := ann("requests", "ls", "--json").json):
        assert waiting.poll() is None
    assert found[0]["hotfix"]
    bob("approve", "P-1")
    cat = Person(bob.home, bob.folder, "cat")
    assert "moved v1 -> prod" in cat("approve", "P-1").out
    assert "P-1 is applied" in waiting.communicate(timeout=60)[1]
    assert waiting.returncode == 0
    assert ann("requests", "ls", "-q").out == ""


def test_what_was_explained_is_promoted_or_nothing(people):
    ann, *_ = people
    ann("score", "add", "v1", "--metric", "x/acc", "--value", 0.5, "--n", 500)
    seen = ann("promote", "v1", "staging", "--explain", "--json").json["seen"]
    assert f"--seen {seen}" in ann("promote", "v1", "staging", "--explain").err
    ann("score", "add", "v1", "--metric", "x/acc", "--value", 0.4, "--n", 500)
    changed = ann("promote", "v1", "staging", "--seen", seen, code=1).err
    assert "changed meanwhile: the version there, the policy or the evidence" in changed
    assert "staging points to nothing" in ann("history", "sql-lora", "staging").out
    seen = ann("promote", "v1", "staging", "--explain", "--json").json["seen"]
    ann("promote", "v1", "staging", "--seen", seen)
    assert "takes later" in ann("promote", "v1", "staging", "--explain", "--seen", seen, code=2).err
    assert "is not a digest" in ann("promote", "v1", "staging", "--seen", "12ab", code=2).err


def test_a_decline_ends_a_freeze_stops_and_a_hold_is_lifted(people):
    ann, bob, rob = people
    rob("promote", "v1", "prod", code=4)
    assert "is over" in bob("decline", "P-1", "--reason", "no license").out
    assert "no license" in rob("requests", "ls", "--all").out
    window = ("2020-01-01T00:00", "2999-01-01T00:00", "--zone", "Europe/Berlin", "--reason", "holidays")
    ann("freeze", "add", *window)
    frozen = rob("promote", "v1", "dev", "--explain", code=4).out
    assert "until 2999-01-01 00:00 Europe/Berlin: holidays" in frozen
    ann("freeze", "rm", "1")
    rob("promote", "v1", "dev")
    assert ann("hold", "show", "sql-lora", "dev").out == "nothing holds dev\n"
    assert "no hotfix path" in rob("promote", "v1", "dev", "--hotfix", "--reason", "x", code=2).err


def test_stages_and_lanes_are_declared_and_named_everywhere(people):
    ann, bob, rob = people
    assert "qa" in ann("stage", "add", "qa", "--from", "staging", "--like", "dev").out
    ann("stage", "set", "prod", "--lane", "canary", "--lane", "eu")
    assert ann("stage", "ls", "-q").out.split() == ["dev", "staging", "prod", "qa"]
    assert ann("stage", "ls", "--json").json[2]["lanes"] == ["canary", "eu"]
    assert "qa is a stage already" in ann("stage", "add", "qa", code=1).err
    assert "name the stage too" in ann("stage", "set", "dev", "--hotfix", "qa", code=2).err
    assert "dev -> qa -> staging -> dev" in ann("stage", "set", "dev", "--from", "qa", code=2).err
    ann("score", "add", "v1", "--metric", "x/acc", "--value", 0.5, "--n", 500)
    ann("promote", "v1", "staging")
    assert "sql-lora@v1 (" in rob("promote", "v1", "qa", "--explain").out
    assert "from: " not in rob("promote", "v1", "qa").err
    assert rob("promote", "v1", "prod", "--lane", "canary", code=4).out.count("prod.canary did not move") == 1
    assert "moved v1 -> prod.canary" in bob("approve", "v1", "prod.canary").out
    assert "now: staging = v1, qa = v1, prod.canary = v1" in ann("history", "sql-lora").out
    assert ann("ls", "--stage", "prod.canary", "-q").out == "default/sql-lora\n"
    assert ann("resolve", "sql-lora@prod.canary", "-q").out == ann("resolve", "sql-lora@qa", "-q").out
    assert "it has main, canary, eu" in ann("history", "sql-lora", "prod.us", code=2).err
    assert "would not resolve any more" in ann("stage", "rm", "qa", code=1).err


def test_a_version_that_is_long_in_a_stage_is_verified_again_and_served_meanwhile(people):
    ann, _, _ = people
    (ann.folder / "dev.yaml").write_text(
        "apiVersion: adapters/v1\nkind: StagePolicy\nstage: dev\nreverify_every: 90d\n"
    )
    ann("policy", "set", "dev", "dev.yaml")
    assert "reverify_every: 90d" in ann("policy", "show", "dev").out
    ann("promote", "v1", "dev")
    with closing(sqlite3.connect(ann.home / "registry.db", isolation_level=None)) as database:
        database.execute("UPDATE promotions SET at = '2026-01-01T00:00:00.000000Z'")
    banner = "OVERDUE: default/sql-lora@v1 in dev was last verified on 2026-01-01, which held until 2026-04-01"
    assert banner in ann("resolve", "sql-lora@dev").err
    for command in (("ls",), ("show", "v1")):
        [due] = (said[0] if isinstance(said := ann(*command, "--json").json, list) else said)["due"]
        assert (due["stage"], due["overdue"]) == ("dev", True)
    assert "overdue" in ann("reverify", "sql-lora").out
    assert "is verified again" in ann("reverify", "sql-lora", "dev").out
    assert ann("resolve", "sql-lora@dev").err == ""


def test_a_stage_promotes_by_itself_where_its_policy_says_so(people):
    ann, bob, _ = people
    text = "apiVersion: adapters/v1\nkind: StagePolicy\nstage: staging\nauto_promote: true\n"
    (ann.folder / "staging.yaml").write_text(text)
    assert "auto_promote: it needs `from`" in ann("policy", "set", "staging", "staging.yaml", code=2).err
    (ann.folder / "staging.yaml").write_text(text + "from: {stages: [dev]}\nrequire:\n  approvals: {count: 1}\n")
    ann("policy", "set", "staging", "staging.yaml")
    ann("promote", "v1", "dev")
    assert "(registry)" in ann("requests", "ls").out
    assert "moved v1 -> staging" in bob("approve", "v1", "staging").out
    assert "auto_promote" in ann("history", "sql-lora", "staging").out


def test_the_log_is_verified_offline(people):
    ann, _, _ = people
    head = ann("audit", "export", "log.jsonl", "-q").out.strip()
    assert head in ann("audit", "verify", "log.jsonl", "--head", head).out
    ann("audit", "verify")
    path = ann.folder / "log.jsonl"
    path.write_text(path.read_text().replace('"actor":"ann"', '"actor":"eve"', 1))
    assert "does not follow" in ann("audit", "verify", "log.jsonl", code=7).err
