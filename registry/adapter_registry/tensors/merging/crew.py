"""Workers that make the files of a merge: each takes whatever there is to do next, in whichever file.

A piece of a file is computed or copied, written to its place, and then hashed, in order. Pieces of one file are made by
several workers; its hash is one's at a time, and hashes of two files are computed together (see `sha256`). So all
workers are busy to the end, however many files there are and however large each is.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial

from adapter_registry.tensors.merging.blocks import Bytes
from adapter_registry.tensors.merging.layout import OutFile
from adapter_registry.tensors.merging.pieces import Piece, Pieces
from adapter_registry.tensors.merging.sha256 import Sha256, update_both

AHEAD = 2
"""Pieces of a file that may wait to be hashed, beside one for each worker, before its next is begun."""
WORTH = 1 << 20
"""Bytes that must wait before they are hashed, while there is other work."""

Open = Callable[[OutFile], Pieces]
Finish = Callable[[OutFile, str], None]
Progress = Callable[[int], None]
Action = Callable[[], None]


class _File:
    """A file being made. What changes here does so under the crew's lock."""

    def __init__(self, file: OutFile, pieces: Pieces) -> None:
        self.file, self.pieces = file, pieces
        self.following: Iterator[Piece] = iter(pieces)
        self.hash = Sha256() if file.known is None else None
        self.asked, self.next = 0, 0
        """How many pieces were begun, and which is to be hashed next."""
        self.made: dict[int, tuple[Bytes, Action]] = {}
        self.ready: deque[tuple[Bytes, Action]] = deque()
        self.waiting, self.ahead, self.left = 0, 0, file.size
        """Bytes that are ready to be hashed; pieces begun and not hashed; bytes not begun."""
        self.asking = self.hashing = self.closing = False
        self.exhausted = False

    def put(self, number: int, made: tuple[Bytes, Action]) -> None:
        """Take a piece that was made; those in order are ready."""
        self.made[number] = made
        while self.next in self.made:
            data, release = self.made.pop(self.next)
            self.ready.append((data, release))
            self.waiting += len(data)
            self.next += 1

    def hashed(self, count: int) -> None:
        """Bytes of the first ready piece were hashed."""
        data, release = self.ready.popleft()
        if count < len(data):
            self.ready.appendleft((data[count:], release))
        else:
            release()
            self.ahead -= 1
        self.waiting -= count

    @property
    def complete(self) -> bool:
        """Whether everything is written and hashed."""
        return self.exhausted and not self.ahead and not self.hashing and not self.closing


class Crew:
    """Makes files.

    Args:
        workers: threads.
        begin: makes the pieces of a file.
        finish: told of each file that is on the disk, with its sha256.
        progress: told of bytes that are written.
    """

    def __init__(self, workers: int, *, begin: Open, finish: Finish, progress: Progress) -> None:
        self._workers, self._begin, self._finish, self._progress = workers, begin, finish, progress
        self._changed, self._told = threading.Condition(), threading.Lock()
        self._unopened: deque[OutFile] = deque()
        self._open: list[_File] = []
        self._error: BaseException | None = None
        self._stopped = False

    def make(self, files: Sequence[OutFile]) -> None:
        """Make all of them; the first error stops the others and is raised."""
        self._unopened = deque(sorted(files, key=lambda file: -file.size))
        try:
            with ThreadPoolExecutor(self._workers, thread_name_prefix="merge") as pool:
                running = [pool.submit(self._work) for _ in range(self._workers)]
                try:
                    wait(running)
                finally:
                    self._stop()
        finally:
            for file in self._open:
                file.pieces.close(sync=False)
        if self._error is not None:
            raise self._error

    def _stop(self, error: BaseException | None = None) -> None:
        with self._changed:
            self._stopped, self._error = True, self._error or error
            self._changed.notify_all()

    def _work(self) -> None:
        try:
            while (action := self._next()) is not None:
                action()
        except BaseException as error:  # noqa: BLE001  raised where the crew was asked
            self._stop(error)

    def _next(self) -> Action | None:
        """What to do now; None when everything is done."""
        with self._changed:
            while not self._stopped:
                action = self._chosen()
                if action is not None:
                    return action
                if not self._open and not self._unopened:
                    return None
                self._changed.wait()
        return None

    def _chosen(self) -> Action | None:
        for file in self._open:
            if file.complete:
                file.closing = True
                return partial(self._close, file)
        hashed = [file for file in self._open if file.hash]
        waiting = sorted((each for each in hashed if each.ready and not each.hashing), key=lambda each: -each.waiting)
        both = waiting[:2]
        if both and len(both) == min(2, len(hashed)) and both[-1].waiting >= WORTH:
            return self._hashing(both)
        # Two at least, to be hashed together; a last one is not left to be alone.
        while self._unopened and (len(self._open) < max(2, self._workers) or len(self._unopened) == 1):
            opened = self._unopened.popleft()
            self._open.append(_File(opened, self._begin(opened)))
        askable = [f for f in self._open if not (f.asking or f.exhausted) and f.ahead < self._workers + AHEAD]
        if askable:
            file = max(askable, key=lambda each: each.left)
            file.asking = True
            return partial(self._make, file)
        return self._hashing(both) if both else None

    def _hashing(self, files: list[_File]) -> Action:
        for file in files:
            file.hashing = True
        return partial(self._hash, files)

    def _make(self, file: _File) -> None:
        """Begin the next piece of a file, and make it while others begin further ones."""
        piece = next(file.following, None)
        with self._changed:
            file.asking = False
            if piece is None:
                file.exhausted = True
            else:
                number, file.asked = file.asked, file.asked + 1
                file.ahead, file.left = file.ahead + 1, file.left - piece[0]
            self._changed.notify_all()
        if piece is None:
            return
        made = piece[1]()
        with self._told:
            self._progress(piece[0])
        with self._changed:
            if file.hash is None:
                made[1]()
                file.ahead -= 1
            else:
                file.put(number, made)
            self._changed.notify_all()

    def _hash(self, files: list[_File]) -> None:
        """Hash what is ready: of two files as much as both have."""
        while all(file.ready for file in files):
            (one, first), *other = [(file.hash, file.ready[0][0]) for file in files if file.hash]
            if other:
                count = update_both(one, first, *other[0])
            else:
                one.update(first)
                count = len(first)
            with self._changed:
                for file in files:
                    file.hashed(count)
        with self._changed:
            for file in files:
                file.hashing = False
            self._changed.notify_all()

    def _close(self, file: _File) -> None:
        digest = file.hash.hexdigest() if file.hash else str(file.file.known)
        file.pieces.close(sync=True)
        self._finish(file.file, digest)
        with self._changed:
            self._open.remove(file)
            self._changed.notify_all()
