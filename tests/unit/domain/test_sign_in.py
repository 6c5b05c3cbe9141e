"""What an OpenID provider's claims mean: who it is, whether they may come in, what their groups give."""

from __future__ import annotations

import pytest

from adapter_registry.domain.errors import IdentityRefused, InvalidInput, InvalidReference
from adapter_registry.domain.names import check_namespace
from adapter_registry.domain.people.access import Grant, grant_of
from adapter_registry.domain.people.sign_in import (
    Provider,
    check_identity,
    grants_for,
    name_for,
    plain_code,
    refreshed,
    rules_of,
)
from adapter_registry.settings import read_settings

READER, WRITER = grant_of("team/*", ("reader",)), grant_of("search/*", ("writer",))
PROVIDER = Provider("https://issuer.test", "us", rules=rules_of("search = search/* writer; * = team/* reader"))
CLAIMS = {"sub": "1", "aud": "us", "nonce": "n"}


class TestRules:
    def test_each_rule_is_a_group_a_scope_and_roles_or_verbs(self):
        rules = rules_of("a b = x/y read promote:prod ;\n c=* admin;")
        assert [(rule.group, rule.grant) for rule in rules] == [
            ("a b", Grant("x/y", ("read", "promote:prod"))),
            ("c", Grant("*", ("*",))),
        ]
        assert rules_of("") == ()

    @pytest.mark.parametrize("text", ["a", "a = ", "= x/* reader", "a = x/*", "a = x/* nothing", "a = .. reader"])
    def test_what_is_no_rule_is_refused(self, text):
        with pytest.raises((InvalidInput, InvalidReference)):
            rules_of(text)

    @pytest.mark.parametrize(
        ("groups", "given"),
        [
            (["search"], (WRITER, READER)),
            ("search", (WRITER, READER)),
            (["Search", "searching"], (READER,)),
            (None, (READER,)),
            (["*"], (READER,)),
            ({"search": 1}, (READER,)),
            ([["search"], 1], (READER,)),
        ],
    )
    def test_groups_give_grants(self, groups, given):
        assert grants_for(PROVIDER, {"groups": groups}) == given

    def test_what_people_gave_stays_and_what_the_provider_gave_follows_it(self):
        own = grant_of("mine/*", ("maintainer",))
        assert refreshed((own, READER), before=(READER,), now=(WRITER,)) == (own, WRITER)
        assert refreshed((READER,), before=(), now=(READER,)) == (READER,)
        assert refreshed((own,), before=(READER,), now=()) == (own,)


class TestIdentity:
    def test_a_token_for_this_client_and_this_sign_in_says_who_it_is(self):
        assert check_identity(PROVIDER, CLAIMS, nonce="n") == "1"
        assert check_identity(PROVIDER, {**CLAIMS, "aud": ["us", "them"], "azp": "us"}, nonce="n") == "1"

    @pytest.mark.parametrize(
        "change",
        [
            *({"aud": "them"}, {"aud": None}, {"aud": ["them"]}, {"azp": "them"}, {"nonce": "m"}, {"nonce": None}),
            *({"sub": ""}, {"sub": 1}, {"sub": "x" * 256}),
        ],
        ids=str,
    )
    def test_every_other_is_refused(self, change):
        with pytest.raises(IdentityRefused):
            check_identity(PROVIDER, {**CLAIMS, **change}, nonce="n")

    @pytest.mark.parametrize(
        ("claims", "name"),
        [
            ({"preferred_username": "ann", "email": "x@y"}, "ann"),
            ({"email": "ann.b@corp.test"}, "ann.b"),
            ({"preferred_username": "--a--b..c--"}, "a-b-c"),
            ({"preferred_username": "日本", "name": "Ann B"}, "Ann-B"),
            ({"preferred_username": "repo.git", "sub": "auth0|17"}, "auth0-17"),
            ({"preferred_username": "x" * 300}, "x" * 60),
            ({"preferred_username": ["ann"]}, "person"),
        ],
    )
    def test_a_name_is_made_that_accounts_may_have(self, claims, name):
        assert name_for(claims) == name
        check_namespace(name_for(claims))

    def test_a_code_is_read_as_people_type_it(self):
        assert plain_code(" bcdf-ghjk\n") == plain_code("BCDF GHJK") == "BCDFGHJK"


class TestSettings:
    def test_a_provider_needs_an_issuer_and_a_client(self, tmp_path):
        home = {"ADAPTERS_HOME": str(tmp_path)}
        assert read_settings(home).provider is None
        with pytest.raises(InvalidInput, match="CLIENT_ID"):
            read_settings({**home, "ADAPTERS_OIDC_ISSUER": "https://issuer.test"})
        given = {"ADAPTERS_OIDC_ISSUER": "https://issuer.test", "ADAPTERS_OIDC_CLIENT_ID": "us"}
        assert read_settings({**home, **given}).provider == Provider("https://issuer.test", "us")
        with pytest.raises(InvalidInput):
            read_settings({**home, **given, "ADAPTERS_OIDC_ISSUER": "http://issuer.test"})
