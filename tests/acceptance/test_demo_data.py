"""`adapters serve --demo`: an empty store filled with history that says what it is, and no other store touched."""

from __future__ import annotations

import pytest

from adapter_cli import demo_data
from adapter_registry import app
from adapter_registry.client import Registry
from adapter_registry.domain.audit.event import Outcome
from adapter_registry.domain.errors import Conflict
from adapter_registry.domain.job import State
from adapter_registry.domain.webhooks.webhook import State as Sent
from adapter_registry.settings import read_settings

ADAPTERS = ("demo/classifier", "demo/sql-writer", "demo/summariser")


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Registry:
    home = tmp_path_factory.mktemp("demo")
    settings = read_settings({"ADAPTERS_HOME": str(home / "home"), "ADAPTERS_CACHE": str(home / "cache")})
    registry = Registry(settings)
    demo_data.check_empty(registry)
    demo_data.fill(settings, app.embedded(settings))
    return registry


def test_all_of_it_says_that_it_is_demo_data(filled):
    versions = [each for name in ADAPTERS for each in filled.versions(name)]
    assert tuple(line.adapter for line in filled.adapters()) == ADAPTERS
    assert {version.labels["demo"] for version in versions} == {"generated"}


def test_there_are_promotions_a_refusal_an_open_request_and_jobs(filled):
    assert filled.resolve("demo/sql-writer@prod").number == 4
    [asked] = filled.requests()
    assert (asked.adapter, asked.number, asked.requester) == ("demo/sql-writer", 6, "ann")
    refused = [event.entry for event in filled.events("demo/sql-writer") if event.entry.outcome is Outcome.REFUSED]
    assert any(entry.action == "promote" and entry.subject == "demo/sql-writer@v5" for entry in refused)
    assert {job.state for job in filled.jobs()} == {State.QUEUED, State.CANCELLED, State.FAILED}
    assert filled.verify_store().damage == ()


def test_a_webhook_has_a_message_that_arrived_one_given_up_and_is_paused(filled):
    [hook] = filled.webhooks()
    assert not hook.active
    states = {each.state for each in filled.deliveries(hook.id)}
    assert {Sent.DELIVERED, Sent.DEAD} <= states


def test_its_history_is_two_months_long_and_in_order(filled):
    times = [event.entry.at for event in filled.events()]
    assert times == sorted(times)
    assert times[0][:10] < filled.versions("demo/classifier")[0].created_at[:10]


def test_a_store_that_holds_anything_is_refused(filled):
    before = len(filled.events())
    with pytest.raises(Conflict, match=r"holds [0-9]+ events"):
        demo_data.check_empty(filled)
    assert len(filled.events()) == before
