"""Tags, labels, and removing a version."""

from __future__ import annotations

from dataclasses import replace

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.digest import short
from adapter_registry.domain.errors import Conflict, InUse, InvalidInput, InvalidReference, NotFound
from adapter_registry.domain.names import check_label, check_tag
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.promotions.promotion import Kind as Promoted
from adapter_registry.domain.reference import Kind, parse
from adapter_registry.services.references import version_of


def tag(backend: Backend, *, reference: str, name: str) -> tuple[Version, Version | None]:
    """Point the tag `name` at a version; (that version, the one it pointed at before)."""
    with backend.catalog.writing() as tx:
        check_tag(name, tx.stages.ladder().names)
        version = version_of(tx, parse(reference, namespace=backend.namespace))
        if tx.branches.get(version.adapter, name) is not None:
            raise Conflict(f"{version.adapter} has a branch {name!r}; a tag cannot have the same name.")
        before = tx.versions.tagged(version.adapter, name)
        tx.versions.set_tag(version, name, by=backend.actor, at=backend.clock())
        detail = {"tag": name, "digest": version.digest, "from": before.reference if before else None}
        entry = Entry("tag.set", version.reference, Outcome.DONE, backend.actor, backend.clock(), detail)
        tx.events.append(entry)
    return version, before


def untag(backend: Backend, *, adapter: str, name: str, seen: int | None = None) -> None:
    """Remove a tag.

    Args:
        backend: the registry.
        adapter: `namespace/name`.
        name: of the tag.
        seen: number of the version that the caller saw it point at; None for whatever it points at.

    Raises:
        NotFound: the adapter has none of that name.
        Conflict: it points elsewhere than was `seen`.
    """
    with backend.catalog.writing() as tx:
        before = tx.versions.tagged(adapter, name)
        if before is not None and seen not in (None, before.number):
            raise Conflict(f"the tag {name} moved: it points at v{before.number} now. It was not removed; look again.")
        if not tx.versions.remove_tag(adapter, name):
            raise NotFound(f"{adapter} has no tag {name!r}.")
        detail = {"tag": name, "from": before.reference if before else None}
        entry = Entry("tag.remove", adapter, Outcome.DONE, backend.actor, backend.clock(), detail)
        tx.events.append(entry)


def label(backend: Backend, *, reference: str, labels: dict[str, str | None]) -> Version:
    """Set labels of a version; None removes one. Returns the version as it is afterwards."""
    for key, value in labels.items():
        check_label(key, value or "-")
    with backend.catalog.writing() as tx:
        version = version_of(tx, parse(reference, namespace=backend.namespace))
        tx.versions.set_labels(version, labels)
        entry = Entry("label", version.reference, Outcome.DONE, backend.actor, backend.clock(), {"labels": labels})
        tx.events.append(entry)
        return version_of(tx, parse(version.reference))


def remove(backend: Backend, *, reference: str) -> Version:
    """Remove one exact version; its number and label are never used again.

    Raises:
        InvalidReference: not an exact version (a tag, stage or range might move before the answer is read).
        InUse: a stage or tag points at it.
    """
    parsed = parse(reference, namespace=backend.namespace)
    if parsed.kind not in (Kind.NUMBER, Kind.SEMVER, Kind.DIGEST):
        raise InvalidReference(
            f"{reference!r} is not an exact version: rm takes name@v3, name@1.2.0 or name@sha256:..., because a tag, "
            "stage or range may mean another version a moment later."
        )
    with backend.catalog.writing() as tx:
        version = version_of(tx, parsed)
        pointers = [f"stage {s}" for s in version.stages] + [f"tag {t}" for t in version.tags]
        pointers += [f"a rollback of {stage}" for stage in _rollbacks_to(tx, version)]
        detail = {"digest": version.digest, "pointers": pointers}
        if pointers:
            entry = Entry("remove", version.reference, Outcome.REFUSED, backend.actor, backend.clock(), detail)
        else:
            tx.versions.remove(version, by=backend.actor, at=backend.clock())
            entry = Entry("remove", version.reference, Outcome.DONE, backend.actor, backend.clock(), detail)
        tx.events.append(entry)
    if pointers:
        raise InUse(
            f"{version.reference} ({short(version.digest)}) is what {' and '.join(pointers)} "
            f"{'points' if len(pointers) == 1 else 'point'} to; nothing was removed. Move or remove that first "
            "(adapters promote or rollback for a stage, adapters tag --delete for a tag)."
        )
    return version


def revoke(backend: Backend, *, reference: str, because: str) -> Version:
    """Withdraw one exact version for good: it keeps its record, is never served again and enters no stage.

    Everything that was made of it is marked (`Version.revoked_ancestors`) and stays where it is.

    Raises:
        InvalidInput: no reason.
        InUse: a stage points at it; the stage has to move first.
    """
    if not because.strip():
        raise InvalidInput("a revocation needs a reason that those who used the version can act on: --because TEXT.")
    parsed = parse(reference, namespace=backend.namespace)
    if parsed.kind not in (Kind.NUMBER, Kind.SEMVER, Kind.DIGEST):
        raise InvalidReference(f"{reference!r} is not an exact version: revoke takes name@v3, 1.2.0 or sha256:....")
    reason = because.strip()[:1000].rstrip(".") + "."
    with backend.catalog.writing() as tx:
        version = version_of(tx, parsed)
        outcome = Outcome.REFUSED if version.stages else Outcome.DONE
        detail = {"digest": version.digest, "because": reason, "stages": list(version.stages)}
        derived: tuple[Version, ...] = ()
        if not version.stages:
            tx.versions.revoke(version, because=reason, by=backend.actor, at=backend.clock())
            derived = tx.ancestry.mark(version)
        tx.events.append(Entry("revoke", version.reference, outcome, backend.actor, backend.clock(), detail))
        for each in derived:
            told = {"ancestor": version.reference, "because": reason, "stages": list(each.stages)}
            entry = Entry("ancestor.revoke", each.reference, Outcome.DONE, backend.actor, backend.clock(), told)
            tx.events.append(entry)
    if version.stages:
        serve = "serves" if len(version.stages) == 1 else "serve"
        raise InUse(
            f"{version.reference} is what {' and '.join(version.stages)} {serve}; nothing was revoked. Promote or roll "
            "back to another version first, then revoke this one."
        )
    return replace(version, revoked_because=reason)


def _rollbacks_to(tx: Transaction, version: Version) -> list[str]:
    """Stages whose next rollback would go to `version`."""
    newest = {
        move.stage: move for move in reversed(tx.stages.history(version.adapter)) if move.kind is Promoted.PROMOTE
    }
    return sorted(stage for stage, move in newest.items() if move.previous == version.number)
