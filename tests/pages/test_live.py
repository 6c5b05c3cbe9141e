"""What is open in a browser follows what happens elsewhere, without a reload: jobs, requests, moves of stages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.recipe import Ingredient, Recipe
from tests.acceptance.test_life import retrained

pytestmark = pytest.mark.xdist_group("pages")
DIFF = Recipe("diff", (Ingredient("team/sql-lora@v1"), Ingredient("team/sql-lora@v2")), into="team/sql-lora")


@pytest.fixture
def open_page(visit):
    """A page that is known to be the one that was opened: a reload would forget the mark."""

    def opened(path: str, **given):
        page = visit(path, **given)
        page.evaluate("window.same = true")
        return page

    return opened


def test_a_job_appears_in_the_list_and_its_page_follows_it(open_page, site):
    listed = open_page("/ui/jobs?queue=cuda")
    job = site.hub.registry.submit(DIFF, queue="cuda")
    line = listed.get_by_role("row", name=job.id)
    line.get_by_text("queued").wait_for()
    one = open_page(f"/ui/jobs/{job.id}")
    site.hub.registry.cancel_job(job.id)
    line.get_by_text("cancelled").wait_for()
    one.locator("#job-now").get_by_text("cancelled").first.wait_for()
    assert listed.evaluate("window.same")
    assert one.evaluate("window.same")


def test_a_request_appears_in_the_inbox_its_page_follows_it_and_the_stage_moves(open_page, site, lora_folder, tmp_path):
    registry, name = site.hub.registry, "gated/live"
    registry.push(retrained(lora_folder, tmp_path / "v1", 51.5), base="org/llama", name=name)
    registry.add_scores(f"{name}@v1", (Score("sql/acc", 0.9, Direction.HIGHER, stderr=0.01, n=1000),))
    registry.attempt(f"{name}@v1", "dev")
    inbox, stages = open_page(f"/ui/requests?adapter={name}"), open_page(f"/ui/adapters/{name}")
    inbox.get_by_text("Nothing waits for you").wait_for()
    asked = registry.attempt(f"{name}@v1", "release", reason="for the campaign").request
    inbox.get_by_role("link", name=asked.name, exact=True).wait_for(timeout=20_000)
    strip = stages.get_by_label("Stages")
    strip.get_by_text(asked.name).wait_for()
    one = open_page(f"/ui/requests/{asked.name}")
    replace(site.hub, token=registry.create_token(account="ann").secret).registry.approve(asked)
    one.get_by_text("Done: v1 went into release.").wait_for()
    strip.get_by_text("for the campaign").wait_for()
    inbox.get_by_text("Nothing waits for you").wait_for(timeout=20_000)
    for page in (inbox, stages, one):
        assert page.evaluate("window.same")
