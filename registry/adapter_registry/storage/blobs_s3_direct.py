"""What clients of a bucket do themselves: read and store objects by addresses that the server signed.

An address to store something is for these bytes alone: the signature covers their size and SHA-256, and the bucket
refuses others. Where the bucket has none yet under the digest, the address creates them there and can overwrite
nothing. Where it has some already, whoever says they have them too sends them to a key of their own, so that nobody is
believed to have bytes of which they only know the digest.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import secrets
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

from botocore.exceptions import ClientError  # type: ignore[import-untyped]  # it has no types

from adapter_registry.domain.digest import Digest, hex_of, of_bytes, parse
from adapter_registry.domain.errors import StoreUnavailable
from adapter_registry.domain.ports import Location
from adapter_registry.domain.upload import Destination
from adapter_registry.storage.blobs_s3_client import explained, is_missing, is_taken, silent

CONTENT_TYPE = "application/octet-stream"
LARGEST_COPY = 5 << 30
"""Bytes that S3 copies, or takes in one PUT, at most."""
LOCATION_SECONDS = 900
UPLOAD_SECONDS = 3600
TRIAL_SECONDS = 10
KNOWN_SECONDS = 300
"""How long an object that was there is taken to be there when an address to read it is asked for."""
MOST_KNOWN = 10_000
BLOCK = 1 << 20


class DirectAccess:
    """The addresses of one bucket."""

    def __init__(self, bucket: str, client: Any, prefix: str = "", signer: Any = None) -> None:
        self._bucket, self._client, self._prefix = bucket, client, prefix
        self._signer = signer or client
        self._known: dict[Digest, float] = {}

    @property
    def url_style(self) -> str:
        """How addresses name the bucket: `path` (host/bucket/key) or `virtual` (bucket.host/key)."""
        return str(self._signer.meta.config.s3["addressing_style"])

    def location(self, digest: Digest) -> Location | None:
        """See BlobStore.location: an address that is good for 15 minutes.

        Whether the object is there is asked once in five minutes: a download costs no round trip more, and a loss is
        told by the server, with what to do, and not by the bucket.
        """
        now = time.monotonic()
        if now - self._known.get(digest, -KNOWN_SECONDS) >= KNOWN_SECONDS:
            if self._head(digest) is None:
                return None
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[digest] = now
        return Location(self.presigned_get(digest, seconds=LOCATION_SECONDS), local=False)

    def presigned_get(self, digest: Digest, *, seconds: int, filename: str | None = None) -> str:
        """A URL that reads the blob for `seconds`, whoever has it; saved as `filename` by a browser."""
        wanted = {"Bucket": self._bucket, "Key": self._key(digest), "ResponseContentType": CONTENT_TYPE}
        if filename is not None:
            wanted["ResponseContentDisposition"] = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
        with explained(self._bucket, filename or str(digest)):
            return str(self._signer.generate_presigned_url("get_object", Params=wanted, ExpiresIn=seconds))

    def destination(self, digest: Digest, size: int, *, proof: str) -> Destination | None:
        """See BlobStore.destination: good for an hour; None for more than the 5 GiB that S3 takes in one request."""
        if size > LARGEST_COPY:
            return None
        if self._head(digest) is None:
            return self._signed(self._key(digest), digest, size, proof, once=True)
        return self._signed(self._aside(proof), digest, size, proof, once=False)

    def arrived(self, digest: Digest, size: int, *, proof: str) -> bool:
        """See BlobStore.arrived."""
        for key in (self._aside(proof), self._key(digest)):
            found = self._head_of(key)
            if found is not None and found.get("Metadata", {}).get("proof") == proof:
                return self._is(key, found, digest, size)
        return False

    def settle(self, digest: Digest, size: int, *, proof: str) -> bool:
        """See BlobStore.settle."""
        aside = {"Bucket": self._bucket, "Key": self._aside(proof)}
        found = self._head(digest)
        there = found is not None and sound(found, digest, size)
        if self._head_of(aside["Key"]) is None:
            return there
        try:
            with explained(self._bucket, str(digest)):
                if not there:
                    kept = {"MetadataDirective": "REPLACE", "ContentType": CONTENT_TYPE, "ChecksumAlgorithm": "SHA256"}
                    self._client.copy_object(Bucket=self._bucket, Key=self._key(digest), CopySource=aside, **kept)
                self._client.delete_object(**aside)
        except ClientError as error:
            if is_missing(error):
                return there
            raise
        return True

    def verify_conditional(self) -> None:
        """Prove that the bucket can be written and keeps the two promises that a server relies on; asked at its start.

        Raises:
            StoreUnavailable: it cannot be reached or written, it creates a key twice, or it takes bytes that have
                another SHA-256 than their address was signed for.
        """
        name = secrets.token_hex(32)
        wanted = {"Bucket": self._bucket, "Key": self._aside(name)}
        with explained(self._bucket, "the trial at the start"):
            self._client.put_object(**wanted, Body=b"probe", IfNoneMatch="*")
            try:
                refused = self._is_taken(wanted)
            finally:
                self._client.delete_object(**wanted)
            if not refused:
                raise StoreUnavailable(
                    f"the store of the bucket {self._bucket} ignores If-None-Match: it overwrote a key that was to be "
                    "created once. Use a store that honours conditional writes (AWS S3, MinIO, Ceph, SeaweedFS do)."
                )
            address = self._signed(wanted["Key"], of_bytes(b"probe"), 5, name, once=False, signer=self._client)
            try:
                taken = self._sent(address, b"other") < 300
            finally:
                self._client.delete_object(**wanted)
        if taken:
            raise StoreUnavailable(
                f"the store of the bucket {self._bucket} ignores checksums: it took bytes that have another SHA-256 "
                "than was signed for them. Use a store that checks x-amz-checksum-sha256 (AWS S3, MinIO, SeaweedFS do)."
            )

    def _is_taken(self, wanted: dict[str, str]) -> bool:
        try:
            self._client.put_object(**wanted, Body=b"other", IfNoneMatch="*")
        except ClientError as error:
            if not is_taken(error):
                raise
            return True
        return False

    def _sent(self, address: Destination, data: bytes) -> int:
        """The bucket's answer to bytes that were sent as a client sends them."""
        parts = urlsplit(address.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection: http.client.HTTPConnection = kind(parts.netloc, timeout=TRIAL_SECONDS)
        try:
            connection.request("PUT", f"{parts.path}?{parts.query}", data, address.headers)
            return connection.getresponse().status
        except (OSError, HTTPException) as error:
            raise silent(self._bucket, error) from error
        finally:
            connection.close()

    def _signed(
        self, key: str, digest: Digest, size: int, proof: str, *, once: bool, signer: Any = None
    ) -> Destination:
        """An address; `signer` is the client whose endpoint it begins with, by default the one that clients reach."""
        signer = signer or self._signer
        wanted = {
            "Bucket": self._bucket,
            "Key": key,
            "ContentLength": size,
            "ContentType": CONTENT_TYPE,
            "ChecksumSHA256": checksum_of(digest),
            "Metadata": {"proof": proof},
            **({"IfNoneMatch": "*"} if once else {}),
        }
        with explained(self._bucket, str(digest)):
            url = str(signer.generate_presigned_url("put_object", Params=wanted, ExpiresIn=UPLOAD_SECONDS))
        headers = {
            "content-length": str(size),
            "content-type": CONTENT_TYPE,
            "x-amz-checksum-sha256": checksum_of(digest),
            "x-amz-meta-proof": proof,
            **({"if-none-match": "*"} if once else {}),
        }
        return Destination(url, headers)

    def _is(self, key: str, found: dict[str, Any], digest: Digest, size: int) -> bool:
        """Whether an object has this size and SHA-256; read where the bucket does not say."""
        if found["ContentLength"] != size:
            return False
        if found.get("ChecksumSHA256"):
            return bool(found["ChecksumSHA256"] == checksum_of(digest))
        hasher = hashlib.sha256()
        with explained(self._bucket, str(digest)):
            for block in self._client.get_object(Bucket=self._bucket, Key=key)["Body"].iter_chunks(BLOCK):
                hasher.update(block)
        return hasher.hexdigest() == hex_of(digest)

    def _key(self, digest: Digest) -> str:
        name = hex_of(parse(digest))
        return f"{self._prefix}sha256/{name[:2]}/{name}"

    def _aside(self, proof: str) -> str:
        return f"{self._prefix}incoming/{hex_of(parse(proof))}"

    def _head(self, digest: Digest) -> dict[str, Any] | None:
        return self._head_of(self._key(digest))

    def _head_of(self, key: str) -> dict[str, Any] | None:
        try:
            with explained(self._bucket, key.rpartition("/")[2]):
                found: dict[str, Any] = self._client.head_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED")
                return found
        except ClientError as error:
            if is_missing(error):
                return None
            raise


def sound(found: dict[str, Any], digest: Digest, size: int) -> bool:
    """Whether an object has this size and, where its checksum is one of the whole, this SHA-256."""
    checksum = str(found.get("ChecksumSHA256", ""))
    composite = "-" in checksum or found.get("ChecksumType") == "COMPOSITE"
    return found["ContentLength"] == size and (not checksum or composite or checksum == checksum_of(digest))


def checksum_of(digest: Digest) -> str:
    """A digest as S3's `x-amz-checksum-sha256` writes it."""
    return base64.b64encode(bytes.fromhex(hex_of(digest))).decode()
