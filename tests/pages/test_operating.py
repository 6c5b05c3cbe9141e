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


def test_a_token_is_shown_once_can_do_what_it_was_made_for_and_is_revoked(visit, site):
    page = visit("/ui/access")
    page.get_by_label("What it is for").fill("the pipeline")
    page.get_by_label("Only on").fill("team/*")
    page.get_by_label("Only these roles or verbs").fill("reader tag")
    page.get_by_label("Good for").select_option("7")
    page.get_by_role("button", name="Make token").click()
    secret = page.locator("#secret").inner_text()
    api = site.hub.api(secret)
    assert api.whoami()["name"] == "ann"
    made = next(each for each in site.hub.registry.tokens("ann") if each.label == "the pipeline")
    assert [(grant.scope, grant.verbs) for grant in made.limits] == [("team/*", ("read", "tag"))]
    page.goto(f"{site.url}/ui/access")
    assert secret not in page.content()
    page.get_by_role("link", name=f"Revoke the pipeline {made.id}").click()
    assert "in the midst of what it does" in page.get_by_role("dialog").inner_text()
    page.get_by_role("button", name=f"Revoke {made.id}").click()
    page.get_by_text("is useless from now on").wait_for()
    assert next(each for each in site.hub.registry.tokens("ann") if each.id == made.id).revoked_at


def test_who_manages_access_makes_an_account_and_gives_it_a_role(visit, site):
    page = visit("/ui/access", as_="ada")
    page.get_by_role("link", name="Accounts", exact=True).click()
    page.get_by_label("Name", exact=True).fill("newcomer")
    page.get_by_role("button", name="Make account").click()
    page.get_by_text("newcomer has an account").wait_for()
    page.get_by_label("Give newcomer a role").click()
    page.get_by_label("Roles or verbs for newcomer").fill("reader")
    page.get_by_label("Scope for newcomer").fill("team/*")
    page.get_by_role("row", name=re.compile("newcomer")).get_by_role("button", name="Give").click()
    page.get_by_text("newcomer has reader on team/*.").wait_for()
    page.get_by_role("link", name="Shut out newcomer").click()
    assert "read on team/*" in page.get_by_role("dialog").inner_text()
    page.get_by_role("button", name="Shut newcomer out").click()
    page.get_by_text("newcomer is shut out").wait_for()
    [account] = [each for each in site.hub.registry.accounts() if each.name == "newcomer"]
    assert [grant.scope for grant in account.grants] == ["team/*"]
    assert account.disabled_at


def test_a_reader_sees_no_accounts_and_makes_none(visit):
    page = visit("/ui/access", as_="rita")
    assert page.get_by_role("heading", name="Accounts").count() == 0
    assert page.get_by_role("heading", name="New account").count() == 0


def test_a_webhook_is_set_up_with_its_secret_told_paused_and_removed(visit, site):
    page = visit("/ui/webhooks")
    page.get_by_label("URL").fill("http://127.0.0.1:1/other")
    page.get_by_label("About").fill("team/sql-*")
    page.get_by_label("Events").fill("tag.moved")
    page.get_by_role("button", name="Set it up").click()
    assert page.locator("#secret").inner_text().startswith("whsec_")
    page.get_by_role("link", name="http://127.0.0.1:1/other").click()
    site.hub.registry.tag("team/sql-lora@v1", "told-of")
    page.reload()
    page.get_by_role("link", name="tag.moved").click()
    assert '"subject": "team/sql-lora@v1"' in page.get_by_role("dialog").inner_text()
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("Paused.").wait_for()
    page.get_by_role("link", name="Remove").click()
    dialog = page.get_by_role("dialog")
    assert "1 to be sent" in dialog.inner_text()
    dialog.get_by_role("button", name="Remove").click()
    page.get_by_text("http://127.0.0.1:1/other is told nothing any more.").wait_for()
    assert "http://127.0.0.1:1/other" not in {each.url for each in site.hub.registry.webhooks()}


def test_storage_counts_equal_files_once_and_says_why_bytes_stay(visit, site):
    used = {line.adapter: line for line in site.hub.registry.usage().items}["team/sql-lora"]
    files = [file for version in site.hub.registry.versions("team/sql-lora") for file in version.files]
    assert used.pushed == sum(file.size for file in files)
    assert used.stored == sum({file.digest: file.size for file in files}.values())
    page = visit("/ui/storage?plan=1", as_="ada")
    assert "kept for versions, bases and scores" in page.content()
    plan = site.hub.registry.collection_plan(grace_seconds=0)
    free = sum(share.blobs for share in plan.shares if share.why == "free")
    assert free == site.hub.registry.collect(grace_seconds=0, dry_run=True).blobs


def test_a_base_says_which_adapters_are_locked_to_it(visit, site):
    page = visit("/ui/bases")
    page.get_by_role("link", name="org/llama").click()
    locked = page.get_by_role("region", name="Adapters locked to it").inner_text()
    assert "team/sql-lora" in locked
    assert "mallory/xss" not in locked
