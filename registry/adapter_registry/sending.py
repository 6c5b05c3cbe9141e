"""Sending files to a registry server: what is missing, several at once, straight to its bucket where it has one.

A connection that breaks is taken up where it broke. A bucket that cannot be reached from here is gone around.
"""

from __future__ import annotations

import http.client
import io
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, TypeAlias
from urllib.parse import urlsplit

from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import (
    Conflict,
    DigestMismatch,
    Notice,
    RegistryError,
    ServerUnreachable,
    StoreBusy,
    StoreUnavailable,
)
from adapter_registry.domain.upload import Destination, Sent, Upload
from adapter_registry.remote import BLOCK, TIMEOUT_SECONDS
from adapter_registry.services import upload as uploading

if TYPE_CHECKING:
    from adapter_registry.remote import Remote

PARALLEL = 4
"""Files that travel at once."""
TRIES = 6
"""How often in a row the same bytes are sent in vain before it is given up: some ten seconds."""
DIRECT_TRIES = 3
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
RESUMABLE = 4 << 20
"""Bytes from which on an upload is worth taking up where it was cut off."""
CONNECT_SECONDS = 5
LONGEST_REASON = 200

Task: TypeAlias = Callable[[], Sent | None]
_PASSING = (ServerUnreachable, StoreBusy, StoreUnavailable)
"""What may be over a moment later."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A file to send, and how to read it from its beginning."""

    file: File
    open: Callable[[], BinaryIO]


def send(
    remote: Remote, adapter: str, files: Sequence[Outgoing], progress: Callable[[int], None]
) -> tuple[Notice, ...]:
    """Bring every file to the server, for the namespace of `adapter`; what it has already is not sent.

    Args:
        remote: the server.
        adapter: `namespace/name` that whoever asks may push to.
        files: what is to be there; equal ones travel once.
        progress: called with the bytes of a file that are there, as they become more; their sum is the files' size.

    Returns:
        What is worth knowing of how they travelled.

    Raises:
        ServerUnreachable: the connection kept breaking; the text says how to go on.
        DigestMismatch: a file changed while it was sent.
    """
    return _Sender(remote, adapter, progress).send(files)


class _Sender:
    """One round of sending."""

    def __init__(self, remote: Remote, adapter: str, progress: Callable[[int], None]) -> None:
        self._remote, self._adapter = remote, adapter
        self._watch = _Watch(progress)
        self._around = ""

    def send(self, files: Sequence[Outgoing]) -> tuple[Notice, ...]:
        by_digest = {each.file.digest: each for each in files}
        uploads: tuple[Upload, ...] = self._remote.call(
            uploading.begin, {"adapter": self._adapter, "files": [each.file for each in by_digest.values()]}
        )
        missing = {each.digest for each in uploads}
        for each in files:
            if each.file.digest not in missing or by_digest[each.file.digest] is not each:
                self._watch.there(each.file.size)
        direct = [each for each in uploads if each.direct is not None]
        through = [each for each in uploads if each.direct is None]
        tasks: list[Task] = [partial(self._direct, each, by_digest[each.digest]) for each in direct]
        tasks += [partial(self._through, each, by_digest[each.digest]) for each in through]
        sent = [each for each in self._all(tasks) if each is not None]
        settled = self._settled(sent)
        left = [each for each in direct if each.digest not in settled]
        self._all([partial(self._through, each, by_digest[each.digest]) for each in left])
        return self._told(len(left)) if self._around else ()

    def _all(self, tasks: Sequence[Task]) -> list[Sent | None]:
        """What each task gives; the first that fails stops the others."""
        if not tasks:
            return []
        with ThreadPoolExecutor(min(PARALLEL, len(tasks)), thread_name_prefix="upload") as pool:
            running = [pool.submit(task) for task in tasks]
            try:
                return [each.result() for each in running]
            except BaseException:
                self._watch.stop()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _settled(self, sent: Sequence[Sent]) -> frozenset[Digest]:
        """Those that the server found in its bucket, and counts."""
        if not sent:
            return frozenset()
        return frozenset(self._remote.call(uploading.finish, {"adapter": self._adapter, "sent": sent}))

    def _direct(self, upload: Upload, outgoing: Outgoing) -> Sent | None:
        """Send a file to the bucket; None when it has to go through the server after all."""
        pause = _Pause(DIRECT_TRIES)
        while upload.direct is not None and not self._around:
            try:
                with outgoing.open() as stream:
                    status, said = _put(upload.direct, self._watch.reading(stream, outgoing.file))
            except _NotReached as error:
                self._around = str(error)
                break
            except (OSError, http.client.HTTPException) as error:
                status, said = 0, str(error) or type(error).__name__
            # 412: the bytes are there already: our own, sent before a connection broke, or somebody else's.
            if 200 <= status < 300 or status == 412:
                return Sent(upload.digest, upload.size, upload.ticket)
            if 0 < status < 500 or not pause.again():
                self._around = f"it answered {status} {said}" if status else said
        return None

    def _through(self, upload: Upload, outgoing: Outgoing) -> None:
        """Send a file to the server, from where an earlier attempt was cut off."""
        file, pause = outgoing.file, _Pause(TRIES)
        there = upload.received if file.size >= RESUMABLE else None
        while True:
            try:
                self._sent(outgoing, there)
                self._watch.whole(file)
                return
            except (DigestMismatch, Conflict, *_PASSING) as error:
                there = self._after(error, file, there, pause)

    def _sent(self, outgoing: Outgoing, there: int | None) -> None:
        """Send what the server lacks of a file: all of it where nothing can be taken up."""
        file = outgoing.file
        with outgoing.open() as stream:
            if there is None:
                self._remote.send(self._adapter, file, self._watch.reading(stream, file))
                return
            stream.seek(there)
            rest = self._watch.reading(stream, file, at=there)
            now = self._remote.send_rest(self._adapter, file, rest, offset=there)
        if now != file.size:
            raise ServerUnreachable(f"the server has {now:,} of {file.size:,} bytes after everything was sent.")

    def _after(self, error: RegistryError, file: File, there: int | None, pause: _Pause) -> int | None:
        """Where to go on after a failure, a while later; None for a fresh start. Raises what cannot be helped."""
        if isinstance(error, DigestMismatch):
            # What was there of an earlier attempt may have been the other bytes.
            if not there:
                raise error
            return None
        if isinstance(error, Conflict) and there is None:
            raise error
        if not pause.again():
            if isinstance(error, Conflict):
                return None
            raise self._given_up(file, there, error) from error
        if there is None:
            return None
        now = self._asked(file, there)
        if now is not None and now > there:
            pause.restart()
        return now

    def _asked(self, file: File, there: int) -> int | None:
        """How much the server has now; what was there before when it does not say."""
        try:
            return self._remote.received(self._adapter, file)
        except _PASSING:
            return there

    def _given_up(self, file: File, there: int | None, error: RegistryError) -> RegistryError:
        kept = f"{there:,} of its {file.size:,} bytes are there" if there else "nothing of it is there"
        return ServerUnreachable(
            f"{file.path}: sending it failed {TRIES} times in a row, last because: {error.text[:LONGEST_REASON]} "
            f"{kept}; files that arrived stay. Run the same command again: it goes on from there."
        )

    def _told(self, files: int) -> tuple[Notice, ...]:
        text = f"{files} files went through the server: its bucket did not take them from here ({self._around})"
        return (Notice("sent-through-server", "", "", text[: 2 * LONGEST_REASON]),)


class _NotReached(Exception):
    """There is no way to the bucket from here, as opposed to a connection that broke."""


def _put(address: Destination, body: BinaryIO) -> tuple[int, str]:
    """(status, start of what it said) of the bucket that gets the bytes."""
    parts = urlsplit(address.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=CONNECT_SECONDS, blocksize=BLOCK)
    try:
        try:
            connection.connect()
        except OSError as error:
            raise _NotReached(f"{parts.netloc} is not reached: {error}") from error
        connection.sock.settimeout(TIMEOUT_SECONDS)
        try:
            connection.request("PUT", f"{parts.path}?{parts.query}", body, address.headers)
        except OSError:
            # A bucket that refuses may say so before everything was sent.
            if connection.sock is None:
                raise
        response = connection.getresponse()
        return response.status, response.read(LONGEST_REASON).decode(errors="replace")
    finally:
        connection.close()


class _Pause:
    """Waiting longer each time, so often in a row."""

    def __init__(self, tries: int) -> None:
        self._tries = tries
        self._failed = 0

    def again(self) -> bool:
        """Wait, unless it failed too often; whether to try again."""
        self._failed += 1
        if self._failed >= self._tries:
            return False
        self.wait()
        return True

    def wait(self) -> None:
        seconds = min(FIRST_PAUSE * 2**self._failed, LONGEST_PAUSE)
        time.sleep(seconds * random.uniform(0.5, 1.0))  # noqa: S311  no secret

    def restart(self) -> None:
        """Something moved: count from the beginning."""
        self._failed = 0


class _Watch:
    """How far every file is, told once however often its bytes travel."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self._progress, self._lock = progress, threading.Lock()
        self._seen: dict[Digest, int] = {}
        self._stopped = False

    def stop(self) -> None:
        """Let nothing be read any more."""
        self._stopped = True

    def there(self, size: int) -> None:
        """A file that need not travel."""
        with self._lock:
            self._progress(size)

    def whole(self, file: File) -> None:
        """A file arrived."""
        self.at(file, file.size)

    def at(self, file: File, position: int) -> None:
        """A file is sent up to here."""
        if self._stopped:
            raise _Stopped
        with self._lock:
            new = position - self._seen.get(file.digest, 0)
            if new > 0:
                self._seen[file.digest] = position
                self._progress(new)

    def reading(self, stream: BinaryIO, file: File, *, at: int = 0) -> BinaryIO:
        """`stream`, which is at byte `at` of the file, watched."""
        return _Watched(stream, self, file, at)  # type: ignore[return-value]  # read is all that is asked of it


class _Stopped(RegistryError):
    """Another file failed."""

    code, status, exit_code = "server-unreachable", 503, 1

    def __init__(self) -> None:
        super().__init__("another file could not be sent.")


class _Watched(io.RawIOBase):
    """A stream that tells how far it was read."""

    def __init__(self, stream: BinaryIO, watch: _Watch, file: File, position: int) -> None:
        self._stream, self._watch, self._file, self._position = stream, watch, file, position

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._position += len(data)
        self._watch.at(self._file, self._position)
        return data
