"""What the Catalog promises of requests and of what their judgement looks at, on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import IntegrityError

from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.people.account import Account, AccountKind
from adapter_registry.domain.promotions.passage import Hold, Window
from adapter_registry.domain.promotions.request import Approval, Binding, Request, State
from adapter_registry.settings import migrations_folder
from adapter_registry.storage import database
from tests.contract.test_catalog_rows import AT, pushed  # noqa: F401  a fixture

DIGEST = of_bytes(b"v")
GIVEN = Approval("bob", AT, Binding(DIGEST, DIGEST, DIGEST, DIGEST, 3), "fine 🦙")
WINDOW = Window(0, "*", None, "2026-12-24T00:00:00", "2027-01-02T00:00:00", "Europe/Berlin", "holidays", "ann")


def request(adapter: str = "team/a", stage: str = "prod", **given) -> Request:
    return Request(0, adapter, stage, 1, DIGEST, "rob", machine=False, hotfix=False, reason="", opened_at=AT, **given)


class TestRequests:
    def test_they_are_numbered_and_kept_whole_as_they_change(self, pushed):  # noqa: F811
        with pushed.writing() as tx:
            first, other = tx.requests.add(request()), tx.requests.add(request("team/b"))
            assert (first.name, other.name) == ("P-1", "P-2")
            waits = replace(first, state=State.WAITING, approvals=(GIVEN,), blockers=("soak",), changed=4)
            tx.requests.put(waits)
        with pushed.reading() as tx:
            assert tx.requests.get(1) == waits
            assert tx.requests.get(9) is None
            assert tx.requests.open_for("team/a", "prod") == waits
            assert tx.requests.open_for("team/a", "staging") is None

    def test_what_has_ended_is_listed_and_no_more_open(self, pushed):  # noqa: F811
        with pushed.writing() as tx:
            made = [tx.requests.add(request(stage=stage)) for stage in ("dev", "staging", "prod")]
            tx.requests.add(request("team/b"))
            tx.requests.put(replace(made[1], state=State.DECLINED, ended="no"))
            assert tx.requests.open_for("team/a", "staging") is None
            assert [each.id for each in tx.requests.listed(limit=9)] == [4, 3, 2, 1]
            assert [each.id for each in tx.requests.listed(limit=2, before=4)] == [3, 2]
            assert [each.id for each in tx.requests.listed(adapter="team/a", still_open=True, limit=9)] == [3, 1]
            again = tx.requests.add(request(stage="staging"))
            assert tx.requests.open_for("team/a", "staging") == again

    def test_every_request_of_a_version_for_a_stage_is_found_however_many_came_after(self, pushed):  # noqa: F811
        with pushed.writing() as tx:
            ended = [tx.requests.add(request(state=State.DECLINED)) for _ in range(2)]
            tx.requests.add(request("team/b"))
            tx.requests.add(request(stage="staging"))
            tx.requests.add(replace(request(state=State.DECLINED), number=2))
            assert tx.requests.asked("team/a", "prod", number=1) == tuple(reversed(ended))
            assert tx.requests.asked("team/a", "prod", number=3) == ()

    def test_requests_of_an_older_schema_are_found_by_version_too(self, pushed):  # noqa: F811
        with pushed.writing() as tx:
            made = [tx.requests.add(replace(request(stage=stage), number=7)) for stage in ("dev", "prod")]
        revision = Config()
        revision.set_main_option("script_location", str(migrations_folder()))
        with pushed._engine.begin() as connection:
            revision.attributes["connection"] = connection
            command.downgrade(revision, "0019")
        database.migrate(pushed._engine, migrations_folder())
        with pushed.reading() as tx:
            assert tx.requests.asked("team/a", "prod", number=7) == (made[1],)

    def test_the_database_itself_has_one_open_for_each_stage_of_an_adapter(self, pushed):  # noqa: F811
        with pushed.writing() as tx:
            tx.requests.add(request())
        with pytest.raises(IntegrityError), pushed.writing() as tx:
            tx.requests.add(request())
        with pushed.reading() as tx:
            assert [each.id for each in tx.requests.listed(limit=9)] == [1]


def test_a_hold_is_of_one_stage_and_the_last_one_set_stands(pushed):  # noqa: F811
    first = Hold("team/a", "prod", "ann", AT, "slow")
    with pushed.writing() as tx:
        tx.requests.set_hold(first)
        tx.requests.set_hold(replace(first, by="bob"))
        assert tx.requests.hold("team/a", "prod") == replace(first, by="bob")
        assert tx.requests.hold("team/b", "prod") is None
        tx.requests.lift_hold("team/a", "prod")
        assert tx.requests.hold("team/a", "prod") is None


def test_freeze_windows_are_listed_as_declared_and_removed_once(catalog):
    with catalog.writing() as tx:
        first, second = tx.requests.add_freeze(WINDOW), tx.requests.add_freeze(replace(WINDOW, stage="prod.eu"))
        assert tx.requests.freezes() == (replace(WINDOW, id=1), replace(WINDOW, id=2, stage="prod.eu"))
        assert tx.requests.remove_freeze(first.id)
        assert not tx.requests.remove_freeze(first.id)
        assert tx.requests.freezes() == (second,)


def test_a_member_is_in_a_group_once_and_out_at_once(catalog):
    with catalog.writing() as tx:
        for name in ("ann", "bob"):
            tx.accounts.add(Account(name, AccountKind.PERSON, (), "me", AT), password=None)
        for name in ("bob", "ann", "bob"):
            tx.requests.set_member("leads", name, member=True)
        tx.requests.set_member("safety", "ann", member=True)
        assert tx.requests.groups() == {"leads": ("ann", "bob"), "safety": ("ann",)}
        tx.requests.set_member("safety", "ann", member=False)
        assert tx.requests.groups() == {"leads": ("ann", "bob")}
