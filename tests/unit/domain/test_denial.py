"""Denials: the first of each is on the record, a flood is counted."""

import pytest

from adapter_registry.domain.audit.denial import AGAIN_SECONDS, BURST, MOST_ACCOUNTS, REFILL_SECONDS, Denials


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_the_same_denial_is_written_once_and_then_counted_for_a_while(clock):
    denials = Denials(clock)
    assert [denials.due("eve", "promote", "t/a@v1") for _ in range(3)] == [0, None, None]
    assert denials.due("eve", "promote", "t/a@v2") == 2
    clock.now = AGAIN_SECONDS
    assert denials.due("eve", "promote", "t/a@v1") == 0


def test_whoever_floods_fills_no_log_and_nobody_elses(clock):
    denials = Denials(clock)
    written = [denials.due("eve", "promote", f"t/a@v{number}") for number in range(1000)]
    assert sum(each is not None for each in written) == BURST
    assert denials.due("bob", "promote", "t/a@v1") == 0
    clock.now = REFILL_SECONDS
    assert denials.due("eve", "promote", "t/b@v1") == 1000 - BURST
    assert denials.due("eve", "promote", "t/b@v2") is None


def test_what_is_kept_of_callers_is_bounded(clock):
    denials = Denials(clock)
    for number in range(3 * MOST_ACCOUNTS):
        denials.due(f"account-{number}", "promote", "t/a@v1")
    assert len(denials._callers) == MOST_ACCOUNTS
