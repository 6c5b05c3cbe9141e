"""Suites: what has to be measured together; a new version makes the evidence of older ones stale."""

from __future__ import annotations

from dataclasses import replace

from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.digest import parse as parse_digest
from adapter_registry.domain.errors import InvalidInput, NotFound
from adapter_registry.domain.evidence.suite import Suite, SuiteMetric, parse, unfit_files
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.views.listing import SuitePage
from adapter_registry.services.push import named

PAGE = 1_000


def set_suite(backend: Backend, *, suite: Suite, adapter: str = "") -> Suite:
    """Store the next version of a suite; the same metrics and files again change nothing.

    Args:
        backend: the registry.
        suite: what is measured, and the files it is measured with.
        adapter: which its files were sent for; those of its earlier versions need not be sent again.

    Raises:
        InvalidInput: no metrics, a metric twice, or files that are of no task.
        NotFound: a file that was not sent.
    """
    _check(suite)
    with backend.catalog.writing() as tx:
        newest = tx.scores.suite(suite.name)
        if newest is not None and newest.digest == suite.digest:
            return newest
        _keep_files(backend, tx, suite, adapter)
        at = backend.clock()
        stored = tx.scores.add_suite(replace(suite, set_by=backend.actor, set_at=at))
        detail = {"version": stored.version, "digest": stored.digest, "metrics": len(stored.metrics)}
        detail |= {"files": len(stored.files)} if stored.files else {}
        tx.events.append(Entry("suite.set", f"suite {stored.name}", Outcome.DONE, backend.actor, at, detail))
    return stored


def _check(suite: Suite) -> None:
    name, version = parse(suite.name)
    metrics = [each.metric for each in suite.metrics]
    if version is not None or name != suite.name:
        raise InvalidInput(f"a suite is named without its version, which is given to it: {name}.")
    if suite.files and (wrong := unfit_files(suite.files)):
        raise InvalidInput(f"a suite's files are NAME/task.yaml with their data in NAME/data/; not {wrong[:60]!r}.")
    absent = sorted({metric.partition("/")[0] for metric in metrics} - set(suite.tasks)) if suite.files else []
    if absent:
        raise InvalidInput(f"the suite has files, and the tasks {', '.join(absent[:5])} are not among them.")
    for digest in suite.files.values():
        parse_digest(digest)
    if not metrics or len(set(metrics)) != len(metrics) or not all(map(_is_metric, suite.metrics)):
        raise InvalidInput("a suite lists at least one metric, each by its name and once.")


def _keep_files(backend: Backend, tx: Transaction, suite: Suite, adapter: str) -> None:
    """Refuse files that whoever asks did not show to have; know the others, so that they are kept and checked."""
    before = {digest for each in tx.scores.suites() if each.name == suite.name for digest in each.files.values()}
    new = set(suite.files.values()) - before
    if not new:
        return
    name = named(backend, adapter or "suites")
    owned = tx.branches.owned(name.partition("/")[0], new) if backend.asks.may("push", name) else {}
    absent = sorted(path for path, digest in suite.files.items() if digest in new - owned.keys())
    if absent:
        raise NotFound(
            f"{absent[0]}: no bytes {suite.files[absent[0]]} were sent for {name}; nothing was stored. "
            "`adapters score suite set FILE` sends them."
        )
    tx.scores.keep_blobs({digest: backend.blobs.size(digest) or 0 for digest in new})


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
