"""What people keep and declare on the pages: views, labels, scores, stages, groups, trusts, defaults of namespaces."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx2
import pytest

from adapter_registry.api.pages import members
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.webhooks.webhook import State
from tests.acceptance.test_life import retrained
from tests.pages.conftest import PASSWORD, Site
from tests.pages.test_door import come_in, form_token

pytestmark = pytest.mark.xdist_group("pages")


@pytest.fixture
def plain(browser, site, sessions) -> Iterator:
    """A page of ada's in a browser that runs no scripts."""
    context = browser.new_context(java_script_enabled=False, storage_state=sessions("ada"))
    page = context.new_page()
    page.set_default_timeout(20_000)
    yield page
    context.close()


@pytest.fixture
def ada(site: Site) -> Iterator[httpx2.Client]:
    """Plain HTTP as the administrator `ada`."""
    with httpx2.Client(base_url=site.url, headers={"origin": site.url}, timeout=60) as client:
        assert come_in(client, name="ada", password=PASSWORD).status_code == 303
        yield client


def send(client: httpx2.Client, path: str, **form: str) -> httpx2.Response:
    return client.post(path, data={"csrf": form_token(client), **form})


class TestViews:
    def test_what_a_list_is_narrowed_to_is_kept_opened_renamed_shared_and_forgotten(self, visit, site):
        page = visit("/ui/adapters?stage=prod&sort=name")
        page.get_by_text("Keep this view").click()
        page.get_by_label("Name of the view").fill("what customers get")
        page.get_by_role("button", name="Keep it").click()
        page.get_by_text("Kept as what customers get.").wait_for()
        page.goto(f"{site.url}/ui/adapters")
        page.get_by_role("link", name="what customers get").click()
        page.wait_for_url("**/ui/adapters?stage=prod&sort=name")
        assert page.get_by_role("link", name="what customers get").get_attribute("aria-current") == "true"
        page.get_by_role("link", name="Your views").click()
        shared = page.get_by_role("button", name="Copy address of what customers get").get_attribute("data-copy")
        assert shared == f"{site.url}/ui/adapters?stage=prod&sort=name"
        page.get_by_label("New name of what customers get").fill("in prod")
        page.get_by_role("button", name="Rename what customers get").click()
        page.get_by_text("what customers get is called in prod now.").wait_for()
        page.get_by_role("button", name="Forget in prod").click()
        page.get_by_text("in prod is forgotten.").wait_for()

    def test_nobody_sees_anothers_views(self, ada, site):
        send(ada, "/ui/views/jobs", do="save", name="mine alone", **{"kept.state": "failed"})
        assert "mine alone" in ada.get("/ui/jobs").text
        with httpx2.Client(base_url=site.url, headers={"origin": site.url}, timeout=60) as rita:
            come_in(rita, name="rita", password=PASSWORD)
            assert "mine alone" not in rita.get("/ui/jobs").text + rita.get("/ui/views/jobs").text

    @pytest.mark.parametrize(
        ("form", "said"),
        [
            ({"do": "save", "name": "x"}, "nothing to keep"),
            ({"do": "save", "name": " ", "kept.stage": "prod"}, "1 to 60 printable"),
            ({"do": "save", "name": "x", "kept.csrf": "1"}, "not &#39;csrf&#39;"),
            ({"do": "rename", "name": "none such", "to": "y"}, "you keep no view"),
            ({"do": "dance", "name": "x"}, "nothing was"),
        ],
    )
    def test_what_cannot_be_kept_is_refused(self, ada, form, said):
        answer = send(ada, "/ui/views/adapters", **form)
        assert 400 <= answer.status_code < 500
        assert said in answer.text
        assert send(ada, "/ui/views/nothing", **form).status_code == 404


class TestScores:
    def test_a_results_file_is_imported_and_a_wrong_score_declared_void(self, visit, site, lora_folder, tmp_path):
        name = "team/imported"
        site.hub.registry.push(retrained(lora_folder, tmp_path / "v1", 7.5), base="org/llama", name=name)
        results = {
            "results": {"gsm8k": {"exact_match,strict-match": 0.5, "exact_match_stderr,strict-match": 0.01}},
            "versions": {"gsm8k": 3},
            "n-shot": {"gsm8k": 5},
            "higher_is_better": {"gsm8k": {"exact_match": True}},
            "n-samples": {"gsm8k": {"original": 1319, "effective": 1319}},
            "config": {"model": "hf", "model_args": "pretrained=elsewhere"},
            "git_hash": "abc",
        }
        file = tmp_path / "results_x.json"
        file.write_text(json.dumps(results))
        page = visit(f"/ui/adapters/{name}/versions/v1/scores")
        page.get_by_role("link", name="Add scores").click()
        page.locator("input[name=results]").set_input_files(file)
        page.get_by_role("button", name="Import", exact=True).click()
        page.get_by_text("1 score recorded").wait_for()
        [score] = site.hub.registry.scores(f"{name}@v1")
        assert (score.score.metric, score.score.value) == ("gsm8k/exact_match@strict-match", 0.5)
        assert score.recorded_by == "ann"
        page.get_by_role("link", name="Void the score").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Reason").fill("wrong chat template")
        dialog.get_by_role("button", name="Declare them void").click()
        page.get_by_text("1 score of team/imported@v1 counts no more").wait_for()
        [score] = site.hub.registry.scores(f"{name}@v1")
        assert score.invalid.because == "wrong chat template"

    def test_a_stage_that_rests_on_evidence_which_was_declared_void_says_so(self, visit, site, lora_folder, tmp_path):
        name, registry = "team/doubted", site.hub.registry
        registry.push(retrained(lora_folder, tmp_path / "v1", 8.5), base="org/llama", name=name)
        registry.add_scores(f"{name}@v1", (Score("sql/acc", 0.7, Direction.HIGHER, n=1000),))
        assert registry.attempt(f"{name}@v1", "prod").promotion
        page = visit(f"/ui/adapters/{name}")
        assert page.get_by_text("evidence declared void").count() == 0
        registry.invalidate_scores(f"{name}@v1", because="test questions were trained on", metric="sql/acc")
        sign = page.get_by_text("evidence declared void")
        sign.wait_for()
        assert "sql/acc of team/doubted@v1: test questions were trained on" in sign.get_attribute("title")

    @pytest.mark.parametrize(
        ("form", "said"),
        [
            ({"do": "import"}, "no results file was chosen"),
            ({"do": "typed", "metric": "x/acc", "value": "many"}, "is a number"),
            ({"do": "typed", "metric": "x/acc", "value": "1", "n": "inf"}, "a whole number"),
            ({"do": "typed", "metric": "x/acc", "value": "1", "n": "9" * 5000}, "a whole number"),
            ({"do": "typed", "metric": "x/acc", "value": "1", "setting": "shots"}, "is not NAME=VALUE"),
            ({"do": "typed", "metric": "x/acc"}, "a score has a value"),
        ],
    )
    def test_what_is_no_score_is_refused(self, ada, form, said):
        answer = send(ada, "/ui/adapters/team/fresh/versions/1/scores/add", **form)
        assert answer.status_code == 422
        assert said in answer.text

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"--x\r\n\r\n",
            b'--x\r\nContent-Disposition: form-data; name="results"; filename="r.json"\r\n\r\n{}',
            b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n",
            b'--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n\xff\r\n--x--\r\n',
            b'--x\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n1\r\n--x--\r\n',
            b'--x\r\nContent-Disposition: form-data; name="csrf"\r\n1\r\n--x--\r\n',
            b'--xy\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n1\r\n--xy--\r\n',
        ],
    )
    def test_a_broken_upload_is_no_form(self, ada, body):
        where = "/ui/adapters/team/fresh/versions/1/scores/add"
        answer = ada.post(where, content=body, headers={"content-type": "multipart/form-data; boundary=x"})
        assert answer.status_code == 422
        assert "is not a form" in answer.text

    def test_a_form_has_an_end(self, ada):
        where, form = "/ui/adapters/team/fresh/versions/1/scores/add", {"csrf": form_token(ada), "do": "typed"}
        many = [("results", (f"{number}.json", b"{}")) for number in range(21)]
        for given in ({"data": {**form, "metric": "x" * 1_100_000}, "files": many[:1]}, {"data": form, "files": many}):
            answer = ada.post(where, **given)
            assert answer.status_code == 413
            assert "20 files at most" in answer.text

    @pytest.mark.parametrize("name", ["Überprüfung 評価.json", "\u202ereversed.json", "a%22b.json"])
    def test_a_file_may_be_called_as_people_call_files(self, ada, name):
        boundary = {"content-type": "multipart/form-data; boundary=x"}
        parts = [("csrf", form_token(ada)), ("do", "import")]
        body = "".join(f'--x\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{text}\r\n' for key, text in parts)
        body += f'--x\r\nContent-Disposition: form-data; name="results"; filename="{name}"\r\n\r\n{{}}\r\n--x--\r\n'
        answer = ada.post("/ui/adapters/team/fresh/versions/1/scores/add", content=body.encode(), headers=boundary)
        assert answer.status_code == 422
        assert name.encode().isascii() or "results" in answer.text

    def test_a_file_with_a_hostile_name_is_a_text(self, ada):
        files = {"results": ("<script>window.hit=1</script>.json", b"{}")}
        form = {"csrf": form_token(ada), "do": "import"}
        answer = ada.post("/ui/adapters/team/fresh/versions/1/scores/add", data=form, files=files)
        assert answer.status_code == 422
        assert "<script>window" not in answer.text


class TestDeclaring:
    def test_a_version_is_labelled_and_the_label_removed(self, visit, site):
        page = visit("/ui/adapters/team/fresh/versions/v1")
        page.get_by_role("link", name="Labels of v1").click()
        page.get_by_label("Label", exact=True).fill("owner")
        page.get_by_label("Value").fill("nlp")
        page.get_by_role("button", name=re.compile("^Label ")).click()
        page.get_by_text("team/fresh@v1 has owner=nlp.").wait_for()
        page.get_by_role("link", name="Labels of v1").click()
        page.get_by_role("button", name="Remove the label owner").click()
        page.get_by_text("has no label owner any more").wait_for()
        assert "owner" not in site.hub.registry.resolve("team/fresh@v1").labels

    def test_a_version_is_removed_without_scripts_and_one_in_a_stage_is_not(self, plain, site, lora_folder, tmp_path):
        site.hub.registry.push(retrained(lora_folder, tmp_path / "v1", 8.5), base="org/llama", name="team/short-lived")
        digest = site.hub.registry.resolve("team/short-lived@v1").digest.removeprefix("sha256:")[:12]
        plain.goto(f"{site.url}/ui/adapters/team/short-lived/versions/v1/remove")
        assert digest in plain.content()
        plain.get_by_role("button", name=f"Remove {digest}").click()
        plain.get_by_text("there is no").or_(plain.get_by_text("is removed")).first.wait_for()
        assert site.hub.registry.versions("team/short-lived") == ()
        plain.goto(f"{site.url}/ui/adapters/team/sql-lora/versions/v3/remove")
        assert "stage prod" in plain.locator(".verdict-line.bad").inner_text()
        assert plain.get_by_role("button", name="Remove").count() == 0

    def test_a_stage_is_declared_changed_and_removed(self, ada, site):
        given = {"like": "staging", "scope": "gated/*"}
        assert send(ada, "/ui/stages", name="trial", below="dev", **given).status_code == 303
        declared = site.hub.registry.ladder().get("trial")
        assert (declared.sources.stages, declared.scope) == (("dev",), "gated/*")
        assert send(ada, "/ui/stages", name="trial", **given).status_code == 409
        assert send(ada, "/ui/stages/trial", below="dev", lanes="canary", **given).status_code == 303
        assert site.hub.registry.ladder().get("trial").lanes == ("canary",)
        assert send(ada, "/ui/stages/dev/remove").status_code == 409
        assert send(ada, "/ui/stages/trial/remove").status_code == 303
        assert "trial" not in site.hub.registry.ladder().names

    def test_a_group_has_whom_it_is_said_to_have(self, ada, site):
        assert send(ada, "/ui/access/groups", group="testers", account="rita").status_code == 303
        assert site.hub.registry.groups()["testers"] == ("rita",)
        assert send(ada, "/ui/access/groups", group="testers", account="nobody-such").status_code == 404
        assert send(ada, "/ui/access/groups/testers/members/rita/remove").status_code == 303
        assert "testers" not in site.hub.registry.groups()

    def test_a_pipeline_is_trusted_and_no_more(self, ada, site):
        form = {"account": "ci", "issuer": "https://issuer.example", "claims": "sub=repo:team/*", "minutes": "5"}
        assert send(ada, "/ui/access/trusts", **{**form, "claims": "sub"}).status_code == 422
        assert send(ada, "/ui/access/trusts", **form).status_code == 303
        [made] = [each for each in site.hub.registry.trusts() if each.issuer == "https://issuer.example"]
        assert (made.claims, made.seconds, made.audience) == ({"sub": "repo:team/*"}, 300, site.url)
        assert send(ada, f"/ui/access/trusts/{made.id}/end").status_code == 303
        assert made.id not in {each.id for each in site.hub.registry.trusts()}

    def test_a_namespace_has_a_default_base(self, ada, site):
        digest = site.hub.registry.base("org/llama").base.digest
        assert send(ada, "/ui/namespaces/elsewhere", base="org/llama").status_code == 303
        assert site.hub.registry.default_base("elsewhere") == digest
        assert "org/llama" in ada.get("/ui/namespaces/elsewhere").text
        assert send(ada, "/ui/namespaces/elsewhere").status_code == 303
        assert site.hub.registry.default_base("elsewhere") is None

    def test_a_suite_gets_its_next_version(self, ada, site):
        text = "apiVersion: adapters/v1\nkind: EvalSuite\nname: nightly\nmetrics: [{metric: x/acc}]\n"
        assert send(ada, "/ui/suites", document=text).status_code == 303
        assert site.hub.registry.suite("nightly").version == 1
        assert send(ada, "/ui/suites", document="name: nightly").status_code == 422

    def test_a_stage_is_verified_again_in_its_dialog(self, visit, site):
        page = visit("/ui/adapters/team/sql-lora/timeline")
        page.get_by_role("link", name="Verify prod again").click()
        page.get_by_role("button", name="Ask the gates").click()
        page.get_by_text(re.compile("verified from now on|not verified again")).wait_for()
        assert any(each.entry.action == "reverify" for each in site.hub.registry.events("team/sql-lora"))


class TestJobs:
    def test_a_row_is_added_without_scripts_and_nothing_typed_is_lost(self, plain, site):
        plain.goto(f"{site.url}/ui/jobs/new?kind=compose&input-1=team/sql-lora@v1")
        before = plain.get_by_label(re.compile("^Version ")).count()
        plain.get_by_label("Adapter that the result").fill("team/both")
        plain.get_by_role("button", name="Another version").click()
        assert plain.get_by_label(re.compile("^Version ")).count() == before + 1
        assert plain.get_by_label("Version 1").input_value() == "team/sql-lora@v1"
        assert plain.get_by_label("Adapter that the result").input_value() == "team/both"

    def test_a_diff_leads_to_the_comparison_and_its_inputs(self, visit, site):
        page = visit(f"/ui/jobs/{site.places['job']}")
        assert page.get_by_role("link", name="team/sql-lora@v2", exact=True).count() == 1
        page.get_by_role("link", name="the comparison of team/sql-lora@v2 and team/sql-lora@v3").click()
        page.wait_for_url(re.compile(r"/ui/compare\?v=team%2Fsql-lora%40v2&v=team%2Fsql-lora%40v3"))

    def test_a_version_leads_to_the_jobs_about_it(self, visit, site):
        page = visit("/ui/adapters/team/sql-lora/versions/v3/made")
        page.get_by_role("link", name=site.places["job"]).click()
        page.wait_for_url(f"**/ui/jobs/{site.places['job']}")


class TestPages:
    def test_lists_of_people_and_webhooks_page_by_key(self, ada, site):
        registry = site.hub.registry
        for number in range(members.LINES + 1):
            registry.create_account(f"many-{number:03d}")
            registry.create_token(account="ci", label=f"run {number}")
        first = ada.get("/ui/access/accounts").text
        after = re.search(r'rel="next" href="([^"]+)"', first)[1].replace("&amp;", "&")
        assert "many-050" not in first
        assert "many-050" in ada.get(after).text
        tokens = ada.get("/ui/access?account=ci").text
        after = re.search(r'rel="next" href="([^"]+)"', tokens)[1].replace("&amp;", "&")
        assert "run 50" in tokens
        assert "nightly" not in tokens
        assert "nightly" in ada.get(after).text

    def test_a_webhook_is_changed_and_its_secret_renewed_after_a_question(self, visit, site):
        hook = site.hub.registry.add_webhook("http://127.0.0.1:1/change", scope="team/*").webhook
        page = visit(f"/ui/webhooks/{hook.id}")
        page.get_by_role("link", name="Change").click()
        page.get_by_label("Events").fill("stage.moved")
        page.get_by_role("button", name="Change it").click()
        page.get_by_text("Changed;").wait_for()
        assert site.hub.registry.webhook(hook.id).events == ("stage.moved",)
        page.get_by_role("link", name="New secret").click()
        dialog = page.get_by_role("dialog")
        assert "http://127.0.0.1:1/change" in dialog.inner_text()
        dialog.get_by_role("button", name="New secret").click()
        assert page.locator("#secret").inner_text().startswith("whsec_")
        assert not site.hub.registry.deliveries(hook.id, state=State.DEAD)

    def test_what_a_version_is_served_by_is_told(self, visit):
        page = visit("/ui/adapters/team/sql-lora/versions/v3/serving")
        text = page.get_by_role("table").inner_text()
        assert "vllm:" in text
        assert "loads" in text
        # LoRAX and TGI pad rank 4.
        assert "adapters export team/sql-lora@v3 --flatten --rank 8" in page.get_by_role("main").inner_text()
        page.get_by_role("link", name="as a version of its own, by a job").click()
        assert page.get_by_label("Rank").input_value() == "8"

    def test_a_password_is_set_by_its_owner(self, site):
        site.hub.registry.create_account("pat", password=PASSWORD)
        with httpx2.Client(base_url=site.url, headers={"origin": site.url}, timeout=60) as pat:
            come_in(pat, name="pat", password=PASSWORD)
            assert send(pat, "/ui/access", do="password", password="short").status_code == 422
            assert send(pat, "/ui/access", do="password", password="another long one").status_code == 303
            assert come_in(pat, name="pat", password="another long one").status_code == 303
