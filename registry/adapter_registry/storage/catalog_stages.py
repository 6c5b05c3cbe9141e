"""Rows of stage pointers, promotions and policies."""

from __future__ import annotations

from sqlalchemy import Connection, Select, and_, bindparam, func, insert, or_, select, union

from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.promotions.promotion import Kind, Promotion
from adapter_registry.domain.promotions.stage import Ladder
from adapter_registry.domain.promotions.verification import Verified
from adapter_registry.domain.views.record import Revision
from adapter_registry.storage.rows import from_text, to_text, upsert
from adapter_registry.storage.tables import (
    adapters,
    branches,
    ladders,
    policies,
    promotions,
    stages,
    tags,
    verifications,
    versions,
)
from adapter_registry.storage.version_rows import row_of_adapter

# Asked by everybody who waits for a stage to move.
_CURRENT = (
    select(promotions.c.document)
    .where(
        promotions.c.adapter_id
        == select(adapters.c.id).where(adapters.c.name == bindparam("wanted_adapter")).scalar_subquery(),
        promotions.c.stage == bindparam("wanted_stage"),
    )
    .order_by(promotions.c.sequence.desc())
    .limit(1)
)
_LADDER = select(ladders.c.document).order_by(ladders.c.revision.desc()).limit(1)


class StageTable:
    """See ports.StageRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def hold(self, adapter: str, stage: str) -> int:
        """See ports.StageRows.hold.

        SQLite's write transaction holds everything; PostgreSQL locks the adapter's row, because a stage that never
        moved has no row of its own yet.
        """
        lock: Select[tuple[int]] = select(adapters.c.id).where(adapters.c.name == adapter).with_for_update()
        adapter_id = self._connection.execute(lock).scalar()
        query = select(stages.c.sequence).where(stages.c.adapter_id == adapter_id, stages.c.stage == stage)
        return self._connection.execute(query).scalar() or 0

    def move(self, promotion: Promotion) -> None:
        """See ports.StageRows.move."""
        adapter_id, version_id = self._ids(promotion.adapter, promotion.number)
        row = {"adapter_id": adapter_id, "stage": promotion.stage, "sequence": promotion.sequence}
        appended = {**row, "version_id": version_id, "at": promotion.at, "document": to_text(promotion)}
        self._connection.execute(insert(promotions), [appended])
        upsert(self._connection, stages, {**row, "version_id": version_id})

    def current(self, adapter: str, stage: str) -> Promotion | None:
        """See ports.StageRows.current."""
        given = {"wanted_adapter": adapter, "wanted_stage": stage}
        text = self._connection.execute(_CURRENT, given).scalar()
        return from_text(text, Promotion) if text else None

    def history(self, adapter: str, stage: str | None = None, *, number: int | None = None) -> tuple[Promotion, ...]:
        """See ports.StageRows.history."""
        query = (
            select(promotions.c.document)
            .join(adapters, adapters.c.id == promotions.c.adapter_id)
            .where(adapters.c.name == adapter)
            .order_by(promotions.c.id.desc())
        )
        if stage is not None:
            query = query.where(promotions.c.stage == stage)
        if number is not None:
            of = (versions.c.adapter_id == row_of_adapter(adapter), versions.c.number == number)
            query = query.where(promotions.c.version_id == select(versions.c.id).where(*of).scalar_subquery())
        return tuple(from_text(text, Promotion) for text in self._connection.execute(query).scalars())

    def entered(self, adapter: str, stage: str, *, number: int) -> bool:
        """See ports.StageRows.entered."""
        joined = promotions.join(versions, versions.c.id == promotions.c.version_id)
        here = (versions.c.adapter_id == row_of_adapter(adapter), versions.c.number == number)
        query = select(promotions.c.id).select_from(joined).where(*here, promotions.c.stage == stage).limit(1)
        return self._connection.execute(query).scalar() is not None

    def moves(
        self, *, adapter: str | None, stage: str | None, until: str | None, before: int | None, limit: int
    ) -> tuple[tuple[int, Promotion], ...]:
        """See ports.StageRows.moves."""
        query = select(promotions.c.id, promotions.c.document).order_by(promotions.c.id.desc()).limit(limit)
        if adapter is not None:
            mine = select(adapters.c.id).where(adapters.c.name == adapter).scalar_subquery()
            query = query.where(promotions.c.adapter_id == mine)
        if stage is not None:
            query = query.where(promotions.c.stage == stage)
        if until is not None:
            query = query.where(promotions.c.at <= until)
        if before is not None:
            query = query.where(promotions.c.id < before)
        return tuple((row.id, from_text(row.document, Promotion)) for row in self._connection.execute(query))

    def newest(self, stage: str, *, limit: int) -> tuple[Promotion, ...]:
        """See ports.StageRows.newest."""
        here = or_(promotions.c.stage == stage, promotions.c.stage.startswith(f"{stage}.", autoescape=True))
        query = select(promotions.c.document).where(here).order_by(promotions.c.id.desc())
        found: list[Promotion] = []
        for text in self._connection.execute(query).scalars():
            promotion = from_text(text, Promotion)
            found += [promotion] if promotion.kind is Kind.PROMOTE else []
            if len(found) == limit:
                break
        return tuple(found)

    def ladder(self) -> Ladder:
        """See ports.StageRows.ladder."""
        text = self._connection.execute(_LADDER).scalar()
        return from_text(text, Ladder) if text else Ladder()

    def set_ladder(self, ladder: Ladder, *, by: str, at: str) -> None:
        """See ports.StageRows.set_ladder."""
        newest = self._connection.execute(select(func.max(ladders.c.revision))).scalar() or 0
        row = {"revision": newest + 1, "document": to_text(ladder), "set_by": by, "set_at": at}
        self._connection.execute(insert(ladders), [row])

    def standing(self, place: str) -> dict[str, int]:
        """See ports.StageRows.standing."""
        query = (
            select(adapters.c.name, versions.c.number)
            .select_from(stages)
            .join(adapters, adapters.c.id == stages.c.adapter_id)
            .join(versions, versions.c.id == stages.c.version_id)
            .where(stages.c.stage == place)
            .order_by(adapters.c.name)
        )
        return {name: number for name, number in self._connection.execute(query)}

    def verified(self, place: str, adapter: str | None = None) -> tuple[Verified, ...]:
        """See ports.StageRows.verified."""
        same = and_(*(verifications.c[key] == stages.c[key] for key in ("adapter_id", "stage", "sequence")))
        move = and_(*(promotions.c[key] == stages.c[key] for key in ("adapter_id", "stage", "sequence")))
        good = func.coalesce(verifications.c.at, promotions.c.at)
        query = (
            select(adapters.c.name, stages.c.sequence, versions.c.number, good.label("at"))
            .select_from(stages)
            .join(adapters, adapters.c.id == stages.c.adapter_id)
            .join(versions, versions.c.id == stages.c.version_id)
            .join(promotions, move)
            .outerjoin(verifications, same)
            .where(stages.c.stage == place, *(() if adapter is None else (adapters.c.name == adapter,)))
            .order_by(adapters.c.name)
        )
        return tuple(Verified(r.name, place, r.sequence, r.number, r.at) for r in self._connection.execute(query))

    def verify(self, known: Verified) -> None:
        """See ports.StageRows.verify."""
        adapter_id, _ = self._ids(known.adapter, known.number)
        row = {"adapter_id": adapter_id, "stage": known.place, "sequence": known.sequence, "at": known.at}
        upsert(self._connection, verifications, row)

    def named(self, place: str) -> tuple[str, ...]:
        """See ports.StageRows.named."""
        found = union(
            *(
                select(adapters.c.name)
                .join(table, table.c.adapter_id == adapters.c.id)
                .where(or_(table.c.name == place, table.c.name.startswith(f"{place}.", autoescape=True)))
                for table in (tags, branches)
            )
        )
        return tuple(sorted(self._connection.execute(found).scalars()))

    def policy(self, stage: str) -> tuple[int, Policy] | None:
        """See ports.StageRows.policy."""
        query = (
            select(policies.c.revision, policies.c.document)
            .where(policies.c.stage == stage)
            .order_by(policies.c.revision.desc())
            .limit(1)
        )
        row = self._connection.execute(query).one_or_none()
        return (row.revision, from_text(row.document, Policy)) if row else None

    def policies(self, stage: str) -> tuple[Revision, ...]:
        """See ports.StageRows.policies."""
        query = select(policies).where(policies.c.stage == stage).order_by(policies.c.revision.desc())
        found = self._connection.execute(query)
        return tuple(Revision(r.revision, from_text(r.document, Policy), r.set_by, r.set_at) for r in found)

    def set_policy(self, policy: Policy, *, by: str, at: str) -> int:
        """See ports.StageRows.set_policy."""
        newest = select(func.max(policies.c.revision)).where(policies.c.stage == policy.stage)
        revision = (self._connection.execute(newest).scalar() or 0) + 1
        row = {"stage": policy.stage, "revision": revision, "document": to_text(policy), "digest": policy.digest}
        self._connection.execute(insert(policies), [{**row, "set_by": by, "set_at": at}])
        return revision

    def _ids(self, adapter: str, number: int) -> tuple[int, int]:
        query = (
            select(versions.c.adapter_id, versions.c.id)
            .join(adapters, adapters.c.id == versions.c.adapter_id)
            .where(adapters.c.name == adapter, versions.c.number == number)
        )
        row = self._connection.execute(query).one()
        return row.adapter_id, row.id
