"""Doing things in the browser: promoting by dialog, refusals, live stages, the keyboard, the theme."""

from __future__ import annotations

import re

import pytest

from adapter_registry.domain.evidence.score import Direction, Score
from tests.acceptance.test_life import retrained

pytestmark = pytest.mark.xdist_group("pages")


@pytest.fixture
def pushed(site, lora_folder, tmp_path, request) -> str:
    """An adapter of this test alone: two versions with scores, the first in every stage."""
    name = "team/" + re.sub(r"[^a-z]+", "-", request.node.name)[:60].strip("-")
    registry = site.hub.registry
    for number, accuracy in enumerate((0.5, 0.9), 1):
        folder = retrained(lora_folder, tmp_path / str(number), number + len(name) / 100)
        registry.push(folder, base="org/llama", name=name)
        registry.add_scores(f"{name}@v{number}", (Score("x/acc", accuracy, Direction.HIGHER, stderr=0.01, n=1000),))
    for stage in ("dev", "staging", "prod"):
        registry.attempt(f"{name}@v1", stage)
    return name


def test_a_version_is_promoted_by_a_dialog_that_names_its_digest(visit, site, pushed):
    page = visit(f"/ui/adapters/{pushed}")
    page.get_by_role("link", name="Promote v2 to dev").click()
    dialog = page.get_by_role("dialog")
    digest = site.hub.registry.resolve(f"{pushed}@v2").digest
    assert digest.removeprefix("sha256:")[:12] in dialog.inner_text()
    assert "compatibility" in dialog.inner_text()
    dialog.get_by_label("Reason").fill("better in every way")
    dialog.get_by_role("button", name="Promote").click()
    page.get_by_text(f"{pushed}@v2 is in dev now.").wait_for()
    assert "better in every way" in page.get_by_label("Stages").inner_text()
    [move, *_] = site.hub.registry.history(pushed, "dev").moves
    assert (move.number, move.actor, move.reason) == (2, "ann", "better in every way")


def test_a_refusal_says_in_the_dialog_what_the_command_line_says(visit, site, pushed):
    page = visit(f"/ui/adapters/{pushed}")
    page.get_by_role("link", name="Promote v2 to prod").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Every rule passes").wait_for()
    site.hub.registry.revoke(f"{pushed}@v2", because="trained on the test split")
    dialog.get_by_role("button", name="Promote").click()
    dialog.get_by_text("trained on the test split").wait_for()
    assert site.hub.registry.resolve(f"{pushed}@prod").number == 1


def test_the_stages_of_an_open_page_follow_what_happens_elsewhere(visit, site, pushed):
    page = visit(f"/ui/adapters/{pushed}")
    site.hub.registry.attempt(f"{pushed}@v2", "dev", reason="from the pipeline")
    page.get_by_text("from the pipeline").wait_for()


def test_the_page_says_once_and_quietly_that_a_session_ended_and_leads_back_here(visit, pushed, come_back):
    here = f"/ui/adapters/{pushed}?before=3"
    page = visit(here, own=True)
    strip = page.get_by_label("Stages").inner_text()
    page.context.clear_cookies()
    page.get_by_text("is kept up to date no more").wait_for()
    assert page.get_by_label("Stages").inner_text() == strip, "what is shown stays"
    assert not page.get_by_role("dialog").is_visible()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(5000)
    assert asked == []
    assert page.get_by_text("is kept up to date no more").count() == 1
    come_back(page, page.get_by_role("link", name="Sign in").get_attribute("href"))
    page.get_by_role("heading", name="Sign in").wait_for()
    page.goto(f"{page.url.partition('/ui')[0]}/ui/sign-in?next={here.replace('?', '%3F')}")
    assert page.locator("input[name=next]").first.input_value() == here


def test_who_may_not_promote_sees_no_button(visit, site, pushed):
    page = visit(f"/ui/adapters/{pushed}", as_="rita")
    assert page.get_by_role("link", name=re.compile("Promote")).count() == 0


def test_g_and_the_letter_of_a_section_lead_there_but_not_out_of_a_field(visit):
    page = visit("/ui/adapters")
    page.keyboard.press("r")
    page.keyboard.press("g")
    page.keyboard.press("r")
    page.wait_for_url("**/ui/requests")
    page.get_by_label("Adapter", exact=True).press_sequentially("gt")
    assert page.get_by_label("Adapter", exact=True).input_value() == "gt"
    assert page.url.endswith("/ui/requests")


def test_the_slash_key_leads_to_the_search(visit):
    page = visit()
    page.keyboard.press("/")
    page.keyboard.type("fresh")
    page.keyboard.press("Enter")
    page.wait_for_url("**/ui/adapters?q=fresh")
    assert page.locator("tbody tr").count() == 1


def test_a_filter_is_in_the_address(visit):
    page = visit()
    page.get_by_label("In stage").select_option("prod")
    page.wait_for_url("**stage=prod**")
    assert page.get_by_role("link", name="team/sql-lora", exact=True).count() == 1
    assert page.get_by_role("link", name="team/fresh").count() == 0


@pytest.fixture
def come_back(site, sessions):
    """Ann comes in again, in a window whose session ended."""

    def back(page, path: str) -> None:
        page.context.add_cookies(sessions("ann")["cookies"])
        page.goto(site.url + path)

    return back


def test_what_was_written_is_there_again_after_a_session_that_ended_meanwhile(visit, come_back):
    page = visit("/ui/webhooks", own=True)
    page.get_by_label("URL").fill("https://example.org/hook")
    page.get_by_label("About").fill("team/*")
    page.context.clear_cookies()
    page.get_by_role("button", name="Set it up").click()
    page.get_by_text("your session is over").wait_for()
    assert page.get_by_role("link", name="Sign in").get_attribute("href") == "/ui/sign-in?next=%2Fui%2Fwebhooks"
    come_back(page, "/ui/webhooks")
    assert page.get_by_label("URL").input_value() == "https://example.org/hook"
    assert page.get_by_label("About").input_value() == "team/*"
    page.reload()
    assert not page.get_by_label("URL").input_value(), "it comes back once"


def test_so_is_what_was_written_in_a_dialog(visit, pushed, come_back):
    page = visit(f"/ui/adapters/{pushed}", own=True)
    dialog = page.get_by_role("dialog")
    page.get_by_role("link", name="Promote v2 to dev").click()
    dialog.get_by_label("Reason").fill("better in every way")
    page.context.clear_cookies()
    dialog.get_by_role("button", name="Promote").click()
    dialog.get_by_text("your session is over").wait_for()
    come_back(page, f"/ui/adapters/{pushed}")
    page.get_by_role("link", name="Promote v2 to dev").click()
    dialog.get_by_label("Reason").wait_for()
    assert dialog.get_by_label("Reason").input_value() == "better in every way"


def test_a_stage_goes_back_from_the_adapters_page_in_two_clicks(visit, pushed, site):
    site.hub.registry.attempt(f"{pushed}@v2", "dev")
    page = visit(f"/ui/adapters/{pushed}")
    page.get_by_role("link", name="Roll back dev").click()
    page.get_by_role("button", name="Roll back dev").click()
    page.get_by_text("dev went back to v1.").wait_for()


def test_the_chosen_theme_stays(visit):
    page = visit(theme="light", own=True)
    page.get_by_role("button", name="Switch between light and dark").click()
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_no_script_that_somebody_pushed_runs(visit, site):
    for path in ("/ui/adapters", "/ui/adapters/mallory/xss", "/ui/adapters/mallory/xss/versions/1/promote/staging"):
        page = visit(path, as_="eve")
        assert page.evaluate("window.hit") is None
        assert page.locator("main script, main iframe, main style, main img, main object").count() == 0
        assert page.locator("[onerror], [onload], [onclick], a[href^='javascript'], a[href^='data']").count() == 0
        assert "49" not in page.title()
