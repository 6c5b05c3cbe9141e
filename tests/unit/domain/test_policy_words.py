"""A policy in sentences: nothing that a document asks is left out."""

from __future__ import annotations

from adapter_registry.domain.policies.file import read_policy
from adapter_registry.domain.policies.policy import PRESETS, preset
from adapter_registry.domain.policies.words import in_words

EVERYTHING = """
apiVersion: adapters/v1
kind: StagePolicy
stage: prod
from: {stages: [staging], hotfix: [dev]}
require:
  integrity: {signature: {keys: [ci, ann], count: 2}, scan: {by: [adapters, clamav], max_age: 7d}}
  compatibility: {verdict: [exact]}
  metadata: [license, owner]
  evals:
    - {metric: gsm8k/acc, min: 0.42}
    - verified: true
      max_age: 30d
      relative:
        - {metric: mmlu/acc, test: superior, margin: 1%, against: base}
  soak: {in: staging, min: 24h}
  approvals: {count: 2, from: [group:leads], decline_blocks: false}
rollback: {window: 5, reason: required}
override: {who: group:managers, approvals: 1, ticket: required}
reverify_every: 90d
"""


def test_every_part_of_a_document_is_a_sentence():
    words = dict(in_words(read_policy(EVERYTHING)))
    assert words["signature"] == "It is signed by at least 2 of the keys ci and ann."
    assert (
        words["scan"] == "adapters and clamav looked through its files in the last 7d, and no scanner found anything."
    )
    assert words["metadata"] == "It states license and owner."
    assert words["scores"] == "gsm8k/acc is at least 0.42."
    assert words["comparison"] == (
        "mmlu/acc is better than that of the base by more than 1%, at 95% confidence. "
        "Only scores that are measured by this registry and at most 30d old count."
    )
    assert words["soak"] == "It was in staging for 1d without a break."
    assert words["approvals"].startswith("2 approvals of different people, from ")
    assert "leads" in words["approvals"]
    assert words["approvals"].endswith("declining does not end the request.")
    assert "one of the last 5 versions, with a reason" in words["rollback"]
    assert "a reason and a ticket" in words["override"]
    assert words["verification"].endswith("every 90d.")
    assert words["hotfix"].startswith("A hotfix may come from dev")


def test_every_preset_has_words():
    for name in PRESETS:
        assert all(text.endswith(".") for _, text in in_words(preset(name, stage="prod")))
