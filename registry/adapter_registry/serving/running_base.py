"""The checkpoint that a serving process runs, held against locks by content: nothing here asks what it is called."""

from __future__ import annotations

import re
import threading
from pathlib import Path

from adapter_registry.client import Registry
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.lock import Verdict, compare


class BaseUnknown(InvalidInput):
    """Which checkpoint a serving process runs cannot be told."""

    code = "base-unknown"


_SHA256 = re.compile(r"[0-9a-f]{64}")
_Identity = tuple[tuple[str, int, int, int, int], ...]


def folder_of(model: str, *, revision: str | None = None, cache: str | None = None) -> Path:
    """Where the files of a model lie that a stack was started with: a folder, or a repository in the Hub's cache.

    Raises:
        BaseUnknown: they are not on this machine.
    """
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download  # noqa: PLC0415  slow to import
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        return Path(snapshot_download(model, revision=revision, cache_dir=cache, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise BaseUnknown(
            f"the files of {model[:200]} were not found on this machine: name their folder in ADAPTERS_SERVING_BASE."
        ) from error


def only_folder_of(model: str) -> Path:
    """The same where nobody says which revision a stack was started with.

    Raises:
        BaseUnknown: they are not on this machine, or those of several revisions are.
    """
    folder = folder_of(model)
    if Path(model).is_dir():
        return folder
    there = [each.name for each in folder.parent.iterdir() if any(each.glob("*.safetensors"))]
    if len(there) > 1:
        raise BaseUnknown(
            f"{len(there)} revisions of {model[:200]} are in the Hub's cache ({', '.join(sorted(there))}), and which "
            "of them was loaded is not known here: name its folder in ADAPTERS_SERVING_BASE."
        )
    return folder


class RunningBase:
    """A checkpoint's folder; each lock is held against it once, as long as its files stay what they are.

    `spot` takes what is cheapest and tells another training apart: digests recorded before, a few slices of every
    tensor, else the names of the Hub cache's blobs, else every byte. `full` reads every byte, once.
    """

    def __init__(self, folder: Path, registry: Registry, *, check: str = "spot", loaded: bool = False) -> None:
        """Note what the files are by now.

        Args:
            folder: of the checkpoint.
            registry: that knows what versions are locked to.
            check: `spot` or `full`.
            loaded: whether a process has loaded the files and goes on with what it loaded, whatever they become.

        Raises:
            BaseUnknown: there is no such folder, or a file of it is gone.
        """
        self.folder, self._registry, self._check, self._loaded = folder, registry, check, loaded
        self._files, self._found = self._identity(), dict[str, tuple[Version, Verdict]]()
        self._looking = threading.Lock()

    def verdict(self, version: Version) -> Verdict:
        """How the checkpoint fits the lock of a version.

        Raises:
            BaseUnknown: its files are other ones than those that were loaded.
            InvalidInput: it is no safetensors checkpoint.
            RegistryError: the registry does not say what the version is locked to.
        """
        with self._looking:  # many ask at once when a server starts, and a look may read every byte
            if not (self._loaded and version.base in self._found):
                self._require_the_same()
            if version.base not in self._found:
                self._found[version.base] = version, self._look(version)
            return self._found[version.base][1]

    def _require_the_same(self) -> None:
        """Look anew at files that changed; those of a loaded checkpoint have to be accepted where they were before."""
        now = self._identity()
        if now == self._files:
            return
        if self._loaded:
            known = next((version for version, verdict in self._found.values() if verdict.accepted), None)
            if known is None or not self._look(known).accepted:
                raise BaseUnknown(
                    f"the files in {self.folder} are others than those that were loaded from there: versions that are "
                    "locked to what was not held against them before are refused until this server is started anew."
                )
        else:
            self._found.clear()
        self._files = now

    def _identity(self) -> _Identity:
        try:
            files = sorted(path for path in self.folder.iterdir() if path.suffix in (".safetensors", ".json"))
            stats = [(path.name, path.stat()) for path in files]
        except OSError as error:
            raise BaseUnknown(
                f"{error.filename or self.folder} is not there or cannot be read ({error.strerror}): name the folder "
                "of the base in ADAPTERS_SERVING_BASE."
            ) from error
        if self._loaded:  # a backup that links to the files, or their mode, changes nothing of what runs
            return tuple((name, 0, 0, s.st_size, s.st_mtime_ns) for name, s in stats)
        return tuple((name, s.st_dev, s.st_ino, s.st_size, max(s.st_mtime_ns, s.st_ctime_ns)) for name, s in stats)

    def _look(self, version: Version) -> Verdict:
        if self._check == "full" or self._recorded():
            return self._registry.verdict(version, str(self.folder))
        locked = self._registry.base(version.base).base
        if locked.spot is not None:
            return self._registry.verdict(version, str(self.folder), spot=True)
        from adapter_registry.checkpoints.base_folder import open_checkpoint  # noqa: PLC0415  numpy and blake3 are slow

        opened = open_checkpoint(self.folder)
        blobs = [path.resolve() for path, _ in opened.files]
        if all(blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name) for blob in blobs):
            found = compare(locked, opened.checkpoint.base([blob.name for blob in blobs]))
            note = "by the digests that the Hub's cache names its files by; their bytes were not read"
            return Verdict(found.level, found.differences, (note, *found.notes))
        return self._registry.verdict(version, str(self.folder))

    def _recorded(self) -> bool:
        """Whether every weight file was read before, whole, and is the same file still."""
        from adapter_registry.checkpoints.base_folder import open_checkpoint  # noqa: PLC0415  numpy and blake3 are slow
        from adapter_registry.checkpoints.fingerprint_cache import cached  # noqa: PLC0415

        cache = self._registry.settings.cache
        return all(cached(cache, header, path.stat()) for path, header in open_checkpoint(self.folder).files)
