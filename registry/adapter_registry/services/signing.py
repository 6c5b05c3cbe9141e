"""Trusted keys, and signatures of versions by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.errors import Conflict, Forbidden, InvalidInput, NotFound, SignatureRefused
from adapter_registry.domain.evidence.score import Invalidation
from adapter_registry.domain.integrity.key import Key, Signature, Signed
from adapter_registry.domain.integrity.signing import (
    Envelope,
    checked,
    key_id,
    plain_public,
    standing,
    statement,
    verifies,
)
from adapter_registry.domain.names import check_key_name
from adapter_registry.domain.people.access import EVERYTHING, check_scope
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.reference import parse
from adapter_registry.domain.webhooks.webhook import later
from adapter_registry.services.recorded import of_version, recorded
from adapter_registry.services.references import version_of

VERB = "key.trust"
MOST_SCOPES, LONGEST_REASON = 50, 500
LONGEST_SECONDS = 100 * 365 * 86_400


def keys(backend: Backend) -> tuple[Key, ...]:
    """Keys that count for something the caller may read, revoked ones included, in the order they were added."""
    with backend.catalog.reading() as tx:
        return tuple(key for key in tx.integrity.all_keys() if any(_seen(backend, scope) for scope in key.scopes))


def _seen(backend: Backend, scope: str) -> bool:
    return scope == EVERYTHING or backend.asks.may("read", scope)


def trust(
    backend: Backend,
    *,
    name: str,
    public: str,
    scopes: Sequence[str] = (EVERYTHING,),
    expires_in_seconds: int | None = None,
) -> Key:
    """Have a key's signatures count from now on.

    Args:
        backend: the registry.
        name: what policies and people call it.
        public: an Ed25519 public key in PEM.
        scopes: whose versions they count for.
        expires_in_seconds: how long it makes signatures; None for ever.

    Raises:
        InvalidInput: no such key, or no scope.
        Forbidden: whoever asks may not trust keys for all of a scope.
        Conflict: the name or the key is known, even if it was revoked.
    """
    plain, at = plain_public(public), backend.clock()
    named = tuple(dict.fromkeys(check_scope(scope) for scope in scopes))
    if not 0 < len(named) <= MOST_SCOPES or not 0 < (expires_in_seconds or 1) <= LONGEST_SECONDS:
        raise InvalidInput(f"a key counts for 1 to {MOST_SCOPES} scopes, and for at most a hundred years if it ends.")
    ends = later(at, expires_in_seconds) if expires_in_seconds is not None else None
    key = Key(check_key_name(name), key_id(plain), plain, named, backend.actor, at, ends)
    _require_theirs(backend, key)
    with backend.catalog.writing() as tx:
        for known in tx.integrity.all_keys():
            if known.name == key.name or known.id == key.id:
                state = "was revoked, and is never trusted again" if known.revoked else "is there already"
                raise Conflict(f"the key {known} {state}; nothing was changed. `adapters key new` makes another one.")
        tx.integrity.add_key(key)
        detail = {"id": key.id, "public": key.public, "scopes": list(key.scopes), "expires_at": key.expires_at}
        tx.events.append(_entry(backend, "key.trust", key, at, detail))
    return key


def revoke(backend: Backend, *, key: str, because: str) -> Key:
    """Have nothing that a key ever signed count from now on, for good.

    Raises:
        InvalidInput: no reason.
        NotFound: there is none of this name that is still trusted.
        Forbidden: whoever asks may not trust keys for all that it counts for.
    """
    if not because.strip() or len(because) > LONGEST_REASON or not because.isprintable():
        raise InvalidInput(f"revoking a key needs a reason: one line of 1 to {LONGEST_REASON} characters.")
    with backend.catalog.writing() as tx:
        known = next((each for each in tx.integrity.all_keys() if each.name == key and not each.revoked), None)
        if known is None:
            raise NotFound(f"no key {key[:96]!r} is trusted; `adapters key ls` lists them.")
        _require_theirs(backend, known)
        at = backend.clock()
        gone = replace(known, revoked=Invalidation(because.strip(), backend.actor, at))
        tx.integrity.change_key(gone)
        tx.events.append(_entry(backend, "key.revoke", gone, at, {"because": because.strip()}))
    return gone


def sign(backend: Backend, *, reference: str, envelope: Envelope) -> Signed:
    """Attach a signature to exactly the Version that it is of; the same one again changes nothing.

    Args:
        backend: the registry.
        reference: which Version.
        envelope: its statement with one signature, as `signing.sealed` makes it.

    Raises:
        SignatureRefused: it is over another digest or adapter, of a key that does not count, or not of its key.
    """
    parsed = parse(reference, namespace=backend.namespace)
    with recorded(backend, "sign", of_version(parsed)), backend.catalog.writing() as tx:
        version, at = version_of(tx, parsed), backend.clock()
        given = checked(envelope, version)
        key = _trusted(tx, version, given.keyid, at)
        if not verifies(envelope.content, given.sig, key.public):
            raise SignatureRefused(f"the signature is none of the key {key}; nothing was attached.")
        made = Signature(version.adapter, version.digest, key.id, given.sig, backend.actor, at)
        there = tx.integrity.signatures(version.adapter, version.digest)
        before = next((each for each, _ in there if each.key == key.id), None)
        if before is None:
            tx.integrity.sign(made)
            detail = {"digest": version.digest, "key": key.name, "key_id": key.id, "sig": made.sig}
            tx.events.append(Entry("sign", version.reference, Outcome.DONE, backend.actor, at, detail))
        return Signed(before or made, key)


def _trusted(tx: Transaction, version: Version, given: str, at: str) -> Key:
    key = next((each for each in tx.integrity.all_keys() if each.id == given), None)
    if key is None:
        raise SignatureRefused(
            f"nobody trusts the key {given[:80]!r} here; nothing was attached. Somebody with the verb {VERB} adds it: "
            "adapters key add NAME FILE.pub"
        )
    if why := key.unfit(version.adapter, signed_at=at):
        raise SignatureRefused(f"{why}; nothing was attached to {version.reference}.")
    return key


def signatures(backend: Backend, *, reference: str) -> tuple[Signed, ...]:
    """The signatures of a Version, in the order they were received, each with why it does not count if it does not."""
    with backend.catalog.reading() as tx:
        return signed(tx, version_of(tx, parse(reference, namespace=backend.namespace)))


def signed(tx: Transaction, version: Version, *, at: str = "") -> tuple[Signed, ...]:
    """The signatures of a Version as they stand, or stood `at` a moment in the past, each verified again."""
    found = tx.integrity.signatures(version.adapter, version.digest)
    content = statement(version) if found else b""
    return tuple(standing(each, key, content, at=at) for each, key in found if not at or each.at <= at)


def _require_theirs(backend: Backend, key: Key) -> None:
    for scope in key.scopes:
        if not backend.asks.may_throughout(VERB, scope):
            raise Forbidden(f"trusting keys for {scope} takes the verb {VERB!r} on all of it; nothing was changed.")


def _entry(backend: Backend, action: str, key: Key, at: str, detail: dict[str, Any]) -> Entry:
    return Entry(action, f"key {key.name}", Outcome.DONE, backend.actor, at, {"key": key.name, **detail})
