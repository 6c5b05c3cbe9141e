import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_registry.domain.audit.event import GENESIS, Entry, Outcome, chained
from adapter_registry.domain.errors import InvalidInput, Unauthorised
from adapter_registry.domain.webhooks.signature import headers, new_secret, signature, verify
from adapter_registry.domain.webhooks.webhook import (
    EVENTS,
    TYPES,
    Delivery,
    State,
    Webhook,
    adapter_of,
    attempted,
    backoff,
    check_events,
    check_scope,
    check_url,
    matches,
    message_id,
    payload,
    replayed,
    scheduled,
    type_of,
)

AT = "2026-01-01T10:00:00.000000Z"
NOW = 1_767_261_600
OLD, NEW = new_secret(b"o" * 32), new_secret(b"n" * 32)
BODY = b'{"type":"stage.moved"}'
HOOK = Webhook("k3x9", "https://example.org/hook", "*", ("*",), True, "ada", AT)


def entry(action="promote", subject="acme/sql@v4", outcome=Outcome.DONE, **detail):
    return Entry(action, subject, outcome, "ada", AT, detail)


def event(*args, sequence=7, **kwargs):
    return chained(entry(*args, **kwargs), sequence=sequence, previous=GENESIS)


class TestSignature:
    def test_it_is_that_of_the_standard_webhooks_specification(self):
        # The example of the reference libraries' tests (standard-webhooks, libraries/python/tests).
        secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        signed = signature(
            secret, id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, body=b'{"test": 2432232314}'
        )
        assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

    @pytest.mark.parametrize("secret", ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_short", "whsec_ä", "whsec_!!!!"])
    def test_a_secret_of_another_form_is_refused_without_repeating_it(self, secret):
        with pytest.raises(
            InvalidInput, match=r"^the webhook's secret must be whsec_ and the base64 of 24 to 64 bytes"
        ):
            signature(secret, id="m", timestamp=1, body=b"")

    def test_ids_have_no_dot_so_that_what_is_signed_has_one_reading(self):
        with pytest.raises(InvalidInput, match="is not a message's id"):
            signature(OLD, id="m.1", timestamp=1, body=b"")

    @pytest.mark.parametrize("size", [0, 23, 65])
    def test_secrets_have_24_to_64_bytes(self, size):
        with pytest.raises(InvalidInput, match=f"24 to 64 random bytes, not {size}"):
            new_secret(b"x" * size)

    def test_nothing_is_sent_unsigned(self):
        with pytest.raises(InvalidInput, match="never sent unsigned"):
            headers([], id="m", timestamp=1, body=b"")


class TestVerify:
    def sent(self, *secrets):
        return headers(secrets, id="msg_k3x9_7", timestamp=NOW, body=BODY)

    def test_a_genuine_message_gives_its_id(self):
        assert verify(self.sent(OLD), BODY, secrets=[OLD], now=NOW + 1) == "msg_k3x9_7"

    def test_header_names_are_read_in_any_case(self):
        shouted = {name.title(): value for name, value in self.sent(OLD).items()}
        assert verify(shouted, BODY, secrets=[OLD], now=NOW)

    def test_during_a_rotation_either_secret_will_do_on_either_side(self):
        both = self.sent(OLD, NEW)
        assert both["webhook-signature"].count("v1,") == 2
        assert verify(both, BODY, secrets=[OLD], now=NOW)
        assert verify(both, BODY, secrets=[NEW], now=NOW)
        assert verify(self.sent(OLD), BODY, secrets=[NEW, OLD], now=NOW)
        with pytest.raises(Unauthorised, match="of another secret"):
            verify(self.sent(OLD), BODY, secrets=[NEW], now=NOW)

    @pytest.mark.parametrize("seconds", [-300, 300])
    def test_five_minutes_are_in_time(self, seconds):
        assert verify(self.sent(OLD), BODY, secrets=[OLD], now=NOW + seconds)

    @pytest.mark.parametrize(("seconds", "when"), [(-301, "from now"), (301, "ago"), (86_400, "ago")])
    def test_a_replay_after_five_minutes_is_refused(self, seconds, when):
        with pytest.raises(Unauthorised, match=f"seconds {when}; more than 300 is a replay or a wrong clock"):
            verify(self.sent(OLD), BODY, secrets=[OLD], now=NOW + seconds)

    @pytest.mark.parametrize(
        ("header", "value"),
        [("webhook-id", "msg_k3x9_8"), ("webhook-timestamp", str(NOW + 1)), ("webhook-signature", "v1,ä v2,x")],
    )
    def test_a_changed_header_is_refused(self, header, value):
        with pytest.raises(Unauthorised, match="of another secret, or the message was changed"):
            verify({**self.sent(OLD), header: value}, BODY, secrets=[OLD], now=NOW)

    def test_a_changed_body_is_refused(self):
        with pytest.raises(Unauthorised, match="changed on the way"):
            verify(self.sent(OLD), BODY + b" ", secrets=[OLD], now=NOW)

    @pytest.mark.parametrize("header", ["webhook-id", "webhook-timestamp", "webhook-signature"])
    @pytest.mark.parametrize("value", ["", "a.b c", "-1"])
    def test_a_malformed_header_is_refused(self, header, value):
        with pytest.raises(Unauthorised):
            verify({**self.sent(OLD), header: value}, BODY, secrets=[OLD], now=NOW)

    @given(st.dictionaries(st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), st.text()))
    def test_whatever_is_sent_is_refused_and_nothing_else_happens(self, sent):
        with pytest.raises(Unauthorised):
            verify(sent, BODY, secrets=[OLD], now=NOW)


class TestPayload:
    def test_a_moved_stage_says_who_what_when_and_from_where_to_where(self):
        told = event(stage="prod", digest="sha256:4", **{"from": "acme/sql@v3"}, reason="better", policy_revision=2)
        assert json.loads(payload(told)) == {
            "type": "stage.moved",
            "timestamp": AT,
            "data": {
                "sequence": 7,
                "event": told.digest,
                "actor": "ada",
                "action": "promote",
                "subject": "acme/sql@v4",
                "adapter": "acme/sql",
                "stage": "prod",
                "digest": "sha256:4",
                "reason": "better",
                "from": "acme/sql@v3",
                "to": "acme/sql@v4",
            },
        }

    def test_the_first_version_of_a_stage_comes_from_nowhere_and_a_removed_tag_goes_there(self):
        assert json.loads(payload(event(stage="prod")))["data"]["from"] is None
        removed = json.loads(payload(event("tag.remove", "acme/sql", tag="best")))
        assert (removed["type"], removed["data"]["to"], removed["data"]["adapter"]) == ("tag.removed", None, "acme/sql")

    def test_what_moves_no_pointer_has_neither(self):
        assert {"from", "to"}.isdisjoint(json.loads(payload(event("push", semver="1.0.0")))["data"])

    def test_a_revocation_gives_its_reason(self):
        data = json.loads(payload(event("revoke", because="leaked data.")))["data"]
        assert data["reason"] == "leaked data."

    def test_equal_events_give_equal_bytes(self):
        assert payload(event(stage="prod", digest="d")) == payload(event(digest="d", stage="prod"))

    def test_what_is_told_to_nobody_has_no_payload(self):
        with pytest.raises(InvalidInput, match=r"token.create \(done\) is not told to webhooks"):
            payload(event("token.create", "ada"))


class TestMatches:
    @pytest.mark.parametrize(
        ("scope", "told"),
        [
            ("*", True),
            ("*/*", True),
            ("acme/*", True),
            ("acme/sql", True),
            ("*/s*l", True),
            ("acme/sq", False),
            ("acme/sqll*", False),
            ("acme/sq*ql", False),
            ("acm/*", False),
        ],
    )
    def test_scope_is_by_halves(self, scope, told):
        assert matches(replace(HOOK, scope=check_scope(scope)), entry()) is told

    def test_only_events_asked_for_are_told_and_only_while_active(self):
        hook = replace(HOOK, events=("tag.moved", "version.pushed"))
        assert matches(hook, entry("push"))
        assert not matches(hook, entry("promote"))
        assert not matches(hook, entry("push", outcome=Outcome.REFUSED))
        assert not matches(replace(hook, active=False), entry("push"))

    def test_bases_and_policies_are_told_to_those_who_asked_for_everything(self):
        about_base = entry("base.add", "mistralai/mistral-7b")
        assert matches(HOOK, about_base)
        assert not matches(replace(HOOK, scope="*/*"), about_base)
        assert not matches(replace(HOOK, scope="mistralai/*"), about_base)

    def test_scores_of_a_base_are_not_about_an_adapter_of_its_name(self):
        assert adapter_of(entry("score.add", "mistralai/mistral-7b@9f2c4e81aa03")) is None
        assert adapter_of(entry("score.add", "acme/sql@v3")) == "acme/sql"

    @pytest.mark.parametrize("action", ["token.create", "token.revoke", "account.add", "collect", "webhook.add"])
    def test_accounts_tokens_and_housekeeping_are_told_to_nobody(self, action):
        assert type_of(entry(action)) is None
        assert not matches(HOOK, entry(action))

    def test_every_type_reads_as_what_and_what_became_of_it(self):
        assert all(kind.count(".") == 1 and kind.islower() for kind in EVENTS)
        assert set(EVENTS) == set(TYPES.values())


class TestChecks:
    @pytest.mark.parametrize(
        "url",
        [
            "https://example.org",
            "http://localhost:8080/hook?a=b",
            "https://xn--bcher-kva.example/a%20b",
            "http://[::1]:9/",
            "HTTPS://EXAMPLE.org:443/",
        ],
    )
    def test_http_and_https_urls_are_taken_as_they_are(self, url):
        assert check_url(url) == url

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("", "empty or has characters"),
            ("ftp://example.org/", "must start with https:// or http://, not 'ftp'"),
            ("//example.org/", "not 'nothing'"),
            ("file:///etc/passwd", "not 'file'"),
            ("https://user:pass@example.org/", "credentials"),
            ("https://example.org@10.0.0.1/", "credentials"),
            ("https:///path", "must name a host"),
            ("https://:443/", "must name a host"),
            ("https://example.org:/", "must name a host"),
            ("https://example.org:0/", "must name a host"),
            ("https://-x/", "must name a host"),
            ("https://[fe80::1%25eth0]/", "must name a host"),
            ("https://example.org:99999/", "no valid host and port"),
            ("https://[::1/", "no valid host and port"),
            ("https://example.org/#top", "fragment"),
            ("https://example.org/a b", "characters that URLs escape"),
            ("https://example.org\\@evil.example/", "characters that URLs escape"),
            ("https://exam\nple.org/", "characters that URLs escape"),
            ("https://bücher.example/", "characters that URLs escape"),
            ("https://example.org/" + "a" * 2048, "2,068 characters"),
        ],
    )
    def test_every_other_url_is_refused_with_its_reason(self, url, reason):
        with pytest.raises(InvalidInput) as caught:
            check_url(url)
        assert reason in str(caught.value)
        assert "pass" not in str(caught.value)

    @given(st.text())
    def test_any_text_is_a_url_or_is_refused(self, text):
        with contextlib.suppress(InvalidInput):
            assert check_url(f"http://{text}")

    @pytest.mark.parametrize("scope", ["", "acme", "acme/", "/sql", "a/b/c", "acme/*a*", "**", "acme/a b", "é/x"])
    def test_a_scope_has_two_halves_with_one_star_each_at_most(self, scope):
        with pytest.raises(InvalidInput, match="is not a scope"):
            check_scope(scope)

    def test_events_are_sorted_and_everything_contains_the_rest(self):
        assert check_events(["version.pushed", "stage.moved", "stage.moved"]) == ("stage.moved", "version.pushed")
        assert check_events(["version.pushed", "*"]) == ("*",)

    @pytest.mark.parametrize("events", [[], ["push"]])
    def test_what_is_no_event_gets_the_list(self, events):
        with pytest.raises(InvalidInput, match=r"they are adapter\.created, .*, or \* for all of them"):
            check_events(events)


class TestDelivery:
    def test_the_same_event_has_the_same_id_for_one_webhook_and_another_for_the_next(self):
        delivery = scheduled(HOOK, event())
        assert delivery == Delivery("msg_k3x9_7", "k3x9", 7, 0, AT, State.PENDING, kind="stage.moved", about="acme/sql")
        assert message_id("other", 7) != delivery.id
        assert len(message_id("w" * 12, 10**14)) <= 32

    def test_failures_are_tried_again_later_and_later_until_it_is_given_up(self):
        assert [backoff(n, jitter=0) for n in range(1, 10)] == [5, 30, 120, 600, 3600, 10800, 21600, 43200, None]

    @given(st.integers(1, 8), st.floats(-1, 1))
    def test_jitter_moves_a_wait_by_a_fifth_at_most(self, attempt, jitter):
        wait, middle = backoff(attempt, jitter=jitter), backoff(attempt, jitter=0)
        assert 0.8 * middle - 1e-9 <= wait <= 1.2 * middle + 1e-9

    def test_a_failure_is_due_after_its_wait(self):
        after = attempted(scheduled(HOOK, event()), status=500, error="answered 500.", at=AT, jitter=1)
        assert (after.state, after.attempts, after.status, after.error) == (State.PENDING, 1, 500, "answered 500.")
        assert after.due_at == "2026-01-01T10:00:06.000000Z"

    def test_a_receiver_down_for_an_hour_gets_its_message(self):
        delivery = scheduled(HOOK, event())
        while delivery.due_at < "2026-01-01T11:00:00":
            delivery = attempted(delivery, status=None, error="refused", at=delivery.due_at, jitter=0)
            assert delivery.state is State.PENDING
        delivered = attempted(delivery, status=204, error="", at=delivery.due_at, jitter=0)
        assert (delivered.state, delivered.attempts, delivered.error) == (State.DELIVERED, 6, "")

    def test_nine_failures_are_the_end_until_somebody_sends_it_again(self):
        delivery = scheduled(HOOK, event())
        for _ in range(9):
            delivery = attempted(delivery, status=500, error="answered 500.", at=AT, jitter=0)
        assert (delivery.state, delivery.attempts) == (State.DEAD, 9)
        again = replayed(delivery, at=AT)
        assert (again.id, again.state, again.attempts, again.due_at) == (delivery.id, State.PENDING, 0, AT)

    def test_a_receiver_that_says_it_is_gone_is_not_asked_again(self):
        assert attempted(scheduled(HOOK, event()), status=410, error="x", at=AT, jitter=0).state is State.DEAD
