"""List a local adapter folder safely: nothing is followed, nothing odd is opened, every problem is told at once."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from adapter_registry.checkpoints.file_rules import LOCK_FILE as LOCK_FILE
from adapter_registry.checkpoints.file_rules import MAX_DEPTH, MAX_FILES, file_problems, left_out
from adapter_registry.checkpoints.file_rules import PICKLED as PICKLED
from adapter_registry.domain.errors import InvalidInput, Notice, Problem, PushRefused
from adapter_registry.domain.peft.fields import CONFIG as CONFIG
from adapter_registry.domain.peft.fields import WEIGHTS as WEIGHTS

MAX_ENTRIES = 50_000
"""Files and folders that are looked at before a folder is taken for something else than an adapter."""


class Source(Protocol):
    """One file of a version on its way in: its path inside it, its size, and its bytes as a seekable stream."""

    @property
    def path(self) -> str:
        """Inside the version, with `/`."""

    @property
    def size(self) -> int:
        """In bytes."""

    def open(self) -> BinaryIO:
        """Its bytes, from the beginning."""


@dataclass(frozen=True, slots=True)
class FolderFile:
    """A regular file of a local folder.

    Attributes:
        path: inside the folder, with `/`.
        size: in bytes, when it was listed.
        location: where it is.
        follow: whether it is a link of a Hub cache snapshot, the one kind of link that is followed.
    """

    path: str
    size: int
    location: Path
    follow: bool = False

    def open(self) -> BufferedReader:
        """Its bytes; refuses anything that is no longer the regular file that was listed."""
        flags = os.O_RDONLY | os.O_NONBLOCK | (0 if self.follow else os.O_NOFOLLOW)
        try:
            descriptor = os.open(self.location, flags)
        except OSError as error:
            raise InvalidInput(f"{self.path} cannot be read any more: {error.strerror}; nothing was stored.") from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != self.size:
            os.close(descriptor)
            raise InvalidInput(f"{self.path} changed while it was read; nothing was stored. Try again.")
        return os.fdopen(descriptor, "rb")


def read_folder(folder: Path) -> tuple[tuple[FolderFile, ...], tuple[Notice, ...]]:
    """The files of an adapter folder that a version would hold, and notices about those left out.

    Raises:
        InvalidInput: there is no such folder.
        PushRefused: with every problem of the files as files, at once.
    """
    found = survey(folder)
    problems = [*found.problems, *file_problems(found.files)]
    if problems:
        raise refused(problems)
    return found.files, found.notices


@dataclass(frozen=True, slots=True)
class Survey:
    """What is in a folder: regular files, what was left out, and what could not be taken as it is."""

    files: tuple[FolderFile, ...]
    notices: tuple[Notice, ...]
    problems: tuple[Problem, ...]


def survey(folder: Path) -> Survey:
    """What is in an adapter folder, by kind; the files' names and types are judged by `file_problems`.

    Raises:
        InvalidInput: there is no such folder.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise InvalidInput(f"{folder} {what}; name the folder that PEFT's save_pretrained wrote.")
    listing = _Listing(folder)
    listing.walk(folder, PurePosixPath())
    files = sorted(listing.files, key=lambda file: file.path)
    return Survey(tuple(files), tuple(listing.notices), tuple(listing.problems))


def refused(problems: list[Problem] | tuple[Problem, ...]) -> PushRefused:
    """The error that lists every problem, each on a line of its own."""
    count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
    shown = "".join(f"\n  {problem.code}: {problem}" for problem in problems[:40])
    more = f"\n  ... and {len(problems) - 40} more; --json lists them all" if len(problems) > 40 else ""
    return PushRefused(f"refused, {count}; nothing was stored.{shown}{more}", problems=problems)


class _Listing:
    """What walking a folder finds."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._snapshot = root.absolute().parent.name == "snapshots"
        self._entries = 0
        self.files: list[FolderFile] = []
        self.problems: list[Problem] = []
        self.notices: list[Notice] = []

    def walk(self, folder: Path, inside: PurePosixPath) -> None:
        if len(inside.parts) > MAX_DEPTH:
            self._problem("path-too-deep", str(inside), f"at most {MAX_DEPTH} folders deep", f"{len(inside.parts)}")
            return
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._problem("unreadable-file", f"{inside}/", "a readable folder", str(error.strerror))
            return
        for entry in entries:
            self._entries += 1
            if len(self.files) + len(self.problems) > MAX_FILES or self._entries > MAX_ENTRIES:
                self._too_many()
                return
            self._entry(entry, inside / entry.name)

    def _too_many(self) -> None:
        if not any(problem.code == "too-many-files" for problem in self.problems):
            self._problem("too-many-files", ".", f"at most {MAX_FILES:,} files", "more")

    def _entry(self, entry: os.DirEntry[str], path: PurePosixPath) -> None:
        status = entry.stat(follow_symlinks=False)
        folder = stat.S_ISDIR(status.st_mode)
        why = left_out(entry.name, folder=folder)
        if why is not None and (folder or stat.S_ISREG(status.st_mode) or self._is_hub_link(Path(entry.path))):
            if entry.name != LOCK_FILE:
                self._dropped(f"{path}/" if folder else str(path), why)
        elif folder:
            self.walk(Path(entry.path), path)
        elif (problem := self._kind_problem(entry, status, path)) is not None:
            self.problems.append(problem)
        elif entry.name == PICKLED and (Path(entry.path).parent / WEIGHTS).is_file():
            self._dropped(str(path), f"pickled weights; {WEIGHTS} is beside it")
        else:
            self._keep(entry, path)

    def _kind_problem(self, entry: os.DirEntry[str], status: os.stat_result, path: PurePosixPath) -> Problem | None:
        if stat.S_ISLNK(status.st_mode) and not self._is_hub_link(Path(entry.path)):
            fix = "Replace it by the file itself."
            return Problem("not-a-regular-file", str(path), "", "a regular file", "a symbolic link", fix)
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
            found = "a pipe, socket or device"
            return Problem("not-a-regular-file", str(path), "", "a regular file", found, "Remove it.")
        return None

    def _is_hub_link(self, path: Path) -> bool:
        """A link of a Hub cache snapshot points to a file in `../../blobs` and to nothing else."""
        if not self._snapshot or not path.is_symlink():
            return False
        target = path.resolve()
        blobs = self._root.absolute().parent.parent / "blobs"
        return target.parent == blobs.resolve() and target.is_file()

    def _keep(self, entry: os.DirEntry[str], path: PurePosixPath) -> None:
        location, link = Path(entry.path), entry.is_symlink()
        try:
            file = FolderFile(str(path), location.stat().st_size, location, follow=link)
            file.open().close()
        except (OSError, InvalidInput) as error:
            found = error.strerror if isinstance(error, OSError) else str(error)
            self._problem("unreadable-file", str(path), "a readable file", str(found))
            return
        self.files.append(file)

    def _problem(self, code: str, file: str, expected: str, found: str) -> None:
        shown = file.encode("utf-8", "backslashreplace").decode()
        self.problems.append(Problem(code, shown, "", expected, found, "Remove or rename it, and push again."))

    def _dropped(self, path: str, why: str) -> None:
        shown = path.encode("utf-8", "backslashreplace").decode()
        self.notices.append(Notice("left-out", shown, "", f"left out: {why}"))
