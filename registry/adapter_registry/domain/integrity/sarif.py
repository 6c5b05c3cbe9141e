"""Reports of scanners in SARIF 2.1.0 (https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from adapter_registry.domain.digest import Digest, of_bytes, parse
from adapter_registry.domain.errors import InvalidInput, InvalidReference, Notice
from adapter_registry.domain.integrity.scan import LONGEST_LINE, Report

PASSING = ("pass", "notApplicable", "informational")
HARMLESS = ("none", "note")


def read_sarif(data: bytes) -> Report:
    """What the one run in a SARIF file says: every result of level warning or error that is no pass is a finding.

    Raises:
        InvalidInput: not SARIF 2.1.0 with one run, or a run that did not finish.
    """
    try:
        document = json.loads(data)
        if document["version"] != "2.1.0" or len(document["runs"]) != 1:
            raise InvalidInput("the report is not SARIF 2.1.0 with one run.")
        [run] = document["runs"]
        if not all(each["executionSuccessful"] for each in run.get("invocations", ())):
            raise InvalidInput("the report is of a run that did not succeed, so that it says nothing.")
        driver = run["tool"]["driver"]
        release = str(driver.get("semanticVersion") or driver.get("version") or "")
        found = tuple(_notice(each) for each in run["results"] if _counts(each, driver))
        return Report(str(driver["name"]), release, found, _files(run), of_bytes(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidReference) as error:
        raise InvalidInput(f"the report is not SARIF 2.1.0: {type(error).__name__} at {str(error)[:80]}.") from error


def _counts(result: Mapping[str, Any], driver: Mapping[str, Any]) -> bool:
    """Whether a result is a finding; its level is its own or its rule's, and a warning where neither says it."""
    if result.get("kind", "fail") in PASSING or result.get("suppressions"):
        return False
    rules = {rule["id"]: rule.get("defaultConfiguration", {}) for rule in driver.get("rules", ())}
    level = result.get("level") or rules.get(result.get("ruleId"), {}).get("level", "warning")
    return level not in HARMLESS


def _notice(result: Mapping[str, Any]) -> Notice:
    places = [each["physicalLocation"]["artifactLocation"]["uri"] for each in result.get("locations", ())]
    text = " ".join(str(result["message"].get("text") or result["message"].get("id", "")).split())
    return Notice(str(result.get("ruleId", "")), str(places[0]) if places else "", "", text[:LONGEST_LINE])


def _files(run: Mapping[str, Any]) -> dict[str, Digest]:
    return {
        str(each["location"]["uri"]): parse(each["hashes"]["sha-256"].lower())
        for each in run.get("artifacts", ())
        if "sha-256" in each.get("hashes", {}) and "location" in each
    }
