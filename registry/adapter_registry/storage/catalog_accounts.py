"""Rows of accounts, tokens, secrets of the server, and answers kept for idempotency."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from adapter_registry.domain.people.access import Grant, Principal
from adapter_registry.domain.people.account import Account, AccountKind, Token
from adapter_registry.domain.ports import KeptAnswer
from adapter_registry.storage.rows import from_text, insert_missing, to_text
from adapter_registry.storage.tables import answers
from adapter_registry.storage.tables_people import accounts, secrets, tokens

_MINUTE = len("2026-01-01T00:00")
_GRANTS = tuple[Grant, ...]

# Every request asks this; made once, because making it takes longer than answering it.
_GOOD = (
    select(
        *(tokens.c.id, tokens.c.limits, tokens.c.last_used_at, tokens.c.trust),
        *(accounts.c.name, accounts.c.kind, accounts.c.grants),
    )
    .join(accounts, accounts.c.name == tokens.c.account)
    .where(
        tokens.c.revoked_at.is_(None),
        tokens.c.expires_at.is_(None) | (tokens.c.expires_at > bindparam("now")),
        accounts.c.disabled_at.is_(None),
    )
)
PRINCIPAL = _GOOD.where(tokens.c.hash == bindparam("wanted_hash"))
_STANDING = _GOOD.where(tokens.c.id == bindparam("wanted_token"))


class AccountTable:
    """See ports.accounts.AccountRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, account: Account, *, password: str | None) -> bool:
        """See ports.accounts.AccountRows.add."""
        row = {
            "name": account.name,
            "kind": str(account.kind),
            "grants": to_text(account.grants),
            "password": password,
            "created_by": account.created_by,
            "created_at": account.created_at,
        }
        before = self.get(account.name)
        insert_missing(self._connection, accounts, [row])
        return before is None

    def get(self, name: str) -> Account | None:
        """The account of this name."""
        row = self._connection.execute(select(accounts).where(accounts.c.name == name)).one_or_none()
        return _account(row) if row else None

    def all(self, *, after: str = "", limit: int | None = None) -> tuple[Account, ...]:
        """See ports.accounts.AccountRows.all."""
        query = select(accounts).where(accounts.c.name > after).order_by(accounts.c.name).limit(limit)
        return tuple(_account(row) for row in self._connection.execute(query))

    def change(
        self, name: str, *, grants: tuple[Grant, ...] | None = None, password: str | None = None, disabled_at: str = "-"
    ) -> None:
        """See ports.accounts.AccountRows.change."""
        values: dict[str, Any] = {}
        if grants is not None:
            values["grants"] = to_text(grants)
        if password is not None:
            values["password"] = password
        if disabled_at != "-":
            values["disabled_at"] = disabled_at or None
        if values:
            self._connection.execute(update(accounts).where(accounts.c.name == name).values(values))

    def password(self, name: str) -> str | None:
        """See ports.accounts.AccountRows.password."""
        query = select(accounts.c.password).where(accounts.c.name == name, accounts.c.disabled_at.is_(None))
        return self._connection.execute(query).scalar()

    def add_token(self, token: Token, *, hashed: str) -> None:
        """See ports.accounts.AccountRows.add_token."""
        row = {
            "id": token.id,
            "hash": hashed,
            "account": token.account,
            "label": token.label,
            "limits": None if token.limits is None else to_text(token.limits),
            "created_by": token.created_by,
            "created_at": token.created_at,
            "expires_at": token.expires_at,
            "trust": token.trust,
        }
        self._connection.execute(insert(tokens), [row])

    def token(self, id: str) -> Token | None:
        """The token of this id."""
        row = self._connection.execute(select(tokens).where(tokens.c.id == id)).one_or_none()
        return _token(row) if row else None

    def tokens(
        self, account: str | None = None, *, good_at: str = "", before: str = "", limit: int | None = None
    ) -> tuple[Token, ...]:
        """See ports.accounts.AccountRows.tokens."""
        query = select(tokens).order_by(tokens.c.created_at.desc(), tokens.c.id.desc()).limit(limit)
        if account is not None:
            query = query.where(tokens.c.account == account)
        if good_at:
            ends = tokens.c.expires_at
            query = query.where(tokens.c.revoked_at.is_(None), ends.is_(None) | (ends > good_at))
        if before:
            at, _, id = before.partition(" ")
            query = query.where((tokens.c.created_at < at) | (tokens.c.created_at == at) & (tokens.c.id < id))
        return tuple(_token(row) for row in self._connection.execute(query))

    def revoke_token(self, token: str, *, at: str) -> None:
        """See ports.accounts.AccountRows.revoke_token."""
        statement = update(tokens).where(tokens.c.id == token, tokens.c.revoked_at.is_(None))
        self._connection.execute(statement.values(revoked_at=at))

    def principal(self, hashed: str, *, now: str) -> tuple[Principal, bool] | None:
        """See ports.accounts.AccountRows.principal."""
        row = self._connection.execute(PRINCIPAL, {"wanted_hash": hashed, "now": now}).one_or_none()
        return (principal_of(row), first_use_of_minute(row, now)) if row else None

    def standing(self, token: str, *, now: str) -> Principal | None:
        """See ports.accounts.AccountRows.standing."""
        row = self._connection.execute(_STANDING, {"wanted_token": token, "now": now}).one_or_none()
        return principal_of(row) if row else None

    def used_token(self, token: str, *, at: str) -> None:
        """See ports.accounts.AccountRows.used_token."""
        self._connection.execute(update(tokens).where(tokens.c.id == token).values(last_used_at=at))

    def secret(self, name: str) -> str | None:
        """See ports.accounts.AccountRows.secret."""
        return self._connection.execute(select(secrets.c.value).where(secrets.c.name == name)).scalar()

    def keep_secret(self, name: str, value: str) -> None:
        """See ports.accounts.AccountRows.keep_secret."""
        insert_missing(self._connection, secrets, [{"name": name, "value": value}])

    def answer(self, account: str, key: str) -> KeptAnswer | None:
        """See ports.accounts.AccountRows.answer."""
        query = select(answers).where(answers.c.account == account, answers.c.key == key)
        row = self._connection.execute(query).one_or_none()
        return KeptAnswer(row.request, row.status, row.body) if row else None

    def keep_answer(self, account: str, key: str, answer: KeptAnswer, *, at: str, forget_before: str) -> bool:
        """See ports.accounts.AccountRows.keep_answer."""
        self.forget_answers(before=forget_before)
        before = self.answer(account, key)
        here = (answers.c.account == account) & (answers.c.key == key)
        values = {"request": answer.request, "status": answer.status, "body": answer.body}
        if before is None:
            insert_missing(self._connection, answers, [{"account": account, "key": key, "at": at, **values}])
        elif before.status is None and answer.status is not None:
            self._connection.execute(update(answers).where(here).values(values))
        return before is None

    def drop_answer(self, account: str, key: str) -> None:
        """See ports.accounts.AccountRows.drop_answer."""
        here = (answers.c.account == account) & (answers.c.key == key) & answers.c.status.is_(None)
        self._connection.execute(delete(answers).where(here))

    def forget_answers(self, *, before: str) -> None:
        """See ports.accounts.AccountRows.forget_answers."""
        self._connection.execute(delete(answers).where(answers.c.at < before))


def _account(row: Any) -> Account:
    return Account(
        name=row.name,
        kind=AccountKind(row.kind),
        grants=from_text(row.grants, _GRANTS),
        created_by=row.created_by,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        signs_in=row.password is not None,
    )


def _token(row: Any) -> Token:
    return Token(
        id=row.id,
        account=row.account,
        label=row.label,
        limits=None if row.limits is None else from_text(row.limits, _GRANTS),
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        trust=row.trust,
    )


def first_use_of_minute(row: Any, now: str) -> bool:
    """Whether a row of PRINCIPAL is of a token whose use in this minute is not noted yet."""
    return bool((row.last_used_at or "")[:_MINUTE] != now[:_MINUTE])


def principal_of(row: Any) -> Principal:
    """Who a row of PRINCIPAL stands for."""
    limits = None if row.limits is None else from_text(row.limits, _GRANTS)
    machine, exchanged = row.kind == AccountKind.SERVICE, row.trust is not None
    return Principal(row.name, from_text(row.grants, _GRANTS), limits, row.id, machine=machine, exchanged=exchanged)
