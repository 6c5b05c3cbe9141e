"""What was shown is what is done: a form says what its page showed, and is refused when that is so no more."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx2
import pytest

from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.policies.policy import Policy
from tests.acceptance.test_life import retrained
from tests.pages.conftest import PASSWORD
from tests.pages.test_door import come_in, form_token

pytestmark = pytest.mark.xdist_group("pages")


@pytest.fixture
def pushed(site, lora_folder, tmp_path, request) -> str:
    """An adapter of this test alone: three versions with scores, the first two after another in dev."""
    name = "team/" + re.sub(r"[^a-z]+", "-", request.node.name)[:60].strip("-")
    registry = site.hub.registry
    for number in (1, 2, 3):
        folder = retrained(lora_folder, tmp_path / str(number), 30 + number + len(name) / 100)
        registry.push(folder, base="org/llama", name=name)
        scores = (Score("x/acc", 0.5 + number / 10, Direction.HIGHER, stderr=0.01, n=1000),)
        registry.add_scores(f"{name}@v{number}", scores)
    for number in (1, 2):
        registry.attempt(f"{name}@v{number}", "dev")
    return name


@pytest.fixture
def ada(site) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=site.url, headers={"origin": site.url}, timeout=60) as client:
        assert come_in(client, name="ada", password=PASSWORD).status_code == 303
        yield client


def shown(client: httpx2.Client, path: str) -> dict[str, str]:
    """What the hidden fields of a page's forms hold, those of its frame left out."""
    main = client.get(path).text.partition("<main")[2]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', main))


class TestGoingBack:
    def test_a_stage_that_moved_meanwhile_stays_where_it_is(self, visit, site, pushed):
        page = visit(f"/ui/adapters/{pushed}/timeline")
        page.get_by_role("link", name="Roll back dev").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Reason").fill("v2 is slow")
        site.hub.registry.attempt(f"{pushed}@v3", "dev")
        dialog.get_by_role("button", name="Roll back dev").click()
        dialog.get_by_text("dev moved since you looked: admin put v3 there").wait_for()
        assert site.hub.registry.resolve(f"{pushed}@dev").number == 3
        assert "now v3" in dialog.inner_text(), "the dialog shows what is there now"
        dialog.get_by_label("v2", exact=False).check()
        dialog.get_by_role("button", name="Roll back dev").click()
        page.get_by_text("dev went back to v2.").wait_for()

    def test_without_scripts_too(self, ada, site, pushed):
        path = f"/ui/adapters/{pushed}/stages/dev/rollback"
        form = {**shown(ada, path), "to": "1", "reason": "slow"}
        site.hub.registry.attempt(f"{pushed}@v3", "dev")
        answer = ada.post(path, data=form)
        assert answer.status_code == 409
        assert "dev moved since you looked" in answer.text
        assert site.hub.registry.resolve(f"{pushed}@dev").number == 3


class TestPromoting:
    def test_another_incumbent_than_was_shown_is_not_replaced(self, ada, site, pushed):
        path = f"/ui/adapters/{pushed}/versions/1/promote/dev"
        form = shown(ada, path)
        site.hub.registry.attempt(f"{pushed}@v3", "dev")
        refused = ada.post(path, data=form)
        assert refused.status_code == 409
        assert "Now v3 is in dev; nothing was done" in refused.text.replace("\n", " ")
        assert site.hub.registry.resolve(f"{pushed}@dev").number == 3
        assert ada.post(path, data=shown(ada, path)).status_code == 303
        assert site.hub.registry.resolve(f"{pushed}@dev").number == 1

    def test_other_evidence_than_was_shown_is_not_acted_on(self, ada, site, pushed):
        path = f"/ui/adapters/{pushed}/versions/3/promote/dev"
        form = shown(ada, path)
        site.hub.registry.add_scores(f"{pushed}@v3", (Score("x/acc", 0.1, Direction.HIGHER, n=10),))
        assert ada.post(path, data=form).status_code == 409
        assert site.hub.registry.resolve(f"{pushed}@dev").number == 2


def test_another_hold_than_was_shown_is_not_lifted(ada, site, pushed):
    registry, path = site.hub.registry, f"/ui/adapters/{pushed}/stages/dev/hold"
    registry.rollback(pushed, "dev", reason="slow")
    form = shown(ada, path)
    registry.attempt(f"{pushed}@v3", "dev")
    registry.rollback(pushed, "dev", to="v2", reason="wrong answers")
    answer = ada.post(path, data=form)
    assert answer.status_code == 409
    assert "nothing was lifted" in answer.text
    assert registry.hold(pushed, "dev").reason == "wrong answers"
    assert ada.post(path, data=shown(ada, path)).status_code == 303
    assert registry.hold(pushed, "dev") is None


def test_a_tag_that_moved_away_is_not_removed(ada, site, pushed):
    registry, path = site.hub.registry, f"/ui/adapters/{pushed}/versions/1/tags"
    registry.tag(f"{pushed}@v1", "keep")
    registry.tag(f"{pushed}@v2", "keep")
    answer = ada.post(path, data={"csrf": form_token(ada), "do": "remove", "name": "keep"})
    assert answer.status_code == 409
    assert "it points at v2 now" in answer.text
    assert registry.resolve(f"{pushed}@keep").number == 2


def test_a_policy_that_somebody_else_changed_is_not_overwritten(ada, site):
    registry, path = site.hub.registry, "/ui/policies/release"
    before = registry.policy("release")
    form = shown(ada, f"{path}?edit=1")
    document = (
        "apiVersion: adapters/v1\nkind: StagePolicy\nstage: release\nfrom: {stages: [dev]}\nrequire: {metadata: [x]}\n"
    )
    try:
        site.hub.registry.set_policy("release", Policy("release"))
        answer = ada.post(path, data={**form, "do": "set", "document": document})
        assert answer.status_code == 409
        assert f"was written from revision {before.revision}" in answer.text
        assert "metadata: [x]" in answer.text, "what was typed is still there"
        assert registry.policy("release").revision == before.revision + 1
        again = dict(re.findall(r'name="(seen)" value="([^"]*)"', answer.text))
        assert ada.post(path, data={**form, **again, "do": "set", "document": document}).status_code == 303
    finally:
        registry.set_policy("release", before.policy)


@pytest.mark.parametrize("seen", ["x", "-1", "²", "9" * 40])
def test_what_no_page_showed_is_refused(ada, pushed, seen):
    path = f"/ui/adapters/{pushed}/stages/dev/rollback"
    answer = ada.post(path, data={"csrf": form_token(ada), "to": "1", "reason": "x", "seen": seen})
    assert answer.status_code == 422
    assert "nothing was done" in answer.text
