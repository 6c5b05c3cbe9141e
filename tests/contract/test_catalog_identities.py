"""What the Catalog promises about trusts, exchanged tokens, identities and sign-ins, on SQLite and on PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from adapter_registry.domain.people.access import Grant, token_hash
from adapter_registry.domain.people.account import Account, AccountKind, Token
from adapter_registry.domain.people.sign_in import Attempt, Identity
from adapter_registry.domain.people.trust import Trust
from adapter_registry.domain.views.saved import View
from adapter_registry.storage import catalog_identities

AT, LATER, LAST = (f"2026-01-0{day}T00:00:00.000000Z" for day in (1, 2, 3))
LIMITS = (Grant("team/*", ("push",)),)
TRUST = Trust("a" * 12, "https://issuer.test", "us", {"sub": "x:*"}, "ci", LIMITS, 900, "ann", AT)
ATTEMPT = Attempt("l" * 64, "s" * 64, "state", "nonce", "verifier", "https://us.test/auth/callback", LATER)


@pytest.fixture
def known(catalog):
    with catalog.writing() as tx:
        tx.accounts.add(Account("ci", AccountKind.SERVICE, (), "ann", AT), password=None)
    return catalog


def test_trusts_are_found_by_issuer_in_the_order_they_were_declared(known):
    later = replace(TRUST, id="b" * 12, limits=None, created_at=LATER)
    other = replace(TRUST, id="c" * 12, issuer="https://other.test", created_at=LAST)
    with known.writing() as tx:
        for each in (other, later, TRUST):
            tx.identities.add_trust(each)
    with known.reading() as tx:
        assert tx.identities.trusts() == (TRUST, later, other)
        assert tx.identities.trusts("https://issuer.test") == (TRUST, later)
        assert tx.identities.trusts("https://issuer.test/") == ()


def test_removing_a_trust_revokes_what_it_gave_and_nothing_else(known):
    with known.writing() as tx:
        tx.identities.add_trust(TRUST)
        for number, trust in enumerate((TRUST.id, None, "b" * 12)):
            token = Token(str(number) * 12, "ci", "", None, "ci", AT, LAST, trust=trust)
            tx.accounts.add_token(token, hashed=token_hash(str(number)))
    with known.reading() as tx:
        assert tx.accounts.principal(token_hash("0"), now=AT)[0].exchanged
        assert not tx.accounts.principal(token_hash("1"), now=AT)[0].exchanged
    with known.writing() as tx:
        assert tx.identities.remove_trust(TRUST.id, at=LATER)
        assert not tx.identities.remove_trust(TRUST.id, at=LAST)
    with known.reading() as tx:
        assert tx.identities.trusts() == ()
        assert {token.id[0]: token.revoked_at for token in tx.accounts.tokens()} == {"0": LATER, "1": None, "2": None}


def test_exchanged_tokens_that_ended_are_forgotten_and_no_others(known):
    with known.writing() as tx:
        for number, (trust, ends) in enumerate([(TRUST.id, AT), (TRUST.id, LAST), (None, AT), (None, None)]):
            token = Token(str(number) * 12, "ci", "", None, "ci", AT, ends, trust=trust)
            tx.accounts.add_token(token, hashed=token_hash(str(number)))
        tx.identities.forget_exchanged(before=LATER)
        assert {token.id[0] for token in tx.accounts.tokens()} == {"1", "2", "3"}


def test_a_token_is_spent_once_until_it_is_over(known):
    with known.writing() as tx:
        assert tx.identities.spend("x", until=LATER, at=AT)
        assert tx.identities.spend("y", until=LAST, at=AT)
        assert not tx.identities.spend("x", until=LATER, at=LATER)
        assert tx.identities.spend("x", until=LAST, at=LAST)
        assert not tx.identities.spend("y", until=LAST, at=LAST)


def test_of_many_who_spend_a_token_at_once_one_does(known):
    def spend(_):
        with known.writing() as tx:
            return tx.identities.spend("x", until=LATER, at=AT)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(spend, range(8))) == 1


def test_an_identity_is_known_by_issuer_and_subject_together(known):
    identity = Identity("https://issuer.test", "1", "ci", LIMITS)
    with known.writing() as tx:
        tx.identities.put_identity(identity, at=AT)
    with known.writing() as tx:
        assert tx.identities.identity("https://issuer.test", "1") == identity
        assert tx.identities.identity("https://issuer.test", "2") is None
        assert tx.identities.identity("https://other.test", "1") is None
        tx.identities.put_identity(replace(identity, grants=()), at=LATER)
        assert tx.identities.identity("https://issuer.test", "1").grants == ()


def test_a_sign_in_is_found_by_each_of_its_names_and_changes(known):
    with known.writing() as tx:
        tx.identities.add_attempt(ATTEMPT, at=AT)
        assert tx.identities.attempt(link=ATTEMPT.link) == ATTEMPT
        assert tx.identities.attempt(state="state") == tx.identities.attempt(secret=ATTEMPT.secret) == ATTEMPT
        assert tx.identities.attempt(state=ATTEMPT.link) is None
        moved = replace(ATTEMPT, returned=True, account="ci", code="c", tries=2)
        tx.identities.change_attempt(moved)
        assert tx.identities.attempt(link=ATTEMPT.link) == moved
        tx.identities.remove_attempt(moved)
        assert tx.identities.attempt(link=ATTEMPT.link) is None


def test_sign_ins_that_are_over_are_forgotten_and_the_oldest_where_there_are_too_many(known, monkeypatch):
    monkeypatch.setattr(catalog_identities, "MOST_ATTEMPTS", 2)

    def begun(number: int, ends: str) -> Attempt:
        return replace(ATTEMPT, link=str(number), secret=str(number), state=str(number), expires_at=ends)

    with known.writing() as tx:
        for number in range(4):
            tx.identities.add_attempt(begun(number, f"2026-01-02T00:00:0{number}.000000Z"), at=AT)
        assert [tx.identities.attempt(link=str(n)) is not None for n in range(4)] == [False, False, True, True]
        tx.identities.add_attempt(begun(4, "2026-01-04T00:00:00.000000Z"), at=LAST)
        assert [tx.identities.attempt(link=str(n)) is not None for n in range(5)] == [False] * 4 + [True]


def test_views_are_an_accounts_own_and_by_name(known):
    first, second = (View("adapters", name, {"stage": "prod"}, AT) for name in ("b", "a"))
    with known.writing() as tx:
        for each in (first, second, replace(first, of="jobs")):
            tx.views.put("ann", each)
        tx.views.put("ci", first)
        tx.views.put("ann", replace(first, query={"stage": "dev"}))
        tx.views.remove("ci", "adapters", "b")
    with known.reading() as tx:
        assert tx.views.of("ann", "adapters") == (second, replace(first, query={"stage": "dev"}))
        assert tx.views.of("ci", "adapters") == ()


def test_tokens_page_by_key_and_without_those_that_are_over(known):
    made = [
        Token(f"{n}" * 12, "ci", "", None, "ann", AT if n < 3 else LATER, LATER if n == 2 else None) for n in range(5)
    ]
    with known.writing() as tx:
        for each in made:
            tx.accounts.add_token(each, hashed=token_hash(each.id))
        tx.accounts.revoke_token(made[1].id, at=LATER)
    with known.reading() as tx:
        first = tx.accounts.tokens("ci", limit=2)
        assert [each.id[0] for each in first] == ["4", "3"]
        assert [each.id[0] for each in tx.accounts.tokens("ci", before=first[-1].key)] == ["2", "1", "0"]
        assert [each.id[0] for each in tx.accounts.tokens("ci", good_at=LAST)] == ["4", "3", "0"]
        assert tx.accounts.token(made[0].id) == made[0]
        assert tx.accounts.token("x" * 12) is None


def test_groups_and_accounts_page_by_name(known):
    with known.writing() as tx:
        for name in ("ann", "bob"):
            tx.accounts.add(Account(name, AccountKind.PERSON, (), "ann", AT), password=None)
        for group, member in (("b", "bob"), ("a", "ci"), ("a", "ann"), ("c", "ci")):
            tx.requests.set_member(group, member, member=True)
    with known.reading() as tx:
        assert list(tx.requests.groups(limit=2).items()) == [("a", ("ann", "ci")), ("b", ("bob",))]
        assert tx.requests.groups(after="b") == {"c": ("ci",)}
        assert [each.name for each in tx.accounts.all(after="ann", limit=1)] == ["bob"]
