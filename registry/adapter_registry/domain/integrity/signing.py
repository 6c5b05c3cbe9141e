"""Signing: what is signed of a Version, in which form, and whether a signature holds. Nothing secret is kept here.

A signature is of an in-toto Statement v1 (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md) in a
DSSE v1 envelope (https://github.com/secure-systems-lab/dsse/blob/master/protocol.md), by Ed25519 (RFC 8032). The
statement holds the Version's whole Manifest, so that who has the files needs nothing else to hold them against it.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.digest import Digest, canonical_json, hex_of, of_bytes, of_json
from adapter_registry.domain.errors import InvalidInput, SignatureRefused
from adapter_registry.domain.integrity.key import Key, Signature, Signed
from adapter_registry.domain.manifest import manifest_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:adapters:manifest:1"
LARGEST_PEM = 16_384


@dataclass(frozen=True, slots=True)
class Sealed:
    """One signature of an Envelope: whose (a hint that nothing rests on), and the signature in base64."""

    keyid: str
    sig: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """A DSSE envelope, with the names that its JSON has: payload in base64, its media type, signatures of both."""

    payload: str
    payloadType: str
    signatures: tuple[Sealed, ...]

    @property
    def content(self) -> bytes:
        """The bytes that were signed; raises InvalidInput when they are no base64."""
        return _decoded(self.payload)


@dataclass(frozen=True, slots=True)
class Stated:
    """What a statement says: the adapter, the Version's digest, and path -> digest of each of its files."""

    adapter: str
    version: Digest
    files: dict[str, Digest]


def statement(version: Version) -> bytes:
    """What is signed of a Version: canonical JSON, so that every signature of it is of the same bytes."""
    return canonical_json(
        {
            "_type": STATEMENT,
            "subject": [{"name": version.adapter, "digest": {"sha256": hex_of(version.digest)}}],
            "predicateType": PREDICATE,
            "predicate": json.loads(manifest_of(version)),
        }
    )


def stated(content: bytes) -> Stated:
    """What the statement in an envelope says.

    Raises:
        InvalidInput: it is none about a Version, or its subject is not the Manifest that it holds.
    """
    try:
        document = json.loads(content)
        [subject] = document["subject"]
        name, digest = subject["name"], Digest(f"sha256:{subject['digest']['sha256']}")
        kinds, predicate = (document["_type"], document["predicateType"]), document["predicate"]
        files = {file["path"]: Digest(file["digest"]) for file in predicate["files"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidInput("the envelope holds no in-toto statement about one version.") from error
    if kinds != (STATEMENT, PREDICATE):
        raise InvalidInput(f"the envelope holds {kinds[0]} with {kinds[1]}, not {STATEMENT} with {PREDICATE}.")
    if (made := of_json(predicate)) != digest:
        raise InvalidInput(f"the statement is about {digest}, and the manifest that it holds has the digest {made}.")
    return Stated(str(name), digest, files)


def encoded(content: bytes, media: str = PAYLOAD_TYPE) -> bytes:
    """DSSE's pre-authentication encoding, over which signatures are made: no content passes for one of another type."""
    kind = media.encode()
    return b" ".join((b"DSSEv1", str(len(kind)).encode(), kind, str(len(content)).encode(), content))


def sealed(version: Version, private: str) -> Envelope:
    """A Version's statement with the signature of a private key.

    Args:
        version: what is signed.
        private: an Ed25519 key, PKCS #8 in PEM, as `new_private` makes it.

    Raises:
        InvalidInput: it is no such key.
    """
    key, content = _private(private), statement(version)
    sig = Sealed(key_id(_pem(key.public_key())), _text(key.sign(encoded(content))))
    return Envelope(_text(content), PAYLOAD_TYPE, (sig,))


def envelope_of(version: Version, signatures: tuple[Signed, ...]) -> Envelope:
    """One envelope with all signatures of a Version, for verifying where there is no registry."""
    each = (Sealed(signed.key.id, signed.signature.sig) for signed in signatures)
    return Envelope(_text(statement(version)), PAYLOAD_TYPE, tuple(each))


def read_envelope(data: bytes) -> Envelope:
    """A DSSE envelope from its JSON; raises InvalidInput when it is none."""
    try:
        found: dict[str, Any] = json.loads(data)
        signatures = tuple(Sealed(str(each.get("keyid", "")), str(each["sig"])) for each in found["signatures"])
        return Envelope(str(found["payload"]), str(found["payloadType"]), signatures)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput("that is no DSSE envelope: an object with payload, payloadType and signatures.") from error


def new_private() -> str:
    """A new private key, PKCS #8 in PEM, unencrypted."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  slow to import
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  slow to import

    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return Ed25519PrivateKey.generate().private_bytes(pem, pkcs8, serialization.NoEncryption()).decode()


def public_of(private: str) -> str:
    """The public key, in PEM, of a private one; raises InvalidInput when that is none."""
    return _pem(_private(private).public_key())


def plain_public(text: str) -> str:
    """A public key in PEM as every program writes it, without what stood around it; raises InvalidInput."""
    return _pem(_public(text))


def key_id(public: str) -> Digest:
    """What a public key in PEM is known by: SHA-256 of its SubjectPublicKeyInfo in DER."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415  slow to import

    return of_bytes(_public(public).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def verifies(content: bytes, sig: str, public: str) -> bool:
    """Whether a signature in base64 is that of a public key in PEM over a statement."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  slow to import

    try:
        _public(public).verify(_decoded(sig), encoded(content))
    except (InvalidSignature, InvalidInput):
        return False
    return True


def standing(signature: Signature, key: Key, content: bytes, *, at: str = "") -> Signed:
    """A signature as it stands, or stood `at` a moment, held once more against what it is of: rows can be forged."""
    unfit = key.unfit(signature.adapter, signed_at=signature.at, at=at)
    if not unfit and not verifies(content, signature.sig, key.public):
        unfit = f"what is stored as a signature by {key} is none of it: somebody changed the database"
    return Signed(signature, key, unfit)


def checked(given: Envelope, version: Version) -> Sealed:
    """The one signature in an envelope, if that is about exactly this Version.

    Raises:
        InvalidInput: no envelope of one signature of a statement.
        SignatureRefused: it is about another version or adapter; the text has both.
    """
    if len(given.signatures) != 1 or given.payloadType != PAYLOAD_TYPE:
        raise InvalidInput(f"an envelope of {PAYLOAD_TYPE} with one signature is attached at a time.")
    if given.content == statement(version):
        return given.signatures[0]
    said = stated(given.content)
    if said.version != version.digest:
        raise SignatureRefused(
            f"the signature is over {said.version}, and {version.reference} is {version.digest}; nothing was attached."
        )
    if said.adapter != version.adapter:
        raise SignatureRefused(
            f"the signature is about {said.adapter}, and this is {version.adapter}; nothing was attached. Sign it "
            f"under this name: adapters sign {version.reference} --key FILE"
        )
    raise InvalidInput("the statement in the envelope is not canonical JSON; nothing was attached.")


def _private(text: str) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  slow to import
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  slow to import
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415  slow to import

    try:
        key = load_pem_private_key(text.encode(), password=None)
    except TypeError as error:
        raise InvalidInput(
            "the private key is encrypted. Decrypt it on the way: openssl pkey -in FILE | adapters sign ... "
            "--key /dev/stdin"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput("that is no private key in PEM; `adapters key new` makes one.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidInput("the private key is not Ed25519; `adapters key new` makes one.")
    return key


def _public(text: str) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  slow to import
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415  slow to import
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415  slow to import

    try:
        key = load_pem_public_key(text[:LARGEST_PEM].encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput("that is no public key in PEM, as `adapters key new` writes it.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInput("the public key is not Ed25519; `adapters key new` makes a pair.")
    return key


def _pem(key: Ed25519PublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415  slow to import

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str) -> bytes:
    """The bytes of standard or URL-safe base64, either of which an envelope may hold."""
    try:
        return base64.b64decode(text.encode().translate(bytes.maketrans(b"-_", b"+/")), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise InvalidInput("the envelope holds what is no base64.") from error
