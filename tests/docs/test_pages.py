"""Every command, error, problem, notice and setting is documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adapter_registry.domain.problem_codes import CODES, NOTICES
from docs.build import PAGES

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "registry").rglob("*.py")) + sorted((ROOT / "cli").rglob("*.py"))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_follows_from_the_code_is_up_to_date(name):
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "run `make docs`"


def codes(kind: str) -> set[str]:
    found = set()
    for path in SOURCES:
        found |= set(re.findall(rf'\b{kind}\(\s*"([a-z-]+)"', path.read_text()))
    return found


def test_every_problem_and_notice_in_the_code_is_documented():
    assert codes("Problem") | codes("_problem") | codes("_bad") - {"adapter_config.json"} <= CODES.keys()
    assert codes("Notice") <= NOTICES.keys()


def test_every_setting_is_documented():
    settings = set(re.findall(r"ADAPTERS_[A-Z_]+", (ROOT / "registry/adapter_registry/settings.py").read_text()))
    page = (ROOT / "docs" / "settings.md").read_text()
    assert settings <= set(re.findall(r"ADAPTERS_[A-Z_]+", page))


def test_every_link_between_pages_leads_somewhere():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
