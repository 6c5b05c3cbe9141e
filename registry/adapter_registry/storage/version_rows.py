"""What belongs to versions in other tables, fetched at once, and the Version that a row and that make."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    CompoundSelect,
    Connection,
    ScalarSelect,
    Select,
    Table,
    bindparam,
    literal,
    or_,
    select,
    true,
    union_all,
)

from adapter_registry.domain.adapter import Description, File, Version
from adapter_registry.domain.lineage import Lineage
from adapter_registry.storage.rows import from_text
from adapter_registry.storage.tables import adapters, labels, revoked_ancestors, stages, tags, version_files, versions

_IDS: BindParameter[Any] = bindparam("ids", expanding=True)


def _around_those(wanted: Callable[[Table], ColumnElement[bool]]) -> CompoundSelect[Any]:
    """(version id, `file`, `label`, ..., name, value, size) of what belongs to versions, at once."""

    def attached(table: Table, kind: str, name: ColumnElement[str], value: ColumnElement[str]) -> Select[Any]:
        size = table.c.size if kind == "file" else literal(0)
        return select(table.c.version_id, literal(kind), name, value, size).where(wanted(table))

    return union_all(
        attached(version_files, "file", version_files.c.path, version_files.c.digest),
        attached(labels, "label", labels.c.key, labels.c.value),
        attached(tags, "tag", tags.c.name, literal("")),
        attached(stages, "stage", stages.c.stage, literal("")),
        attached(revoked_ancestors, "revoked", revoked_ancestors.c.reference, literal("")),
    )


AROUND = _around_those(lambda table: table.c.version_id.in_(_IDS))
AROUND_ONE = _around_those(lambda table: table.c.version_id == bindparam("id"))


def version_of(row: Any, around: Iterable[Any]) -> Version:
    """The Version of a row of versions and of the rows that AROUND_ONE gives for it."""
    files: list[File] = []
    marks: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for _, kind, name, value, size in around:
        if kind == "file":
            files.append(File(name, size, value))
        else:
            marks[kind][name] = value
    return Version(
        adapter=row.adapter,
        number=row.number,
        semver=row.semver,
        digest=row.digest,
        base=row.base,
        base_name=row.base_name,
        files=tuple(sorted(files, key=attrgetter("path"))),
        description=from_text(row.description, Description),
        message=row.message,
        created_by=row.created_by,
        created_at=row.created_at,
        labels=marks["label"],
        tags=tuple(sorted(marks["tag"])),
        stages=tuple(sorted(marks["stage"])),
        revoked_because=row.revoked_because,
        lineage=from_text(row.lineage, Lineage) if row.lineage else None,
        revoked_ancestors=tuple(sorted(marks["revoked"])),
    )


def row_of_adapter(adapter: str) -> ScalarSelect[int]:
    """The row of an adapter, within another statement: an index has its versions. A join sorts them all."""
    return select(adapters.c.id).where(adapters.c.name == adapter).scalar_subquery()


def id_of(connection: Connection, version: Version) -> int:
    """The row of a stored Version."""
    query = (
        select(versions.c.id)
        .join(adapters, adapters.c.id == versions.c.adapter_id)
        .where(adapters.c.name == version.adapter, versions.c.number == version.number)
    )
    return int(connection.execute(query).scalar_one())


def in_scopes(scopes: Sequence[str]) -> ColumnElement[bool]:
    """Adapters in one of these scopes."""
    if "*" in scopes:
        return true()
    exact = [scope for scope in scopes if not scope.endswith("/*")]
    spaces = [adapters.c.name.startswith(scope[:-1], autoescape=True) for scope in scopes if scope.endswith("/*")]
    return or_(adapters.c.name.in_(exact), *spaces)
