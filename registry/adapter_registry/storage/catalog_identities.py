"""Rows of trusts, exchanged tokens, identities of people, and sign-ins under way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, tuple_, update

from adapter_registry.domain.people.access import Grant
from adapter_registry.domain.people.sign_in import Attempt, Identity
from adapter_registry.domain.people.trust import Trust
from adapter_registry.storage.rows import from_text, insert_missing, to_text, upsert
from adapter_registry.storage.tables_people import attempts, identities, spent_tokens, tokens, trusts

MOST_ATTEMPTS = 50_000
"""Sign-ins that are remembered at once: whoever begins one has not said yet who they are."""


class IdentityTable:
    """See ports.identity.IdentityRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add_trust(self, trust: Trust) -> None:
        """Store a trust."""
        row = {"id": trust.id, "issuer": trust.issuer, "account": trust.account, "created_at": trust.created_at}
        self._connection.execute(insert(trusts), [{**row, "document": to_text(trust)}])

    def trusts(
        self, issuer: str | None = None, *, after: Sequence[str] = (), limit: int | None = None
    ) -> tuple[Trust, ...]:
        """See ports.identity.IdentityRows.trusts."""
        order = (trusts.c.created_at, trusts.c.id)
        query = select(trusts.c.document).order_by(*order).limit(limit)
        if after:
            query = query.where(tuple_(*order) > tuple_(*after))
        if issuer is not None:
            query = query.where(trusts.c.issuer == issuer)
        return tuple(from_text(text, Trust) for text in self._connection.execute(query).scalars())

    def remove_trust(self, trust: str, *, at: str) -> bool:
        """See ports.identity.IdentityRows.remove_trust."""
        given = update(tokens).where(tokens.c.trust == trust, tokens.c.revoked_at.is_(None))
        self._connection.execute(given.values(revoked_at=at))
        return self._connection.execute(delete(trusts).where(trusts.c.id == trust)).rowcount > 0

    def spend(self, token: str, *, until: str, at: str) -> bool:
        """See ports.identity.IdentityRows.spend."""
        self._connection.execute(delete(spent_tokens).where(spent_tokens.c.until < at))
        query = select(spent_tokens.c.hash).where(spent_tokens.c.hash == token)
        before = self._connection.execute(query).scalar()
        insert_missing(self._connection, spent_tokens, [{"hash": token, "until": until}])
        return before is None

    def forget_exchanged(self, *, before: str) -> None:
        """See ports.identity.IdentityRows.forget_exchanged."""
        self._connection.execute(delete(tokens).where(tokens.c.trust.is_not(None), tokens.c.expires_at < before))

    def identity(self, issuer: str, subject: str) -> Identity | None:
        """Whom a provider knows by this subject."""
        query = select(identities).where(identities.c.issuer == issuer, identities.c.subject == subject)
        row = self._connection.execute(query).one_or_none()
        return Identity(row.issuer, row.subject, row.account, from_text(row.grants, tuple[Grant, ...])) if row else None

    def put_identity(self, identity: Identity, *, at: str) -> None:
        """See ports.identity.IdentityRows.put_identity."""
        key = {"issuer": identity.issuer, "subject": identity.subject}
        values = {"account": identity.account, "grants": to_text(identity.grants), "seen_at": at}
        upsert(self._connection, identities, {**key, **values})

    def add_attempt(self, attempt: Attempt, *, at: str) -> None:
        """See ports.identity.IdentityRows.add_attempt."""
        self._connection.execute(delete(attempts).where(attempts.c.expires_at < at))
        under_way = self._connection.execute(select(func.count()).select_from(attempts)).scalar_one()
        if under_way >= MOST_ATTEMPTS:
            oldest = select(attempts.c.link).order_by(attempts.c.expires_at).limit(under_way - MOST_ATTEMPTS + 1)
            self._connection.execute(delete(attempts).where(attempts.c.link.in_(oldest.scalar_subquery())))
        row = {"link": attempt.link, "secret": attempt.secret, "state": attempt.state, "expires_at": attempt.expires_at}
        self._connection.execute(insert(attempts), [{**row, "document": to_text(attempt)}])

    def attempt(
        self, *, link: str | None = None, state: str | None = None, secret: str | None = None
    ) -> Attempt | None:
        """See ports.identity.IdentityRows.attempt."""
        named: dict[str, Any] = {"link": link, "state": state, "secret": secret}
        query = select(attempts.c.document)
        for name, value in named.items():
            if value is not None:
                query = query.where(attempts.c[name] == value)
        text = self._connection.execute(query).scalar_one_or_none()
        return from_text(text, Attempt) if text else None

    def change_attempt(self, attempt: Attempt) -> None:
        """Store how far a sign-in is now."""
        here = attempts.c.link == attempt.link
        self._connection.execute(update(attempts).where(here).values(document=to_text(attempt)))

    def remove_attempt(self, attempt: Attempt) -> None:
        """Forget a sign-in."""
        self._connection.execute(delete(attempts).where(attempts.c.link == attempt.link))
