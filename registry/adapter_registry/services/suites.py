"""Suites: what has to be measured together; a new version makes the evidence of older ones stale."""

from __future__ import annotations

from dataclasses import replace

from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.errors import InvalidInput, NotFound
from adapter_registry.domain.evidence.suite import Suite, SuiteMetric, parse
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.views.listing import SuitePage

PAGE = 1_000


def set_suite(backend: Backend, *, suite: Suite) -> Suite:
    """Store the next version of a suite; the same metrics again change nothing."""
    _check(suite)
    with backend.catalog.writing() as tx:
        newest = tx.scores.suite(suite.name)
        if newest is not None and newest.digest == suite.digest:
            return newest
        at = backend.clock()
        stored = tx.scores.add_suite(replace(suite, set_by=backend.actor, set_at=at))
        detail = {"version": stored.version, "digest": stored.digest, "metrics": len(stored.metrics)}
        tx.events.append(Entry("suite.set", f"suite {stored.name}", Outcome.DONE, backend.actor, at, detail))
    return stored


def _check(suite: Suite) -> None:
    name, version = parse(suite.name)
    metrics = [each.metric for each in suite.metrics]
    if version is not None or name != suite.name:
        raise InvalidInput(f"a suite is named without its version, which is given to it: {name}.")
    if not metrics or len(set(metrics)) != len(metrics) or not all(map(_is_metric, suite.metrics)):
        raise InvalidInput("a suite lists at least one metric, each by its name and once.")


def _is_metric(each: SuiteMetric) -> bool:
    texts = [each.metric, *each.setting, *each.setting.values()]
    return bool(each.metric) and all(len(text) <= 256 and text.isprintable() for text in texts)


def suite(backend: Backend, *, name: str) -> Suite:
    """A suite by `core@3`, or the newest version of `core`.

    Raises:
        NotFound: there is none.
    """
    with backend.catalog.reading() as tx:
        found = tx.scores.suite(*parse(name))
    if found is None:
        raise NotFound(f"there is no suite {name}; `adapters score suite ls` lists what there is.")
    return found


def suites(backend: Backend, *, after: str = "", limit: int = PAGE) -> SuitePage:
    """Every version of every suite, by name and version, a page at a time.

    Args:
        backend: the registry.
        after: `next` of the page before.
        limit: at most this many, and at most 1,000.
    """
    most, (name, version) = min(max(limit, 1), PAGE), parse(after) if after else ("", None)
    with backend.catalog.reading() as tx:
        found = tx.scores.suites(after=(name, version or 0) if after else None, limit=most + 1)
    return SuitePage(found[:most], found[most - 1].reference if len(found) > most else None)
