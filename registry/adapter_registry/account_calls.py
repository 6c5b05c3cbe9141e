"""The client's calls about accounts, tokens, rights and namespaces."""

from __future__ import annotations

from adapter_registry.asking import Asking
from adapter_registry.domain.access import Grant, check_verb
from adapter_registry.domain.account import Account, AccountKind, Token
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.names import check_namespace
from adapter_registry.domain.reference import split_adapter
from adapter_registry.domain.trust import DEFAULT_SECONDS, Trust
from adapter_registry.services import access, draft, trust
from adapter_registry.services.access import TOKEN_DAYS, NewToken, WhoAmI


class AccountCalls(Asking):
    """Accounts, tokens and rights, of the embedded registry or a server."""

    def whoami(self) -> WhoAmI:
        """Whom the registry takes the caller for."""
        return self._ask(access.who)

    def may(self, verb: str, scope: str | None = None) -> bool:
        """Whether the caller may do `verb` to an adapter, or to the registry as a whole."""
        name = "/".join(split_adapter(scope, namespace=self._settings.namespace)) if scope else None
        return self._ask(access.may, verb=check_verb(verb), scope=name)

    def accounts(self) -> tuple[Account, ...]:
        """Every account."""
        return self._ask(access.accounts)

    def create_account(
        self, name: str, *, kind: AccountKind = AccountKind.PERSON, password: str | None = None
    ) -> Account:
        """Make an account that may do nothing yet."""
        return self._ask(access.create_account, name=name, kind=kind, password=password)

    def grant(self, account: str, scope: str, verbs: tuple[str, ...]) -> Account:
        """Give an account roles or verbs on a scope, in place of what it had there."""
        return self._ask(access.grant, account=account, scope=scope, verbs=verbs)

    def disable(self, account: str, *, disabled: bool = True) -> Account:
        """Shut an account out, or let it in again."""
        return self._ask(access.disable, account=account, disabled=disabled)

    def create_token(
        self,
        *,
        account: str | None = None,
        label: str = "",
        limits: tuple[Grant, ...] | None = None,
        expires_in_seconds: int | None = TOKEN_DAYS * 86_400,
    ) -> NewToken:
        """Make a token; its secret is in the answer, this once."""
        return self._ask(
            access.create_token, account=account, label=label, limits=limits, expires_in_seconds=expires_in_seconds
        )

    def tokens(self, account: str | None = None) -> tuple[Token, ...]:
        """Tokens, newest first."""
        return self._ask(access.tokens, account=account)

    def revoke_token(self, token: str) -> Token:
        """Make a token useless from now on."""
        return self._ask(access.revoke_token, token=token)

    def trusts(self) -> tuple[Trust, ...]:
        """Every trust, in the order they were declared."""
        return self._ask(trust.trusts)

    def add_trust(
        self,
        account: str,
        *,
        issuer: str,
        audience: str,
        claims: dict[str, str],
        limits: tuple[Grant, ...] | None = None,
        seconds: int = DEFAULT_SECONDS,
    ) -> Trust:
        """Let tokens of an issuer that have these claims be exchanged for tokens of a service account."""
        return self._ask(
            trust.add,
            account=account,
            issuer=issuer,
            audience=audience,
            claims=claims,
            limits=limits,
            seconds=seconds,
        )

    def remove_trust(self, identity: str) -> Trust:
        """End a trust and every token that it gave."""
        return self._ask(trust.remove, trust=identity)

    def set_default_base(self, namespace: str, base: str | None) -> Digest | None:
        """Which Base pushes to a namespace mean when their config names none that is registered."""
        return self._ask(draft.set_default_base, namespace=check_namespace(namespace), base=base)
