"""Sending files to a registry server: what is missing, several at once, straight to its bucket where it has one.

A connection that breaks is taken up where it broke. A bucket that cannot be reached from here is gone around.
"""

from __future__ import annotations

import http.client
import os
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from urllib.parse import urlsplit

from adapter_registry.checkpoints.adapter_files import Source
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
from adapter_registry.domain.sketch import Sketch, sketch_of
from adapter_registry.domain.upload import Destination, Sent, Upload
from adapter_registry.services import upload as uploading
from adapter_registry.transport.reading import Watch
from adapter_registry.transport.remote import BLOCK, TIMEOUT_SECONDS, Content, blob_address, sketch_address

if TYPE_CHECKING:
    from adapter_registry.transport.remote import Remote

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

S = TypeVar("S", bound=Source)
Task: TypeAlias = Callable[[], Sent | None]
_PASSING = (ServerUnreachable, StoreBusy, StoreUnavailable)
"""What may be over a moment later."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A file that goes through the server.

    Attributes:
        source: how to read it.
        where: the address that it is sent to.
        file: what it is; None where its digest is not known yet.
    """

    source: Source
    where: str
    file: File | None = None


class Sender:
    """Brings the files of one push to a server, for the namespace of an adapter that whoever asks may push to.

    Args:
        remote: the server.
        adapter: `namespace/name`.
        progress: called with the bytes of a file that are there, as they become more; their sum is the files' size.
    """

    def __init__(self, remote: Remote, adapter: str, progress: Callable[[int], None]) -> None:
        self._remote, self._adapter = remote, adapter
        self._watch = Watch(progress)
        self._around = ""
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="upload")
        self._ahead: Future[dict[str, Future[Digest | None]]] | None = None

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.stop()
        self._pool.shutdown(cancel_futures=True)

    def send_ahead(self, sources: Sequence[Source]) -> None:
        """Begin to send large files that are surely missing, while somebody else hashes and examines them.

        The last piece of each waits for `allow`, without which the server stores nothing; `send` sees to how it ends.
        """
        large = {_sketch(source): source for source in sources if source.size >= RESUMABLE}
        if large:
            self._ahead = self._pool.submit(self._begun, large)

    def allow(self) -> None:
        """Let what travels arrive."""
        self._watch.allow()

    def _begun(self, large: Mapping[Sketch, Source]) -> dict[str, Future[Digest | None]]:
        """Path -> the digest that will have arrived, of each file that travels from now on."""
        try:
            unknown = self._remote.call(uploading.unknown, {"adapter": self._adapter, "sketches": list(large)})
        except RegistryError:
            # An older server knows no sketches; what else is wrong is found, and told, when the files are sent.
            return {}
        running = {}
        for each in unknown:
            source = large[each.sketch]
            outgoing = Outgoing(source, sketch_address(self._adapter, each.sketch, source.path))
            running[source.path] = self._pool.submit(self._unhashed, outgoing, each.received)
        return running

    def send(self, sources: Sequence[S], hashed: Callable[[Sequence[S]], Sequence[File]]) -> tuple[Notice, ...]:
        """Bring every file to the server; what it has already is not sent, and equal ones travel once.

        Args:
            sources: the files.
            hashed: waits for the digests of some of them; small ones do not wait for those of large ones.

        Returns:
            What is worth knowing of how they travelled.

        Raises:
            ServerUnreachable: the connection kept breaking; the text says how to go on.
            DigestMismatch: a file changed while it was sent.
        """
        travelling = self._ahead.result() if self._ahead else {}
        try:
            around = self._brought(_once((each for each in sources if each.size < RESUMABLE), hashed))
            large = _once((each for each in sources if each.size >= RESUMABLE), hashed)
            ahead = {file.digest: travelling[file.path] for file, _ in large.values() if file.path in travelling}
            around += self._brought({digest: pair for digest, pair in large.items() if digest not in ahead})
        except ServerUnreachable:
            # What travels ahead knows how much of it is there, and says how to go on.
            for running in travelling.values():
                running.result()
            raise
        left = {digest: large[digest] for digest, running in ahead.items() if running.result() != digest}
        around += self._brought(left)
        for source in sources:
            self._watch.whole(source)
        return self._told(around) if self._around else ()

    def _brought(self, files: Mapping[Digest, tuple[File, Source]]) -> int:
        """Send those of the files that are missing; how many of them went around the bucket."""
        if not files:
            return 0
        asked = [file for file, _ in files.values()]
        uploads: tuple[Upload, ...] = self._remote.call(uploading.begin, {"adapter": self._adapter, "files": asked})
        for digest in files.keys() - {each.digest for each in uploads}:
            self._watch.whole(files[digest][1])
        direct = [each for each in uploads if each.direct is not None]
        through = [each for each in uploads if each.direct is None]
        tasks: list[Task] = [partial(self._direct, each, files[each.digest][1]) for each in direct]
        tasks += [self._hashed(each, *files[each.digest]) for each in through]
        settled = self._settled([each for each in self._all(tasks) if each is not None])
        left = [each for each in direct if each.digest not in settled]
        self._all([self._hashed(each, *files[each.digest]) for each in left])
        return len(left)

    def _all(self, tasks: Sequence[Task]) -> list[Sent | None]:
        """What each task gives; leaving after the first that fails stops the others."""
        running = [self._pool.submit(task) for task in tasks]
        return [each.result() for each in running]

    def _settled(self, sent: Sequence[Sent]) -> frozenset[Digest]:
        """Those that the server found in its bucket, and counts."""
        if not sent:
            return frozenset()
        return frozenset(self._remote.call(uploading.finish, {"adapter": self._adapter, "sent": sent}))

    def _direct(self, upload: Upload, source: Source) -> Sent | None:
        """Send a file to the bucket; None when it has to go through the server after all."""
        pause = _Pause(DIRECT_TRIES)
        while upload.direct is not None and not self._around:
            try:
                with source.open() as stream:
                    status, said = _put(upload.direct, self._watch.reading(stream, source))
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

    def _hashed(self, upload: Upload, file: File, source: Source) -> Task:
        outgoing = Outgoing(source, blob_address(self._adapter, file), file)
        there = upload.received if file.size >= RESUMABLE else None

        def task() -> None:
            self._through(outgoing, there)

        return task

    def _unhashed(self, outgoing: Outgoing, there: int) -> Digest | None:
        """Send a file before its digest is known; the digest that arrived, None where somebody else sends it now."""
        with suppress(Conflict):
            return self._through(outgoing, there)
        return None

    def _through(self, outgoing: Outgoing, there: int | None) -> Digest | None:
        """Send a file to the server, from where an earlier attempt was cut off; whole where `there` is None."""
        pause = _Pause(TRIES)
        while True:
            try:
                digest = self._sent(outgoing, there)
                self._watch.whole(outgoing.source)
                return digest
            except (DigestMismatch, Conflict, *_PASSING) as error:
                there = self._after(error, outgoing, there, pause)

    def _sent(self, outgoing: Outgoing, there: int | None) -> Digest | None:
        """Send what the server lacks of a file, all of it where nothing can be taken up; the digest that arrived."""
        source, file = outgoing.source, outgoing.file
        with source.open() as stream:
            if there is None and file is not None:
                self._remote.send(self._adapter, file, self._watch.reading(stream, source))
                return file.digest
            offset = there or 0
            stream.seek(offset)
            rest = self._watch.reading(stream, source, at=offset, held=file is None, mapped=self._remote.plain)
            now = self._remote.send_rest(outgoing.where, rest, offset=offset, size=source.size)
        if now.received != source.size:
            raise ServerUnreachable(f"the server has {now.received:,} of {source.size:,} bytes after all were sent.")
        return now.digest

    def _after(self, error: RegistryError, outgoing: Outgoing, there: int | None, pause: _Pause) -> int | None:
        """Where to go on after a failure, a while later; None for a fresh start. Raises what cannot be helped."""
        if isinstance(error, DigestMismatch):
            # What was there of an earlier attempt may have been the other bytes.
            if not there:
                raise error
            return None
        unhashed = outgoing.file is None
        if isinstance(error, Conflict) and (there is None or (unhashed and not there)):
            raise error
        now = None
        if pause.again():
            now = None if there is None else self._asked(outgoing, there)
        elif not isinstance(error, Conflict):
            raise self._given_up(outgoing.source, there, error) from error
        if now is None and unhashed:
            # Whole files are sent under their digest.
            raise error
        if now is not None and there is not None and now > there:
            pause.restart()
        return now

    def _asked(self, outgoing: Outgoing, there: int) -> int | None:
        """How much the server has now; what was there before when it does not say."""
        try:
            return self._remote.received(outgoing.where)
        except _PASSING:
            return there

    def _given_up(self, source: Source, there: int | None, error: RegistryError) -> RegistryError:
        kept = f"{there:,} of its {source.size:,} bytes are there" if there else "nothing of it is there"
        return ServerUnreachable(
            f"{source.path}: sending it failed {TRIES} times in a row, last because: {error.text[:LONGEST_REASON]} "
            f"{kept}; files that arrived stay. Run the same command again: it goes on from there."
        )

    def _told(self, files: int) -> tuple[Notice, ...]:
        text = f"{files} files went through the server: its bucket did not take them from here ({self._around})"
        return (Notice("sent-through-server", "", "", text[: 2 * LONGEST_REASON]),)


class _NotReached(Exception):
    """There is no way to the bucket from here, as opposed to a connection that broke."""


def _put(address: Destination, body: Content) -> tuple[int, str]:
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


def _once(sources: Iterable[S], hashed: Callable[[Sequence[S]], Sequence[File]]) -> dict[Digest, tuple[File, Source]]:
    """Equal files once."""
    some = tuple(sources)
    return {file.digest: (file, source) for file, source in zip(hashed(some), some, strict=True)}


def _sketch(source: Source) -> Sketch:
    with source.open() as stream:
        return sketch_of(source.size, partial(os.pread, stream.fileno()))
