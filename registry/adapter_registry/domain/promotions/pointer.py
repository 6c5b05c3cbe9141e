"""Pointer: what a stage points to, signed, counted and expiring, so that nobody between can turn it back or freeze it.

The threats are two of The Update Framework's (specification, section 1.5.2, https://theupdateframework.io): a mirror
that serves an older state (rollback) or the same state for ever (freeze). Signatures are Ed25519 (RFC 8032).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from adapter_registry.domain.digest import Digest, canonical_json
from adapter_registry.domain.errors import UntrustedPointer
from adapter_registry.domain.webhooks.webhook import later

GOOD_SECONDS = 900
"""How long a pointer may be believed; a mirror can hide a newer one for no longer."""
SKEW_SECONDS = 120
"""How far the clock of who checks may be off."""
_CONTEXT = b"adapters.pointer/1\n"
"""What is signed begins with this, so that a signature of something else is never one of a pointer."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a stage points to.

    Attributes:
        adapter: `namespace/name`.
        stage: `prod`.
        sequence: counts the stage's moves, rollbacks included: 1, 2, ...
        number: of the Version.
        digest: of the Version's Manifest.
        base: of the Base it is locked to.
        moved_at: when the stage came to point there, ISO 8601 in UTC.
        issued_at: when this was signed.
        expires_at: when it stops being believed.
    """

    adapter: str
    stage: str
    sequence: int
    number: int
    digest: Digest
    base: Digest
    moved_at: str
    issued_at: str
    expires_at: str

    @property
    def reference(self) -> str:
        """`namespace/name@sha256:...`."""
        return f"{self.adapter}@{self.digest}"


@dataclass(frozen=True, slots=True)
class SignedPointer:
    """A Pointer, the public key it was signed with, and the signature; both in hex."""

    pointer: Pointer
    key: str
    signature: str


def public_key(seed: str) -> str:
    """The public key, in hex, of a private key: 32 random bytes in hex."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  slow to import

    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)).public_key().public_bytes_raw().hex()


def signed(pointer: Pointer, *, seed: str) -> SignedPointer:
    """`pointer` with its signature by the private key `seed`, 32 bytes in hex."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  slow to import

    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
    return SignedPointer(pointer, private.public_key().public_bytes_raw().hex(), private.sign(_bytes(pointer)).hex())


def expiring(at: str) -> str:
    """When a pointer that is signed at this moment expires."""
    return later(at, GOOD_SECONDS)


def believed(given: SignedPointer, *, adapter: str, stage: str, key: str | None, seen: int, now: str) -> Pointer:
    """The Pointer, if it may be believed.

    Args:
        given: as it was received.
        adapter: what was asked about.
        stage: what was asked about.
        key: the public key it has to be signed with; None trusts the one it names: the first time.
        seen: the highest sequence that was believed before; 0 for none.
        now: ISO 8601 in UTC.

    Raises:
        UntrustedPointer: it is of another key, forged, about something else, expired, or older than what was seen.
    """
    pointer, where = given.pointer, f"{adapter}@{stage}"
    if key is not None and given.key != key:
        raise UntrustedPointer(
            f"{where}: the pointer is signed by the key {given.key[:16]}..., and {key[:16]}... is the one that is "
            "trusted here. Somebody may stand between you and the registry, or its key was replaced."
        )
    if not _verifies(given):
        raise UntrustedPointer(f"{where}: the pointer's signature does not fit it: it was changed on the way.")
    if (pointer.adapter, pointer.stage) != (adapter, stage):
        raise UntrustedPointer(f"{where}: the pointer is about {pointer.adapter}@{pointer.stage}.")
    moment, until = datetime.fromisoformat(now), datetime.fromisoformat(pointer.expires_at)
    if (moment - until).total_seconds() > SKEW_SECONDS:
        raise UntrustedPointer(
            f"{where}: the pointer was good until {pointer.expires_at[:19]}Z, and here it is {now[:19]}Z. An old "
            "answer was replayed, or one of the clocks is wrong."
        )
    if pointer.sequence < seen:
        raise UntrustedPointer(
            f"{where}: move {pointer.sequence} was answered, and move {seen} was seen here before. An old state was "
            "replayed, or the registry was restored from a backup."
        )
    return pointer


def _verifies(given: SignedPointer) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  slow to import
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415  slow to import

    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(given.key))
        public.verify(bytes.fromhex(given.signature), _bytes(given.pointer))
    except (InvalidSignature, ValueError):
        return False
    return True


def _bytes(pointer: Pointer) -> bytes:
    return _CONTEXT + canonical_json(asdict(pointer))
