"""A version brought to a serving process: resolved, held against the base that runs, verified, in a folder of its own.

What is told to callers is short and safe; what really happened is logged for whoever runs the server.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from adapter_registry.client import Registry
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.errors import (
    DigestMismatch,
    Forbidden,
    IncompatibleBase,
    InvalidReference,
    NotFound,
    RegistryError,
    Revoked,
    ServerUnreachable,
    StoreUnavailable,
    TooSlow,
    Unauthorised,
    UntrustedPointer,
)
from adapter_registry.local.pulled import holds, require
from adapter_registry.serving.running_base import BaseUnknown, RunningBase

logger = logging.getLogger("adapter_registry.serving")


class Missing(Exception):
    """There is nothing of that name here: not there, not readable by this token, revoked, or not to be served."""


class Refused(Exception):
    """A version that is there and is not loaded; the text is for anybody.

    Attributes:
        passing: whether it may well work a moment later: the registry did not answer.
    """

    def __init__(self, text: str, *, passing: bool = False) -> None:
        super().__init__(text)
        self.passing = passing


@dataclass(frozen=True, slots=True)
class Placed:
    """A version in a read-only folder that is named by its digest and never holds anything else."""

    version: Version
    folder: Path


class Placing:
    """Brings versions here; for one base."""

    def __init__(self, registry: Registry, running: Callable[[], RunningBase]) -> None:
        self._registry, self._find, self._finding = registry, running, threading.Lock()
        self._running: RunningBase | None = None

    def ready(self) -> RunningBase:
        """The base that runs; what its files are is noted when this is first called, best before they become others.

        Raises:
            BaseUnknown: they are not found.
        """
        with self._finding:
            self._running = self._running or self._find()
            return self._running

    def place(self, reference: str) -> Placed:
        """The version that a reference means now, on this machine.

        Raises:
            Missing: there is none.
            Refused: it is not for the base that runs here, not what it should be, or could not be brought.
        """
        try:
            return self._placed(reference)
        except RegistryError as error:
            # Anybody may ask for what is not there, as often as they like.
            level = logging.INFO if isinstance(error, _MISSING) else logging.WARNING
            logger.log(level, "%s: %s: %s", reference, error.code, error.text)
            raise _told(error, reference) from error
        except OSError as error:
            logger.warning("%s: %s", reference, error)
            raise _no_room(reference) from error

    def _placed(self, reference: str) -> Placed:
        version = self._registry.resolve(reference)
        require(self.ready().verdict(version), version, "the base that runs here")
        pulled = self._registry.pull(f"{version.adapter}@{version.digest}", force=True)
        with suppress(OSError):  # another user's folder in a shared cache; its files were verified all the same
            pulled.folder.chmod(0o555)
        return Placed(pulled.version, pulled.folder)


def whole(placed: Placed) -> bool:
    """Whether the folder holds every byte of the version still."""
    return all(holds(placed.folder / file.path, file) for file in placed.version.files)


_MISSING = (NotFound, Forbidden, InvalidReference, Revoked)
_TEXTS: tuple[tuple[tuple[type[RegistryError], ...], str, bool], ...] = (
    ((IncompatibleBase,), "{} is not for the base model that runs here", False),
    ((BaseUnknown,), "which base model runs here cannot be told, so that {} is not loaded", False),
    ((DigestMismatch, UntrustedPointer), "what the registry answered for {} cannot be trusted", False),
    ((Unauthorised,), "the adapter registry does not know this server's token", True),
    ((ServerUnreachable, StoreUnavailable, TooSlow), "the adapter registry does not answer", True),
)


def unanswered(error: RegistryError) -> str:
    """Why it is not known what a name points to: for people who may not read the log."""
    if isinstance(error, StoreUnavailable) and isinstance(error.__cause__, OSError):
        return f"this server's ADAPTERS_HOME cannot be written ({error.code})"
    told = next((text for kinds, text in _QUESTIONS if isinstance(error, kinds)), "refuses the question")
    return f"the registry {told} ({error.code})"


_QUESTIONS: tuple[tuple[tuple[type[RegistryError], ...], str], ...] = (
    ((ServerUnreachable, StoreUnavailable, TooSlow), "does not answer"),
    ((Unauthorised,), "does not know this server's token"),
    ((Forbidden,), "lets this server's token not read it"),
    ((InvalidReference,), "knows no such stage or version"),
    ((DigestMismatch, UntrustedPointer), "gave an answer that cannot be trusted"),
)


def _told(error: RegistryError, reference: str) -> Exception:
    if isinstance(error, _MISSING):
        return Missing(reference)
    if isinstance(error, StoreUnavailable) and isinstance(error.__cause__, OSError):
        return _no_room(reference)  # this machine's disk, not the registry's
    for kinds, text, passing in _TEXTS:
        if isinstance(error, kinds):
            return Refused(text.format(reference), passing=passing)
    return Refused(f"{reference} could not be loaded")


def _no_room(reference: str) -> Refused:
    return Refused(f"{reference} could not be placed on the server's disk", passing=True)
