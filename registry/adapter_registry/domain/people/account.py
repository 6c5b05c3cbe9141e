"""Accounts, their groups and their tokens, as they are stored and shown: never a secret in them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from adapter_registry.domain.people.access import Grant


class AccountKind(StrEnum):
    """A person signs in; a service account only has tokens and cannot approve."""

    PERSON = "person"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Account:
    """A person or service account.

    Attributes:
        name: unique; the Actor of what they do.
        kind: person or service.
        grants: what they may do.
        created_by: who made it.
        created_at: ISO 8601 in UTC.
        disabled_at: when it was shut out; None while it may come in.
        signs_in: whether a password is set.
    """

    name: str
    kind: AccountKind
    grants: tuple[Grant, ...]
    created_by: str
    created_at: str
    disabled_at: str | None = None
    signs_in: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is shown: what it is for, never what it is.

    Attributes:
        id: 12 hex digits, to name it by.
        account: whose it is.
        label: what it is for, in its maker's words.
        limits: what it narrows its account to; None for everything the account may do.
        created_by: who made it.
        created_at: ISO 8601 in UTC.
        expires_at: when it ends; None for never.
        revoked_at: when it was revoked; None while it is good.
        last_used_at: to the minute; None when never used.
        trust: by which trust it was exchanged for a provider's token; None when it was made otherwise.
    """

    id: str
    account: str
    label: str
    limits: tuple[Grant, ...] | None
    created_by: str
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None
    last_used_at: str | None = None
    trust: str | None = None

    @property
    def key(self) -> str:
        """What lists of tokens are sorted by, newest first."""
        return f"{self.created_at} {self.id}"


@dataclass(frozen=True, slots=True)
class Group:
    """Accounts that policies name together.

    Attributes:
        name: `leads`, which policies name as `group:leads`.
        members: names of accounts, sorted.
    """

    name: str
    members: tuple[str, ...]
