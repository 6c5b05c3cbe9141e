"""What the catalog keeps of accounts: who may come in, their tokens and views, and answers to keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from adapter_registry.domain.people.access import Grant, Principal
from adapter_registry.domain.people.account import Account, Token
from adapter_registry.domain.views.saved import View


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What a write with an idempotency key answered: digest of the request, status and body; None while it runs."""

    request: str
    status: int | None
    body: str | None


class AccountRows(Protocol):
    """Accounts, tokens, secrets of the server, and answers kept for idempotency keys."""

    def add(self, account: Account, *, password: str | None) -> bool:
        """Store an account unless the name is taken; whether it was free."""

    def get(self, name: str) -> Account | None: ...

    def all(self, *, after: str = "", limit: int | None = None) -> tuple[Account, ...]:
        """By name, beginning behind `after`."""

    def change(
        self, name: str, *, grants: tuple[Grant, ...] | None = None, password: str | None = None, disabled_at: str = "-"
    ) -> None:
        """Set what is given; an empty `disabled_at` lets the account in again."""

    def password(self, name: str) -> str | None:
        """The stored hash of an account that may come in."""

    def add_token(self, token: Token, *, hashed: str) -> None: ...

    def token(self, id: str) -> Token | None: ...

    def tokens(
        self, account: str | None = None, *, good_at: str = "", before: str = "", limit: int | None = None
    ) -> tuple[Token, ...]:
        """Newest first, below the key `before`; with `good_at`, only those that are neither over nor revoked then."""

    def revoke_token(self, token: str, *, at: str) -> None: ...

    def principal(self, hashed: str, *, now: str) -> tuple[Principal, bool] | None:
        """Who a good token stands for, and whether this minute's use is not noted yet."""

    def standing(self, token: str, *, now: str) -> Principal | None:
        """As `principal`, by the token's id."""

    def used_token(self, token: str, *, at: str) -> None: ...

    def secret(self, name: str) -> str | None: ...

    def keep_secret(self, name: str, value: str) -> None:
        """Store a secret unless there is one of that name."""

    def answer(self, account: str, key: str) -> KeptAnswer | None: ...

    def keep_answer(self, account: str, key: str, answer: KeptAnswer, *, at: str, forget_before: str) -> bool:
        """Note that a write runs, or what it answered; whether the key was new. Old answers are forgotten."""

    def drop_answer(self, account: str, key: str) -> None:
        """Forget a write that did not come to an answer."""

    def forget_answers(self, *, before: str) -> None: ...


class ViewRows(Protocol):
    """Views of lists that accounts keep."""

    def of(self, account: str, of: str) -> tuple[View, ...]:
        """Those of one account and list, by name."""

    def put(self, account: str, view: View) -> None:
        """Store a view, in place of one of its name."""

    def remove(self, account: str, of: str, name: str) -> None: ...
