"""Third-party scripts are the ones in the manifest, and our own stay small and free of what the policy forbids."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VENDORED = (ROOT / "web" / "static" / "vendor", ROOT / "tests" / "pages" / "vendor")


@pytest.mark.parametrize("folder", VENDORED, ids=lambda folder: folder.parent.name)
def test_every_third_party_script_is_the_one_in_the_manifest(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {line["file"] for line in manifest} == {path.name for path in folder.glob("*.js")}
    for line in manifest:
        assert hashlib.sha256((folder / line["file"]).read_bytes()).hexdigest() == line["sha256"]
        assert line["version"]
        assert line["licence"]
        assert (folder / f"{line['package']}.LICENSE").stat().st_size > 100


def test_templates_hold_no_script_style_or_handler_of_their_own():
    for path in (ROOT / "web" / "templates").rglob("*.html"):
        found = re.findall(
            r"<script(?![^>]*\ssrc=)[^>]*>|<style|\sstyle=|\son[a-z]+=|javascript:|\|safe\b", path.read_text()
        )
        assert [each for each in found if each != "|safe"] == [], path


def test_nothing_is_loaded_from_elsewhere():
    for path in [*(ROOT / "web" / "templates").rglob("*.html"), *(ROOT / "web" / "static").glob("*.*")]:
        found = re.findall(r"""(?:src|href|url|@import|import|fetch)[=\s("']+https?://\S+""", path.read_text())
        assert found == [], path
