"""Which pointers were believed here: the key of each server and the highest sequence of each stage, in a small file."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapter_registry.domain.errors import StoreUnavailable, UntrustedPointer
from adapter_registry.domain.promotions.pointer import Pointer, SignedPointer, believed


class Pointers:
    """What is known of the pointers of one server.

    The first key that a server shows is trusted from then on, unless `key` says which one to trust.
    """

    def __init__(self, path: Path, *, server: str, key: str | None) -> None:
        self._path, self._server, self._key = path, server.rstrip("/"), key

    def believe(self, given: SignedPointer, *, adapter: str, stage: str, now: str) -> Pointer:
        """The Pointer, noted as seen.

        Raises:
            UntrustedPointer: see `pointer.believed`; nothing was noted.
        """
        with self._locked():
            document = self._read()
            known = document.setdefault(self._server, {})
            seen, place = known.setdefault("seen", {}), f"{adapter}@{stage}"
            trusted = self._key or known.get("key")
            try:
                pointer = believed(
                    given, adapter=adapter, stage=stage, key=trusted, seen=int(seen.get(place, 0)), now=now
                )
            except UntrustedPointer as error:
                raise UntrustedPointer(f"{error.text} Nothing was pulled. {self._way_out()}") from error
            if known.get("key") != given.key or seen.get(place) != pointer.sequence:
                known["key"], seen[place] = given.key, pointer.sequence
                self._write(document)
            return pointer

    def seen(self, adapter: str, stage: str) -> bool:
        """Whether a pointer of this stage was believed here before."""
        known = self._read().get(self._server, {})
        return f"{adapter}@{stage}" in known.get("seen", {})

    def _way_out(self) -> str:
        how = "set ADAPTERS_POINTER_KEY to the new one" if self._key else f"remove {self._server!r} from {self._path}"
        return f"When you know the reason, {how}; the registry's key is what `adapters admin pointer-key` says on it."

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise StoreUnavailable(
                f"{self._path} cannot be written ({error.strerror}), so old pointers cannot be told from new ones. "
                "Set ADAPTERS_HOME to a folder that you may write to."
            ) from error

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, document: dict[str, Any]) -> None:
        aside = self._path.with_suffix(f".{os.getpid()}.tmp")
        aside.write_text(json.dumps(document, indent=1, sort_keys=True))
        aside.replace(self._path)
