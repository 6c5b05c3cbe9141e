"""SARIF 2.1.0: what in a scanner's report is a finding, and what is no report."""

from __future__ import annotations

import json

import pytest

from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.integrity.sarif import read_sarif

TOOL = {
    "driver": {
        "name": "scanner",
        "semanticVersion": "2.1",
        "rules": [{"id": "N1", "defaultConfiguration": {"level": "note"}}],
    }
}


def sarif(*results: object, **run: object) -> bytes:
    return json.dumps({"version": "2.1.0", "runs": [{"tool": TOOL, "results": list(results), **run}]}).encode()


def result(**facts: object) -> dict[str, object]:
    place = {"physicalLocation": {"artifactLocation": {"uri": "tokenizer_config.json"}}}
    return {"ruleId": "E1", "message": {"text": "runs\ncode"}, "locations": [place], **facts}


def test_a_report_without_results_is_clean():
    report = read_sarif(sarif())
    assert (report.scanner, report.release, report.found, report.files) == ("scanner", "2.1", (), {})
    assert report.digest == of_bytes(sarif())


def test_a_finding_has_its_rule_file_and_text():
    [found] = read_sarif(sarif(result())).found
    assert (found.code, str(found)) == ("E1", "tokenizer_config.json: runs code")


@pytest.mark.parametrize(
    ("facts", "counts"),
    [
        ({"level": "error"}, True),
        ({"level": "warning"}, True),
        ({}, True),
        ({"level": "note"}, False),
        ({"level": "none"}, False),
        ({"ruleId": "N1"}, False),
        ({"ruleId": "N1", "level": "error"}, True),
        ({"kind": "pass", "level": "none"}, False),
        ({"kind": "fail"}, True),
        ({"suppressions": [{"kind": "external"}]}, False),
    ],
)
def test_warnings_and_errors_are_findings(facts, counts):
    assert bool(read_sarif(sarif(result(**facts))).found) is counts


def test_the_files_it_looked_at_come_with_their_digests():
    artifacts = [{"location": {"uri": "a.json"}, "hashes": {"sha-256": "A" * 64}}, {"location": {"uri": "b.json"}}]
    assert read_sarif(sarif(artifacts=artifacts)).files == {"a.json": "sha256:" + "a" * 64}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version": "1.0", "runs": [{}]}',
        b'{"version": "2.1.0", "runs": []}',
        b'{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "x"}}}]}',
        sarif(invocations=[{"executionSuccessful": False}]),
        sarif(1),
        sarif(artifacts=[{"location": {"uri": "a"}, "hashes": {"sha-256": "x"}}]),
    ],
)
def test_what_is_no_report_of_a_finished_run_is_refused(data):
    with pytest.raises(InvalidInput, match="the report is"):
        read_sarif(data)
