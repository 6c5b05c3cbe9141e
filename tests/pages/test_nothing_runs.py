"""Whatever people write, nothing of it runs in anybody's browser: payloads in every text that ends in a page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import unescape
from urllib.parse import quote

import pytest
from safetensors.numpy import load_file, save_file

from adapter_registry import app
from adapter_registry.domain.deployment import Replica
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.evidence.suite import Suite, SuiteMetric
from adapter_registry.domain.people.account import AccountKind
from adapter_registry.domain.policies.file import read_policy
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.settings import read_settings
from tests.acceptance.hub.conftest import HubServer, serving
from tests.acceptance.test_life import retrained
from tests.pages.conftest import HOSTILE_CARD

pytestmark = pytest.mark.xdist_group("pages-hostile")
RUN = "window.hit=1"
PAYLOADS = (
    f"<script>{RUN}</script>",
    f"<img src=x onerror={RUN}>",
    f"\"'><svg/onload={RUN}>",
    f"</title></textarea></style></script><script>{RUN}</script>",
    f"javascript:{RUN}//<a href='javascript:{RUN}'>x</a>",
    f"<details open ontoggle={RUN}>x</details><iframe srcdoc='<script>parent.{RUN}</script>'>",
    f"{{{{7*7}}}} {{% raw %}} ${{{RUN}}} `<script>{RUN}</script>`",
    f"<math><mtext></form><form><mglyph><style></math><img src onerror={RUN}>",
    f"<p hx-get=/ui/adapters hx-trigger=load hx-on:load={RUN} data-hx-get=/ui style=position:fixed>x</p>",
    f"<meta http-equiv=refresh content='0;url=javascript:{RUN}'><base href=//evil.example/>",
)
ALL = " ".join(PAYLOADS)
LISTEN = """
window.violated = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violated.push(event.violatedDirective + " " + event.blockedURI);
});
"""
V1 = "/ui/adapters/mallory/xss/versions/v1"
PATHS = (
    "/ui/adapters?sort=name",
    *("/ui/adapters/mallory/xss", V1),
    *(f"{V1}/{tab}" for tab in ("scores", "gates", "lineage", "files", "events", "made", "serving")),
    *(f"{V1}/{dialog}" for dialog in ("tags", "labels", "revoke", "promote/staging", "scores/invalidate")),
    *(f"/ui/adapters/mallory/xss/{page}" for page in ("timeline", "fleets", "trends", "stages/dev/rollback")),
    "/ui/adapters/mallory/gone/versions/v1",
    *("/ui/compare?v=mallory/xss@v1&v=mallory/xss@v2", "/ui/timeline", "/ui/requests?whose=all&ended=1"),
    *("/ui/requests/P-1", "/ui/requests/P-2", "/ui/jobs", "/ui/jobs/{job}", "/ui/bases", "/ui/bases/{base}"),
    *("/ui/policies", "/ui/policies/staging", "/ui/policies/staging?edit=1", "/ui/suites", "/ui/suites?edit=odd"),
    *("/ui/freezes", "/ui/freezes/1/remove", "/ui/audit", "/ui/webhooks", "/ui/webhooks/{webhook}", "/ui/access"),
    *("/ui/access?account=ci", "/ui/access/trusts", "/ui/access/trusts/{trust}/end", "/ui/views/adapters"),
    "/ui/access/tokens/{token}/revoke",
)
ECHOED = (
    *("/ui/adapters?q={0}", "/ui/adapters?where={0}", "/ui/adapters?base={0}", "/ui/adapters?stage={0}"),
    *("/ui/compare?v={0}&v=mallory/xss@v1", "/ui/audit?actor={0}&action={0}&subject={0}", "/ui/bases?name={0}"),
    *("/ui/jobs?by={0}", "/ui/jobs?state={0}", "/ui/jobs/new?kind=compose&into={0}&input-1={0}&method={0}"),
    *("/ui/requests?adapter={0}&whose=all", "/ui/timeline?stage={0}&at={0}", "/ui/access?account={0}"),
    *("/ui/sign-in?next={0}", "/ui/adapters/mallory/{0}", "/ui/policies/{0}", "/ui/suites?edit={0}", "/ui/{0}"),
    *("/ui/adapters/mallory/xss/trends?metric={0}", f"{V1}/files?path={{0}}", "/ui/namespaces/{0}"),
)
"""Addresses whose own words come back in the page."""


@dataclass(frozen=True)
class Planted:
    """A server full of scripts, and what stands in the places of addresses."""

    hub: HubServer
    places: dict[str, str]


@pytest.fixture(scope="module")
def planted(tmp_path_factory, llama_folder, lora_folder) -> Iterator[Planted]:
    with serving(tmp_path_factory.mktemp("planted"), {}) as running:
        yield Planted(running, _plant(running, llama_folder, lora_folder))


def _plant(running: HubServer, llama_folder, lora_folder) -> dict[str, str]:
    """A payload or all of them wherever a text may be chosen."""
    registry, words = running.registry, iter(PAYLOADS * 5)
    odd = running.folder / f"base {next(words).replace('/', '')}"
    shutil.copytree(llama_folder, odd)
    [weights] = odd.glob("*.safetensors")
    tensors = load_file(weights)
    save_file({**tensors, **{each: tensors["lm_head.weight"] for each in PAYLOADS}}, weights, metadata={"format": "pt"})
    registry.add_base("org/odd", odd)
    registry.add_base("org/llama", llama_folder)
    registry.declare_equivalent("org/odd", "org/llama", because=ALL[:500])
    for number in (1, 2):
        folder = retrained(lora_folder, running.folder / f"xss-{number}", 3.0 + number)
        (folder / "README.md").write_text(HOSTILE_CARD + "\n\n".join(PAYLOADS) + f"\n\n[x](<{PAYLOADS[4]}>)")
        registry.push(folder, base="org/llama", name="mallory/xss", message=ALL, labels={"note": next(words)})
        reference = f"mallory/xss@v{number}"
        measured = Score(f"x/{next(words)}", 0.5, Direction.HIGHER, n=10, setting={"shots": next(words)})
        registry.add_scores(reference, (measured, Score("x/acc", 0.9, Direction.HIGHER, n=10)))
        registry.attempt(reference, "dev", reason=next(words))
    [void] = [each for each in registry.scores("mallory/xss@v1") if each.score.metric == "x/acc"]
    registry.invalidate_scores("mallory/xss@v1", because=ALL[:500], ids=(void.id,))
    registry.rollback("mallory/xss", "dev", reason=next(words))
    registry.push(retrained(lora_folder, running.folder / "gone", 9.0), base="org/llama", name="mallory/gone")
    registry.revoke("mallory/gone@v1", because=ALL)
    replica = Replica("http://gpu:8000", "missing", "", next(words))
    registry.report_deployment(
        "mallory/xss@v1", fleet="eu", name="xss", follows="mallory/xss@dev", replicas=(replica,), because=next(words)
    )
    text = "apiVersion: adapters/v1\nkind: StagePolicy\nstage: staging\nfrom: {stages: [dev]}\nrequire:\n"
    registry.create_account("ann")
    registry.grant("ann", "mallory/*", ("maintainer",))
    ann = replace(running, token=registry.create_token(account="ann").secret).registry
    registry.set_policy("staging", read_policy(f"{text}  approvals: {{count: 1, not: [author]}}\n"))
    registry.set_suite(Suite("odd", tuple(SuiteMetric(f"x/{each}", {"shots": each}) for each in PAYLOADS)))
    registry.freeze("fri 16:00", "fri 16:01", reason=ALL[:500], scope="mallory/xss")
    registry.create_account("ci", kind=AccountKind.SERVICE)
    token = registry.create_token(account="ci", label=next(words)[:60]).token
    trust = registry.add_trust("ci", issuer="https://issuer.test", audience=next(words), claims={"sub": ALL[:200]})
    registry.save_view("adapters", next(words)[:60], {"q": next(words)})
    hook = registry.add_webhook("http://127.0.0.1:1/?q='&onerror=window.hit=1&%3Cscript%3E", scope="mallory/*")
    first = registry.attempt("mallory/xss@v1", "staging", reason=next(words)).request
    ann.decline(first, reason=next(words))
    registry.attempt("mallory/xss@v1", "staging", reason=next(words))
    job = registry.submit(
        Recipe("diff", (Ingredient("mallory/xss@v1"), Ingredient("mallory/xss@v2")), into="mallory/xss")
    )
    registry.cancel_job(job.id)
    home = {"ADAPTERS_HOME": str(running.cli.home), "ADAPTERS_CACHE": str(running.folder / "cache")}
    backend = app.embedded(read_settings(home))
    with backend.catalog.writing() as tx:
        tx.jobs.say(job.id, PAYLOADS, at=backend.clock())
    digest = registry.base("org/odd").base.digest.removeprefix("sha256:")
    return {"job": job.id, "base": digest, "webhook": hook.webhook.id, "trust": trust.id, "token": token.id}


@pytest.fixture(scope="module")
def page(browser, planted):
    """A window of the administrator's that hears of everything that the policy of a page had to stop."""
    context = browser.new_context(
        reduced_motion="reduce", extra_http_headers={"authorization": f"Bearer {planted.hub.token}"}
    )
    context.set_default_timeout(30_000)
    context.add_init_script(LISTEN)
    opened = context.new_page()
    opened.elsewhere = []
    opened.on("request", lambda asked: asked.url.startswith(planted.hub.url) or opened.elsewhere.append(asked.url))
    yield opened
    context.close()


def looked_at(page, planted: Planted, path: str) -> str:
    """The words of a page in which nothing ran, and nothing had to be stopped."""
    page.goto(planted.hub.url + path, wait_until="load")
    assert page.evaluate("window.hit") is None
    assert page.evaluate("window.violated") == []
    assert [each for each in page.elsewhere if not each.startswith("data:")] == []
    wrong = "main script, main iframe, main style, main object, main base, main meta, main math, main form form"
    assert page.locator(f"{wrong}, body [onerror], body [onload], body [ontoggle]").count() == 0
    assert page.locator("a[href^='javascript'], a[href^='data'], main [style*='fixed'], main p[hx-get]").count() == 0
    return page.locator("body").inner_text()


@pytest.mark.parametrize("path", PATHS)
def test_no_page_runs_what_somebody_wrote(page, planted, path):
    words = looked_at(page, planted, path.format(**planted.places))
    assert "49" not in words.split()


def test_what_was_planted_is_shown_as_the_text_that_it_is(page, planted):
    for path, text in {
        V1: PAYLOADS[0],
        "/ui/adapters/mallory/xss/timeline": "window.hit=1",
        "/ui/jobs/{job}": PAYLOADS[7],
        "/ui/bases/{base}": "stand in",
        "/ui/suites": PAYLOADS[1],
        "/ui/freezes": PAYLOADS[2],
        "/ui/adapters/mallory/gone/versions/v1": PAYLOADS[0],
    }.items():
        page.goto(planted.hub.url + path.format(**planted.places))
        assert text in unescape(page.content())


@pytest.mark.parametrize("path", ECHOED)
def test_no_page_runs_its_own_address(page, planted, path):
    for payload in (ALL, PAYLOADS[2]):
        looked_at(page, planted, path.format(quote(payload, safe="")))


def test_a_script_that_did_get_in_would_be_stopped_and_heard_of(page, planted):
    page.goto(f"{planted.hub.url}/ui/adapters")
    page.evaluate(f"document.body.append(Object.assign(document.createElement('script'), {{textContent: '{RUN}'}}))")
    page.wait_for_function("window.violated.length > 0")
    assert page.evaluate("window.hit") is None
