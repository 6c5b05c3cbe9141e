"""Coming in and going out, and what keeps other sites out: sessions, forms, headers. Plain HTTP, no browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from urllib.parse import quote, urlencode

import httpx2
import pytest

from adapter_registry.api.pages import PAGES
from adapter_registry.domain.audit.event import Outcome
from adapter_registry.domain.people.access import Grant
from adapter_registry.services.access import STRANGER
from tests.pages.conftest import PASSWORD, Site

pytestmark = pytest.mark.xdist_group("pages")

LIST = "/ui/adapters"
PLACES = {"adapter_namespace": "team", "adapter_name": "sql-lora", "number": "3", "stage": "prod", "request": "P-1"}
PLACES |= {"namespace": "team", "of": "adapters"}
PROMOTE = "/ui/adapters/team/sql-lora/versions/4/promote/staging"


@pytest.fixture
def stranger(site: Site) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=site.url, headers={"origin": site.url}, timeout=60) as client:
        yield client


@pytest.fixture
def ann(stranger: httpx2.Client) -> httpx2.Client:
    assert come_in(stranger, name="ann", password=PASSWORD).status_code == 303
    return stranger


@pytest.fixture
def administrator(stranger: httpx2.Client, site: Site) -> httpx2.Client:
    assert come_in(stranger, token=site.hub.token).status_code == 303
    return stranger


def come_in(client: httpx2.Client, **form: str) -> httpx2.Response:
    return client.post("/ui/sign-in", data=form)


def form_token(client: httpx2.Client, path: str = LIST) -> str:
    return re.search(r'name="csrf" value="(\w+)"', client.get(path).text)[1]


class TestComingIn:
    def test_a_page_leads_a_stranger_to_the_door_and_back(self, stranger):
        asked = f"{LIST}?stage=prod&q=sql"
        away = stranger.get(asked)
        assert away.status_code == 303
        assert away.headers["location"] == f"/ui/sign-in?next={quote(asked, safe='')}"
        back = come_in(stranger, name="ann", password=PASSWORD, next=asked)
        assert back.headers["location"] == asked

    @pytest.mark.parametrize(
        "path",
        [
            "/team/sql-lora",
            "/team/sql-lora/tree/main/some%2Ffolder",
            "/team/sql-lora/commit/" + "0" * 40,
            "/team/sql-lora/blob/main/README.md",
            "/~prod/team/sql-lora/tree/main",
            "/team/no-such-thing",
        ],
    )
    def test_an_address_that_a_hub_client_printed_leads_a_browser_to_the_page(self, stranger, path):
        browser = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
        led = stranger.get(path, headers=browser)
        name = path.removeprefix("/~prod").split("/")[2]
        assert (led.status_code, led.headers["location"]) == (303, f"/ui/adapters/team/{name}")

    @pytest.mark.parametrize(
        ("path", "accept"),
        [
            ("/team/sql-lora", "*/*"),
            ("/team/sql-lora/resolve/main/adapter_config.json", "*/*"),
            ("/api/models/team/sql-lora", "text/html"),
            ("/datasets/team/sql-lora/tree/main", "text/html"),
            ("/team", "text/html"),
            ("/a..b/%00/tree/main", "text/html"),
            ("/api/v1/adapters", "text/html"),
        ],
    )
    def test_a_client_and_another_address_are_not_led_there(self, stranger, path, accept):
        answer = stranger.get(path, headers={"accept": accept})
        assert (answer.status_code, "location" in answer.headers) == (401, False)

    def test_an_address_that_no_page_has_is_a_page_that_says_so(self, stranger):
        come_in(stranger, name="ann", password=PASSWORD)
        answer = stranger.get("/ui/nothing/like/it")
        assert answer.status_code == 404
        assert "there is no page at" in answer.text
        assert "All adapters" in answer.text

    @pytest.mark.parametrize(
        "to", ["https://evil.example/", "//evil.example", "/\\evil.example", "/ui//evil.example", "/api/v1/whoami", ""]
    )
    def test_the_door_leads_to_pages_of_this_server_only(self, stranger, to):
        assert come_in(stranger, name="ann", password=PASSWORD, next=to).headers["location"] == LIST

    def test_the_first_token_lets_the_administrator_in(self, stranger, site):
        assert come_in(stranger, token=site.hub.token).status_code == 303
        assert "admin" in stranger.get(LIST).text

    @pytest.mark.parametrize("form", [{"name": "ann", "password": "wrong wrong"}, {"token": "adapters_nothing"}, {}])
    def test_who_knows_neither_stays_out(self, stranger, form):
        answer = come_in(stranger, **form)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert stranger.get(LIST).status_code == 303

    def test_the_cookie_is_for_pages_and_out_of_scripts_reach(self, stranger):
        answer = come_in(stranger, name="ann", password=PASSWORD)
        cookie = SimpleCookie(answer.headers["set-cookie"])["adapters_session"]
        assert (cookie["httponly"], cookie["samesite"].lower(), cookie["path"]) == (True, "lax", "/ui")
        assert int(cookie["max-age"]) == 12 * 3600

    def test_a_session_by_token_can_do_what_the_token_can_and_no_more(self, stranger, site):
        limits = (Grant("team/fresh", ("reader",)),)
        assert come_in(stranger, token=site.hub.registry.create_token(account="ann", limits=limits).secret)
        assert stranger.get("/ui/adapters/team/fresh").status_code == 200
        assert stranger.get("/ui/adapters/team/sql-lora").status_code == 404

    def test_a_planted_session_is_not_taken_over_and_is_over(self, stranger, site):
        come_in(stranger, name="eve", password=PASSWORD)
        planted = stranger.cookies["adapters_session"]
        come_in(stranger, name="ann", password=PASSWORD)
        assert stranger.cookies["adapters_session"] != planted
        assert httpx2.get(f"{site.url}{LIST}", cookies={"adapters_session": planted}, timeout=60).status_code == 303


class TestOnTheRecord:
    def test_who_may_not_do_what_a_form_asks_is_on_the_record(self, stranger, site):
        registry = site.hub.registry
        registry.create_account("vera", password=PASSWORD)
        registry.grant("vera", "team/*", ("reader",))
        come_in(stranger, name="vera", password=PASSWORD)
        for _ in range(3):
            assert stranger.post(PROMOTE, data={"csrf": form_token(stranger), "reason": "x"}).status_code == 403
        [denied] = [
            each.entry
            for each in registry.events()
            if each.entry.actor == "vera" and each.entry.outcome is Outcome.REFUSED
        ]
        assert (denied.action, denied.subject, denied.outcome) == ("promote", "team/sql-lora@v4", Outcome.REFUSED)
        assert "takes the verb 'promote:staging'" in denied.detail["because"]
        stranger.post("/ui/sign-out", data={"csrf": form_token(stranger)})
        come_in(stranger, name="ann", password=PASSWORD)
        assert (
            "takes the verb"
            in stranger.get("/ui/adapters/team/sql-lora/versions/4/gates").text.partition("Refused before")[2]
        )

    def test_who_could_not_come_in_is_on_the_record_without_what_is_no_name(self, stranger, site):
        before = len(site.hub.registry.events())
        for name in ("eve", "hunter2!"):
            assert come_in(stranger, name=name, password="wrong").status_code == 401
        found = [each.entry for each in site.hub.registry.events()[before:]]
        # Without a name, another test may have tried within the same minute: that is counted there.
        assert {(each.action, each.subject, each.actor) for each in found} == {
            ("account.sign-in", name, STRANGER) for name in ("eve", "*")
        }
        assert "hunter2!" not in str(found)


class TestGoingOut:
    def test_signing_out_ends_the_session_itself(self, ann, site):
        held = ann.cookies["adapters_session"]
        assert ann.post("/ui/sign-out", data={"csrf": form_token(ann)}).status_code == 303
        assert httpx2.get(f"{site.url}{LIST}", cookies={"adapters_session": held}, timeout=60).status_code == 303

    def test_a_revoked_session_is_over(self, ann, site):
        registry = site.hub.registry
        registry.revoke_token(registry.tokens("ann")[0].id)
        assert ann.get(LIST).status_code == 303
        over = ann.post(PROMOTE, data={"csrf": "x"}, headers={"hx-request": "true"})
        assert over.status_code == 401
        assert "session is over" in over.text


class TestForms:
    def test_a_form_without_the_sessions_token_does_nothing(self, ann, site):
        with httpx2.Client(base_url=site.url, headers={"origin": site.url}, timeout=60) as eve:
            come_in(eve, name="eve", password=PASSWORD)
            anothers = form_token(eve)
        for token in ("", "0" * 64, anothers):
            refused = ann.post(PROMOTE, data={"csrf": token, "reason": "x"})
            assert refused.status_code == 403
            assert "nothing was done" in refused.text

    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ],
    )
    def test_a_form_from_another_site_does_nothing(self, ann, headers):
        token = form_token(ann)
        assert ann.post(PROMOTE, data={"csrf": token}, headers=headers).status_code == 403
        with httpx2.Client(base_url=ann.base_url, headers=headers, timeout=60) as elsewhere:
            assert come_in(elsewhere, name="ann", password=PASSWORD).status_code == 403

    def test_the_cookie_is_nothing_to_the_api(self, ann):
        cookie = {"cookie": f"adapters_session={ann.cookies['adapters_session']}"}
        assert ann.get("/api/v1/whoami", headers=cookie).status_code == 401
        assert ann.get("/api/models/team/sql-lora", headers=cookie).status_code == 401

    def test_what_is_no_form_is_refused(self, ann):
        for body in (b"\xff\xfe", b"csrf=%00", urlencode({str(n): "x" for n in range(2000)}).encode()):
            assert 400 <= ann.post(PROMOTE, content=body).status_code < 500


class Tags(HTMLParser):
    """Collects what the policy of a page would have to allow: scripts, handlers and styles that stand in it."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _ in attrs}
        if tag == "style" or (tag == "script" and "src" not in names):
            self.wrong.append(tag)
        self.wrong += [name for name in names if name == "style" or name.startswith("on")]


class TestEveryPage:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
    def test_nothing_of_another_site_can_run_in_it_or_frame_it(self, administrator, site, page):
        answer = administrator.get("/ui" + page.path.format(**PLACES, **site.places))
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        if not answer.headers["content-type"].startswith("text/html"):
            assert answer.headers["content-type"] in ("application/json", "application/jsonl")
            assert answer.headers["x-content-type-options"] == "nosniff"
            return
        read = Tags()
        read.feed(answer.text)
        assert read.wrong == []

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
    def test_another_tenants_adapter_is_one_that_does_not_exist(self, stranger, site, page):
        come_in(stranger, name="eve", password=PASSWORD)
        if "{adapter_name}" not in page.path:
            assert "sql-lora" not in stranger.get("/ui" + page.path.format(**PLACES, **site.places)).text
            return
        theirs = stranger.get("/ui" + page.path.format(**PLACES))
        none = stranger.get("/ui" + page.path.format(**{**PLACES, "adapter_name": "sql-larb"}))
        assert theirs.status_code == none.status_code == 404
        assert theirs.text.replace("sql-lora", "") == none.text.replace("sql-larb", "")

    def test_who_may_read_may_not_promote(self, stranger):
        come_in(stranger, name="rita", password=PASSWORD)
        refused = stranger.post(PROMOTE, data={"csrf": form_token(stranger)})
        assert refused.status_code == 403
        assert "promote:staging" in refused.text


class TestFiles:
    def test_a_style_is_kept_for_ever_under_an_address_of_its_bytes(self, stranger):
        [address] = set(re.findall(r'href="(/ui/static/app\.css\?\w+)"', stranger.get("/ui/sign-in").text))
        answer = stranger.get(address)
        assert answer.headers["content-type"] == "text/css; charset=utf-8"
        assert "immutable" in answer.headers["cache-control"]

    @pytest.mark.parametrize("name", ["%2e%2e/vendor.py", "vendor/manifest.json", "nothing"])
    def test_nothing_else_is_served(self, stranger, name):
        assert stranger.get(f"/ui/static/{name}").status_code == 404
