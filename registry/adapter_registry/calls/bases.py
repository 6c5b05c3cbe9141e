"""The client's calls about bases: registering, finding, storing their bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from adapter_registry.calls.asking import Asking, every
from adapter_registry.domain.adapter import File
from adapter_registry.domain.base import Base, RegisteredBase
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import IncompatibleBase, InvalidInput, NotFound
from adapter_registry.domain.lock import Equivalence, Level, Verdict, compare
from adapter_registry.domain.stored_base import StoredBase, check_served, receiver
from adapter_registry.local import base_folders
from adapter_registry.local.folders import hashed, is_folder
from adapter_registry.services import access
from adapter_registry.services import base as base_service
from adapter_registry.services import stored_base as storing
from adapter_registry.services.base import KnownBase, Registration
from adapter_registry.services.stored_base import Storing
from adapter_registry.transport.keeping import Brings

if TYPE_CHECKING:
    from adapter_registry.checkpoints.base_copy import Copy

Progress = Callable[[int], None]


class BaseCalls(Asking):
    """Bases of the embedded registry or a server."""

    def add_base(self, name: str, source: str | Path, *, progress: Progress | None = None) -> Registration:
        """Register the checkpoint in a folder, a Hub cache folder or at `hf://org/repo@commit` under `name`."""
        return self._ask(base_service.register, name=name, base=self._read(source, progress))

    def fetch_base(self, source: str | Path) -> Path:
        """A folder with the checkpoint: `source` itself, or the Hub's cache of `hf://org/repo@commit`, downloaded now.

        Raises:
            NotFound, HubUnreachable: see `hub_base.read_hub_base`.
        """
        if not str(source).startswith("hf://"):
            return Path(source)
        from adapter_registry.checkpoints.hub_base import download  # noqa: PLC0415  huggingface_hub is slow

        return download(str(source))

    def copy_of(self, source: str | Path, *, name: str) -> Copy:
        """The files of a checkpoint's folder that storing it as `name` would store.

        Raises:
            InvalidReference: no name that a base can be served under.
            InvalidInput: not a folder with a sound checkpoint.
            PushRefused: files that cannot be stored, all at once.
        """
        check_served(name)
        if str(source).startswith("hf://"):
            raise InvalidInput(f"{source}: storing takes the checkpoint's files; `fetch_base` downloads them.")
        from adapter_registry.checkpoints.base_copy import read_copy  # noqa: PLC0415  numpy and blake3 are slow

        return read_copy(Path(source).expanduser())

    def store_base(self, registration: Registration, copy: Copy, *, progress: Progress | None = None) -> Storing:
        """Store a registered checkpoint's files, so that Hub clients load it from here.

        It is served as the name it is registered under, and as its Hub repository where that is known and whoever
        asks may push to it. Only bytes that the registry lacks travel.

        Args:
            registration: what `add_base` answered for the folder.
            copy: the folder's files, from `copy_of`.
            progress: called with the bytes of each file as it is stored.

        Raises:
            InvalidInput: the folder is not what is registered.
            Conflict: an adapter has the name, or other files of the base are stored.
        """
        registered = registration.base
        as_registered = () if registration.resharded else registered.base.files
        known = {f.path: Digest(f"sha256:{f.sha256}") for f in as_registered}
        files = {
            each: File(each.path, each.size, known[each.path]) if each.path in known else hashed(each)
            for each in copy.files
        }
        names = tuple(dict.fromkeys((registered.name, *self._repository(copy))))
        with self._bringing(receiver(names[0]), progress) as bringing:
            bringing.send(copy.files, lambda some: [files[each] for each in some])
        exact = f"{registered.name}@{registered.base.digest}"
        return self._ask(storing.store, base=exact, files=tuple(files.values()), names=names, commit=copy.commit)

    def _repository(self, copy: Copy) -> tuple[str, ...]:
        repository = copy.repository
        if repository is None:
            return ()
        scope = repository if "/" in repository else None
        return (repository,) if self._ask(access.may, verb="push", scope=scope) else ()

    def stored_base(self, base: str) -> tuple[StoredBase, ...]:
        """The stored files of a registered base, under every id it is served under."""
        return self._ask(storing.stored, base=base)

    def unstore_base(self, name: str) -> tuple[StoredBase, ...]:
        """Stop serving what is stored as `name`, or `name@prefix` of several; it stays registered."""
        return self._ask(storing.unstore, name=name)

    def _bringing(self, adapter: str, progress: Progress | None) -> Brings:
        raise NotImplementedError

    def bases(self) -> tuple[RegisteredBase, ...]:
        """Every Base under every name."""
        return tuple(every(lambda after: self._ask(base_service.known, after=after), ""))

    def base(self, text: str, *, progress: Progress | None = None) -> KnownBase:
        """The registered Base that a name, `name@prefix`, a digest or a checkpoint folder means."""
        if not is_folder(text):
            return self._ask(base_service.find, reference=text)
        return self._ask(base_service.recognise, base=self._read(text, progress))

    def checkpoint(self, base: str, given: Path | None = None, *, progress: Progress | None = None) -> Path:
        """A folder on this machine with the bytes of a registered Base.

        Args:
            base: name, `name@prefix` or digest.
            given: where whoever asks says it is; default: the folder it was registered from, if it is still there and
                the settings permit it; else its stored files, placed in the cache.
            progress: called with bytes as they are read; a folder that was read before is not read again.

        Raises:
            InvalidInput: there is no such folder, and its files are not stored.
            IncompatibleBase: the folder holds other weights than the Base has.
            DigestMismatch: the stored files are damaged.
        """
        known = self.base(base)
        if given is not None:
            return self._compared(known, given, self._read(given, progress))
        source, stored = known.base.source, self.stored_base(known.base.digest)
        allowed = base_folders.permitted(source, self._settings.base_sources)
        if allowed and not source.startswith(base_folders.HUB) and os.access(source, os.R_OK):
            try:
                return self._compared(known, Path(source), self._read(source, progress))
            except (IncompatibleBase, InvalidInput):  # the folder was changed since
                if not stored:
                    raise
        if stored:
            named = (each for each in stored if each.name == known.registered.name)
            return self._placed(known, next(named, stored[0]), progress)
        if not allowed or not source.startswith(base_folders.HUB):
            raise InvalidInput(
                f"{_unreachable(known, allowed=allowed)}. {_storing(known)}, or, unless it is for a job, name the "
                "folder that holds them with --base-path."
            )
        folder = self.fetch_base(source)
        return self._compared(known, folder, self._read(folder, progress))

    def require_bytes(self, base: str) -> None:
        """Refuse a Base whose bytes no job will get, as far as that is known without a worker.

        Its files are stored, or come from the Hub; or they are in a folder that jobs may open, and that is here, unless
        the catalog is a server that workers on other machines share.

        Raises:
            InvalidInput: with what to do about it.
        """
        known = self.base(base)
        source = known.base.source
        allowed = base_folders.permitted(source, self._settings.base_sources)
        here = source.startswith(base_folders.HUB) or self._settings.database_url or os.access(source, os.R_OK)
        if not (allowed and here) and not self.stored_base(known.base.digest):
            told = ", or name the folder in ADAPTERS_BASE_SOURCES, for the workers and for this server"
            raise InvalidInput(
                f"{_unreachable(known, allowed=allowed)}: no worker gets its bytes, and nothing was queued. "
                f"{_storing(known)}{'' if allowed else told}."
            )

    def _compared(self, known: KnownBase, folder: Path, found: Base) -> Path:
        verdict = compare(known.base, found)
        if verdict.level not in (Level.EXACT, Level.EQUIVALENT):
            reasons = "; ".join(map(str, verdict.differences[:4]))
            raise IncompatibleBase(
                f"{folder} is not {known.registered.reference} ({verdict.level}): {reasons}. Nothing was written. "
                "Name the folder that holds it with --base-path."
            )
        return folder

    def _placed(self, known: KnownBase, stored: StoredBase, progress: Progress | None) -> Path:
        """The stored files in the cache, every byte of them verified."""

        def bytes_of(file: File) -> Path | BinaryIO:
            return self._ask(storing.bytes_of, stored=stored, path=file.path)

        folder = base_folders.folder_of(stored, self._settings.cache)
        base_folders.place(stored, folder, bytes_of)
        found = self._read(folder, progress)
        base_folders.require_whole(stored, folder, found)
        return self._compared(known, folder, found)

    def digest_of(self, folder: Path, *, progress: Progress | None = None) -> Digest:
        """The digest of the checkpoint in a folder, whether it is registered or not."""
        return self._read(folder, progress).digest

    def base_verdict(self, locked: str, base: str, *, spot: bool = False) -> Verdict:
        """How a registered base or a checkpoint folder fits what is locked to the Base with the digest `locked`."""
        known = self._ask(base_service.find, reference=locked)
        if spot and is_folder(base):
            from adapter_registry.checkpoints.base_folder import spot_verdict  # noqa: PLC0415

            return spot_verdict(Path(base).expanduser(), known.base)
        found = self._read(base, None) if is_folder(base) else self.base(base).base
        return compare(known.base, found, self._stand_ins(known, found))

    def _stand_ins(self, locked: KnownBase, found: Base) -> tuple[Equivalence, ...]:
        """Equivalences declared for the locked Base, told in the terms of the checkpoint at hand."""
        if not locked.equivalences:
            return ()
        try:
            recognised = self._ask(base_service.recognise, base=found).base.digest
        except NotFound:
            return ()
        same = (each for each in locked.equivalences if each.other == recognised)
        return tuple(Equivalence(e.base, found.digest, e.because, e.declared_by, e.declared_at) for e in same)

    def equivalences(self, digest: Digest) -> tuple[Equivalence, ...]:
        """Stand-ins declared for the Base with this digest."""
        return self._ask(base_service.find, reference=digest).equivalences

    def declare_equivalent(self, base: str, other: str, *, because: str) -> Equivalence:
        """Record that `other` may stand in for `base`."""
        return self._ask(base_service.declare_equivalent, base=base, other=other, because=because)

    def _read(self, source: str | Path, progress: Progress | None) -> Base:
        text = str(source)
        if text.startswith("hf://"):
            from adapter_registry.checkpoints.hub_base import read_hub_base  # noqa: PLC0415  huggingface_hub is slow

            return read_hub_base(text)
        from adapter_registry.checkpoints.base_folder import read_base  # noqa: PLC0415  numpy and blake3 are slow

        return read_base(Path(text).expanduser(), cache=self._settings.cache, progress=progress or _silent)


def _unreachable(known: KnownBase, *, allowed: bool) -> str:
    """Why there is no folder with a Base's bytes."""
    reason = "is not on this machine" if allowed else "jobs may not open: ADAPTERS_BASE_SOURCES does not name it"
    named = known.registered.reference
    return f"{named} was registered from {known.base.source}, which {reason}, and its files are not stored"


def _storing(known: KnownBase) -> str:
    return f"Store them where they are (`adapters base add {known.registered.name} FOLDER --store`)"


def _silent(_bytes: int) -> None:
    return
