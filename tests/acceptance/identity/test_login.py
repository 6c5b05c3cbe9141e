"""People sign in by a real OpenID provider, with a browser that follows its redirects; or by password."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from adapter_registry import app
from adapter_registry.domain.audit.event import Outcome
from adapter_registry.domain.errors import IdentityRefused, Unauthorised
from adapter_registry.outside.openid import Issuers
from adapter_registry.services import people
from adapter_registry.services.access import STRANGER
from adapter_registry.settings import read_settings
from tests.acceptance.identity.browser import Browser, changed, code_on
from tests.acceptance.identity.conftest import RULES, known, make_ci
from tests.openid_provider import CLIENT, PASSWORD


@pytest.fixture
def begun(there):
    status, answer = there.post("/api/v1/sign-in/browser", {})
    assert status == 201
    return answer


def finish(there, begun, code):
    return there.post("/api/v1/sign-in/code", {"secret": begun["secret"], "code": code})


def signed_in(there, name, *, browser=None):
    """The client of a person who signed in from beginning to end."""
    _, begun = there.post("/api/v1/sign-in/browser", {})
    status, _, page = (browser or Browser()).signs_in(begun["open"], name)
    assert status == 200, page
    status, made = finish(there, begun, code_on(page))
    assert status == 201, made
    return there.registry_of(made["secret"])


class TestSigningIn:
    def test_a_person_comes_back_from_the_provider_with_a_code_that_gets_a_token(self, there, begun):
        there.provider.person("ann", email="ann@corp.test")
        status, at, page = Browser().signs_in(begun["open"], "ann")
        assert (status, urlsplit(at).path) == (200, "/auth/callback")
        assert "Signed in as <strong>ann</strong>" in page
        status, made = finish(there, begun, code_on(page).lower().replace("-", " "))
        assert status == 201
        assert there.registry_of(made["secret"]).whoami().name == "ann"
        assert made["token"]["expires_at"] is not None
        actions = [event.entry.action for event in there.registry.events() if event.entry.subject == "ann"]
        assert actions == ["account.create", "account.grant", "account.sign-in"]

    def test_who_begins_on_a_page_comes_back_with_a_session_and_types_no_code(self, there):
        there.provider.person("pia")
        browser = Browser()
        status, at, page = browser.signs_in(browser.begins_on_a_page(there.server.url), "pia")
        assert (status, urlsplit(at).path) == (200, "/ui/adapters"), page
        assert 'title="pia"' in page
        assert urlsplit(Browser().get(f"{there.server.url}/ui/adapters")[1]).path == "/ui/sign-in"

    def test_a_sign_in_that_was_left_on_a_page_keeps_nobody_from_signing_in_at_a_terminal(self, there):
        there.provider.person("pia")
        browser = Browser()
        browser.begins_on_a_page(there.server.url)
        assert signed_in(there, "pia", browser=browser).whoami().name == "pia"

    def test_the_provider_is_asked_with_state_nonce_and_a_hashed_verifier(self, there, begun):
        asked = parse_qs(urlsplit(Browser().where(begun["open"])).query)
        assert asked["client_id"] == [CLIENT]
        assert asked["code_challenge_method"] == ["S256"]
        assert asked["scope"] == ["openid profile email"]
        assert len({asked[name][0] for name in ("state", "nonce", "code_challenge")}) == 3
        assert min(len(asked[name][0]) for name in ("state", "nonce", "code_challenge")) >= 43
        assert begun["secret"] not in json.dumps(asked)

    def test_the_code_is_good_once_and_only_with_the_secret(self, there, begun):
        there.provider.person("ann")
        code = code_on(Browser().signs_in(begun["open"], "ann")[2])
        assert finish(there, {"secret": "another"}, code)[0] == 401
        assert finish(there, begun, code)[0] == 201
        assert finish(there, begun, code)[0] == 401

    def test_another_code_lets_nobody_in_and_five_end_the_sign_in(self, there, begun):
        there.provider.person("ann")
        code = code_on(Browser().signs_in(begun["open"], "ann")[2])
        for _ in range(5):
            status, answer = finish(there, begun, "BBBB-BBBB")
            assert (status, answer["code"]) == (401, "identity-refused")
        assert finish(there, begun, code)[0] == 401

    def test_before_the_browser_is_back_no_code_is_the_right_one(self, there, begun):
        for code in ("", "None", "null"):
            assert finish(there, begun, code)[0] == 401

    def test_nothing_secret_is_stored_as_it_is(self, there, begun):
        there.provider.person("ann")
        code = code_on(Browser().signs_in(begun["open"], "ann")[2])
        for path in there.server.cli.home.rglob("*"):
            if path.is_file():
                stored = path.read_bytes()
                assert begun["secret"].encode() not in stored
                assert code.replace("-", "").encode() not in stored


class TestWhatIsTurnedAway:
    @pytest.fixture(autouse=True)
    def _ann(self, there):
        there.provider.person("ann")

    def test_another_state(self, there, begun):
        browser = Browser()
        back = browser.signs_in_up_to_the_return(begun["open"], "ann")
        status, _, page = browser.get(changed(back, state="x" * 43))
        assert (status, "state differs" in page) == (401, True)
        assert browser.get(back)[0] == 200

    def test_a_browser_that_did_not_begin(self, there, begun):
        back = Browser().signs_in_up_to_the_return(begun["open"], "ann")
        status, _, page = Browser().get(back)
        assert (status, "state differs" in page) == (401, True)

    def test_coming_back_twice(self, there, begun):
        browser = Browser()
        back = browser.signs_in_up_to_the_return(begun["open"], "ann")
        assert browser.get(back)[0] == 200
        assert browser.get(back)[0] == 401
        assert browser.get(begun["open"])[0] == 401

    def test_coming_back_again_after_it_failed(self, there, begun):
        browser = Browser()
        back = browser.signs_in_up_to_the_return(begun["open"], "ann")
        assert browser.get(changed(back, code="wrong"))[0] == 401
        status, _, page = browser.get(back)
        assert (status, "was used" in page) == (401, True)

    def test_a_code_that_was_used_in_another_sign_in(self, there, begun):
        browser = Browser()
        used = browser.signs_in_up_to_the_return(begun["open"], "ann")
        assert browser.get(used)[0] == 200
        _, second = there.post("/api/v1/sign-in/browser", {})
        state = parse_qs(urlsplit(browser.where(second["open"])).query)["state"][0]
        status, _, page = browser.get(changed(used, state=state))
        assert (status, "invalid_grant" in page) == (401, True)

    def test_a_code_of_another_sign_in_that_was_not_used(self, there, begun):
        """PKCE: the code belongs to the verifier of the sign-in that it was given for."""
        browser = Browser()
        stolen = browser.signs_in_up_to_the_return(begun["open"], "ann")
        _, second = there.post("/api/v1/sign-in/browser", {})
        state = parse_qs(urlsplit(browser.where(second["open"])).query)["state"][0]
        status, _, page = browser.get(changed(stolen, state=state))
        assert (status, "invalid_grant" in page) == (401, True)

    def test_another_nonce(self, there, begun):
        browser = Browser()
        leaving = changed(browser.where(begun["open"]), nonce="of-another-sign-in")
        status, _, page = browser.signs_in(leaving, "ann")
        assert (status, "nonce differs" in page) == (401, True)

    def test_another_challenge(self, there, begun):
        browser = Browser()
        leaving = changed(browser.where(begun["open"]), code_challenge="A" * 43)
        status, _, page = browser.signs_in(leaving, "ann")
        assert (status, "invalid_grant" in page) == (401, True)

    def test_a_person_who_says_no_or_a_provider_that_does(self, there, begun):
        browser = Browser()
        browser.where(begun["open"])
        status, _, page = browser.get(
            f"{there.server.url}/auth/callback?error=access_denied&error_description=<b>no</b>"
        )
        assert status == 401
        assert "access_denied &lt;b&gt;no&lt;/b&gt;" in page

    @pytest.mark.parametrize(
        "path", ["nothing", "callback", "callback?state=&code=", "callback?state=%00&code=%ff", "é"]
    )
    def test_an_address_that_means_nothing(self, there, path):
        from urllib.parse import quote

        status, _, page = Browser().get(f"{there.server.url}/auth/{quote(path, safe='?=&%')}")
        assert status in (401, 404)
        assert "Traceback" not in page

    def test_an_account_that_is_shut_out(self, there, begun):
        there.provider.person("dora")
        dora = signed_in(there, "dora")
        there.registry.disable("dora")
        with pytest.raises(Unauthorised):
            dora.whoami()
        status, _, page = Browser().signs_in(begun["open"], "dora")
        assert (status, "shut out" in page) == (401, True)

    def test_an_account_that_is_shut_out_between_the_page_and_the_code(self, there, begun):
        there.provider.person("fay")
        code = code_on(Browser().signs_in(begun["open"], "fay")[2])
        there.registry.disable("fay")
        assert finish(there, begun, code)[0] == 401


class TestWhoTheyAre:
    def test_nobody_becomes_an_account_that_exists_by_its_name(self, there):
        there.registry.create_account("eve", password=PASSWORD)
        there.registry.grant("eve", "*", ("admin",))
        there.provider.person("eve")
        there.provider.person("admin", email="admin@corp.test")
        assert signed_in(there, "eve").whoami().name == "eve-2"
        assert signed_in(there, "admin").whoami().name == "admin-2"
        assert not signed_in(there, "admin").may("access")

    def test_a_person_keeps_their_account_under_another_name(self, there):
        there.provider.person("gil", "search")
        signed_in(there, "gil")
        there.provider.rename("gil", "gilbert")
        assert signed_in(there, "gilbert").whoami().name == "gil"

    def test_the_name_that_somebody_gave_up_leads_to_another_account(self, there):
        there.provider.person("hal")
        signed_in(there, "hal")
        there.provider.rename("hal", "hal-before")
        there.provider.person("hal")
        assert signed_in(there, "hal").whoami().name == "hal-2"

    def test_a_name_with_signs_becomes_one_that_accounts_may_have(self, there):
        there.provider.person("Zoë@home+x")
        assert signed_in(there, "Zoë@home+x").whoami().name == "Zo"


class TestGroups:
    def test_groups_give_what_the_rules_say_and_no_group_gives_what_everybody_has(self, there):
        there.provider.person("ida", "search", "unknown-group")
        there.provider.person("jon")
        ida, jon = signed_in(there, "ida"), signed_in(there, "jon")
        assert ida.may("push", "search/x")
        assert ida.may("promote:prod", "search/x")
        assert not ida.may("push", "team/sql-lora")
        assert [grant.scope for grant in jon.whoami().grants] == ["team/*"]

    def test_who_left_a_group_loses_its_grants_at_the_next_sign_in_and_keeps_what_people_gave(self, there):
        there.provider.person("kim", "ml-admins")
        kim = signed_in(there, "kim")
        assert kim.may("access")
        there.registry.grant("kim", "kims/*", ("maintainer",))
        there.provider.person("kim", "search")
        later = signed_in(there, "kim")
        assert not later.may("access")
        assert not kim.may("access")
        assert later.may("push", "search/x")
        assert later.may("push", "kims/x")

    def test_only_verified_addresses_of_allowed_domains_come_in(self, tmp_path):
        with known(tmp_path, ADAPTERS_OIDC_DOMAINS="corp.test, @other.test") as running:
            running.provider.person("ann", email="ann@CORP.test")
            running.provider.person("bob", email="bob@evil.test")
            running.provider.person("cyd", email="cyd@corp.test", verified=False)
            running.provider.person("dan", email="dan@corp.test.evil.test")
            running.provider.person("eva")
            assert signed_in(running, "ann").whoami().name == "ann"
            for name in ("bob", "cyd", "dan", "eva"):
                _, begun = running.post("/api/v1/sign-in/browser", {})
                status, _, page = Browser().signs_in(begun["open"], name)
                assert (status, "corp.test, other.test" in page) == (401, True)
            assert {account.name for account in running.registry.accounts()} == {"admin", "ann"}


class TestRecord:
    """Who could not come in by a provider is on the record, and nothing that they sent."""

    @pytest.fixture
    def alone(self, tmp_path):
        with known(tmp_path) as running:
            yield running

    @staticmethod
    def refused(running):
        entries = [each.entry for each in running.registry.events() if each.entry.outcome is Outcome.REFUSED]
        return [(each.action, each.subject, each.actor, each.detail["because"]) for each in entries]

    def test_each_reason_is_recorded_once_in_a_while_with_the_account_where_it_is_known(self, alone):
        alone.provider.person("dora")
        signed_in(alone, "dora")
        alone.registry.disable("dora")
        begun = alone.post("/api/v1/sign-in/browser", {})[1]
        assert Browser().signs_in(begun["open"], "dora")[0] == 401
        address = f"{alone.server.url}/auth/callback"
        for path in ("?error=access_denied&error_description=hunter2", "?error=hunter2", "?state=hunter2&code=hunter2"):
            for _ in range(3):
                assert Browser().get(address + path)[0] == 401
        assert finish(alone, begun, "hunter2")[0] == 401
        make_ci(alone)
        assert alone.exchange("hunter2")[0] == 401
        assert alone.exchange(alone.provider.token(aud="hunter2"))[0] == 401
        found = self.refused(alone)
        assert [each[:3] for each in found] == [
            ("account.sign-in", "dora", STRANGER),
            *[("account.sign-in", "*", STRANGER)] * 4,
            *[("token.exchange", "*", STRANGER)] * 2,
        ]
        reasons = [each[3] for each in found]
        assert reasons[1:3] == [
            "the provider did not let them in: access_denied.",
            "the provider did not let them in: no code of OAuth.",
        ]
        assert "hunter2" not in str(alone.registry.events())

    def test_nobody_fills_the_log(self, alone):
        for index in range(60):
            Browser().get(f"{alone.server.url}/auth/callback?error=e_{chr(97 + index % 26)}{chr(97 + index // 26)}")
        assert 15 <= len(self.refused(alone)) <= 25


def test_a_sign_in_ends_after_ten_minutes(there, tmp_path):
    """On services of this process, whose clock can be moved; the provider is the real one."""
    given = there.provider.settings(ADAPTERS_HOME=str(tmp_path), ADAPTERS_OIDC_GRANTS=RULES)
    settings = read_settings(given)
    now = app.embedded(settings)
    later = replace(now, clock=lambda: "2099-01-01T00:00:00.000000Z")
    issuers = Issuers(loopback=True)
    begun = people.begin(now, redirect_uri=f"{there.server.url}/auth/callback")
    state = people.leave(now, issuers, settings.provider, link=begun.link).state
    with pytest.raises(IdentityRefused, match="over"):
        people.leave(later, issuers, settings.provider, link=begun.link)
    with pytest.raises(IdentityRefused, match="over"):
        people.come_back(later, issuers, settings.provider, state=state, left_with=state, code="x")
    with pytest.raises(IdentityRefused, match="over"):
        people.finish(later, secret=begun.secret, code="x")


def test_a_server_without_a_provider_says_so(hub):
    import urllib.error
    import urllib.request

    request = urllib.request.Request(f"{hub.url}/api/v1/sign-in/browser", b"{}", method="POST")
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(request)
    assert json.loads(answer.value.read())["code"] == "unsupported"
    answer.value.close()


class Person:
    """Somebody at a terminal, with a home of their own."""

    def __init__(self, there, home):
        self._cli, self.home = there.server.cli, home
        self._environment = {**there.server.cli.environment, "ADAPTERS_HOME": str(home)}

    def __call__(self, *arguments, stdin="", code=0, **environment):
        done = subprocess.run(
            [*self._cli.command, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env={**self._environment, **environment},
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    def began(self, *arguments):
        """A command that waits for the code, and the address it names."""
        running = subprocess.Popen(
            [*self._cli.command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )
        said = ""
        while not (found := re.search(r"http://\S+/auth/\S+", said)):
            line = running.stderr.readline()
            assert line, said
            said += line
        return running, found[0]


@pytest.fixture
def person(there, tmp_path):
    return Person(there, tmp_path / "home")


class TestCommands:
    def test_signing_in_by_browser_makes_later_commands_ask_the_server(self, there, person):
        there.provider.person("lea", "search")
        running, address = person.began("login", there.server.url)
        code = code_on(Browser().signs_in(address, "lea")[2])
        out, err = running.communicate(f"WRONG-ONE\n{code}\n", timeout=60)
        assert running.returncode == 0, err
        assert "as lea" in out
        assert person("whoami", "-q").stdout.strip() == "lea"
        assert person("ls", "-q").stdout.strip() == "team/sql-lora"
        kept = person.home / "login.json"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert sorted(path.name for path in person.home.iterdir()) == ["login.json"]

    def test_by_password_and_out_again(self, there, person):
        there.registry.create_account("max", password=PASSWORD)
        person("login", there.server.url, "--name", "max", "--password-stdin", stdin=PASSWORD)
        token = json.loads((person.home / "login.json").read_text())["token"]
        assert person("whoami", "-q").stdout.strip() == "max"
        person("logout")
        assert not (person.home / "login.json").exists()
        with pytest.raises(Unauthorised):
            there.registry_of(token).whoami()
        assert "nobody is signed in" in person("logout", code=2).stderr

    def test_a_wrong_password_keeps_nothing(self, there, person):
        refused = person("login", there.server.url, "--name", "max", "--password-stdin", stdin="wrong wrong", code=1)
        assert "name or the password is wrong" in refused.stderr
        assert not (person.home / "login.json").exists()

    def test_a_token_can_be_kept_and_a_bad_one_is_not(self, there, person):
        person("login", there.server.url, "--token-stdin", stdin=there.server.token)
        assert person("whoami", "-q").stdout.strip() == "admin"
        person("login", "--token-stdin", stdin="adapters_wrong", code=1)
        assert person("whoami", "-q").stdout.strip() == "admin"

    def test_a_token_that_was_given_is_not_revoked_by_signing_out(self, there, person):
        person("login", there.server.url, "--token-stdin", stdin=there.server.token)
        assert json.loads(person("logout", "--json").stdout) == {"url": there.server.url, "revoked": False}
        assert there.registry.whoami().name == "admin"

    def test_the_environment_goes_first(self, there, person):
        person("login", there.server.url, "--token-stdin", stdin=there.server.token)
        there.registry.create_account("ned")
        other = there.registry.create_token(account="ned").secret
        assert person("whoami", "-q", ADAPTERS_TOKEN=other).stdout.strip() == "ned"
        assert person("whoami", "-q", ADAPTERS_URL=f"{there.server.url}/").stdout.strip() == "admin"
        assert "does not answer" in person("whoami", ADAPTERS_URL="http://127.0.0.1:9", code=1).stderr
        assert person("whoami", "-q", ADAPTERS_URL="").stdout.strip() == "ann"

    def test_a_kept_token_is_shown_to_no_other_server(self, there, person, hub):
        person("login", there.server.url, "--token-stdin", stdin=there.server.token)
        assert "wants a token" in person("whoami", ADAPTERS_URL=hub.url, code=1).stderr

    def test_a_file_that_is_damaged_is_told(self, there, person):
        person.home.mkdir()
        (person.home / "login.json").write_text("{")
        assert "login.json" in person("ls", code=2).stderr

    def test_without_a_server_or_with_two_ways_in_nothing_happens(self, there, person):
        assert "which server" in person("login", code=2).stderr
        person("login", there.server.url, "--oidc", "--name", "x", code=2)
        assert (
            "http://host:port"
            in person("login", "nonsense", "--name", "x", "--password-stdin", stdin="x", code=2).stderr
        )
