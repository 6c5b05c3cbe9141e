"""The course of a metric over the versions of an adapter."""

from __future__ import annotations

from adapter_registry.domain.errors import NotFound
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.views.course import Course, milestones, reigns, thresholds
from adapter_registry.services.judgement import in_force
from adapter_registry.services.references import newest_of

NEWEST = 500
"""Versions that a course looks at."""


def course(backend: Backend, *, adapter: str, metric: str = "") -> Course:
    """How a metric went over the newest 500 versions, with the stages' moves and their policies' limits.

    Args:
        backend: the registry.
        adapter: `namespace/name`.
        metric: which; default: the one that was recorded last.

    Raises:
        NotFound: there is no such adapter, or none of its versions was measured by that metric.
    """
    with backend.catalog.reading() as tx:
        latest = newest_of(tx, adapter)
        metrics = tx.scores.metrics(adapter, newest=NEWEST)
        chosen = metric or (metrics[0] if metrics else "")
        if chosen and chosen not in metrics:
            known = ", ".join(metrics[:5]) or "nothing yet"
            raise NotFound(f"no version of {adapter} was measured by {chosen[:100]!r}; there is {known}.")
        scored = tx.scores.course(adapter, metric=chosen, newest=NEWEST) if chosen else ()
        moves = tx.stages.history(adapter)
        places = tx.stages.ladder().of(adapter)
        limits = thresholds([(place, in_force(tx, place).policy) for place in places], chosen)
    direction = next((each.score.direction for _, _, each in reversed(scored) if each.score.direction), None)
    whole = latest.number <= NEWEST
    return Course(adapter, chosen, metrics, direction, milestones(scored), places, reigns(moves), limits, whole)
