"""Blobs in an S3 bucket: hashed before they are sent, sent with their SHA-256, under the key of their digest.

Keys are `<prefix>sha256/ab/<hex>`. The bucket checks each upload against the checksum that travels with it, so a
key never holds other bytes than its name says, whoever uploaded them. A bucket should not keep old versions of objects:
`holds` writes an old object anew to make it young.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import IO, Any, BinaryIO
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]  # it has no types

from adapter_registry.domain.digest import Digest, parse
from adapter_registry.domain.errors import (
    InvalidInput,
    InvalidReference,
    StoreFull,
    StoreUnavailable,
)
from adapter_registry.storage.blobs_s3_client import explained, is_missing, is_taken, no_bucket, s3_client
from adapter_registry.storage.blobs_s3_direct import CONTENT_TYPE, LARGEST_COPY, DirectAccess, checksum_of, sound
from adapter_registry.storage.blobs_s3_reading import RemoteBlob, lost
from adapter_registry.storage.blobs_whole import StartsOver
from adapter_registry.storage.spooled import HashedAside

BLOCK = 1 << 20
READ_AHEAD = 1 << 20
IN_MEMORY = 1 << 20
SINGLE_PUT = 64 << 20
"""Bytes up to which one request carries a blob."""
PART = 16 << 20
MOST_PARTS = 10_000
COPY_PART = 1 << 30
YOUNG_SECONDS = 30 * 60


def open_s3(url: str, *, public_url: str | None = None, **options: Any) -> S3Blobs:
    """The blobs under `s3://bucket/prefix`; nothing is asked of the bucket yet.

    Args:
        url: the prefix may be empty or have several parts.
        public_url: what clients reach the store by, where that is not what this process reaches it by.
        options: see `s3_client`.

    Raises:
        InvalidInput: not such a URL.
    """
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment or "@" in parts.netloc:
        shown = "an address with credentials or a query" if "@" in url or "?" in url else repr(url)
        raise InvalidInput(f"{shown} names no bucket: expected s3://bucket or s3://bucket/prefix, without credentials.")
    prefix = parts.path.strip("/")
    signer = s3_client(**{**options, "endpoint_url": public_url}) if public_url else None
    return S3Blobs(parts.netloc, s3_client(**options), prefix=f"{prefix}/" if prefix else "", signer=signer)


class S3Blobs(StartsOver, DirectAccess):
    """A BlobStore in one bucket."""

    def put(self, digest: Digest, source: BinaryIO, *, name: str) -> int:
        """See BlobStore.put. Written aside first, so that nothing is sent that has another digest."""
        digest = parse(digest)
        with self.incoming(name=name) as incoming:
            while block := source.read(BLOCK):
                incoming.write(block)
            return incoming.publish(digest)

    @contextmanager
    def incoming(self, *, name: str) -> Iterator[IncomingObject]:
        """See BlobStore.incoming. More than a mebibyte waits in the folder for temporary files."""
        with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as aside:
            yield IncomingObject(self, aside, name)

    def publish(self, digest: Digest, aside: IO[bytes], *, size: int, name: str) -> None:
        """Send `size` bytes that have this digest, unless the bucket holds them; durable when it returns."""
        found = self._head(digest)
        if found is not None and sound(found, digest, size) and self.holds(digest, size):
            return
        condition = {} if found else {"IfNoneMatch": "*"}
        aside.seek(0)
        with explained(self._bucket, name):
            if size <= SINGLE_PUT:
                self._put_whole(digest, aside, size, condition)
            else:
                self._put_parts(digest, aside, size, condition)
        if self.size(digest) != size:
            raise StoreUnavailable(f"{name}: the bucket {self._bucket} took the bytes and lost them. Try again.")

    def open(self, digest: Digest) -> BinaryIO:
        """See BlobStore.open. Reading in order costs one request; the first read after a seek costs another."""
        found = self._head(digest)
        if found is None:
            raise lost(digest)
        key = {"Bucket": self._bucket, "Key": self._key(digest)}
        return io.BufferedReader(RemoteBlob(self._client, key, digest, found), READ_AHEAD)

    def size(self, digest: Digest) -> int | None:
        """See BlobStore.size."""
        found = self._head(digest)
        return None if found is None else int(found["ContentLength"])

    def holds(self, digest: Digest, size: int) -> bool:
        """See BlobStore.holds. Sound means: this size, and this SHA-256 where the bucket knows one for the whole."""
        found = self._head(digest)
        if found is None or not sound(found, digest, size):
            return False
        if _age(found["LastModified"], _now(found)) < YOUNG_SECONDS:
            return True
        try:
            with explained(self._bucket, str(digest)):
                self._rewrite(digest, found)
        except ClientError as error:
            if is_missing(error):
                return False
            raise
        return True

    def delete(self, digest: Digest) -> None:
        """See BlobStore.delete."""
        with explained(self._bucket, str(digest)):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(digest))

    def each(self) -> Iterator[tuple[Digest, float]]:
        """See BlobStore.each."""
        for key, age in self._listed("sha256/"):
            try:
                digest = parse(key.rpartition("/")[2])
            except InvalidReference:
                continue
            if key == self._key(digest):
                yield digest, age

    def sweep(self, *, older_than: float) -> int:
        """See BlobStore.sweep. Unfinished multipart uploads, and temporary keys under `incoming/`."""
        removed = 0
        for key, age in list(self._listed("incoming/")):
            if age >= older_than:
                with explained(self._bucket, key):
                    self._client.delete_object(Bucket=self._bucket, Key=key)
                removed += 1
        with explained(self._bucket, "unfinished uploads"):
            for page in self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=f"{self._prefix}sha256/"
            ):
                for upload in page.get("Uploads", ()):
                    if _age(upload["Initiated"], _now(page)) >= older_than:
                        self._abort(upload["Key"], upload["UploadId"])
                        removed += 1
        return removed

    def reachable(self) -> None:
        """See BlobStore.reachable."""
        with explained(self._bucket, "the bucket"):
            try:
                self._client.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                if is_missing(error):
                    raise no_bucket(self._bucket) from error
                raise

    def _listed(self, folder: str) -> Iterator[tuple[str, float]]:
        pages = self._client.get_paginator("list_objects_v2")
        with explained(self._bucket, "the list of blobs"):
            for page in pages.paginate(Bucket=self._bucket, Prefix=f"{self._prefix}{folder}"):
                now = _now(page)
                for found in page.get("Contents", ()):
                    yield found["Key"], _age(found["LastModified"], now)

    def _put_whole(self, digest: Digest, aside: IO[bytes], size: int, condition: dict[str, str]) -> None:
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._key(digest),
                Body=aside,
                ContentLength=size,
                ContentType=CONTENT_TYPE,
                ChecksumSHA256=checksum_of(digest),
                **condition,
            )
        except ClientError as error:
            # Somebody else was first with the same bytes, or our own request arrived and its answer did not.
            if not is_taken(error):
                raise

    def _put_parts(self, digest: Digest, aside: IO[bytes], size: int, condition: dict[str, str]) -> None:
        key = self._key(digest)
        started = self._client.create_multipart_upload(
            Bucket=self._bucket, Key=key, ContentType=CONTENT_TYPE, ChecksumAlgorithm="SHA256"
        )
        upload = {"Bucket": self._bucket, "Key": key, "UploadId": started["UploadId"]}
        try:
            parts = self._sent_parts(upload, aside, max(PART, -(-size // MOST_PARTS)))
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **condition)
        except ClientError as error:
            self._abort(key, started["UploadId"])
            if not is_taken(error):
                raise
        except BaseException:
            self._abort(key, started["UploadId"])
            raise

    def _sent_parts(self, upload: dict[str, str], aside: IO[bytes], length: int) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        while data := aside.read(length):
            number = len(parts) + 1
            checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
            sent = self._client.upload_part(**upload, PartNumber=number, Body=data, ChecksumSHA256=checksum)
            parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": checksum})
        return parts

    def _rewrite(self, digest: Digest, found: dict[str, Any]) -> None:
        """Copy an object onto itself: the only way to make it young."""
        key = {"Bucket": self._bucket, "Key": self._key(digest)}
        source = {"CopySource": dict(key), "CopySourceIfMatch": found["ETag"]}
        size = int(found["ContentLength"])
        if size <= LARGEST_COPY:
            kept = {"MetadataDirective": "REPLACE", "ContentType": CONTENT_TYPE, "ChecksumAlgorithm": "SHA256"}
            try:
                self._client.copy_object(**key, **source, **kept)
            except ClientError as error:
                # Replaced since we asked, so young.
                if not is_taken(error):
                    raise
            return
        upload = self._client.create_multipart_upload(**key, ContentType=CONTENT_TYPE)["UploadId"]
        try:
            parts = []
            for number, start in enumerate(range(0, size, COPY_PART), 1):
                span = f"bytes={start}-{min(start + COPY_PART, size) - 1}"
                part = {"UploadId": upload, "PartNumber": number, "CopySourceRange": span}
                copied = self._client.upload_part_copy(**key, **source, **part)
                parts.append({"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]})
            self._client.complete_multipart_upload(**key, UploadId=upload, MultipartUpload={"Parts": parts})
        except BaseException:
            self._abort(key["Key"], upload)
            raise

    def _abort(self, key: str, upload: str) -> None:
        """Give an upload up; one that cannot be given up now is swept later."""
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
        except (ClientError, BotoCoreError):
            return


class IncomingObject(HashedAside):
    """See ports.Incoming: bytes aside, hashed as they are written, sent when their digest is known."""

    def __init__(self, store: S3Blobs, aside: IO[bytes], name: str) -> None:
        super().__init__(aside, name)
        self._store = store

    def write(self, *pieces: bytes | memoryview) -> None:
        """See Incoming.write."""
        with _explained_disk(self._name):
            super().write(*pieces)

    def publish(self, digest: Digest) -> int:
        """See Incoming.publish."""
        self.check(digest)
        with _explained_disk(self._name):
            self._file.flush()
        self._store.publish(parse(digest), self._file, size=self._size, name=self._name)
        return self._size


@contextmanager
def _explained_disk(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        folder = tempfile.gettempdir()
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreFull(
                f"{name}: the server's folder for temporary files ({folder}) is full; nothing was stored. "
                "Free some space there, or set TMPDIR to a folder with more."
            ) from error
        raise StoreUnavailable(
            f"{name}: cannot be written aside in {folder} ({error.strerror}); nothing was stored."
        ) from error


def _now(answer: dict[str, Any]) -> datetime:
    """The store's clock when it answered: its ages would be wrong by ours, where the two differ."""
    told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(told) if told else datetime.now(UTC)


def _age(since: datetime, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds())
