"""Folders that serving stacks read, kept at what references mean: one a version, and none removed that is in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import msgspec

from adapter_registry.client import Registry
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.errors import Conflict, InvalidInput, RegistryError, StoreUnavailable
from adapter_registry.local.pulled import Pulled
from adapter_registry.serving.admission import Admission
from adapter_registry.serving.digest_folders import (
    STORE,
    Exported,
    alone,
    check_links,
    exported,
    linked,
    removed,
    store,
    unwritable,
    write_whole,
)
from adapter_registry.serving.digest_folders import SYNCED as STATE
from adapter_registry.serving.gguf import converted
from adapter_registry.serving.replicas import Keys, Served, names_in, served_by
from adapter_registry.serving.stacks import LlamaCpp
from adapter_registry.serving.sync_file import Target

LEASES = ".leases"
TGI = "tgi.env"
STACKS = {"vllm": "vllm", "nim": "vllm", "ray": "vllm", "tgi": "tgi", "lorax": "lorax", "llama.cpp": "llama.cpp"}
"""layout -> the stack whose rules say whether a version is served right."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a folder below a root is, for ever: it is remembered once it was removed, and never means anything else.

    Attributes:
        version: `team/sql-lora@v7`.
        digest: of that version.
        exported: of its files as they lie there: another where the config was made to name the server's model.
        onto: the target's base that it was found to be for.
        model: what its config was made to name, if anything.
        placed_at: seconds since the epoch, as the others.
        unwanted_since: since when no reference means it.
        removed_at: when it was taken away.
    """

    version: str
    digest: str
    exported: str
    onto: str
    model: str | None
    placed_at: float
    unwanted_since: float | None = None
    removed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """What came of one name, or of one folder that no name means any more.

    Attributes:
        root: the target's.
        folder: below it; empty where there is none.
        follows: the reference; empty for what is not wanted any more.
        outcome: placed, there, refused, kept or removed.
        entry: what the folder is.
        why: of a refusal, or of keeping.
        code: of the error; empty when there is none.
        exit_code: the same.
    """

    root: str
    folder: str
    follows: str
    outcome: str
    entry: Entry | None = None
    why: str = ""
    code: str = ""
    exit_code: int = 0


class Syncing:
    """Keeps one target; `step` asks once."""

    def __init__(self, target: Target, registry: Registry, *, clock: Callable[[], float]) -> None:
        self._target, self._registry, self._clock = target, registry, clock
        self._root = target.root
        self._admission = Admission(registry, base=target.base, stack=STACKS[target.layout], from_folders=True)

    def step(self) -> tuple[Line, ...]:
        """Place what the references mean now; remove what neither they nor a server mean any more.

        Raises:
            Conflict: another process keeps this root.
            StoreUnavailable: the root cannot be written.
        """
        try:
            with alone(self._root, STATE):
                return self._kept()
        except OSError as error:
            raise unwritable(self._root, error) from error

    def _kept(self) -> tuple[Line, ...]:
        entries = _read(self._root)
        try:
            lines = [self._line(alias, reference, entries) for alias, reference in self._target.serve.items()]
            lines += self._retired(entries)
        finally:
            self._write(entries)
        if self._target.layout == "tgi":
            write_whole(self._root / TGI, self._environment(lines).encode())
        return tuple(lines)

    def _line(self, alias: str, reference: str, entries: dict[str, Entry]) -> Line:
        """Have the folder of what `reference` means; folders of the alias that mean nothing else are retired."""
        root = str(self._root)
        current = [name for name, entry in entries.items() if name.rpartition("-v")[0] == alias and _wanted(entry)]
        try:
            version = self._registry.resolve(reference)
            folder = f"{alias}-v{version.number}"
            known = entries.get(folder)
            stands = known is not None and self._stands(folder, known, version)
            placed = known if known is not None and stands else self._place(folder, version, entries)
        except RegistryError as error:
            kept = current[-1] if current else ""
            entry = entries.get(kept)
            return Line(root, kept, reference, "refused", entry, error.text, error.code, error.exit_code)
        entries[folder] = replace(placed, unwanted_since=None)
        for name in current:
            if name != folder:
                entries[name] = replace(entries[name], unwanted_since=self._clock())
        return Line(root, folder, reference, "there" if stands else "placed", entries[folder])

    def _stands(self, folder: str, known: Entry, version: Version) -> bool:
        asked, place = (version.digest, self._target.base, self._target.model), self._root / folder
        if (known.digest, known.onto, known.model) != asked or not place.is_dir():
            return False
        check_links(self._root / STORE / known.exported.replace(":", "-"), place)
        return True

    def _place(self, folder: str, version: Version, entries: dict[str, Entry]) -> Entry:
        self._admission.check(version)
        pulled = self._registry.pull(f"{version.adapter}@{version.digest}")
        onto, model = self._target.base, self._target.model
        with TemporaryDirectory() as scratch:
            export, source = self._exported(pulled, Path(scratch))
            placed = Entry(version.reference, version.digest, export.digest, onto, model, self._clock())
            self._lay(folder, export, source, placed, entries)
        return placed

    def _exported(self, pulled: Pulled, scratch: Path) -> tuple[Exported, Path]:
        """(a version as the stack reads it, the folder that its files are in)."""
        if self._target.layout != "llama.cpp":
            return exported(pulled, model=self._target.model), pulled.folder
        converter = self._registry.settings.serving.gguf_converter
        return converted(pulled, scratch, base=self._target.base, converter=converter), scratch

    def _lay(self, folder: str, export: Exported, source: Path, placed: Entry, entries: dict[str, Entry]) -> None:
        """Have `folder` hold an export; it never held anything else."""
        known = entries.get(folder)
        if known is not None and known.exported != export.digest:
            raise Conflict(
                f"{self._root / folder} was {known.version} with the files {known.exported[:19]}, and would be "
                f"{export.version.reference} with {export.digest[:19]} now. Servers remember paths, so none is used "
                f"twice: choose another name than {folder.rpartition('-v')[0]}, or another root."
            )
        if (self._root / folder).exists() and known is None:
            raise Conflict(f"{self._root / folder} is there and was not made by `adapters sync`; it was left alone.")
        stored = store(self._root, export, source)
        if not (self._root / folder).exists():
            # Written down before it is there: whoever is killed in between finds it again as what it is.
            self._write({**entries, folder: placed})
            linked(stored, self._root / folder)

    def _write(self, entries: dict[str, Entry]) -> None:
        write_whole(self._root / STATE, msgspec.json.format(msgspec.json.encode(entries)))

    def _retired(self, entries: dict[str, Entry]) -> Iterator[Line]:
        """A line for each folder that no name means any more; it is removed where nothing can be reading it."""
        wanted = set(self._target.serve)
        for folder, entry in entries.items():
            if folder.rpartition("-v")[0] not in wanted and _wanted(entry):
                entries[folder] = replace(entry, unwanted_since=self._clock())
        waiting = {name: e for name, e in entries.items() if e.unwanted_since is not None and e.removed_at is None}
        if not waiting:
            return
        used, why = self._in_use()
        for folder, entry in waiting.items():
            reason = why or self._reason(folder, entry, used)
            if not reason:
                self._remove(folder, entry, entries)
            outcome = "kept" if reason else "removed"
            yield Line(str(self._root), folder, "", outcome, entries[folder], reason)

    def _in_use(self) -> tuple[frozenset[str], str]:
        """(names that servers and leases use, why nothing may be removed now)."""
        if self._target.grace_seconds is None:
            return frozenset(), "nothing is removed without remove_after"
        key = None
        try:
            if self._target.key_file is not None:
                key = self._target.key_file.read_text().strip()
            served = [each for url in self._target.servers for each in self._used_by(url, key)]
            return names_in(served) | _leased(self._root), ""
        except RegistryError as error:
            return frozenset(), error.text.removesuffix(".")
        except (OSError, UnicodeDecodeError) as error:
            return frozenset(), f"{self._target.key_file} cannot be read ({getattr(error, 'strerror', 'not text')})"

    def _used_by(self, url: str, key: str | None) -> tuple[Served, ...]:
        if self._target.layout == "llama.cpp":
            return LlamaCpp(url, Keys(key)).started_with()
        return served_by(url, key=key)

    def _reason(self, folder: str, entry: Entry, used: frozenset[str]) -> str:
        if used & {folder, entry.exported.replace(":", "-")}:
            return "a server or a lease names it"
        grace, since = self._target.grace_seconds or 0, entry.unwanted_since or 0.0
        left = since + grace - self._clock()
        return f"for another {left:.0f} s" if left > 0 else ""

    def _remove(self, folder: str, entry: Entry, entries: dict[str, Entry]) -> None:
        removed(self._root / folder)
        entries[folder] = replace(entry, removed_at=self._clock())
        if not any(each.exported == entry.exported and each.removed_at is None for each in entries.values()):
            removed(self._root / STORE / entry.exported.replace(":", "-"))

    def _environment(self, lines: Sequence[Line]) -> str:
        seen = self._target.seen
        named = ",".join(f"{line.folder}={seen}/{line.folder}" for line in lines if line.follows and line.folder)
        return f"LORA_ADAPTERS={named}\n"


def _wanted(entry: Entry) -> bool:
    return entry.unwanted_since is None and entry.removed_at is None


def _read(root: Path) -> dict[str, Entry]:
    path = root / STATE
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Entry])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        raise InvalidInput(
            f"{path} is not what `adapters sync` wrote ({error}): put it back, or choose another root."
        ) from error


def _leased(root: Path) -> frozenset[str]:
    """What the files in `.leases` name, one folder a line, its name or its path: for readers that no server speaks for.

    Raises:
        StoreUnavailable: one of them cannot be read, so that nobody knows what it names.
    """
    folder = root / LEASES
    files = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    return frozenset(part for path in files for line in _lines(path) for part in PurePosixPath(line.strip()).parts)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreUnavailable(f"{path} cannot be read ({getattr(error, 'strerror', 'not text')}).") from error
