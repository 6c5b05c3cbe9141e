"""The audit log as a file: verified without a registry, and nothing in it that its digests are not over."""

import pytest

from adapter_registry.domain.audit.event import GENESIS, Entry, Outcome, chained
from adapter_registry.domain.audit.file import events_of, exported, verified
from adapter_registry.domain.errors import BrokenChain


def log(*, reason="because"):
    events, previous = [], GENESIS
    for sequence in range(1, 4):
        detail = {"reason": reason, "sequence": sequence, "holds": True}
        entry = Entry("promote", f"default/a@v{sequence}", Outcome.DONE, "ann", "2026-01-01T00:00:00Z", detail)
        events.append(chained(entry, sequence=sequence, previous=previous))
        previous = events[-1].digest
    return events


def changed(before, after):
    text = exported(log())
    assert before in text
    return text.replace(before, after, 1)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x0b", "\x1c", "\r\n"])
def test_a_log_holds_whatever_people_write_into_it(separator):
    events = log(reason=f"one{separator}two")
    assert verified(exported(events)).events == 3
    assert events_of(exported(events)) == tuple(events)


def test_a_log_that_was_saved_with_other_line_ends_holds():
    assert verified(exported(log()).replace("\n", "\r\n")).events == 3


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param('"actor":"ann"', '"actor":"eve"', id="another actor"),
        pytest.param('"actor":"ann"', '"actor":"eve","actor":"ann"', id="an actor beside the one that was hashed"),
        pytest.param('{"digest"', '{"note":"approved by the board","digest"', id="something beside the event"),
        pytest.param('"sequence":1}', '"sequence":"1"}', id="a number as text"),
        pytest.param('"holds":true', '"holds":1', id="another type"),
        pytest.param('"holds":true', '"holds":NaN', id="no number of JSON"),
        pytest.param('"entry":', '"entries":', id="no event"),
        pytest.param('{"digest"', "[" * 100_000 + '{"digest"', id="deep"),
        pytest.param('{"events":3', '{"events":4', id="another length"),
        pytest.param('{"events":3', '{"event":3', id="no last line"),
    ],
)
def test_whatever_was_changed_breaks_the_chain(before, after):
    with pytest.raises(BrokenChain):
        verified(changed(before, after))


def test_a_file_that_was_cut_says_so():
    with pytest.raises(BrokenChain, match="ends after 2 events without saying that this is all"):
        verified("\n".join(exported(log()).splitlines()[:-1]))


def test_a_log_written_anew_is_known_by_the_head_that_was_kept():
    events = log()
    assert verified(exported(events), head=events[-1].digest).head == events[-1].digest
    with pytest.raises(BrokenChain, match="cut or written anew"):
        verified(exported(log(reason="another")), head=events[-1].digest)
