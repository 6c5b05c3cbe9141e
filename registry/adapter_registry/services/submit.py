"""Jobs as people see them: submit, look at, cancel, do again. What runs them reports through `services.running`.

A job is seen, cancelled and done again by whoever may run jobs for the adapter that its result belongs to.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from adapter_registry.domain.errors import Forbidden, NotFound, Unsupported
from adapter_registry.domain.job import Job, LogLine, State, check_queue
from adapter_registry.domain.job import cancelled as cancelled_job
from adapter_registry.domain.job import retried as retried_job
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.recipe import Recipe, check_recipe
from adapter_registry.domain.reference import parse
from adapter_registry.services.references import version_of
from adapter_registry.services.running import entry

VERB = "job.run"
PAGE = 1_000
MOST_ABOUT = 100


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, newest first; `next` is where the page after begins, None on the last."""

    items: tuple[Job, ...]
    next: str | None


def submit(backend: Backend, *, recipe: Recipe, queue: str = "cpu", priority: int = 0) -> Job:
    """Queue a piece of work; what cannot come to anything is refused now.

    Args:
        backend: the registry.
        recipe: what to do; its inputs may be any references, and are made exact here.
        queue: the kind of device, of `job.QUEUES`.
        priority: higher first.

    Raises:
        NotFound: an input, or the adapter of the result, is none that whoever asks may read.
        Forbidden: they may not run jobs for the adapter that the result belongs to.
        RegistryError: whatever the kind refuses: locks that disagree, an unknown method, ...
    """
    check_queue(queue, priority)
    exact = _checked(backend, check_recipe(recipe))
    job = Job(secrets.token_hex(6), exact, State.QUEUED, queue, priority, backend.actor, backend.clock())
    with backend.catalog.writing() as tx:
        _put(backend, tx, job)
        tx.jobs.keep(job.id, exact.files.values())
    return job


def check(backend: Backend, *, recipe: Recipe) -> Recipe:
    """The recipe as `submit` would make it exact; nothing is queued.

    Raises:
        RegistryError: as `submit` does.
    """
    return _checked(backend, check_recipe(recipe))


def jobs(
    backend: Backend,
    *,
    state: State | None = None,
    kind: str | None = None,
    queue: str | None = None,
    by: str | None = None,
    before: str | None = None,
    limit: int = PAGE,
) -> JobPage:
    """Jobs that whoever asks may see, newest first, a page at a time.

    At most 1,000 are looked at for a page: one with few lines, or none, may have another after it.

    Args:
        backend: the registry.
        state: only those that stand there.
        kind: only those of this kind: `merge`.
        queue: only those for this kind of device.
        by: only those that this account submitted.
        before: the page after this job: `next` of the page before.
        limit: at most this many, and at most 1,000.
    """
    most = min(max(limit, 1), PAGE)
    wanted = {"kind": kind, "queue": queue, "by": by}
    looked = PAGE if any(each is not None for each in wanted.values()) else most
    with backend.catalog.reading() as tx:
        found = tx.jobs.all(state=state, before=before, limit=looked + 1)
    shown: list[Job] = []
    last = None
    for last in found[:looked]:
        if _theirs(backend, last) and _is(last, wanted):
            shown.append(last)
        if len(shown) == most:
            break
    return JobPage(tuple(shown), last.id if last is not None and last is not found[-1] else None)


def _is(job: Job, wanted: Mapping[str, str | None]) -> bool:
    facts = {"kind": job.recipe.kind, "queue": job.queue, "by": job.submitted_by}
    return all(value is None or facts[name] == value for name, value in wanted.items())


def show(backend: Backend, *, job: str) -> Job:
    """One job: where it stands and how far it is."""
    with backend.catalog.reading() as tx:
        return _job(backend, tx, job)


def about(backend: Backend, *, reference: str, beside: str | None = None, limit: int = 20) -> tuple[Job, ...]:
    """Jobs that work on a Version or made it, newest first, of those that whoever asks may see.

    Args:
        backend: the registry.
        reference: which version.
        beside: only those that work on this version, too.
        limit: at most this many, and at most 100.
    """
    most = min(max(limit, 1), MOST_ABOUT)
    with backend.catalog.reading() as tx:
        digests = [version_of(tx, parse(reference, namespace=backend.namespace)).digest]
        if beside is not None:
            parsed = parse(beside, namespace=backend.namespace)
            if not backend.asks.sees(parsed.adapter):
                raise NotFound(f"there is no adapter {parsed.adapter}. `adapters ls` lists what there is.")
            digests.append(version_of(tx, parsed).digest)
        return tuple(job for job in tx.jobs.about(digests, limit=most) if _theirs(backend, job))


def log(backend: Backend, *, job: str, after: int = 0, limit: int = PAGE) -> tuple[LogLine, ...]:
    """Lines of a job's log after line `after`; the newest 2,000 are kept."""
    with backend.catalog.reading() as tx:
        return tx.jobs.log(_job(backend, tx, job).id, after=after, limit=min(max(limit, 1), PAGE))


def cancel(backend: Backend, *, job: str) -> Job:
    """Cancel a job: at once while it waits; a running one is ended by its worker within a second or two.

    Raises:
        Conflict: it has ended.
    """
    with backend.catalog.writing() as tx:
        after = cancelled_job(_job(backend, tx, job), at=backend.clock())
        tx.jobs.put(after)
        if after.state.ended:
            tx.events.append(entry(after, "job.cancel", by=backend.actor, at=backend.clock()))
    return after


def retry(backend: Backend, *, job: str) -> Job:
    """Queue a failed or cancelled job again, as it was.

    Raises:
        Conflict: it has not ended, or it succeeded.
        RegistryError: it is refused today, as at submission.
    """
    with backend.catalog.reading() as tx:
        again = retried_job(_job(backend, tx, job))
    _checked(backend, again.recipe)
    with backend.catalog.writing() as tx:
        again = retried_job(_job(backend, tx, job))
        _put(backend, tx, again)
    return again


def _put(backend: Backend, tx: Transaction, job: Job) -> None:
    tx.jobs.put(job, sent=False)
    tx.events.append(entry(job, "job.submit", by=backend.actor, at=backend.clock()))


def _checked(backend: Backend, recipe: Recipe) -> Recipe:
    """The recipe, exact: asked by whoever may have it worked on."""
    for adapter in (recipe.into, *(each.adapter for each in recipe.inputs)):
        if not backend.asks.sees(adapter):
            raise NotFound(f"there is no adapter {adapter}. `adapters ls` lists what there is.")
    if not backend.asks.may(VERB, recipe.into):
        raise Forbidden(
            f"{backend.asks.name} may not do this: it takes the verb {VERB!r} on {recipe.into}. Nothing was queued."
        )
    with backend.catalog.reading() as tx:
        there = tx.branches.owned(recipe.into.partition("/")[0], recipe.files.values()).keys() | tx.scores.suite_files()
    for name, digest in recipe.files.items():
        if digest not in there:
            raise NotFound(f"{name}: no bytes {digest} were sent for {recipe.into}; send them first.")
    if backend.checks is None:
        raise Unsupported("this registry takes no jobs.")
    return backend.checks(backend, recipe)


def _theirs(backend: Backend, job: Job) -> bool:
    return backend.asks.may(VERB, job.recipe.into)


def _job(backend: Backend, tx: Transaction, id: str) -> Job:
    found = tx.jobs.get(id)
    if found is None or not _theirs(backend, found):
        raise NotFound(f"there is no job {id[:40]!r}; `adapters jobs ls` lists them.")
    return found
