"""Which files a version may hold: portable names, types that adapters use, and nothing in disguise."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import BinaryIO, Protocol

from adapter_registry.domain.errors import Notice, Problem
from adapter_registry.domain.peft.fields import CONFIG, WEIGHTS

MAX_FILES = 2_000
MAX_PATH = 512
MAX_SEGMENT = 200
MAX_DEPTH = 16
MAX_README = 5_000_000
MAX_FRONT_MATTER = 64 * 1024
MAX_READ_JSON = 4 << 20
"""Small JSON files beside the config are looked into up to this size; vocabularies are larger."""

PICKLED = "adapter_model.bin"
LOCK_FILE = "adapter_lock.json"

_STORED = (".safetensors", ".json", ".jsonl", ".md", ".txt", ".jinja", ".yaml", ".yml", ".toml", ".csv", ".tsv", ".log")
_VOCABULARIES = (".model", ".tiktoken", ".vocab", ".bpe", ".spm", ".rst")
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")
_STORED_NAMES = {"license", "licence", "notice", "readme", "use_policy", "copying", "citation", "modelfile"}
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".dill", ".h5", ".msgpack")
_CODE = (
    *(".py", ".pyc", ".pyd", ".pyw", ".ipynb", ".sh", ".bash", ".zsh", ".bat", ".cmd", ".ps1", ".js", ".mjs", ".ts"),
    *(".so", ".dll", ".dylib", ".exe", ".com", ".msi", ".jar", ".class", ".wasm", ".rb", ".pl", ".php", ".lua"),
    *(".c", ".cc", ".cpp", ".cu", ".h", ".rs", ".go", ".java", ".html", ".htm", ".xhtml"),
)
_MAGIC = (
    (b"\x7fELF", "a native program"),
    (b"MZ", "a native program"),
    (b"\xcf\xfa\xed\xfe", "a native program"),
    (b"\xca\xfe\xba\xbe", "a native program"),
    (b"\x00asm", "a native program"),
    (b"#!", "a script"),
    (b"PK\x03\x04", "a zip archive, as torch.save writes"),
    (b"PK\x05\x06", "a zip archive"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"(\xb5/\xfd", "a zstd archive"),
    (b"Rar!", "a rar archive"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x89HDF", "an HDF5 file"),
)
_TRAINING_LEFTOVERS = re.compile(
    r"(training_args\.bin|optimizer\.(bin|pt)|scheduler\.(bin|pt)|scaler\.pt|rng_state(_\d+)?\.pth"
    r"|trainer_state\.json|pytorch_model_fsdp\.bin|zero_to_fp32\.py|latest|events\.out\.tfevents\..*)"
)
_DROPPED_FOLDERS = re.compile(r"(checkpoint-\d+|global_step\d+|runs|wandb|logs|__pycache__|__MACOSX|\..+)")
_DROPPED_FILES = {".gitattributes", ".gitignore", ".ds_store", "thumbs.db", "desktop.ini", LOCK_FILE}
_OTHER_FORMATS = (".gguf", ".ggml", ".onnx", ".mlmodel", ".tflite")
UNSAFE = (*_PICKLES, *_CODE, *_OTHER_FORMATS)
"""How the names of files end that are never stored."""
_WINDOWS_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_DIRECTIONS = ("RLO", "LRO", "RLE", "LRE", "PDF", "LRI", "RLI", "FSI", "PDI")
_DUNDER = re.compile(r"__\w+__")
_TAG = re.compile(rb"^[^#\n]*!!python/|!<tag:yaml\.org,2002:python", re.MULTILINE)


class Named(Protocol):
    """A file by its path inside the version, its size and its bytes."""

    @property
    def path(self) -> str:
        """Inside the version, with `/`."""

    @property
    def size(self) -> int:
        """In bytes."""

    def open(self) -> BinaryIO:
        """Its bytes, from the beginning."""


def left_out(name: str, *, folder: bool = False) -> str | None:
    """Why a file or folder of this name is no part of an adapter and is not stored; None when it may be one."""
    if folder:
        return "a folder that is no part of an adapter" if _DROPPED_FOLDERS.fullmatch(name) else None
    if name.lower() in _DROPPED_FILES:
        return "no part of an adapter"
    if _TRAINING_LEFTOVERS.fullmatch(name):
        return "what a training run leaves behind, not part of the adapter"
    if name.lower().endswith(_OTHER_FORMATS):
        return "the weights in another format, which PEFT does not read"
    return None


def file_problems(files: Sequence[Named]) -> Iterator[Problem]:
    """Everything wrong with the files of a version as files."""
    if len(files) > MAX_FILES:
        fix = "Remove what is no part of the adapter."
        yield Problem("too-many-files", ".", "", f"at most {MAX_FILES:,} files", f"{len(files):,}", fix)
        return
    for file in files:
        problem = name_problem(file.path) or _type_problem(file)
        if problem is not None:
            yield problem
        elif file.path.lower().endswith(".md"):
            yield from _text_problems(file)
    yield from _case_problems(files)


def file_notices(files: Sequence[Named]) -> Iterator[Notice]:
    """What is worth knowing about files that PEFT does not read."""
    for file in files:
        name = file.path.lower().rpartition("/")[2]
        if name.endswith(".safetensors") and file.path != WEIGHTS:
            yield Notice("unread-weights", file.path, "", "stored as it is: PEFT does not read it with the adapter")
        elif file.path.endswith(f"/{CONFIG}"):
            yield Notice("nested-adapter", file.path, "", "another adapter's config, stored unread: push it by itself")
        elif name.endswith(".jinja"):
            yield from _template_notices(file.path, _start(file, MAX_READ_JSON))
        elif name in ("config.json", "tokenizer_config.json", "processor_config.json", "chat_template.json"):
            yield from _settings_notices(file)


def name_problem(path: str) -> Problem | None:
    """What is wrong with a path inside a version: some file system could not hold it, or would show it wrongly."""
    parts = path.split("/")
    shown = repr(path.encode("utf-8", "backslashreplace").decode())[1:-1][:200]
    for segment in parts:
        reason = _segment_reason(segment)
        if reason:
            fix = "Rename it: letters, digits, '.', '_' and '-' are always right."
            return Problem("bad-file-name", shown, "", "a portable file name", reason, fix)
    if len(path.encode()) > MAX_PATH:
        found = f"{len(path.encode())}"
        return Problem("bad-file-name", shown[:80], "", f"at most {MAX_PATH} bytes", found, "Shorten it.")
    if len(parts) - 1 > MAX_DEPTH:
        found = f"{len(parts) - 1}"
        return Problem("path-too-deep", shown, "", f"at most {MAX_DEPTH} folders deep", found, "Move it up.")
    return None


def _segment_reason(segment: str) -> str | None:
    try:
        encoded = segment.encode("utf-8")
    except UnicodeEncodeError:
        return "a name that is not UTF-8"
    if segment.lower() in ("", ".", "..", ".git"):
        return "a part of the path that no file may have"
    if len(encoded) > MAX_SEGMENT:
        return f"a name of {len(encoded)} bytes; at most {MAX_SEGMENT}"
    if not segment.isprintable() or any(unicodedata.bidirectional(c) in _DIRECTIONS for c in segment):
        return "control or direction characters"
    edges = segment.endswith((".", " ")) or segment.startswith(" ")
    if edges or any(c in '\\:*?"<>|' for c in segment) or _WINDOWS_RESERVED.fullmatch(segment):
        return "a name that some file systems do not allow"
    if unicodedata.normalize("NFC", segment) != segment:
        return "a name in decomposed Unicode"
    return None


def _type_problem(file: Named) -> Problem | None:
    path = file.path
    name = path.rpartition("/")[2].lower()
    if name == PICKLED:
        what = "pickled weights, which can run code when they are read"
        fix = "Run `adapters convert FOLDER -o OUT` and push OUT."
        return Problem("pickled-weights", path, "", WEIGHTS, what, fix)
    if name.endswith(_PICKLES):
        fix = "Remove it; weights are stored as safetensors."
        return Problem("pickled-file", path, "", "no pickled or opaque binary files", name.rpartition(".")[2], fix)
    if name.endswith(_CODE):
        fix = "Remove it; adapters hold no code."
        return Problem("code-file", path, "", "no programs", name.rpartition(".")[2], fix)
    if not name.endswith(".safetensors"):
        start = _start(file, 8)
        what = next((what for magic, what in _MAGIC if start.startswith(magic)), "")
        if what:
            return Problem("disguised-file", path, "", f"what its name says ({name})", what, "Remove it.")
    known = name.endswith((*_STORED, *_VOCABULARIES, *_IMAGES)) or PurePosixPath(name).stem in _STORED_NAMES
    if not known:
        fix = "Remove it; allowed are safetensors, JSON, Markdown, plain text, images and tokenizer files."
        return Problem("unknown-file-type", path, "", "a file type that adapters use", name, fix)
    return None


def _text_problems(file: Named) -> Iterator[Problem]:
    if file.size > MAX_README:
        found = f"{file.size:,}"
        yield Problem("file-too-large", file.path, "", f"at most {MAX_README:,} bytes", found, "Shorten it.")
        return
    start = _start(file, MAX_FRONT_MATTER + 8)
    if not start.startswith(b"---"):
        return
    end = start.find(b"\n---", 3)
    matter = start if end < 0 else start[:end]
    if end < 0 and file.size > len(start):
        expected = f"a front matter of at most {MAX_FRONT_MATTER:,} bytes"
        yield Problem("file-too-large", file.path, "front matter", expected, "more", "Shorten it.")
    if _TAG.search(matter):
        fix = "Remove it."
        yield Problem("refused-value", file.path, "front matter", "plain YAML", "a tag that constructs objects", fix)


def _case_problems(files: Sequence[Named]) -> Iterator[Problem]:
    folded: dict[str, str] = {}
    for file in files:
        other = folded.setdefault(unicodedata.normalize("NFC", file.path).casefold(), file.path)
        if other != file.path:
            found = f"{other} and {file.path}"
            expected = "names that differ in more than case"
            fix = "Remove or rename it, and push again."
            yield Problem("names-differ-in-case", file.path, "", expected, found, fix)
    for file in files:
        for folder in PurePosixPath(unicodedata.normalize("NFC", file.path).casefold()).parents:
            if taken := folded.get(str(folder)):
                fix = "Remove or rename one of them, and push again."
                yield Problem("bad-file-name", taken, "", "a file or a folder of that name", f"also {file.path}", fix)
                break


def _settings_notices(file: Named) -> Iterator[Notice]:
    try:
        document = json.loads(_start(file, MAX_READ_JSON)) if file.size <= MAX_READ_JSON else None
    except (ValueError, RecursionError):
        yield Notice("unreadable-json", file.path, "", "it is not JSON; who loads it will see an error")
        return
    if not isinstance(document, dict):
        return
    if "auto_map" in document:
        text = "names code of another repository; it is run only by who loads it with trust_remote_code"
        yield Notice("names-code", file.path, "auto_map", text)
    template = document.get("chat_template")
    yield from _template_notices(file.path, json.dumps(template).encode() if template else b"")


def _template_notices(path: str, text: bytes) -> Iterator[Notice]:
    found = _DUNDER.search(text.decode("utf-8", "replace"))
    if found:
        what = f"its template reaches for {found[0][:40]}, which only a sandbox keeps from running code"
        yield Notice("template-dunder", path, "", what)


def _start(file: Named, size: int) -> bytes:
    with file.open() as stream:
        return stream.read(size)
