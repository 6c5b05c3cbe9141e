"""Deciding in the browser: approving what was seen, declining, going back, policies, tags, revoking, the audit log."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import httpx2
import pytest

from adapter_registry.domain.audit.file import verified
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.views.record import Sought, Whose
from tests.acceptance.test_life import retrained
from tests.pages.test_door import come_in, form_token

pytestmark = pytest.mark.xdist_group("pages")


@pytest.fixture
def asked(site, lora_folder, tmp_path, request):
    """A request of this test alone: v2 of an adapter in gated/*, into `release`, where v1 is not yet either."""
    name = "gated/" + re.sub(r"[^a-z]+", "-", request.node.name)[:60].strip("-")
    registry = site.hub.registry
    for number, accuracy in enumerate((0.7, 0.9), 1):
        folder = retrained(lora_folder, tmp_path / str(number), 20 + number + len(name) / 100)
        registry.push(folder, base="org/llama", name=name)
        registry.add_scores(f"{name}@v{number}", (Score("sql/acc", accuracy, Direction.HIGHER, stderr=0.01, n=1000),))
        registry.attempt(f"{name}@v{number}", "dev", reason="nightly")
    registry.attempt(f"{name}@v2", "release", reason="for the campaign")
    return registry.requests(name)[0]


@pytest.fixture
def registry_of(site):
    """The client of somebody with an account."""

    def of(name: str):
        return replace(site.hub, token=site.hub.registry.create_token(account=name).secret).registry

    return of


@pytest.fixture
def administrator(site):
    with httpx2.Client(base_url=site.url, headers={"origin": site.url}, timeout=60) as client:
        assert come_in(client, token=site.hub.token).status_code == 303
        yield client


class TestRequests:
    def test_a_request_is_approved_from_the_inbox_and_its_stage_moves(self, visit, site, asked):
        page = visit("/ui/requests")
        page.get_by_role("link", name=asked.name, exact=True).click()
        page.get_by_role("heading", name=asked.name).wait_for()
        checklist = page.get_by_label("Checklist").inner_text()
        assert "Waits for approvals." in checklist
        assert "0 of 1" in checklist
        assert "0.9" in checklist
        page.get_by_label("Comment").fill("tried it on ten questions")
        page.get_by_role("button", name=re.compile("^Approve ")).click()
        page.get_by_text(f"{asked.reference} is in release now.").wait_for()
        assert site.hub.registry.resolve(f"{asked.adapter}@release").number == 2
        [approval] = site.hub.registry.request(asked.name).approvals
        assert (approval.by, approval.comment) == ("ann", "tried it on ten questions")
        assert "0.9" in page.get_by_label("Checklist").inner_text()

    def test_who_asks_for_a_promotion_that_has_to_wait_comes_to_its_request(self, visit, site, asked):
        site.hub.registry.cancel(asked)
        page = visit(f"/ui/adapters/{asked.adapter}/versions/2")
        page.get_by_role("link", name="Promote to release").click()
        page.get_by_role("button", name="Ask for promotion").click()
        page.get_by_text(f"asks for {asked.reference} in release.").wait_for()
        [request] = site.hub.registry.requests(asked.adapter)
        assert page.url.endswith(f"/ui/requests/{request.name}")
        assert request.requester == "ann"

    def test_what_changed_since_it_was_seen_is_not_approved(self, visit, site, asked):
        page = visit(f"/ui/requests/{asked.name}")
        worse = Score("sql/acc", 0.65, Direction.HIGHER, stderr=0.01, n=1000)
        site.hub.registry.add_scores(asked.reference, (worse,))
        page.get_by_text("What would be approved changed since this page was opened.").wait_for()
        page.get_by_role("button", name=re.compile("^Approve ")).click()
        page.get_by_text("no longer what you saw").wait_for()
        assert site.hub.registry.request(asked.name).approvals == ()

    def test_declining_takes_a_reason_and_ends_the_request(self, visit, site, asked):
        page = visit(f"/ui/requests/{asked.name}")
        page.get_by_role("link", name="Decline…").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Reason").fill("no license")
        dialog.get_by_role("button", name=re.compile("^Decline ")).click()
        page.get_by_text(f"You declined {asked.name}.").wait_for()
        assert site.hub.registry.request(asked.name).ended == "ann: no license"

    def test_where_declining_ends_nothing_it_says_who_declined_and_why(self, visit, site, registry_of, asked):
        registry = site.hub.registry
        before = registry.policy("release").policy
        process = replace(before.process, approvals=replace(before.process.approvals, decline_blocks=False))
        registry.set_policy("release", replace(before, process=process))
        try:
            registry_of("ann").decline(asked, reason="no license in the card")
            page = visit(f"/ui/requests/{asked.name}")
            page.get_by_role("heading", name="Declined").wait_for()
            page.get_by_text("“no license in the card”").wait_for()
            assert page.get_by_role("button", name=re.compile("^Approve ")).is_visible()
        finally:
            registry.set_policy("release", before)

    def test_who_asked_can_take_it_back(self, visit, site, asked):
        page = visit(f"/ui/requests/{asked.name}")
        page.get_by_role("button", name="Take it back").click()
        page.get_by_text(f"{asked.name} is cancelled").wait_for()
        assert site.hub.registry.request(asked.name).state == "cancelled"

    def test_who_may_only_read_sees_no_decision_to_make(self, visit, asked):
        page = visit(f"/ui/requests/{asked.name}", as_="rita")
        page.get_by_text("verb approve:release").wait_for()
        assert page.get_by_role("button", name=re.compile("Approve|Take")).count() == 0

    def test_the_inbox_holds_what_an_approval_of_mine_would_move(self, registry_of, site, asked):
        ann, rita, eve = (registry_of(name) for name in ("ann", "rita", "eve"))
        names = lambda lines: [line.request.name for line in lines]  # noqa: E731
        assert asked.name in names(ann.inbox())
        assert rita.inbox() == ()
        assert asked.name in names(rita.inbox(Whose.ALL, adapter=asked.adapter))
        assert asked.name not in names(eve.inbox(Whose.ALL, still_open=False))
        assert asked.name in names(site.hub.registry.inbox(Whose.MINE))
        assert site.hub.registry.inbox(adapter=asked.adapter) == (), "who pushed it may not approve it"

    def test_an_approval_that_counts_no_more_is_marked_and_asked_for_again(self, registry_of, site, asked, visit):
        site.hub.registry.freeze("2020-01-01", "2040-01-01", reason="stocktaking", scope=asked.adapter)
        window = site.hub.registry.freezes()[-1]
        ann = registry_of("ann")
        ann.approve(asked)
        assert asked.name not in [line.request.name for line in ann.inbox()]
        site.hub.registry.add_scores(asked.reference, (Score("x/new", 0.5, Direction.HIGHER, n=10),))
        [line] = [each for each in ann.inbox() if each.request.name == asked.name]
        assert line.stale == {"ann": ("evidence",)}
        page = visit(f"/ui/requests?whose=all&adapter={asked.adapter}")
        page.get_by_text("ann's approval is stale").wait_for()
        site.hub.registry.thaw(window.id)


class TestTimeline:
    def test_a_stage_goes_back_by_a_dialog_and_its_hold_is_lifted(self, visit, site, asked):
        page = visit(f"/ui/adapters/{asked.adapter}/timeline")
        page.get_by_role("link", name="Roll back dev").click()
        dialog = page.get_by_role("dialog")
        digest = site.hub.registry.resolve(f"{asked.adapter}@v1").digest
        assert digest.removeprefix("sha256:")[:12] in dialog.inner_text()
        dialog.get_by_label("Reason").fill("slow")
        dialog.get_by_role("button", name="Roll back dev").click()
        page.get_by_text("dev went back to v1.").wait_for()
        assert site.hub.registry.resolve(f"{asked.adapter}@dev").number == 1
        page.get_by_role("link", name="Lift hold of dev").click()
        page.get_by_role("dialog").get_by_role("button", name="Lift the hold").click()
        page.get_by_text("Nothing holds dev any more.").wait_for()
        assert site.hub.registry.hold(asked.adapter, "dev") is None

    def test_a_refused_rollback_says_why_in_the_dialog(self, administrator, asked):
        path = f"/ui/adapters/{asked.adapter}/stages/dev/rollback"
        answer = administrator.post(path, data={"csrf": form_token(administrator), "to": "2", "reason": "x"})
        assert answer.status_code == 409
        assert "v2 holds dev already" in answer.text

    def test_a_moment_in_the_past_shows_what_was_there_then(self, site, administrator, asked):
        first, second = site.hub.registry.history(asked.adapter, "dev").moves[::-1]
        then = administrator.get(f"/ui/adapters/{asked.adapter}/timeline", params={"at": first.at}).text
        assert re.search(r"<b>v1</b>\s*<span class=\"quiet\">then", then)
        page = site.hub.registry.moves(asked.adapter, at=first.at)
        assert [move.number for move in page.items] == [1]
        assert [move.number for move in site.hub.registry.moves(asked.adapter, "dev").items] == [2, 1]
        assert second.at > first.at

    def test_moves_of_all_adapters_page_by_key_and_stay_with_who_may_see_them(self, registry_of, asked):
        ann, eve = registry_of("ann"), registry_of("eve")
        whole, pages, before = ann.moves(limit=200).items, [], None
        while True:
            page = ann.moves(before=before, limit=3)
            pages += page.items
            if (before := page.next) is None:
                break
        assert tuple(pages) == whole
        assert len(whole) > 3
        assert {move.adapter for move in eve.moves().items} == {"mallory/xss"}


class TestPolicies:
    def test_a_document_is_checked_tried_and_set(self, administrator, registry_of, site, asked):
        registry_of("ann").approve(asked)
        path, key = "/ui/policies/release", form_token(administrator)
        head = "apiVersion: adapters/v1\nkind: StagePolicy\nstage: release\n"
        evals = "  evals:\n    - {metric: sql/acc, min: 0.95}\n    - {metric: sql/acc, max: 0.5}\n"
        text = f"{head}require:\n{evals}"

        def send(do: str, document: str = text):
            return administrator.post(path, data={"csrf": key, "do": do, "document": document})

        checked = send("check").text
        assert "impossible" in checked
        assert 'class="added"' in checked
        tried = send("try").text
        assert "would not have passed" in tried
        assert f"{asked.reference}</td>" in tried
        before = site.hub.registry.policy("release")
        wrong = send("set", f"{head}require: {{evals: 3}}\n")
        assert wrong.status_code == 422
        assert "evals: 3" in wrong.text, "what was typed is still there"
        assert site.hub.registry.policy("release").revision == before.revision
        process = "from: {stages: [dev]}\nrequire:\n  approvals: {count: 1, not: [author]}\n  metadata: [x]\n"
        try:
            assert send("set", f"{head}{process}").status_code == 303
            [newest, older, *_] = site.hub.registry.revisions("release")
            assert (newest.revision, newest.by) == (before.revision + 1, "admin")
            assert older.policy == before.policy
            assert "It states x." in administrator.get(path).text
            assert "sql/acc is at least 0.6" in administrator.get(f"{path}?revision={older.revision}").text
        finally:
            site.hub.registry.set_policy("release", before.policy)

    def test_a_freeze_window_is_added_and_removed(self, administrator, site):
        form = {"csrf": form_token(administrator), "begins": "fri 16:00", "ends": "mon 08:00", "reason": "weekend"}
        assert (
            administrator.post("/ui/freezes", data={**form, "stage": "release", "scope": "gated/none"}).status_code
            == 303
        )
        window = site.hub.registry.freezes()[-1]
        assert (window.stage, window.scope, window.weekly) == ("release", "gated/none", True)
        assert "weekend" in administrator.get("/ui/freezes").text
        assert administrator.post("/ui/freezes", data={**form, "ends": "soon"}).status_code == 422
        there = f"/ui/freezes/{window.id}/remove"
        assert "weekend" in administrator.get(there).text
        assert administrator.post(there, data={"csrf": form["csrf"]}).status_code == 303
        assert window not in site.hub.registry.freezes()


class TestVersions:
    def test_a_version_is_tagged_and_revoked_from_its_row(self, visit, site, asked):
        page = visit(f"/ui/adapters/{asked.adapter}")
        page.get_by_label("More about v1").click()
        page.get_by_role("link", name="Tags of v1").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("New tag").fill("prod")
        dialog.get_by_role("button", name=re.compile("^Tag ")).click()
        dialog.get_by_role("alert").wait_for()
        dialog.get_by_label("New tag").fill("keep")
        dialog.get_by_role("button", name=re.compile("^Tag ")).click()
        page.get_by_text("keep points at v1 now.").wait_for()
        page.get_by_label("More about v1").click()
        page.get_by_role("link", name="Revoke v1").click()
        version = site.hub.registry.resolve(f"{asked.adapter}@v1")
        dialog.get_by_label("Reason").fill("the data has to be deleted")
        dialog.get_by_role("button", name=f"Revoke {version.digest.removeprefix('sha256:')[:12]}").click()
        page.get_by_text(f"{asked.adapter}@v1 is revoked.").wait_for()
        page.get_by_label("More about v1").click()
        page.get_by_role("link", name="Tags of v1").click()
        dialog.get_by_role("button", name="Remove the tag keep").click()
        page.get_by_text("The tag keep is removed.").wait_for()

    def test_what_a_stage_serves_is_not_revoked(self, administrator, asked):
        form = {"csrf": form_token(administrator), "reason": "x"}
        answer = administrator.post(f"/ui/adapters/{asked.adapter}/versions/2/revoke", data=form)
        assert answer.status_code == 409
        assert "dev serves" in answer.text


class TestAudit:
    def test_the_log_is_narrowed_by_who_what_object_outcome_and_time(self, site, asked):
        log = site.hub.registry.log
        [newest, *_] = log(Sought(action="promote", subject=asked.adapter)).items
        assert newest.entry.subject == asked.reference
        assert {e.entry.actor for e in log(Sought(actor="admin")).items} == {"admin"}
        assert log(Sought(actor="adm")).items == ()
        assert {e.entry.outcome for e in log(Sought(outcome="refused")).items} <= {"refused"}
        of_requests = {e.entry.action for e in log(Sought(action="request")).items}
        assert all(action.startswith("request.") for action in of_requests)
        assert len(of_requests) > 1
        at = newest.entry.at
        assert newest in log(Sought(since=at, until=at)).items
        assert log(Sought(until="2020-01-01")).items == ()
        assert all(e.entry.subject.startswith(asked.adapter) for e in log(Sought(), adapter=asked.adapter).items)

    def test_the_log_pages_by_key_without_gaps(self, site, asked):
        log, found, before = site.hub.registry.log, [], None
        while True:
            page = log(Sought(), before=before, limit=50)
            found += [event.sequence for event in page.items]
            if (before := page.next) is None:
                break
        assert found == list(range(found[0], 0, -1))
        assert site.hub.registry.chain().events >= found[0]

    def test_the_filters_stand_in_the_address_and_the_export_verifies(self, administrator, asked):
        shown = administrator.get("/ui/audit", params={"subject": asked.adapter, "action": "push"}).text
        assert asked.reference in shown
        assert "promote</a>" not in shown
        sent = administrator.get("/ui/audit/export")
        assert sent.headers["content-disposition"] == 'attachment; filename="audit.jsonl"'
        head = json.loads(sent.text.splitlines()[-1])["head"]
        assert verified(sent.text, head=head).head == head
        assert "each follows from the one before" in administrator.get("/ui/audit/chain").text
        assert administrator.get("/ui/audit", params={"since": "yesterday"}).status_code == 422

    def test_who_may_not_read_the_log_gets_none_of_it(self, site):
        with httpx2.Client(base_url=site.url, headers={"origin": site.url}, timeout=60) as client:
            come_in(client, name="rita", password="correct horse battery")
            for path in ("/ui/audit", "/ui/audit/chain", "/ui/audit/export"):
                assert client.get(path).status_code == 403
