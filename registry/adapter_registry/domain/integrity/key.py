"""Keys that signatures are believed of, and signatures: one key's word for one exact version of one adapter."""

from __future__ import annotations

from dataclasses import dataclass

from adapter_registry.domain.digest import Digest, short
from adapter_registry.domain.evidence.score import Invalidation
from adapter_registry.domain.people.access import Grant


@dataclass(frozen=True, slots=True)
class Key:
    """A public key whose signatures count.

    Attributes:
        name: what policies and people call it; never used again.
        id: SHA-256 of the key's SubjectPublicKeyInfo (RFC 5280) in DER.
        public: the key in PEM.
        scopes: whose versions its signatures count for: `*`, `namespace/*` or `namespace/name`.
        added_by: who trusts it.
        added_at: since when, ISO 8601 in UTC.
        expires_at: until when it makes signatures; what it signed before counts on. None: for ever.
        revoked: since when nothing that it ever signed counts, by whom and why; None while it is trusted.
    """

    name: str
    id: Digest
    public: str
    scopes: tuple[str, ...]
    added_by: str
    added_at: str
    expires_at: str | None = None
    revoked: Invalidation | None = None

    def __str__(self) -> str:
        return f"{self.name} ({short(self.id)})"

    def unfit(self, adapter: str, *, signed_at: str, at: str = "") -> str:
        """Why a signature that it made does not count, or did not `at` a moment in the past; empty when it does."""
        if self.revoked and (not at or self.revoked.at <= at):
            return f"the key {self} was revoked on {self.revoked.at[:10]} by {self.revoked.by}: {self.revoked.because}"
        if not any(Grant(scope, ()).reaches(adapter) for scope in self.scopes):
            return f"the key {self} counts for {', '.join(self.scopes)} only"
        if self.expires_at and self.expires_at <= signed_at:
            return f"the key {self} expired on {self.expires_at[:10]}"
        return ""


@dataclass(frozen=True, slots=True)
class Signature:
    """One key's signature of one version, as it was received.

    Attributes:
        adapter: `namespace/name`, which is part of what was signed.
        version: the Version's digest.
        key: the Key's id.
        sig: the signature of `signing.statement`, in base64.
        by: who attached it.
        at: when, ISO 8601 in UTC.
    """

    adapter: str
    version: Digest
    key: Digest
    sig: str
    by: str
    at: str


@dataclass(frozen=True, slots=True)
class Signed:
    """A Signature beside the Key that made it, and why it does not count; empty when it does."""

    signature: Signature
    key: Key
    unfit: str = ""

    def __str__(self) -> str:
        return self.unfit or f"{self.key}, {self.signature.at[:10]}"
