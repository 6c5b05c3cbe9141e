"""Evidence by the installed command: samples, suites, invalidation, and policies that are tried before they are set."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.errors import InvalidInput, NotFound
from adapter_registry.domain.evidence.outcomes import Outcomes
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.settings import read_settings
from tests.adapter_builders import changed_tensors, copied

N = 300
SUITE = """
apiVersion: adapters/v1
kind: EvalSuite
name: core
metrics:
- {metric: sql/acc, setting: {shots: 5}}
"""
POLICY = """
apiVersion: adapters/v1
kind: StagePolicy
stage: prod
require:
  evals:
  - suite: core
    full_run: true
    absolute: [{metric: sql/acc, min: 0.5}]
    relative: [{metric: sql/acc, test: superior}]
    shadow: [{metric: sql/acc, min: 0.99}]
"""


@pytest.fixture
def registry(cli, llama_folder, lora_folder, tmp_path):
    """Two versions of an adapter, the suite core@1."""
    cli("base", "add", "llama", llama_folder)
    copied(lora_folder, tmp_path / "b")
    changed_tensors(tmp_path / "b", lambda tensors: [tensor.mul_(2.0) for tensor in tensors.values()])
    for folder in (lora_folder, tmp_path / "b"):
        cli("push", folder, "--base", "llama", "--name", "sql-lora")
    (tmp_path / "core.yaml").write_text(SUITE)
    (tmp_path / "prod.yaml").write_text(POLICY)
    assert cli("score", "suite", "set", tmp_path / "core.yaml", "-q").out.strip() == "core@1"
    return cli


def run(folder, wrong: int, *, shots: int = 5):
    """What lm-evaluation-harness writes for one run: results, and samples beside them."""
    folder.mkdir()
    moment = "2026-03-01T10-00-00.123456"
    results = {
        "results": {"sql": {"alias": "sql", "acc,none": 1 - wrong / N, "acc_stderr,none": 0.02}},
        "versions": {"sql": 1.0},
        "n-shot": {"sql": shots},
        "n-samples": {"sql": {"original": N, "effective": N}},
        "higher_is_better": {"sql": {"acc": True}},
        "config": {"model": "hf", "limit": None},
    }
    (folder / f"results_{moment}.json").write_text(json.dumps(results))
    rows = [
        {"doc_id": n, "doc": {"q": "secret"}, "doc_hash": f"{n:064x}", "filter": "none", "acc": float(n >= wrong)}
        for n in range(N)
    ]
    (folder / f"samples_sql_{moment}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / f"results_{moment}.json"


def test_versions_measured_on_the_same_samples_are_compared_by_them(registry, tmp_path):
    registry("score", "import", "v1", run(tmp_path / "one", 80), "--suite", "core")
    registry("score", "import", "v2", run(tmp_path / "two", 62), "--suite", "core@1")
    assert "claimed, core@1, per sample" in registry("score", "ls", "v1").out
    registry("policy", "set", "prod", tmp_path / "prod.yaml")
    first = registry("promote", "v1", "prod")
    assert "WAIVED" in first.out
    judged = registry("promote", "v2", "prod", "--json").json
    compared = next(each for each in judged["findings"] if each["rule"] == "sql/acc superior")
    assert (compared["outcome"], compared["method"], compared["n"]) == ("pass", "paired, Tango's score interval", N)
    assert [each["outcome"] for each in judged["findings"] if each["shadow"]] == ["fail"]
    assert judged["moved"]


def test_the_same_run_again_is_no_improvement(registry, tmp_path):
    for place, version in enumerate(("v1", "v2")):
        registry("score", "import", version, run(tmp_path / str(place), 80), "--suite", "core")
    registry("policy", "set", "prod", tmp_path / "prod.yaml")
    registry("promote", "v1", "prod")
    undecided = registry("promote", "v2", "prod", code=5)
    assert "INCONCLUSIVE" in undecided.out
    assert "1 shadow rule would have blocked" in undecided.err


def test_a_run_with_other_settings_is_not_of_the_suite(registry, tmp_path):
    refused = registry("score", "import", "v1", run(tmp_path / "r", 80, shots=0), "--suite", "core", code=2)
    assert "sql/acc (measured with shots 0 instead of 5)" in refused.err
    assert "no scores yet" in registry("score", "ls", "v1").out


def test_a_new_version_of_the_suite_makes_old_evidence_stale(registry, tmp_path):
    registry("score", "import", "v1", run(tmp_path / "r", 80), "--suite", "core")
    registry("policy", "set", "prod", tmp_path / "prod.yaml")
    registry("promote", "v1", "prod", "--explain")
    (tmp_path / "core.yaml").write_text(SUITE + "- {metric: heldout/loss}\n")
    registry("score", "suite", "set", tmp_path / "core.yaml")
    stale = registry("promote", "v1", "prod", "--explain", code=4)
    assert "measured by core@1, and core@2 is asked for" in " ".join(stale.out.split())
    assert [each["version"] for each in registry("score", "suite", "ls", "--json").json] == [1, 2]
    assert "heldout/loss" not in registry("score", "suite", "show", "core@1").out


def test_scores_are_taken_back_with_a_reason_and_gates_ignore_them(registry, tmp_path):
    file = run(tmp_path / "r", 80)
    registry("score", "import", "v1", file, "--suite", "core")
    registry("policy", "set", "prod", tmp_path / "prod.yaml")
    registry("promote", "v1", "staging")
    [taken] = registry(
        "score", "invalidate", "v1", "--source", file.name, "--because", "old chat template", "--json"
    ).json
    assert taken["invalid"]["by"] == "ann"
    assert "INVALID: old chat template" in registry("score", "ls", "v1").out
    assert "old chat template" in registry("promote", "v1", "prod", code=4).out
    for listed in (registry("show", "v1").out, registry("score", "ls", "v1").out):
        assert "INVALID: old chat template" in " ".join(listed.split())
        assert "recorded 1 score" not in listed
    assert (
        "no valid score" in registry("score", "invalidate", "v1", "--metric", "sql/acc", "--because", "x", code=1).err
    )
    assert "which scores?" in registry("score", "invalidate", "v1", "--because", "x", code=2).err
    doubt = "sql/acc of default/sql-lora@v1: "
    assert f"staging #1, v1, rested on evidence that counts no more: {doubt}" in registry("history", "sql-lora").err
    assert doubt in registry("show", "v1").out
    assert registry("history", "sql-lora", "--json").json["doubts"]["staging#1"][0].startswith(doubt)
    events = registry("history", "sql-lora", "--all", "--json").json
    assert "score.invalidate" in [each["entry"]["action"] for each in events]


def test_what_samples_scored_is_kept_from_collection_and_sound(registry, tmp_path):
    registry("score", "import", "v1", run(tmp_path / "one", 80))
    assert registry("admin", "collect", "--grace", "0", "--json").json["blobs"] == 0
    registry("admin", "check", "--read-data")
    left_out = registry("score", "import", "v2", run(tmp_path / "two", 62), "--without-samples", "--json").json
    assert [each["score"]["outcomes"] for each in left_out] == [None]


def test_a_policy_is_checked_tried_and_compared_before_it_is_set(registry, tmp_path):
    registry("score", "add", "v1", "--metric", "sql/acc", "--value", 0.8, "--n", 500)
    registry("promote", "v1", "prod")
    wanted = tmp_path / "prod.yaml"
    assert "nothing to say" in registry("policy", "lint", wanted).out
    tried = registry("policy", "test", "prod", wanted, code=3)
    assert "1 of the last 1 promotions into prod would not have passed" in tried.out
    assert "+  - suite: core" in registry("policy", "diff", "prod", wanted, code=1).out
    wanted.write_text(POLICY.replace("min: 0.5", "min: 50"))
    assert "is it a percentage?" in registry("policy", "lint", wanted, code=3).out
    refused = registry("policy", "set", "prod", wanted, "--json", code=2).json["error"]
    assert [each["field"] for each in refused["problems"]] == ["sql/acc"]
    wanted.write_text(POLICY.replace("min: 0.5", "min: 0.6") + "  - {verified: true}\n")
    assert "evals: a group with demands on the evidence and no rule" in registry("policy", "set", "prod", wanted).err
    assert "nothing would change" in registry("policy", "diff", "prod", wanted).out


def test_no_client_can_say_that_its_scores_are_verified_of_a_suite_or_have_samples(registry):
    settings = {"ADAPTERS_HOME": str(registry.home), "ADAPTERS_CACHE": str(registry.home / "cache")}
    client = Registry(read_settings(settings))
    stray = of_bytes(b"nothing of this kind is stored")
    claim = Score("sql/acc", 0.9, Direction.HIGHER, n=9, producer="job a1", suite="core@1", outcomes=stray)
    [recorded] = client.add_scores("sql-lora@v1", (claim,))
    assert (recorded.score.suite, recorded.score.outcomes, recorded.verified) == ("", None, False)
    for n in (0, 10**12 + 1, 10**30):
        with pytest.raises(InvalidInput, match="it must be 1 to 1,000,000,000,000"):
            client.add_scores("sql-lora@v1", (replace(claim, n=n),))
    wrong = Outcomes("sql/acc", ("a", "b"), (1.0, 0.0))
    with pytest.raises(InvalidInput, match="the mean of its 2 samples is 0"):
        client.add_scores("sql-lora@v1", (claim,), outcomes=(wrong,))
    with pytest.raises(NotFound, match="there is no suite core@7"):
        client.add_scores("sql-lora@v1", (claim,), suite="core@7")
    assert len(client.scores("sql-lora@v1")) == 1
