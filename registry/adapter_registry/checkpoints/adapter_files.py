"""List a local adapter folder safely: nothing is followed, nothing odd is opened, every problem is told at once."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from adapter_registry.domain.errors import InvalidInput, Notice, Problem, PushRefused

MAX_FILES = 2_000
MAX_PATH = 512
MAX_SEGMENT = 200
MAX_DEPTH = 16

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"
LOCK_FILE = "adapter_lock.json"

_STORED = (".safetensors", ".json", ".jsonl", ".md", ".txt", ".model", ".jinja", ".yaml", ".yml", ".tiktoken", ".vocab")
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")
_STORED_NAMES = {"license", "licence", "notice", "readme", "use_policy", "merges.txt"}
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".dill", ".h5", ".msgpack")
_CODE = (
    ".py",
    ".sh",
    ".bash",
    ".so",
    ".dll",
    ".dylib",
    ".exe",
    ".bat",
    ".ps1",
    ".pyc",
    ".js",
    ".ipynb",
    ".pyd",
    ".jar",
)
_TRAINING_LEFTOVERS = re.compile(
    r"(training_args\.bin|optimizer\.(bin|pt)|scheduler\.(bin|pt)|scaler\.pt|rng_state(_\d+)?\.pth"
    r"|trainer_state\.json|pytorch_model_fsdp\.bin|zero_to_fp32\.py|latest|global_step\d+)"
)
_DROPPED_FOLDERS = re.compile(
    r"(checkpoint-\d+|runs|wandb|logs|__pycache__|\.git|\.cache|\.ipynb_checkpoints|\.huggingface)"
)
_DROPPED_FILES = {".gitattributes", ".gitignore", ".ds_store", "thumbs.db", "desktop.ini", LOCK_FILE}
_SUFFIX_MAGIC = (
    (b"\x7fELF", "a native program"),
    (b"MZ", "a native program"),
    (b"#!", "a script"),
    (b"PK\x03\x04", "a zip archive, as torch.save writes"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
)
_WINDOWS_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


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
        PushRefused: with every problem at once.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise InvalidInput(f"{folder} {what}; name the folder that PEFT's save_pretrained wrote.")
    listing = _Listing(folder)
    listing.walk(folder, PurePosixPath())
    listing.check_whole()
    if listing.problems:
        raise refused(listing.problems)
    return tuple(sorted(listing.files, key=lambda file: file.path)), tuple(listing.notices)


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
        self.files: list[FolderFile] = []
        self.problems: list[Problem] = []
        self.notices: list[Notice] = []

    def walk(self, folder: Path, inside: PurePosixPath) -> None:
        if len(inside.parts) > MAX_DEPTH:
            self._problem("path-too-deep", str(inside), f"at most {MAX_DEPTH} folders deep", f"{len(inside.parts)}")
            return
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if len(self.files) + len(self.problems) > MAX_FILES:
                self._problem("too-many-files", ".", f"at most {MAX_FILES:,} files", "more")
                return
            self._entry(entry, inside / entry.name)

    def _entry(self, entry: os.DirEntry[str], path: PurePosixPath) -> None:
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            if _DROPPED_FOLDERS.fullmatch(entry.name):
                self._dropped(f"{path}/", "a folder that is no part of an adapter")
            else:
                self.walk(Path(entry.path), path)
            return
        if entry.name.lower() in _DROPPED_FILES:
            if entry.name != LOCK_FILE:
                self._dropped(str(path), "no part of an adapter")
            return
        problem = _name_problem(path) or self._kind_problem(entry, status, path)
        if problem is not None:
            self.problems.append(problem)
            return
        if _TRAINING_LEFTOVERS.fullmatch(entry.name):
            self._dropped(str(path), "what a training run leaves behind, not part of the adapter")
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
        if not self._snapshot:
            return False
        target = path.resolve()
        blobs = self._root.absolute().parent.parent / "blobs"
        return target.parent == blobs.resolve() and target.is_file()

    def _keep(self, entry: os.DirEntry[str], path: PurePosixPath) -> None:
        location, link = Path(entry.path), entry.is_symlink()
        try:
            file = FolderFile(str(path), location.stat().st_size, location, follow=link)
            with file.open() as stream:
                start = stream.read(8)
        except (OSError, InvalidInput) as error:
            found = error.strerror if isinstance(error, OSError) else str(error)
            self._problem("unreadable-file", str(path), "a readable file", str(found))
            return
        problem = _type_problem(str(path), start)
        if problem is not None:
            self.problems.append(problem)
        else:
            self.files.append(file)

    def check_whole(self) -> None:
        """Rules about the folder as a whole."""
        folded: dict[str, str] = {}
        for file in self.files:
            other = folded.setdefault(unicodedata.normalize("NFC", file.path).casefold(), file.path)
            if other != file.path:
                found = f"{other} and {file.path}"
                self._problem("names-differ-in-case", file.path, "names that differ in more than case", found)
        if CONFIG not in {file.path for file in self.files} and not any(p.file == CONFIG for p in self.problems):
            self._missing_config()

    def _missing_config(self) -> None:
        nested = [file.path.removesuffix(f"/{CONFIG}") for file in self.files if file.path.endswith(f"/{CONFIG}")]
        fix = (
            f"Push {self._root / nested[0]}: each adapter of a model is a folder of its own."
            if nested
            else "Push the folder that PEFT's save_pretrained wrote."
        )
        there = ", ".join(file.path for file in self.files[:6]) or "nothing"
        self.problems.append(Problem("no-config", CONFIG, "", "the adapter's config", f"a folder with {there}", fix))

    def _problem(self, code: str, file: str, expected: str, found: str) -> None:
        self.problems.append(Problem(code, file, "", expected, found, "Remove or rename it, and push again."))

    def _dropped(self, path: str, why: str) -> None:
        self.notices.append(Notice("left-out", path, "", f"left out: {why}"))


def _name_problem(path: PurePosixPath) -> Problem | None:
    text = str(path)
    for segment in path.parts:
        reason = _segment_reason(segment)
        if reason:
            shown = text.encode("utf-8", "backslashreplace").decode()
            fix = "Rename it: letters, digits, '.', '_' and '-' are always right."
            return Problem("bad-file-name", repr(shown)[1:-1][:200], "", "a portable file name", reason, fix)
    if len(os.fsencode(text)) > MAX_PATH:
        fix = "Shorten it."
        return Problem("bad-file-name", text[:80], "", f"at most {MAX_PATH} bytes", f"{len(os.fsencode(text))}", fix)
    return None


def _segment_reason(segment: str) -> str | None:
    try:
        encoded = segment.encode("utf-8")
    except UnicodeEncodeError:
        return "a name that is not UTF-8"
    if len(encoded) > MAX_SEGMENT:
        return f"a name of {len(encoded)} bytes; at most {MAX_SEGMENT}"
    if not segment.isprintable() or any(unicodedata.bidirectional(c) in ("RLO", "LRO", "RLE", "LRE") for c in segment):
        return "control or direction characters"
    if any(c in '\\:*?"<>|' for c in segment):
        return "a character that some file systems do not allow"
    if segment.endswith((".", " ")) or segment.startswith(" ") or _WINDOWS_RESERVED.fullmatch(segment):
        return "a name that some file systems do not allow"
    if unicodedata.normalize("NFC", segment) != segment:
        return "a name in decomposed Unicode"
    return None


def _type_problem(path: str, start: bytes) -> Problem | None:
    name = path.rpartition("/")[2].lower()
    if name == PICKLED:
        return Problem(
            "pickled-weights",
            path,
            "",
            f"{WEIGHTS}",
            "pickled weights, which can run code when they are read",
            "Run `adapters convert FOLDER -o OUT` and push OUT.",
        )
    if name.endswith(_PICKLES):
        fix = "Remove it; weights are stored as safetensors."
        return Problem("pickled-file", path, "", "no pickled or opaque binary files", name.rpartition(".")[2], fix)
    if name.endswith(_CODE):
        return Problem(
            "code-file", path, "", "no programs", name.rpartition(".")[2], "Remove it; adapters hold no code."
        )
    for magic, what in _SUFFIX_MAGIC:
        if start.startswith(magic) and not (name.endswith(".safetensors") or name.endswith(_IMAGES)):
            return Problem("disguised-file", path, "", f"what its name says ({name})", what, "Remove it.")
    known = name.endswith((*_STORED, *_IMAGES)) or name in _STORED_NAMES or name.split(".")[0] in _STORED_NAMES
    if not known:
        fix = "Remove it; allowed are safetensors, JSON, Markdown, plain text, images and tokenizer files."
        return Problem("unknown-file-type", path, "", "a file type that adapters use", name, fix)
    return None
