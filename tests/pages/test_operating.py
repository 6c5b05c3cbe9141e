"""What runs the registry, in the browser: jobs, bases, webhooks, storage, access."""

from __future__ import annotations

import re

import pytest

from adapter_registry.domain.job import State
from adapter_registry.domain.recipe import Ingredient, Recipe

pytestmark = pytest.mark.xdist_group("pages")

DIFF = Recipe("diff", (Ingredient("team/sql-lora@v1"), Ingredient("team/sql-lora@v2")), into="team/sql-lora")


def test_a_new_job_says_what_fits_while_it_is_filled_in_then_runs_before_the_eyes(visit, site):
    page = visit("/ui/jobs/new?kind=diff")
    page.get_by_label("Version 1").fill("team/sql-lora@v1")
    page.get_by_label("Version 2").fill("team/nothing@v1")
    page.get_by_label("Version 2").press("Tab")
    page.get_by_text("there is no adapter team/nothing").wait_for()
    page.get_by_label("Version 2").fill("team/sql-lora@v3")
    page.get_by_label("Version 2").press("Tab")
    page.get_by_text("This can be queued.").wait_for()
    assert "All locked to the same base" in page.locator("#fit").inner_text()
    page.get_by_role("button", name="Queue diff").click()
    page.wait_for_url(re.compile(r"/ui/jobs/[0-9a-f]{12}$"))
    page.get_by_text("succeeded").wait_for(timeout=120_000)
    job = site.hub.registry.job(page.url.rpartition("/")[2])
    assert (job.recipe.kind, job.submitted_by, job.state) == ("diff", "ann", State.SUCCEEDED)


def test_a_job_that_cannot_come_to_anything_is_refused_beside_what_was_filled_in(visit):
    page = visit("/ui/jobs/new?kind=compose&input-1=team/sql-lora@v1&input-2=team/sql-lora@v2&into=team/both&method=x")
    page.get_by_text("there is no method 'x'").wait_for()
    page.get_by_role("button", name="Queue compose").click()
    page.locator(".beside > .refusal").get_by_text("there is no method 'x'").wait_for()
    assert page.get_by_label("Version 2").input_value() == "team/sql-lora@v2"


def test_a_waiting_job_is_cancelled_and_queued_again(visit, site):
    job = site.hub.registry.submit(DIFF, queue="cuda")
    page = visit(f"/ui/jobs/{job.id}")
    page.get_by_role("button", name="Cancel job").click()
    page.get_by_text("Cancelled.").wait_for()
    assert site.hub.registry.job(job.id).state is State.CANCELLED
    page.get_by_role("button", name="Do it again").click()
    page.get_by_text("Queued again.").wait_for()
    assert site.hub.registry.job(job.id).state is State.QUEUED


def test_jobs_are_narrowed_in_the_address(visit, site):
    queued = site.hub.registry.submit(DIFF, queue="cuda")
    page = visit("/ui/jobs?queue=cuda&kind=diff&by=admin")
    assert page.get_by_text(queued.id).count() == 1
    page.goto(f"{site.url}/ui/jobs?queue=cuda&by=rita")
    page.get_by_text("No such jobs").wait_for()
    mine = site.hub.registry.jobs(queue="cuda", by="admin")
    assert queued.id in {job.id for job in mine}
    assert {job.queue for job in mine} == {"cuda"}
