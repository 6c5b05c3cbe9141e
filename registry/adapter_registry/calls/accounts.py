"""The client's calls about accounts, tokens, rights, views, namespaces and webhooks."""

from __future__ import annotations

from adapter_registry.calls.asking import Asking, every
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.names import check_namespace
from adapter_registry.domain.people.access import Grant, check_verb
from adapter_registry.domain.people.account import Account, AccountKind, Token
from adapter_registry.domain.people.trust import DEFAULT_SECONDS, Trust
from adapter_registry.domain.reference import split_adapter
from adapter_registry.domain.views.saved import View
from adapter_registry.domain.webhooks.webhook import Delivery, State, Webhook
from adapter_registry.services import access, draft, trust, views, webhook
from adapter_registry.services.access import TOKEN_DAYS, NewToken, WhoAmI
from adapter_registry.services.webhook import Message, NewWebhook


class AccountCalls(Asking):
    """Accounts, tokens, rights and webhooks, of the embedded registry or a server."""

    def whoami(self) -> WhoAmI:
        """Whom the registry takes the caller for."""
        return self._ask(access.who)

    def may(self, verb: str, scope: str | None = None) -> bool:
        """Whether the caller may do `verb` to an adapter, or to the registry as a whole."""
        name = "/".join(split_adapter(scope, namespace=self._settings.namespace)) if scope else None
        return self._ask(access.may, verb=check_verb(verb), scope=name)

    def accounts(self) -> tuple[Account, ...]:
        """Every account."""
        return tuple(every(lambda after: self._ask(access.accounts, after=after), ""))

    def create_account(
        self, name: str, *, kind: AccountKind = AccountKind.PERSON, password: str | None = None
    ) -> Account:
        """Make an account that may do nothing yet."""
        return self._ask(access.create_account, name=name, kind=kind, password=password)

    def account(self, name: str) -> Account:
        """One account."""
        return self._ask(access.account, account=name)

    def set_password(self, account: str, password: str) -> Account:
        """Give a person a password to sign in with."""
        return self._ask(access.set_password, account=account, password=password)

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
        return tuple(every(lambda before: self._ask(access.tokens, account=account, before=before), ""))

    def token(self, id: str) -> Token:
        """One token, by its id."""
        return self._ask(access.token, token=id)

    def revoke_token(self, token: str) -> Token:
        """Make a token useless from now on."""
        return self._ask(access.revoke_token, token=token)

    def views(self, of: str) -> tuple[View, ...]:
        """What the caller kept of a list, by name."""
        return self._ask(views.views, of=of)

    def save_view(self, of: str, name: str, query: dict[str, str]) -> View:
        """Keep how a list is narrowed and sorted, in place of a view of the same name."""
        return self._ask(views.save, of=of, name=name, query=query)

    def rename_view(self, of: str, name: str, to: str) -> View:
        """Call a view otherwise."""
        return self._ask(views.rename, of=of, name=name, to=to)

    def remove_view(self, of: str, name: str) -> View:
        """Forget a view."""
        return self._ask(views.remove, of=of, name=name)

    def add_webhook(self, url: str, *, scope: str = "*", events: tuple[str, ...] = ("*",)) -> NewWebhook:
        """Tell `url` of events from now on; the secret that signs messages is in the answer, this once."""
        return self._ask(webhook.register, url=url, scope=scope, events=events)

    def webhooks(self) -> tuple[Webhook, ...]:
        """Webhooks that the caller may see, oldest first."""
        return tuple(every(lambda after: self._ask(webhook.webhooks, after=after), ""))

    def webhook(self, id: str) -> Webhook:
        """One webhook."""
        return self._ask(webhook.show, webhook=id)

    def change_webhook(
        self, id: str, *, url: str | None = None, events: tuple[str, ...] | None = None, active: bool | None = None
    ) -> Webhook:
        """Change what is given; `active=False` pauses it."""
        return self._ask(webhook.change, webhook=id, url=url, events=events, active=active)

    def remove_webhook(self, id: str) -> Webhook:
        """Forget a webhook and everything that waits for it."""
        return self._ask(webhook.remove, webhook=id)

    def rotate_webhook(self, id: str) -> NewWebhook:
        """Give a webhook a new secret; the one before signs along for a day."""
        return self._ask(webhook.rotate, webhook=id)

    def deliveries(self, id: str, *, state: State | None = None, limit: int = 100) -> tuple[Delivery, ...]:
        """The newest of what a webhook was told, and what came of it."""
        return self._ask(webhook.deliveries, webhook=id, state=state, limit=limit).items

    def message(self, id: str, delivery: str) -> Message:
        """What a delivery says."""
        return self._ask(webhook.message, webhook=id, delivery=delivery)

    def replay(self, id: str, delivery: str | None = None) -> tuple[Delivery, ...]:
        """Send one delivery again, or every dead one."""
        return self._ask(webhook.replay, webhook=id, delivery=delivery)

    def trusts(self) -> tuple[Trust, ...]:
        """Every trust, in the order they were declared."""
        return tuple(every(lambda after: self._ask(trust.trusts, after=after), ""))

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

    def default_base(self, namespace: str) -> Digest | None:
        """Which Base pushes to a namespace mean when their config names none that is registered."""
        return self._ask(draft.default_base, namespace=check_namespace(namespace))

    def set_default_base(self, namespace: str, base: str | None) -> Digest | None:
        """Which Base pushes to a namespace mean when their config names none that is registered."""
        return self._ask(draft.set_default_base, namespace=check_namespace(namespace), base=base)
