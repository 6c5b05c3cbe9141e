"""Versions on the pages and behind them: choosing, comparing, kin, tensors, trends; what is not yours stays hidden."""

from __future__ import annotations

import re
from dataclasses import replace

import httpx2
import pytest

from adapter_registry.domain.errors import InvalidInput, NotFound
from adapter_registry.domain.views.kinship import Kin
from tests.pages.conftest import PASSWORD

pytestmark = pytest.mark.xdist_group("pages")

V3 = "team/sql-lora@v3"
MIX = "team/mix@v1"


@pytest.fixture(scope="module")
def registry_of(site):
    """The client of somebody with an account."""
    made = {}

    def of(name: str):
        if name not in made:
            secret = site.hub.registry.create_token(account=name).secret
            made[name] = replace(site.hub, token=secret).registry
        return made[name]

    return of


@pytest.fixture(scope="module")
def page_of(site):
    """What a page answers to somebody, without a browser; each comes in once."""
    clients: dict[str, httpx2.Client] = {}

    def of(name: str, path: str) -> httpx2.Response:
        if name not in clients:
            clients[name] = httpx2.Client(base_url=site.url, headers={"origin": site.url}, timeout=60)
            clients[name].post("/ui/sign-in", data={"name": name, "password": PASSWORD})
        return clients[name].get(path)

    yield of
    for client in clients.values():
        client.close()


class TestChoosing:
    def test_ticked_versions_are_compared_and_stand_in_the_address(self, visit):
        page = visit("/ui/adapters/team/sql-lora")
        for number in (4, 3):
            page.get_by_label(f"Choose v{number}").check()
        page.get_by_role("button", name="Compare chosen").click()
        page.wait_for_url("**/ui/compare?differing=1&v=team%2Fsql-lora%40v4&v=team%2Fsql-lora%40v3")
        assert page.get_by_role("columnheader", name="sql-lora@v3").count() == 2
        assert page.get_by_label("Only differences").is_checked()

    def test_a_version_of_another_adapter_is_added_by_its_name(self, visit):
        page = visit(f"/ui/compare?v={V3}")
        page.get_by_label("Another version").fill(MIX)
        page.keyboard.press("Enter")
        page.get_by_role("columnheader", name="mix@v1").first.wait_for()

    def test_only_differences_leaves_out_what_is_the_same(self, visit):
        page = visit(f"/ui/compare?v={V3}&v=team/sql-lora@v4")
        assert page.get_by_role("rowheader", name="rank").count() == 1
        page.get_by_label("Only differences").check()
        page.wait_for_url("**differing=1**")
        assert page.get_by_role("rowheader", name="rank").count() == 0
        assert page.get_by_role("rowheader", name="adapter_model.safetensors").count() == 1

    @pytest.mark.parametrize(
        "query",
        [f"v={V3}&v=team/sql-lora@v99", "v=1&v=2", "&".join(f"v=team/sql-lora@v{n}" for n in range(7))],
        ids=["not there", "no references", "too many"],
    )
    def test_what_cannot_be_compared_is_said_in_a_sentence(self, page_of, query):
        answer = page_of("ann", f"/ui/compare?{query}")
        assert 400 <= answer.status_code < 500
        assert 'role="alert"' in answer.text


class TestWeights:
    def test_a_job_is_submitted_from_the_page_which_shows_its_answer_by_itself(self, visit):
        page = visit(f"/ui/compare?v={V3}&v={MIX}")
        page.get_by_role("button", name="Compare their weights").click()
        page.get_by_text("this page shows its result").wait_for()
        page.locator(".heat").wait_for(timeout=120_000)
        page.locator("[data-chart][data-drawn]").nth(1).wait_for()
        assert page.get_by_role("table").last.get_by_role("link").count() == 4
        assert not page.complaints

    def test_who_may_run_no_jobs_is_told_so(self, visit):
        page = visit(f"/ui/compare?v={V3}&v=team/sql-lora@v2", as_="rita")
        page.get_by_text("takes the verb job.run").wait_for()
        assert page.get_by_role("button", name="Compare their weights").count() == 0


class TestSamples:
    def test_what_went_wrong_and_what_went_right_is_counted(self, registry_of):
        found = registry_of("ann").samples(V3, "team/sql-lora@v4", metric="sql/exact")
        before, after = (0.8, 0.9)
        assert (found.n, found.right, found.why_not) == (200, True, "")
        assert found.won - found.lost == round(200 * (after - before))
        assert found.low < found.gain < found.high

    def test_a_metric_without_samples_says_so(self, registry_of):
        assert "no samples" in registry_of("ann").samples(V3, "team/sql-lora@v4", metric="sql/acc").why_not


class TestTensors:
    def test_they_are_told_a_page_at_a_time_in_the_order_of_their_bytes(self, registry_of):
        asked = registry_of("ann")
        first = asked.tensors(V3, "adapter_model.safetensors", limit=5)
        rest = asked.tensors(V3, "adapter_model.safetensors", after=first.next, limit=5)
        lines = (*first.items, *rest.items)
        assert (first.total, first.next, rest.next, len(lines)) == (8, 5, None, 8)
        assert lines[0].name.endswith("layers.0.self_attn.q_proj.lora_A.weight")
        assert (lines[0].dtype, lines[0].shape, lines[0].size) == ("F32", (4, 32), 512)

    @pytest.mark.parametrize(("path", "error"), [("README.md", InvalidInput), ("nothing", NotFound)])
    def test_what_holds_none_is_refused(self, registry_of, path, error):
        with pytest.raises(error):
            registry_of("ann").tensors(V3, path)


class TestKin:
    def test_choosing_a_version_in_the_graph_shows_its_recipe(self, visit):
        page = visit("/ui/adapters/team/sql-lora/versions/v3/lineage")
        page.locator("#graph[data-drawn]").wait_for()
        cy = "document.querySelector('#graph')._cyreg.cy"
        at = page.evaluate(f"{cy}.getElementById('{MIX}').renderedPosition()")
        page.locator("#graph").click(position=at)
        side = page.locator("#graph-side")
        side.get_by_text("ties:peft").wait_for()
        assert "team/fresh@v1" in side.inner_text()
        assert not page.complaints

    def test_a_step_more_reaches_further(self, registry_of):
        one, two = (registry_of("ann").kinship(V3, steps=steps) for steps in (1, 2))
        names = [{node.name for node in each.nodes if node.kind is Kin.VERSION} for each in (one, two)]
        assert "team/grandchild@v1" in names[1] - names[0]
        assert next(node for node in one.nodes if node.name == MIX).more

    def test_what_was_made_from_a_revoked_version_is_marked_and_nothing_else(self, registry_of):
        found = registry_of("ann").kinship("team/fresh@v1", steps=2)
        assert {node.name: node.tainted for node in found.nodes if node.tainted} == {
            "team/grandchild@v1": ("team/leaky@v1",)
        }

    def test_edges_lead_from_the_base_over_what_was_composed_to_the_stages(self, registry_of):
        found = registry_of("ann").kinship(V3)
        base = next(node.id for node in found.nodes if node.kind is Kin.BASE)
        edges = {(edge.source, edge.target): edge.weight for edge in found.edges}
        assert edges[(base, V3)] is None
        assert edges[(V3, MIX)] == 0.7
        assert (V3, "team/sql-lora:prod") in edges

    def test_of_what_is_not_yours_only_the_name_in_the_lineage_is_told(self, registry_of):
        found = registry_of("mia").kinship(MIX)
        nodes = {node.name: node for node in found.nodes if node.kind in (Kin.VERSION, Kin.HIDDEN)}
        assert nodes.keys() == {MIX, V3, "team/fresh@v1"}
        assert nodes[V3] == replace(nodes[V3], kind=Kin.HIDDEN, revoked=None, method="")
        assert not any(node.kind is Kin.STAGE for node in found.nodes)


class TestTrends:
    def test_the_metric_is_in_the_address_and_a_script_gets_the_same_values(self, page_of):
        path = "/ui/adapters/team/sql-lora/trends"
        assert "mmlu/acc" in page_of("ann", f"{path}?metric=mmlu/acc").text
        answer = page_of("ann", f"{path}/data?metric=mmlu/acc")
        assert answer.headers["content-type"] == "application/json"
        course = answer.json()
        assert [(each["number"], each["line"]) for each in course["points"]] == [(1, 0), (2, 0), (3, 0), (4, 1)]
        assert {each["stage"] for each in course["reigns"]} == {"dev", "staging", "prod"}

    def test_the_limits_of_the_policies_in_force_are_told(self, registry_of):
        [limit] = registry_of("ann").course("team/sql-lora").thresholds
        assert (limit.stage, limit.value, limit.shadow) == ("prod", 0.65, True)

    def test_a_metric_that_nobody_measured_is_not_there(self, page_of):
        answer = page_of("ann", "/ui/adapters/team/sql-lora/trends?metric=none")
        assert answer.status_code == 404
        assert "there is sql/acc" in answer.text


class TestJobs:
    def test_who_may_run_jobs_sees_those_about_a_version_and_others_none(self, registry_of):
        found = registry_of("ann").jobs_about(V3, beside="team/sql-lora@v4")
        assert [job.recipe.kind for job in found] == ["diff"]
        assert registry_of("rita").jobs_about(V3) == ()


class TestWhatIsNotYours:
    @pytest.mark.parametrize(
        "ask",
        [
            lambda registry, other: registry.compare("mallory/xss@v1", other),
            lambda registry, other: registry.samples("mallory/xss@v1", other, metric="x"),
            lambda registry, other: registry.jobs_about("mallory/xss@v1", beside=other),
        ],
        ids=["compare", "samples", "jobs"],
    )
    def test_beside_ones_own_it_is_what_does_not_exist(self, registry_of, ask):
        said = []
        for other in (V3, "team/sql-larb@v3"):
            with pytest.raises(NotFound) as refused:
                ask(registry_of("eve"), other)
            said.append(re.sub("sql-l[ao]r[ab]", "", refused.value.text))
        assert said[0] == said[1]

    def test_what_was_tried_and_refused_is_told_with_its_reasons_to_who_may_audit(self, page_of):
        path = "/ui/adapters/team/sql-lora/versions/v4/gates"
        told = page_of("ann", path).text.partition("Refused before")[2]
        assert "it is the newest" in told
        assert "mmlu/acc non-inferior: measured differently" in told
        assert "Refused before" not in page_of("rita", path).text

    def test_the_table_says_which_version_did_not_get_where_it_was_to_go(self, visit):
        page = visit("/ui/adapters/team/sql-lora")
        signs = page.get_by_role("link", name="prod: undecided")
        assert signs.count() == 1
        signs.click()
        page.wait_for_url("**/team/sql-lora/versions/v4/gates")

    def test_the_list_says_since_when_a_stage_serves_what_it_does(self, visit):
        page = visit("/ui/adapters?q=team/sql-lora&stage=prod")
        assert re.search(r"prod\s+v3\s+(just now|\d+ \w+ ago)", page.locator(".stages").inner_text())

    def test_the_audit_log_of_a_version_is_for_who_may_audit(self, page_of):
        assert "takes the verb audit" in page_of("rita", "/ui/adapters/team/sql-lora/versions/v3/events").text


def test_the_overview_says_who_signed_and_what_scanners_found(page_of):
    shown = page_of("ann", "/ui/adapters/team/sql-lora/versions/v3").text
    assert re.search(r">release</span> <span class=\"badge good\">counts", shown)
    assert re.search(r">laptop</span> <span class=\"badge bad\">does not count", shown)
    assert "left on a train" in shown
    assert re.search(r"adapters 1 <span class=\"badge good\">clean", shown)
    unsigned = page_of("ann", "/ui/adapters/team/sql-lora/versions/v4").text
    assert "adapters sign team/sql-lora@v4" in unsigned
    assert "adapters scan team/sql-lora@v4" in unsigned
