"""The audit log is a chain: changing the past changes everything after it."""

from dataclasses import replace

from adapter_registry.domain.audit.event import GENESIS, Entry, Outcome, broken_link, chained


def log(length=5):
    events, previous = [], GENESIS
    for sequence in range(1, length + 1):
        entry = Entry("push", f"default/a@v{sequence}", Outcome.DONE, "ann", "2026-01-01T00:00:00Z", {"n": sequence})
        events.append(chained(entry, sequence=sequence, previous=previous))
        previous = events[-1].digest
    return events


def test_an_untouched_log_holds():
    assert broken_link(log()) is None
    assert broken_link([]) is None


def test_a_changed_event_is_found():
    events = log()
    events[2] = replace(events[2], entry=replace(events[2].entry, actor="eve"))
    assert broken_link(events) == 3


def test_a_removed_event_is_found():
    events = log()
    del events[1]
    assert broken_link(events) == 3


def test_a_swapped_pair_is_found():
    events = log()
    events[1], events[2] = events[2], events[1]
    assert broken_link(events) == 3
