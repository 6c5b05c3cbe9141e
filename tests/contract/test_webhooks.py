"""What the outbox promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.webhooks.signature import Secret, new_secret
from adapter_registry.domain.webhooks.webhook import State, Webhook, attempted

AT = "2026-01-01T00:00:00.000000Z"
SOON = "2026-01-01T00:05:00.000000Z"
LATER = "2026-01-01T01:00:00.000000Z"
SECRETS = (Secret(new_secret(b"s" * 32)),)


def hook(id: str = "one", scope: str = "*", events: tuple[str, ...] = ("*",)) -> Webhook:
    return Webhook(id, "https://example.org/hook", scope, events, True, "ann", AT)


def moved(adapter: str, number: int = 1) -> Entry:
    return Entry("promote", f"{adapter}@v{number}", Outcome.DONE, "ann", AT, {"stage": "prod", "from": None})


@pytest.fixture
def told(catalog):
    """A webhook and three events about two adapters."""
    with catalog.writing() as tx:
        tx.webhooks.add(hook(), SECRETS)
        for adapter, number in (("team/a", 1), ("team/b", 1), ("team/a", 2)):
            tx.events.append(moved(adapter, number))
    return catalog


def claim(catalog, now: str = AT, until: str = SOON, limit: int = 10) -> list[str]:
    with catalog.writing() as tx:
        return [each.delivery.id for each in tx.webhooks.claim(now=now, until=until, limit=limit)]


def test_an_event_and_its_deliveries_are_one_write(told):
    class Boom(Exception):
        pass

    def fails() -> None:
        with told.writing() as tx:
            tx.events.append(moved("team/c"))
            raise Boom

    with pytest.raises(Boom):
        fails()
    with told.reading() as tx:
        assert [each.about for each in tx.webhooks.deliveries("one")] == ["team/a", "team/b", "team/a"]
        assert len(tx.events.all()) == 3


def test_only_those_are_told_whom_it_concerns(catalog):
    with catalog.writing() as tx:
        tx.webhooks.add(hook("all"), SECRETS)
        tx.webhooks.add(hook("b", scope="team/b"), SECRETS)
        tx.webhooks.add(hook("tags", events=("tag.moved",)), SECRETS)
        tx.webhooks.add(replace(hook("off"), active=False), SECRETS)
        tx.events.append(moved("team/a"))
        tx.events.append(Entry("token.create", "ann", Outcome.DONE, "ann", AT))
    with catalog.reading() as tx:
        assert [len(tx.webhooks.deliveries(id)) for id in ("all", "b", "tags", "off")] == [1, 0, 0, 0]


def test_what_is_claimed_is_given_to_nobody_else_until_its_lease_ends(told):
    first = claim(told)
    assert first == ["msg_one_1", "msg_one_2", "msg_one_3"]
    assert claim(told) == []
    assert claim(told, now=SOON, until=LATER) == first


def test_what_is_about_the_same_adapter_waits_for_what_came_before(told):
    with told.writing() as tx:
        first = tx.webhooks.claim(now=AT, until=SOON, limit=1)[0].delivery
        tx.webhooks.record(replace(attempted(first, status=500, error="no", at=AT, jitter=0), due_at=LATER))
    assert claim(told) == ["msg_one_2"]
    assert claim(told, now=LATER, until="2026-01-02T00:00:00.000000Z") == ["msg_one_1", "msg_one_2", "msg_one_3"]


def test_what_was_given_up_holds_nothing_back(told):
    with told.writing() as tx:
        first = tx.webhooks.claim(now=AT, until=SOON, limit=1)[0].delivery
        tx.webhooks.record(attempted(first, status=410, error="gone", at=AT, jitter=0), release=("msg_one_3",))
    assert claim(told) == ["msg_one_2", "msg_one_3"]
    with told.reading() as tx:
        assert [each.id for each in tx.webhooks.deliveries("one", state=State.DEAD)] == ["msg_one_1"]
        assert tx.webhooks.delivery("msg_one_1").status == 410


def test_a_paused_webhook_is_owed_nothing_new_and_sent_nothing(told):
    with told.writing() as tx:
        tx.webhooks.change(replace(hook(), active=False))
        tx.events.append(moved("team/c"))
        assert not tx.webhooks.due(now=AT)
    assert claim(told) == []
    with told.writing() as tx:
        tx.webhooks.change(hook())
        assert tx.webhooks.due(now=AT)
    assert len(claim(told)) == 3


def test_a_webhook_that_is_removed_takes_everything_along(told):
    with told.writing() as tx:
        tx.webhooks.remove("one")
    with told.reading() as tx:
        assert tx.webhooks.all() == ()
        assert tx.webhooks.secrets("one") == ()
        assert tx.webhooks.delivery("msg_one_1") is None


def test_a_page_begins_below_the_one_before(told):
    with told.reading() as tx:
        assert [each.event for each in tx.webhooks.deliveries("one", limit=2)] == [3, 2]
        assert [each.event for each in tx.webhooks.deliveries("one", before=2)] == [1]


def test_what_arrived_long_ago_is_forgotten_and_nothing_else(told):
    with told.writing() as tx:
        claimed = [each.delivery for each in tx.webhooks.claim(now=AT, until=SOON, limit=10)]
        tx.webhooks.record(attempted(claimed[0], status=200, error="", at=AT, jitter=0))
        assert tx.webhooks.forget(before=AT) == 0
        assert tx.webhooks.forget(before=LATER) == 1
        assert len(tx.webhooks.deliveries("one")) == 2


def test_eight_claimers_at_once_get_each_delivery_once(catalog):
    with catalog.writing() as tx:
        tx.webhooks.add(hook(), SECRETS)
        for number in range(1, 81):
            tx.events.append(moved(f"team/a{number}"))
    found: list[str] = []

    def work() -> None:
        while mine := claim(catalog, limit=3):
            found.extend(mine)

    claimers = [threading.Thread(target=work) for _ in range(8)]
    for each in claimers:
        each.start()
    for each in claimers:
        each.join()
    assert len(found) == len(set(found)) == 80
