"""Signing by the installed command: from a new key to a promotion, a folder that is verified, and a revocation."""

from __future__ import annotations

import json
import subprocess

import pytest

POLICY = """
apiVersion: adapters/v1
kind: StagePolicy
stage: prod
require:
  integrity: {signature: any-trusted-key, scan: clean, format: safetensors}
"""


@pytest.fixture
def registry(cli, llama_folder, lora_folder):
    """An adapter whose prod asks for a signature and a clean scan, and a pair of keys."""
    cli("base", "add", "llama", llama_folder)
    (cli.folder / "prod.yaml").write_text(POLICY)
    cli("policy", "set", "prod", "prod.yaml")
    cli("key", "new", "ci.key")
    cli("push", lora_folder, "--base", "llama", "--name", "sql-lora")
    return cli


def test_a_version_is_signed_scanned_promoted_and_verified_elsewhere(registry):
    key = registry.folder / "ci.key"
    assert key.stat().st_mode & 0o777 == 0o600
    registry("key", "new", "ci.key", code=2)
    assert "nobody trusts the key" in registry("sign", "v1", "--key", "ci.key", code=7).err
    registry("key", "add", "ci", "ci.key.pub", "--scope", "default/*", "--lifetime", "365d")
    waits = registry("promote", "v1", "prod", code=4)
    assert "adapters sign default/sql-lora@v1 --key FILE" in waits.out + waits.err
    registry("verify", "v1", code=7)
    registry("sign", "v1", "--key", "ci.key")
    assert "clean" in registry("scan", "v1").out
    registry("promote", "v1", "prod")
    shown = registry("show", "v1").out
    assert "signed by" in shown
    assert "adapters 1, " in shown
    registry("pull", "v1", "-o", "out")
    registry("verify", "sql-lora@prod", "--save", "sig.json")
    said = registry("verify", "out", "--envelope", "sig.json", "--key", "ci.key.pub", "--json").json
    assert said["version"] == registry("resolve", "v1", "--json").json["digest"]
    (registry.folder / "out" / "README.md").write_text("another card")
    assert "README.md" in registry("verify", "out", "--envelope", "sig.json", "--key", "ci.key.pub", code=7).err
    registry("key", "rm", "ci", "--because", "the runner was broken into")
    assert "was revoked" in registry("verify", "v1", code=7).err
    assert "REVOKED" in registry("key", "ls").out
    assert "the key ci" in registry("promote", "v1", "prod", "--explain", code=None).out


def test_a_key_that_others_may_read_is_refused_and_one_from_a_pipe_is_not(registry):
    registry("key", "add", "ci", "ci.key.pub")
    key = registry.folder / "ci.key"
    key.chmod(0o644)
    assert "chmod 600" in registry("sign", "v1", "--key", "ci.key", code=2).err
    command = [*registry.command, "sign", "v1", "--key", "/dev/stdin", "-q"]
    done = subprocess.run(
        command, input=key.read_text(), capture_output=True, text=True, env=registry.environment, cwd=registry.folder
    )
    assert (done.returncode, done.stdout.strip()) == (0, "ci")


def test_a_push_can_sign_what_it_stored(registry, lora_folder):
    registry("key", "add", "ci", "ci.key.pub")
    registry("push", lora_folder, "--base", "llama", "--name", "other", "--sign", "ci.key")
    [signed] = registry("verify", "other@v1", "--json").json["signatures"]
    assert signed["key"]["name"] == "ci"


def test_what_another_scanner_found_is_recorded_and_exits_with_3(registry):
    finding = {"ruleId": "Eicar", "level": "error", "message": {"text": "a test"}}
    report = {"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "clamav"}}, "results": [finding]}]}
    (registry.folder / "clamav.sarif").write_text(json.dumps(report))
    assert "found 1" in registry("scan", "v1", "--report", "clamav.sarif", code=3).out
    assert "clamav" in registry("show", "v1").out
