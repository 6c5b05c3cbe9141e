"""The folders that a job works in: inputs gathered once, a fresh place for each attempt, parts put in place whole.

A worker that was stopped and goes on may still have a child that writes: it writes into the place of its own attempt,
which nobody else looks at.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapter_registry.domain.errors import StoreFull, StoreUnavailable
from adapter_registry.jobs.kind import INPUTS, OUT, PARTS

NO_SPACE = 28
"""errno of a full disk."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """The scratch of one job, in `folder`."""

    folder: Path

    def gather(self, bring: Callable[[Path], None]) -> None:
        """Have `bring` fill `inputs`; it is there whole or not at all, and is not brought twice."""
        if (self.folder / INPUTS).is_dir():
            return
        aside = self._fresh("gathering")
        with _explained(aside):
            (aside / INPUTS).mkdir()
            bring(aside)
            with contextlib.suppress(OSError):  # another worker was faster
                (aside / INPUTS).rename(self.folder / INPUTS)
        shutil.rmtree(aside, ignore_errors=True)

    def place(self) -> Path:
        """A fresh place to compute in: the inputs and the parts that are done, and an empty `out`."""
        place = self._fresh("attempt")
        with _explained(place):
            (place / OUT).mkdir()
            (self.folder / PARTS).mkdir(exist_ok=True)
            for name in (INPUTS, PARTS):
                (place / name).symlink_to(self.folder / name)
        return place

    def part(self, place: Path, name: str) -> None:
        """Put what was made at `place` where joining finds it, as the part `name`; whoever is first, counts."""
        with contextlib.suppress(OSError):
            (place / OUT).rename(self.folder / PARTS / name)
        shutil.rmtree(place, ignore_errors=True)

    def has_part(self, name: str) -> bool:
        """Whether a part is there whole."""
        return (self.folder / PARTS / name).is_dir()

    def remove(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _fresh(self, what: str) -> Path:
        place = self.folder / f"{what}-{secrets.token_hex(6)}"
        with _explained(place):
            place.mkdir(parents=True, mode=0o700)
        return place


@contextmanager
def _explained(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        shutil.rmtree(place, ignore_errors=True)
        kind = StoreFull if error.errno == NO_SPACE else StoreUnavailable
        raise kind(f"{place.parent} cannot be worked in ({error.strerror}); set ADAPTERS_SCRATCH.") from error


def sweep(root: Path, keep: Callable[[str], bool]) -> None:
    """Remove the scratch of every job that `keep` says no of."""
    if not root.is_dir():
        return
    for entry in os.scandir(root):
        if entry.is_dir(follow_symlinks=False) and not keep(entry.name):
            shutil.rmtree(entry.path, ignore_errors=True)
