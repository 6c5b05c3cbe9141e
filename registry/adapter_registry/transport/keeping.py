"""Bringing files to the embedded registry, as `sending` does to a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from adapter_registry.checkpoints.adapter_files import Source
from adapter_registry.domain.adapter import File
from adapter_registry.domain.errors import Notice
from adapter_registry.services import push

S = TypeVar("S", bound=Source)


class Brings(AbstractContextManager["Brings"], Protocol):
    """Brings files to where they are kept, for the namespace of one adapter; leaving ends what still travels."""

    def send_ahead(self, sources: Sequence[Source]) -> None:
        """Begin to send files whose digests are not known yet; none arrives whole before `allow`."""

    def allow(self) -> None:
        """There is nothing wrong with the files: they may arrive."""

    def send(self, sources: Sequence[S], hashed: Callable[[Sequence[S]], Sequence[File]]) -> tuple[Notice, ...]:
        """Bring all that is missing; what is worth knowing of how it travelled. `hashed` waits for their digests."""


class Keeper:
    """Stores files in this process.

    Args:
        ask: carries out a service function.
        adapter: `namespace/name`.
        progress: called with the bytes of each file as it is stored.
    """

    def __init__(self, ask: Callable[..., Any], adapter: str, progress: Callable[[int], None]) -> None:
        self._ask, self._adapter, self._progress = ask, adapter, progress

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def send_ahead(self, sources: Sequence[Source]) -> None:
        """See Brings.send_ahead: nothing travels."""

    def allow(self) -> None:
        """See Brings.allow."""

    def send(self, sources: Sequence[S], hashed: Callable[[Sequence[S]], Sequence[File]]) -> tuple[Notice, ...]:
        """See Brings.send."""
        files = hashed(sources)
        missing = set(self._ask(push.missing, adapter=self._adapter, files=files))
        for file, source in zip(files, sources, strict=True):
            if file.digest in missing:
                with source.open() as stream:
                    self._ask(push.receive, adapter=self._adapter, file=file, source=stream)
            self._progress(file.size)
        return ()
