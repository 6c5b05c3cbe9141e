"""What came of deployments, replica by replica: told by who deploys, kept as events, read by who reads the adapter."""

from __future__ import annotations

from typing import Any

import msgspec

from adapter_registry.domain import deployment as rules
from adapter_registry.domain.audit.event import Entry, Event, Outcome
from adapter_registry.domain.deployment import Deployment, Replica
from adapter_registry.domain.errors import InvalidInput, RegistryError
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.reference import parse
from adapter_registry.services.record import BATCH, LONGEST_SEARCH
from adapter_registry.services.references import no_adapter, version_of

ACTION = "deploy"


def report(
    backend: Backend,
    *,
    reference: str,
    fleet: str,
    name: str,
    follows: str,
    replicas: tuple[Replica, ...] = (),
    because: str = "",
) -> None:
    """Keep what came of deploying a version to a fleet.

    Args:
        backend: the registry.
        reference: the version.
        fleet: what its document calls the fleet.
        name: that requests use.
        follows: the reference that the name is kept at; the same as `reference` for none.
        replicas: what came of it on each.
        because: why nothing was moved at all.

    Raises:
        InvalidInput: texts that are too long, no replicas and no reason, or two adapters.
        InvalidReference: `follows` is none.
    """
    rules.check(fleet=fleet, name=name, replicas=replicas, because=because)
    kept_at = parse(follows, namespace=backend.namespace)
    with backend.catalog.writing() as tx:
        version = version_of(tx, parse(reference, namespace=backend.namespace))
        if kept_at.adapter != version.adapter:
            raise InvalidInput(f"{kept_at} is of another adapter than {version.reference}.")
        detail: dict[str, Any] = {
            "digest": version.digest,
            "fleet": fleet,
            "name": name,
            "follows": str(kept_at),
            "replicas": msgspec.to_builtins(replicas),
            "because": because,
        }
        whole = not because and all(each.good for each in replicas)
        outcome = Outcome.DONE if whole else Outcome.REFUSED
        tx.events.append(Entry(ACTION, version.reference, outcome, backend.actor, backend.clock(), detail))


def deployments(backend: Backend, *, adapter: str) -> tuple[Deployment, ...]:
    """What was told last of each name on each fleet that serves an adapter, beside what it should serve now."""
    found: dict[tuple[str, str], Deployment] = {}
    with backend.catalog.reading() as tx:
        if tx.versions.spelled(adapter) != adapter:
            raise no_adapter(tx, adapter)
        before = tx.events.newest() + 1
        for _ in range(LONGEST_SEARCH // BATCH):
            events = tx.events.backwards(subject=adapter, before=before, limit=BATCH)
            for event in events:
                if event.entry.action == ACTION:
                    told = _told(tx, event)
                    found.setdefault((told.fleet, told.name), told)
            if len(events) < BATCH:
                break
            before = events[-1].sequence
    return tuple(found[key] for key in sorted(found))


def _told(tx: Transaction, event: Event) -> Deployment:
    entry = event.entry
    replicas = msgspec.convert(entry.detail["replicas"], tuple[Replica, ...])
    try:
        meant = version_of(tx, parse(entry.detail["follows"])).reference
    except RegistryError:
        meant = ""
    return Deployment(
        entry.detail["fleet"],
        entry.detail["name"],
        entry.detail["follows"],
        entry.subject,
        entry.detail["digest"],
        replicas,
        entry.detail["because"],
        entry.actor,
        entry.at,
        meant,
    )
