"""Reading one object of an S3 bucket as a seekable stream."""

from __future__ import annotations

import io
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (  # type: ignore[import-untyped]  # it has no types
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from urllib3.exceptions import HTTPError

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import NotFound, StoreUnavailable
from adapter_registry.storage.blobs_s3_client import explained, silent

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK = 1 << 20
RESUMES = 3
"""How often a stream that was cut is taken up again before anything was read from it."""

_CUT = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError, HTTPError, HTTPException, OSError)


class RemoteBlob(io.RawIOBase):
    """One object, read by ranges: a request stays open while reading goes on in order."""

    def __init__(self, client: Any, key: dict[str, str], digest: Digest, found: dict[str, Any]) -> None:
        """`found` is the answer to HEAD. Its entity tag may change later: whoever makes the object young copies it."""
        self._client, self._key, self._digest = client, key, digest
        self._size = int(found["ContentLength"])
        self._position = 0
        self._body: Any = None

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; the request in progress ends when the place changes."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"cannot read from byte {start + offset}")
        if start + offset != self._position:
            self._hang_up()
            self._position = start + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill `buffer` as far as the object goes; a cut stream is taken up where it ended.

        Raises:
            NotFound: the object is gone.
            StoreUnavailable: the bucket does not answer.
        """
        with memoryview(buffer).cast("B") as view:
            wanted = min(len(view), self._size - self._position)
            if wanted <= 0:
                return 0
            data = self._read(wanted)
            view[: len(data)] = data
        self._position += len(data)
        if self._position == self._size:
            self._hang_up()
        return len(data)

    def readall(self) -> bytes:
        """Everything that is left; Python's own way asks for 8 KiB at a time."""
        pieces = []
        while piece := self.read(BLOCK):
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """End the request in progress."""
        self._hang_up()
        super().close()

    def _read(self, wanted: int) -> bytes:
        for resumes_left in reversed(range(RESUMES + 1)):
            try:
                data = self._stream().read(wanted)
            except _CUT as error:
                self._hang_up()
                if not resumes_left:
                    raise silent(self._key["Bucket"], error) from error
            else:
                if data:
                    return bytes(data)
                self._hang_up()
        raise StoreUnavailable(f"the bucket {self._key['Bucket']} ended the bytes of {self._digest} early. Try again.")

    def _stream(self) -> Any:
        if self._body is None:
            span = f"bytes={self._position}-"
            try:
                with explained(self._key["Bucket"], str(self._digest)):
                    self._body = self._client.get_object(**self._key, Range=span)["Body"]
            except ClientError as error:
                raise lost(self._digest) from error
        return self._body

    def _hang_up(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


def lost(digest: Digest) -> NotFound:
    """The error for bytes that are not there."""
    return NotFound(
        f"the store lost the bytes of {digest}: `adapters admin check` names every version that needs them; "
        "pushing the same files again restores them."
    )
