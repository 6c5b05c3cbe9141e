"""What signing in by an OpenID provider needs from the outside world: rows, and the providers themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from adapter_registry.domain.people.sign_in import Attempt, Identity, Provider
from adapter_registry.domain.people.trust import Claims, Trust


class IdentityRows(Protocol):
    """Trusts, tokens that were exchanged, identities of people, and sign-ins under way."""

    def add_trust(self, trust: Trust) -> None:
        """Store a trust."""

    def trusts(
        self, issuer: str | None = None, *, after: Sequence[str] = (), limit: int | None = None
    ) -> tuple[Trust, ...]:
        """In the order they were declared; `after` is the time and id of the one before."""

    def remove_trust(self, trust: str, *, at: str) -> bool:
        """Forget a trust and revoke every token it gave; whether there was one."""

    def spend(self, token: str, *, until: str, at: str) -> bool:
        """Remember the hash of an exchanged token until it is over; False when it was exchanged before."""

    def forget_exchanged(self, *, before: str) -> None:
        """Forget tokens that trusts gave and that ended before then; the audit log keeps who got them."""

    def identity(self, issuer: str, subject: str) -> Identity | None:
        """Whom a provider knows by this subject."""

    def put_identity(self, identity: Identity, *, at: str) -> None:
        """Store it, or what its provider gives now."""

    def add_attempt(self, attempt: Attempt, *, at: str) -> None:
        """Store a sign-in; forget those that are over, and the oldest where there are too many."""

    def attempt(
        self, *, link: str | None = None, state: str | None = None, secret: str | None = None
    ) -> Attempt | None:
        """By one of its three names."""

    def change_attempt(self, attempt: Attempt) -> None:
        """Store how far a sign-in is now."""

    def remove_attempt(self, attempt: Attempt) -> None:
        """Forget a sign-in."""


class Identities(Protocol):
    """OpenID providers, reached over the network; only those that the caller names."""

    def claims(self, issuer: str, token: str) -> Claims:
        """What a token says, once its signature, issuer and times hold.

        Raises:
            IdentityRefused: one does not hold.
            IssuerUnavailable: the provider cannot be asked for its keys.
        """

    def authorization_endpoint(self, issuer: str) -> str:
        """Where people sign in."""

    def redeemed(self, provider: Provider, *, code: str, verifier: str, redirect_uri: str) -> Claims:
        """What the provider says about who signed in, for the code that it gave; see `claims` for what is raised."""
