"""What the description of the native API shows of requests: places of addresses, and bodies that can be sent."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec

from adapter_registry.domain.base import Base, Tensor, WeightFile, identity, weights_root
from adapter_registry.domain.digest import hex_of, of_json
from adapter_registry.domain.integrity.signing import PAYLOAD_TYPE, PREDICATE, STATEMENT

PLACES: dict[str, tuple[str, Any]] = {
    "adapter_namespace": ("namespace of the adapter", "search"),
    "adapter_name": ("name of the adapter", "sql-lora"),
    "selector": ("v3, 1.2.0, ^1.2, sha256:..., a tag or a stage", "prod"),
    "stage": ("a stage, or a lane of one: prod.canary", "prod"),
    "namespace": ("a namespace", "search"),
    "account": ("name of an account", "ci"),
    "group": ("name of a group", "reviewers"),
    "name": ("name of a suite", "maths"),
    "of": ("what the view is of: adapters, jobs, requests or audit", "adapters"),
    "request": ("a request for a promotion", "P-214"),
    "freeze": ("number of a freeze", 3),
    "webhook": ("id of a webhook", "b1946ac92492"),
    "delivery": ("id of a delivery", "591785b794601e21"),
    "job": ("id of a job", "6dcd4ce23d88"),
    "token": ("id of a token", "5891b5b522d5"),
    "key": ("id of a key: the digest of its public half", "sha256:" + "0" * 64),
    "trust": ("id of a trust", "e258d248fda9"),
}
"""Part of an address -> what it is, and one."""
PLACES_OF: dict[tuple[str, str], Any] = {
    ("stages.declare", "stage"): "qa",
    ("access.set-password", "account"): "ada",
}
"""Likewise, where one operation takes another."""
_TENSORS = (Tensor("model.norm.weight", "F32", (4,), "0" * 64),)
_ROOT = weights_root(_TENSORS)
_BASE: dict[str, Any] = msgspec.to_builtins(
    Base(
        digest=identity(weights=_ROOT, tokenizer=None),
        files=(WeightFile("model.safetensors", 100, "0" * 64),),
        tensors=_TENSORS,
        config=None,
        tokenizer=None,
        architecture="MistralForCausalLM",
        model_type="mistral",
        vocab_size=32_000,
        tied=False,
        root=_ROOT,
        repository="mistralai/Mistral-7B-v0.1",
        commit="26bca36bde8333b5d7f72e9ed20ccda6a618af24",
        quantization=None,
        spot=None,
        source="hf://mistralai/Mistral-7B-v0.1",
    )
)
_POLICY: dict[str, Any] = {
    "stage": "prod",
    "verdicts": ["exact", "equivalent"],
    "health": {"matched_modules": "all", "finite": True, "nonzero": True},
    "evals": {"bounds": [{"metric": "gsm8k/exact_match", "min": 0.6}]},
}
_RECIPE: dict[str, Any] = {
    "kind": "compose",
    "inputs": [{"reference": "search/sql-lora@prod", "weight": 0.7}, {"reference": "search/chat@v3", "weight": 0.3}],
    "options": {"method": "linear"},
    "into": "search/sql-chat",
}
_MANIFEST: dict[str, Any] = {"files": [{"path": "adapter_config.json", "size": 702, "digest": "sha256:" + "0" * 64}]}
_STATEMENT: dict[str, Any] = {
    "_type": STATEMENT,
    "subject": [{"name": "search/sql-lora", "digest": {"sha256": hex_of(of_json(_MANIFEST))}}],
    "predicateType": PREDICATE,
    "predicate": _MANIFEST,
}
_KEY = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
"""
EXAMPLES: dict[str, dict[str, Any]] = {
    "push.missing": {"files": [{"path": "adapter_config.json", "size": 702, "digest": "sha256:" + "0" * 64}]},
    "upload.begin": {"files": [{"path": "adapter_config.json", "size": 702, "digest": "sha256:" + "0" * 64}]},
    "upload.unknown": {"sketches": ["0" * 64]},
    "upload.finish": {"sent": [{"digest": "sha256:" + "0" * 64, "size": 702, "ticket": "0" * 32}]},
    "beside.compare": {"references": ["search/sql-lora@v4", "search/sql-lora@prod"]},
    "beside.samples": {"references": ["search/sql-lora@v4", "search/sql-lora@prod"], "metric": "gsm8k/exact_match"},
    "push.commit": {
        "base": "mistral-7b@26bca36b",
        "files": [{"path": "adapter_config.json", "size": 702, "digest": "sha256:" + "0" * 64}],
        "message": "trained on the spring data",
        "labels": {"team": "search"},
    },
    "stored-base.store": {
        "base": "mistral-7b@26bca36b",
        "files": [{"path": "config.json", "size": 571, "digest": "sha256:" + "0" * 64}],
        "names": ["mistral-7b", "mistralai/Mistral-7B-v0.1"],
    },
    "score.add": {"scores": [{"metric": "gsm8k/exact_match", "value": 0.61, "direction": "higher", "n": 1319}]},
    "signing.sign": {
        "envelope": {
            "payload": base64.b64encode(json.dumps(_STATEMENT).encode()).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": "sha256:" + "0" * 64, "sig": "c2lnbmF0dXJl"}],
        }
    },
    "scan.report": {
        "report": {
            "scanner": "clamav",
            "release": "1.4.3",
            "found": [],
            "files": {"adapter_config.json": "sha256:" + "0" * 64},
            "digest": "sha256:" + "0" * 64,
        }
    },
    "key.trust": {"name": "ci", "public": _KEY, "scopes": ["search/*"]},
    "key.revoke": {"because": "the runner was broken into"},
    "mark.tag": {"name": "candidate"},
    "mark.label": {"labels": {"license": "apache-2.0", "draft": None}},
    "mark.revoke": {"because": "trained on leaked data"},
    "prune.prune": {"older_than_seconds": 7_776_000, "keep": 5, "dry_run": True},
    "promote.promote": {"reason": "better on every metric"},
    "promote.rollback": {"reason": "timeouts in production"},
    "request.approve": {"comment": "checked the samples by hand"},
    "request.decline": {"reason": "no license in the card"},
    "stages.declare": {"declared": {"name": "qa", "sources": {"stages": ["staging"], "hotfix": ["dev"]}}},
    "standstill.freeze": {
        "begins": "2026-12-24T00:00",
        "ends": "2027-01-02T00:00",
        "zone": "Europe/Berlin",
        "stage": "prod",
        "reason": "holidays",
    },
    "access.create-account": {"name": "ci", "kind": "service"},
    "access.grant": {"scope": "search/*", "verbs": ["writer"]},
    "access.create-token": {"account": "ci", "label": "pipeline", "expires_in_seconds": 2_592_000},
    "trust.add": {
        "account": "ci",
        "issuer": "https://token.actions.githubusercontent.com",
        "audience": "https://adapters.example.org",
        "claims": {"repository": "team/sql-lora", "ref": "refs/heads/main"},
        "limits": [{"scope": "search/*", "verbs": ["push", "read"]}],
        "seconds": 900,
    },
    "draft.set-default-base": {"base": "mistral-7b@26bca36b"},
    "webhook.register": {"url": "https://ci.example.org/hook", "scope": "search/*", "events": ["stage.moved"]},
    "webhook.change": {"active": False},
    "webhook.replay": {"delivery": None},
    "base.declare-equivalent": {"base": "mistral-7b", "other": "mistral-7b-awq", "because": "quantised by us"},
    "base.register": {"name": "mistral-7b", "base": _BASE},
    "base.recognise": {"base": _BASE},
    "score.add-to-base": {
        "base": "mistral-7b@26bca36b",
        "scores": [{"metric": "gsm8k/exact_match", "value": 0.37, "direction": "higher", "n": 1319}],
    },
    "score.invalidate": {"because": "the test set leaked into the data", "metric": "gsm8k/exact_match"},
    "score.invalidate-of-base": {
        "base": "mistral-7b@26bca36b",
        "because": "measured with another prompt",
        "metric": "gsm8k/exact_match",
    },
    "deployment.report": {
        "fleet": "eu-west",
        "name": "sql-lora",
        "follows": "search/sql-lora@prod",
        "replicas": [{"url": "http://10.0.0.7:8000", "outcome": "moved", "serves": "/srv/adapters/sql-lora"}],
    },
    "suites.set-suite": {
        "suite": {"name": "maths", "metrics": [{"metric": "gsm8k/exact_match", "setting": {"shots": "5"}}]}
    },
    "promote.set-policy": {"policy": _POLICY},
    "promote.lint-policy": {"policy": _POLICY},
    "trial.replay": {"policy": _POLICY, "last": 20},
    "standstill.set-member": {"member": True},
    "job.submit": {"recipe": _RECIPE, "priority": 0},
    "job.check": {"recipe": _RECIPE},
    "record.log": {"adapter": "search/sql-lora", "sought": {"action": "promote"}, "limit": 100},
    "collect.check": {"read_data": False},
    "collect.collect": {"grace_seconds": 86_400, "dry_run": True},
    "views.save": {"name": "small ones", "query": {"where": "rank<=16"}},
    "views.rename": {"name": "small ones", "to": "rank 16 and less"},
    "access.disable": {"disabled": True},
    "access.set-password": {"password": "a long one, by a password manager"},
}
"""Bodies of requests, for people who read the description."""
