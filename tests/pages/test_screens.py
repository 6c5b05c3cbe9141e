"""Every screen: it renders without a complaint in both themes and widths, nothing overflows, and axe is content."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages.conftest import SCREENS

pytestmark = pytest.mark.xdist_group("pages")

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
V3, V4 = (f"/ui/adapters/team/sql-lora/versions/v{number}" for number in (3, 4))
SCREENS_OF = {
    "sign-in": ("/ui/sign-in", None),
    "adapters": ("/ui/adapters", "ann"),
    "adapters-none": ("/ui/adapters?q=nothing-like-it", "ann"),
    "adapters-refused": ("/ui/adapters?where=rank%3C%3Cx", "ann"),
    "adapter": ("/ui/adapters/team/sql-lora", "ann"),
    "fleets": ("/ui/adapters/team/sql-lora/fleets", "ann"),
    "fleets-none": ("/ui/adapters/team/fresh/fleets", "ann"),
    "adapter-fresh": ("/ui/adapters/team/fresh", "ann"),
    "adapter-hostile": ("/ui/adapters/mallory/xss", "eve"),
    "promote": ("/ui/adapters/team/sql-lora/versions/4/promote/prod", "ann"),
    "requests": ("/ui/requests", "ann"),
    "requests-all": ("/ui/requests?whose=all&ended=1", "ann"),
    "requests-none": ("/ui/requests?whose=mine", "rita"),
    "request": ("/ui/requests/P-1", "ann"),
    "request-decline": ("/ui/requests/P-1/decline", "ann"),
    "timeline": ("/ui/timeline", "ann"),
    "timeline-adapter": ("/ui/adapters/gated/sql/timeline", "ann"),
    "timeline-then": ("/ui/adapters/gated/sql/timeline?at=2020-01-01", "ann"),
    "timeline-hostile": ("/ui/adapters/mallory/xss/timeline", "eve"),
    "rollback": ("/ui/adapters/team/sql-lora/stages/prod/rollback", "ann"),
    "hold": ("/ui/adapters/gated/sql/stages/dev/hold", "ann"),
    "policies": ("/ui/policies", "ann"),
    "policy": ("/ui/policies/release", "ann"),
    "policy-edit": ("/ui/policies/prod?edit=1", "admin"),
    "freezes": ("/ui/freezes", "admin"),
    "audit": ("/ui/audit", "admin"),
    "audit-none": ("/ui/audit?actor=nobody", "admin"),
    "audit-forbidden": ("/ui/audit", "ann"),
    "chain": ("/ui/audit/chain", "admin"),
    "tags": ("/ui/adapters/team/sql-lora/versions/3/tags", "ann"),
    "revoke": ("/ui/adapters/team/sql-lora/versions/4/revoke", "ann"),
    "version": (f"{V3}", "ann"),
    "version-scores": (f"{V3}/scores", "ann"),
    "version-gates": (f"{V4}/gates", "ann"),
    "version-lineage": (f"{V3}/lineage", "ann"),
    "version-files": (f"{V3}/files", "ann"),
    "version-events": (f"{V3}/events", "ann"),
    "version-made": ("/ui/adapters/team/mix/versions/v1/made", "ann"),
    "version-revoked": ("/ui/adapters/team/leaky/versions/v1/lineage", "ann"),
    "version-hostile": ("/ui/adapters/mallory/xss/versions/v1", "eve"),
    "trends": ("/ui/adapters/team/sql-lora/trends", "ann"),
    "trends-by-time": ("/ui/adapters/team/sql-lora/trends?metric=mmlu%2Facc&by=time", "ann"),
    "trends-none": ("/ui/adapters/team/fresh/trends", "ann"),
    "compare-none": ("/ui/compare", "ann"),
    "compare": ("/ui/compare?v=team/sql-lora@v3&v=team/sql-lora@v4&v=team/sql-lora@v1", "ann"),
    "compare-differences": ("/ui/compare?v=team/sql-lora@v4&v=team/mix@v1&differing=1", "ann"),
    "jobs": ("/ui/jobs", "ann"),
    "jobs-none": ("/ui/jobs?by=nobody", "ann"),
    "job": ("/ui/jobs/{job}", "ann"),
    "job-new": ("/ui/jobs/new?kind=compose&input-1=team/sql-lora@v1&input-2=team/fresh@v1&into=team/both", "ann"),
    "job-new-extract": ("/ui/jobs/new?kind=extract", "ann"),
    "bases": ("/ui/bases", "ann"),
    "base": ("/ui/bases/{digest}", "ann"),
    "webhooks": ("/ui/webhooks", "ann"),
    "webhook": ("/ui/webhooks/{webhook}", "ann"),
    "webhook-message": ("/ui/webhooks/{webhook}/deliveries/{delivery}", "ann"),
    "storage": ("/ui/storage", "ann"),
    "storage-plan": ("/ui/storage?plan=1", "ada"),
    "access": ("/ui/access", "ann"),
    "access-all": ("/ui/access", "ada"),
    "access-ended": ("/ui/access?ended=1", "ada"),
    "accounts": ("/ui/access/accounts", "ada"),
    "groups": ("/ui/access/groups", "ada"),
    "trusts": ("/ui/access/trusts", "ada"),
    "namespace": ("/ui/namespaces/team", "ann"),
    "stages": ("/ui/stages", "admin"),
    "stage": ("/ui/stages/release", "admin"),
    "stages-read": ("/ui/stages", "ann"),
    "webhook-change": ("/ui/webhooks/{webhook}/change", "ann"),
    "webhook-remove": ("/ui/webhooks/{webhook}/remove", "ann"),
    "webhook-secret": ("/ui/webhooks/{webhook}/secret", "ann"),
    "token-revoke": ("/ui/access/tokens/{token}/revoke", "ada"),
    "account-shut-out": ("/ui/access/accounts/{account}/shut-out", "ada"),
    "group-take-out": ("/ui/access/groups/leads/members/ann/remove", "ada"),
    "trust-end": ("/ui/access/trusts/{trust}/end", "ada"),
    "freeze-remove": ("/ui/freezes/{freeze}/remove", "admin"),
    "views": ("/ui/views/adapters", "ann"),
    "adapters-view": ("/ui/adapters?stage=prod", "ann"),
    "labels": ("/ui/adapters/team/sql-lora/versions/3/labels", "ann"),
    "version-remove": ("/ui/adapters/team/sql-lora/versions/3/remove", "ann"),
    "version-serving": (f"{V3}/serving", "ann"),
    "scores-add": (f"{V3}/scores/add", "ann"),
    "scores-invalidate": (f"{V3}/scores/invalidate", "ann"),
    "suites": ("/ui/suites", "admin"),
    "reverify": ("/ui/adapters/team/sql-lora/stages/prod/verify", "ann"),
    "base-unstore": ("/ui/bases/{digest}/unstore", "admin"),
    "job-new-row": ("/ui/jobs/new?kind=merge&rows=6", "ann"),
    "job-new-flatten": ("/ui/jobs/new?kind=flatten", "ann"),
    "stage-remove": ("/ui/stages/release/remove", "admin"),
    "not-here": ("/ui/adapters/team/nothing", "ann"),
}
"""Screen -> (address, who looks). A new screen is a line here."""


READY = {"version-lineage": "#graph[data-drawn]", "version-revoked": "#graph[data-drawn]", "compare": ".heat"}
READY |= dict.fromkeys(("trends", "trends-by-time"), "[data-drawn=true]")
"""What a screen has once its scripts and jobs are done."""


# Colours do not depend on the width, nor overflow on the theme: two looks hold both.
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 375)])
@pytest.mark.parametrize("screen", SCREENS_OF)
def test_a_screen_is_whole_in_each_theme_and_width(visit, site, screen, theme, width):
    address, who = SCREENS_OF[screen]
    for place, value in site.places.items():
        address = address.replace(f"{{{place}}}", value)
    page = visit(address, as_=who, width=width, theme=theme)
    if screen in READY:
        page.locator(READY[screen]).first.wait_for(timeout=60_000)
    look(page, f"{screen}-{theme}-{width}")


def look(page, name: str) -> None:
    """Keep a picture, and hold the page to what every page has to be."""
    SCREENS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENS / f"{name}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than its window"
    assert not [each for each in page.complaints if "status of 4" not in each]
    assert serious(page) == []


def serious(page) -> list[str]:
    """What axe holds against a page, of weight."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{each['id']}: {each['help']} at {node['target']} {node.get('failureSummary', '')}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
