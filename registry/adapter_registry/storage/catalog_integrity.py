"""Rows of trusted keys, their signatures, and scans."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.integrity.key import Key, Signature
from adapter_registry.domain.integrity.scan import Scan
from adapter_registry.storage.rows import from_text, to_text
from adapter_registry.storage.tables_integrity import scans, signatures, signing_keys


class IntegrityTable:
    """See ports.integrity.IntegrityRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all_keys(self) -> tuple[Key, ...]:
        """See ports.integrity.IntegrityRows.all_keys."""
        query = select(signing_keys.c.document).order_by(signing_keys.c.added_at, signing_keys.c.name)
        return tuple(from_text(text, Key) for text in self._connection.execute(query).scalars())

    def add_key(self, key: Key) -> None:
        """Store a key."""
        row = {"id": key.id, "name": key.name, "added_at": key.added_at, "document": to_text(key)}
        self._connection.execute(insert(signing_keys), [row])

    def change_key(self, key: Key) -> None:
        """Store what a key is now."""
        here = signing_keys.c.id == key.id
        self._connection.execute(update(signing_keys).where(here).values(document=to_text(key)))

    def sign(self, signature: Signature) -> None:
        """Store a signature."""
        row = {"adapter": signature.adapter, "version": signature.version, "key": signature.key}
        given = {"sig": signature.sig, "by": signature.by, "at": signature.at}
        self._connection.execute(insert(signatures), [{**row, **given}])

    def signatures(self, adapter: str, version: Digest) -> tuple[tuple[Signature, Key], ...]:
        """See ports.integrity.IntegrityRows.signatures."""
        query = (
            select(signatures, signing_keys.c.document)
            .join(signing_keys, signing_keys.c.id == signatures.c.key)
            .where(signatures.c.adapter == adapter, signatures.c.version == version)
            .order_by(signatures.c.at, signing_keys.c.name)
        )
        return tuple(
            (Signature(row.adapter, row.version, row.key, row.sig, row.by, row.at), from_text(row.document, Key))
            for row in self._connection.execute(query)
        )

    def add_scan(self, scan: Scan) -> None:
        """Append a scan."""
        row = {"adapter": scan.adapter, "version": scan.version, "document": to_text(scan)}
        self._connection.execute(insert(scans), [row])

    def scans(self, adapter: str, version: Digest) -> tuple[Scan, ...]:
        """See ports.integrity.IntegrityRows.scans."""
        query = select(scans.c.document).where(scans.c.adapter == adapter, scans.c.version == version)
        return tuple(from_text(text, Scan) for text in self._connection.execute(query.order_by(scans.c.id)).scalars())
