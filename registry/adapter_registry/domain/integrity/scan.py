"""Scan: what a scanner said of the files of one exact Version, as evidence: in which release, when, by whose word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import InvalidInput, Notice

OWN = "adapters"
"""The registry's own scanner, which nobody else's report can be of."""
MOST_FOUND, LONGEST_LINE = 1_000, 1_000


@dataclass(frozen=True, slots=True)
class Scan:
    """One run of a scanner over a Version.

    Attributes:
        adapter: `namespace/name`.
        version: the Version's digest.
        scanner: its name.
        release: of the scanner.
        found: what it found, each with its file; empty when that is nothing.
        by: who had it run, or brought its report.
        at: when, ISO 8601 in UTC.
        report: digest of the report that was brought; None of the registry's own.
    """

    adapter: str
    version: Digest
    scanner: str
    release: str
    found: tuple[Notice, ...]
    by: str
    at: str
    report: Digest | None = None

    def is_old(self, seconds: int | None, now: str) -> bool:
        """Whether it ran more than `seconds` before a moment; never without a limit."""
        if seconds is None:
            return False
        return datetime.fromisoformat(now) - datetime.fromisoformat(self.at) > timedelta(seconds=seconds)

    def __str__(self) -> str:
        return f"{self.scanner} {self.release}, {self.at[:10]}"


def newest(scans: Iterable[Scan]) -> dict[str, Scan]:
    """Scanner -> the last that it said, of scans in their order; what it said before counts no more."""
    return {each.scanner: each for each in scans}


@dataclass(frozen=True, slots=True)
class Report:
    """What a scanner elsewhere says of files.

    Attributes:
        scanner: its name.
        release: of the scanner.
        found: what it found.
        files: path -> digest of the files that it says it looked at; empty when it does not say.
        digest: of the report itself.
    """

    scanner: str
    release: str
    found: tuple[Notice, ...]
    files: Mapping[str, Digest]
    digest: Digest


def check_report(given: Report, files: Mapping[str, Digest]) -> None:
    """Refuse a report that cannot be about a Version with these files (path -> digest).

    Raises:
        InvalidInput: it names no scanner, the registry's own, or a file with other bytes; the text has both digests.
    """
    texts = [given.scanner, given.release]
    texts += [part for each in given.found for part in (each.code, each.file, each.text)]
    if not given.scanner or len(given.found) > MOST_FOUND or not all(_is_line(text) for text in texts):
        raise InvalidInput(
            f"a report names its scanner, and has at most {MOST_FOUND:,} findings of printable text of at most "
            f"{LONGEST_LINE:,} characters; nothing was recorded."
        )
    if given.scanner == OWN:
        raise InvalidInput(f"{OWN!r} is the registry's own scanner, which `adapters scan` runs; nothing was recorded.")
    for path, digest in given.files.items():
        if files.get(path, digest) != digest:
            raise InvalidInput(
                f"the report is about {path} with {digest}, and the version has {files[path]}; nothing was recorded."
            )
    if given.files and not files.keys() & given.files.keys():
        raise InvalidInput("the report names files, and none of them is in the version; nothing was recorded.")


def _is_line(text: str) -> bool:
    return len(text) <= LONGEST_LINE and text.isprintable()
