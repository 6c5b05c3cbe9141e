"""A server with something to show on every screen, and a browser that looks at it; one of each for all tests here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.deployment import Replica
from adapter_registry.domain.errors import Notice
from adapter_registry.domain.evidence.outcomes import outcomes
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.evidence.suite import Suite, SuiteMetric
from adapter_registry.domain.integrity.scan import Report
from adapter_registry.domain.integrity.signing import new_private, public_of
from adapter_registry.domain.lineage import Lineage, ModuleFit, Parent
from adapter_registry.domain.people.access import Grant
from adapter_registry.domain.people.account import AccountKind
from adapter_registry.domain.policies.file import read_policy
from adapter_registry.domain.policies.policy import Bound, preset
from adapter_registry.domain.policies.process import Sources
from adapter_registry.domain.promotions.stage import Stage
from adapter_registry.domain.recipe import Ingredient, Recipe
from tests.acceptance.hub.conftest import HubServer, serving
from tests.acceptance.test_life import retrained

SCREENS = Path(__file__).parents[2] / ".screens"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
CARD = """---
tags: [sql]
---
# Text to SQL

Trained on **8,000** pairs of questions and queries. See [the paper](https://example.org/paper).

| split | rows |
|---|---|
| train | 8,000 |
| test | 1,034 |

```python
model.generate(question)
```
"""
RELEASE = """apiVersion: adapters/v1
kind: StagePolicy
stage: release
from: {stages: [dev]}
require:
  compatibility: {verdict: [exact, equivalent]}
  evals:
    - {metric: sql/acc, min: 0.6}
    - {metric: sql/acc, test: non-inferior, margin: 0.02, shadow: true}
  approvals: {count: 1, not: [author]}
"""
HOSTILE = "<script>window.hit=1</script><img src=x onerror=window.hit=1>\"'><svg onload=window.hit=1>{{7*7}}"
WIDE = HOSTILE + "W" * 90
TURNED = WIDE + "\u202ereversed\u200b"
"""Markup in a text without a place to break; the same in one that turns what follows it round."""
HOSTILE_CARD = f"""# Fine {TURNED}

[click](javascript:window.hit=1) ![x](https://evil.example/pixel.png) <a href="javascript:window.hit=1">raw</a>

<style>body{{display:none}}</style><iframe src="https://evil.example"></iframe><form action="https://evil.example"></form>

[data](data:text/html,<script>window.hit=1</script>) `<script>window.hit=1</script>`
"""


@dataclass(frozen=True)
class Site:
    """A running server, and who may come in: names with their passwords."""

    hub: HubServer
    places: dict[str, str]
    """What stands in addresses of things that have names of their own: `job`, `webhook`, `digest` of the base, ..."""

    @property
    def url(self) -> str:
        return self.hub.url


PASSWORD = "correct horse battery"


@pytest.fixture(scope="session")
def site(tmp_path_factory, llama_folder, lora_folder) -> Iterator[Site]:
    """team/sql-lora with four versions, v3 in prod, v4 refused; what was made of it; mallory/xss full of scripts."""
    with serving(tmp_path_factory.mktemp("site"), {}) as running:
        _fill(running, llama_folder, lora_folder)
        yield Site(running, _operated(running))


def _fill(running: HubServer, llama_folder: Path, lora_folder: Path) -> None:
    registry = running.registry
    registry.add_base("org/llama", llama_folder)
    for number, (factor, accuracy) in enumerate([(1.0, 0.61), (1.5, 0.66), (2.0, 0.72), (2.5, 0.70)], 1):
        folder = retrained(lora_folder, running.folder / f"v{number}", factor)
        (folder / "README.md").write_text(CARD)
        registry.push(
            folder,
            base="org/llama",
            name="team/sql-lora",
            message=f"epoch {number}, cleaner pairs",
            labels={"owner": "nlp-platform", "data": "spider-1.0"},
        )
        reference = f"team/sql-lora@v{number}"
        _samples(registry, reference, number)
        registry.add_scores(reference, (Score("sql/acc", accuracy, Direction.HIGHER, stderr=0.011, n=1034),))
        if number < 4:
            for stage in ("dev", "staging", "prod"):
                registry.attempt(reference, stage, reason="better on the test split" if stage == "prod" else "")
    registry.attempt("team/sql-lora@v4", "dev")
    registry.attempt("team/sql-lora@v4", "prod", reason="it is the newest")
    registry.tag("team/sql-lora@v3", "stable")
    registry.push(retrained(lora_folder, running.folder / "fresh", 0.5), base="org/llama", name="team/fresh")
    _relatives(running, lora_folder)
    _signed(registry)
    _deployed(registry)
    two = (Ingredient("team/sql-lora@v3"), Ingredient("team/sql-lora@v4"))
    registry.submit(Recipe("diff", two, into="team/sql-lora"))
    solo = preset("solo", stage="prod")
    limits = (Bound("sql/acc", min=0.65, shadow=True),)
    registry.set_policy("prod", replace(solo, evals=replace(solo.evals, bounds=limits)))
    _hostile(running, lora_folder)
    for name, roles in (("ann", ("maintainer", "audit")), ("rita", ("reader",))):
        registry.create_account(name, password=PASSWORD)
        registry.grant(name, "team/*", roles)
        registry.grant(name, "gated/*", roles)
    registry.create_account("mia", password=PASSWORD)
    registry.grant("mia", "team/mix", ("reader",))
    registry.create_account("eve", password=PASSWORD)
    registry.grant("eve", "mallory/*", ("maintainer",))
    _decisions(running, lora_folder)


def _signed(registry: Registry) -> None:
    """team/sql-lora@v3 signed by a key that counts and one that was revoked since, and scanned."""
    version = registry.resolve("team/sql-lora@v3")
    for name in ("release", "laptop"):
        private = new_private()
        registry.trust_key(name, public_of(private), scopes=("team/*",))
        registry.sign(version, private)
    registry.revoke_key("laptop", because="left on a train")
    registry.scan(version)


def _decisions(running: HubServer, lora_folder: Path) -> None:
    """gated/sql with P-1 open, into the stage `release` that only gated/* has; a stage that went back, and is held."""
    registry = running.registry
    registry.declare_stage(Stage("release", sources=Sources(("dev",)), scope="gated/*"))
    registry.set_policy("release", read_policy(RELEASE))
    for number, accuracy in ((1, 0.7), (2, 0.8)):
        folder = retrained(lora_folder, running.folder / f"gated-{number}", 4.0 + number)
        registry.push(folder, base="org/llama", name="gated/sql", message=f"run {number}")
        reference = f"gated/sql@v{number}"
        registry.add_scores(reference, (Score("sql/acc", accuracy, Direction.HIGHER, stderr=0.011, n=1034),))
        registry.attempt(reference, "dev", reason="nightly")
    registry.rollback("gated/sql", "dev", reason="slow on long questions")
    registry.attempt("gated/sql@v2", "dev", reason="it was the driver")
    registry.rollback("gated/sql", "dev", reason="and not the driver")
    registry.attempt("gated/sql@v1", "release", reason="for the spring campaign")
    registry.freeze("2030-12-24T00:00", "2031-01-02T00:00", zone="Europe/Berlin", reason="holidays", scope="team/*")


def _operated(running: HubServer) -> dict[str, str]:
    """A job that was done and one that waits, a webhook that reaches nobody, an administrator."""
    registry = running.registry
    inputs = tuple(Ingredient(f"team/sql-lora@v{number}") for number in (2, 3))
    job = registry.submit(Recipe("diff", inputs, into="team/sql-lora"))
    registry.submit(Recipe("diff", inputs, into="team/sql-lora"), queue="cuda", priority=5)
    for _ in registry.watch_job(job.id):
        pass
    registry.create_account("ada", password=PASSWORD)
    registry.grant("ada", "*", ("admin",))
    hook = registry.add_webhook("http://127.0.0.1:1/hook", scope="team/*").webhook
    registry.tag("team/sql-lora@v2", "fallback")
    delivery = next(each for each in registry.deliveries(hook.id) if each.kind == "tag.moved")
    digest = registry.base("org/llama").base.digest.removeprefix("sha256:")
    registry.create_account("ci", kind=AccountKind.SERVICE)
    pipeline = registry.create_token(account="ci", label="nightly", limits=(Grant("team/*", ("reader",)),)).token
    claims = {"repository": "team/sql-lora", "ref": "refs/heads/main"}
    trusted = registry.add_trust("ci", issuer="https://gitlab.com", audience=running.url, claims=claims)
    core = (SuiteMetric("sql/acc"), SuiteMetric("mmlu/acc", {"shots": "0"}))
    registry.set_suite(Suite("core", core))
    registry.set_member("leads", "ann")
    registry.set_member("leads", "ada")
    return {
        **{"job": job.id, "webhook": hook.id, "delivery": delivery.id, "digest": digest},
        **{"token": pipeline.id, "account": "ci", "trust": trusted.id, "group": "leads", "freeze": "1"},
    }


def _samples(registry: Registry, reference: str, number: int) -> None:
    """What each of two hundred samples scored, and a metric that the fourth version was measured by otherwise."""
    values = [(f"{place:04d}", float((place * 7 + number * 3) % 10 < 5 + number)) for place in range(200)]
    kept = outcomes("sql/exact", values)
    mean = sum(kept.values) / 200
    exact = Score("sql/exact", mean, Direction.HIGHER, n=200, setting={"shots": "0"})
    shots = {"shots": "0" if number < 4 else "5", "task_version": "1.0"}
    other = Score("mmlu/acc", 0.40 + number / 100, Direction.HIGHER, stderr=0.004, n=14042, setting=shots)
    loss = Score("heldout/loss", 1.9 - number / 10, Direction.LOWER, stderr=0.02, n=500)
    registry.add_scores(reference, (exact, other, loss), outcomes=(kept,))


def _relatives(running: HubServer, lora_folder: Path) -> None:
    """team/mix composed of two; team/grandchild of that and of team/leaky, which is revoked."""
    registry = running.registry

    def push(name: str, factor: float, *parents: tuple[str, float]) -> None:
        made = [registry.resolve(reference) for reference, _ in parents]
        of = tuple(Parent(v.adapter, v.number, v.digest, weight) for v, (_, weight) in zip(made, parents, strict=True))
        fits = (
            ModuleFit("model.layers.0.self_attn.q_proj", 4, 1.5, 0.01),
            ModuleFit("model.layers.1.self_attn.v_proj", 4, 0.9, 0.2),
        )
        lineage = Lineage(
            *("compose", "ties", "peft", of, {"density": "0.5"}, 7, {"numpy": "2.0"}, "cpu x86_64 linux", 0.034, fits)
        )
        folder = retrained(lora_folder, running.folder / name, factor)
        registry.push(folder, base="org/llama", name=f"team/{name}", lineage=lineage if parents else None)

    push("leaky", 0.7)
    push("mix", 0.8, ("team/sql-lora@v3", 0.7), ("team/fresh@v1", 0.3))
    push("grandchild", 0.9, ("team/mix@v1", 0.5), ("team/leaky@v1", -0.25))
    registry.revoke("team/leaky@v1", because="trained on the test split.")


def _deployed(registry: Registry) -> None:
    """v2 was deployed, one replica lost it again, and prod is v3 by now."""
    good = Replica("http://gpu-1:8000", "moved", "/srv/adapters/sha256-1")
    gone = Replica("http://gpu-2:8000", "missing", "", "it was restarted and serves sql-lora no more")
    registry.report_deployment(
        "team/sql-lora@v2", fleet="production", name="sql-lora", follows="team/sql-lora@prod", replicas=(good, gone)
    )
    exact = "team/sql-lora@v1"
    registry.report_deployment(exact, fleet="spare", name="sql-old", follows=exact, because="no replica answers")


def _hostile(running: HubServer, lora_folder: Path) -> None:
    """Scripts wherever a text may be chosen."""
    registry = running.registry
    folder = retrained(lora_folder, running.folder / "xss", 3.0)
    (folder / "README.md").write_text(HOSTILE_CARD)
    registry.push(folder, base="org/llama", name="mallory/xss", message=TURNED, labels={"note": WIDE})
    version, words = registry.resolve("mallory/xss@v1"), Notice(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    registry.report_scan(version, Report(HOSTILE, HOSTILE, (words,), {}, version.digest))
    registry.add_scores("mallory/xss@v1", (Score(f"x/{WIDE}", 0.5, Direction.HIGHER, n=10),))
    registry.attempt("mallory/xss@v1", "dev", reason=TURNED)


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium. Where there is none the tests are skipped, and say so.

    Of a module: its event loop runs in this thread until it is closed, and other tests start loops of their own.
    """
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"NO BROWSER: none of {', '.join(BROWSERS)} is on this machine (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = [*QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        opened = playwright.chromium.launch(executable_path=path, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def sessions(browser, site) -> Callable[[str], dict]:
    """Name -> what a browser keeps once that person came in; through the door once, as it costs a password's hash."""
    kept: dict[str, dict] = {}

    def of(name: str) -> dict:
        if name not in kept:
            context = browser.new_context()
            if name == "admin":
                sign_in_by_token(context.new_page(), site)
            else:
                sign_in(context.new_page(), site.url, name)
            kept[name] = context.storage_state()
            context.close()
        return kept[name]

    return of


Visitor = Callable[..., object]


def _window(browser, state: dict | None, width: int, theme: str):
    """A window of who has this state, as it was left by nobody before."""
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=theme, reduced_motion="reduce", storage_state=state
    )
    context.set_default_timeout(10_000)
    return context


@pytest.fixture(scope="module")
def windows(browser, sessions) -> Iterator[Callable[..., object]]:
    """(who, width, theme) -> a window of that person, the same each time: styles and scripts are fetched once."""
    kept: dict[tuple[str | None, int, str], object] = {}

    def of(who: str | None, width: int, theme: str):
        if (who, width, theme) not in kept:
            kept[who, width, theme] = _window(browser, sessions(who) if who else None, width, theme)
        return kept[who, width, theme]

    yield of
    for each in kept.values():
        each.close()


@pytest.fixture
def visit(browser, site, sessions, windows) -> Iterator[Visitor]:
    """Opens a page as somebody: `visit("/ui/adapters", as_="ann", width=1280, theme="light")`; None for a stranger.

    `own=True` in a window of its own, for a test that changes what the browser keeps.
    """
    opened = []

    def visited(
        path: str = "/ui/adapters",
        *,
        as_: str | None = "ann",
        width: int = 1280,
        theme: str = "light",
        own: bool = False,
    ):
        window = _window(browser, sessions(as_), width, theme) if own else windows(as_, width, theme)
        page = window.new_page()
        opened.append(window if own else page)
        page.complaints = []
        page.on("console", lambda message: message.type in ("error",) and page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(site.url + path)
        return page

    yield visited
    for each in opened:
        each.close()


def sign_in_by_token(page, site: Site) -> None:
    """As the administrator of the first start."""
    page.goto(f"{site.url}/ui/sign-in")
    page.get_by_text("Use a token instead").click()
    page.get_by_label("Token").fill(site.hub.token)
    page.get_by_role("button", name="Sign in with the token").click()
    page.wait_for_url("**/ui/adapters")


def sign_in(page, url: str, name: str, password: str = PASSWORD) -> None:
    """Through the door, as a person does it."""
    page.goto(f"{url}/ui/sign-in")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/ui/adapters")
