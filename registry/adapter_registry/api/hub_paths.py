"""Addresses of the Hub's protocol, taken apart: pure.

A repository's id may have one part or two, and a revision may hold an encoded slash, so an address is read from its raw
form and its marker word (`resolve`, `tree`, `revision`, ...), never by counting decoded segments.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

KINDS = ("models", "datasets", "spaces", "kernels")
MARKERS = frozenset(
    (
        *("revision", "tree", "paths-info", "refs", "tag", "branch", "commits", "commit", "preupload"),
        *("xet-write-token", "xet-read-token", "super-squash", "discussions", "auth-check", "settings", "lfs-files"),
    )
)
WITH_PATH = ("tree", "auth-check", "discussions", "lfs-files", "settings")
"""Markers whose first part behind them is no revision, or not the end of the address."""


@dataclass(frozen=True, slots=True)
class HubPath:
    """One address.

    Attributes:
        channel: the stage that `main` means, from a leading `/~prod`; None without one.
        kind: `models`, `datasets`, `spaces`, `kernels`; empty for what belongs to no kind.
        repo: the repository's id; empty for none.
        action: the marker word; `info` for the repository itself, `list` for all of a kind, `other` for what no marker
            word says of a repository, else the whole path.
        revision: decoded; empty when the address has none.
        rest: what follows, decoded; empty for nothing.
    """

    channel: str | None
    kind: str
    repo: str
    action: str
    revision: str = ""
    rest: str = ""


def read(raw_path: bytes) -> HubPath:
    """The address in a request's raw (still encoded) path."""
    parts = [part for part in raw_path.decode("latin-1").split("?")[0].split("/") if part]
    channel = unquote(parts.pop(0)[1:]) if parts and parts[0].startswith("~") else None
    if parts[:1] == ["api"]:
        return _api(channel, parts[1:])
    return _file(channel, parts)


def _api(channel: str | None, parts: list[str]) -> HubPath:
    if parts[:1] == ["telemetry"]:
        return HubPath(channel, "", "", "api/telemetry")
    if not parts or parts[0] not in KINDS:
        return HubPath(channel, "", "", "/".join(["api", *map(unquote, parts)]))
    kind, rest = parts[0], parts[1:]
    if not rest:
        return HubPath(channel, kind, "", "list")
    at = next((i for i, part in enumerate(rest) if i in (1, 2) and part in MARKERS), None)
    if at is None:
        repo, other = "/".join(map(unquote, rest[:2])), "/".join(map(unquote, rest[2:]))
        return HubPath(channel, kind, repo, "other" if other else "info", rest=other)
    repo, after = "/".join(map(unquote, rest[:at])), [unquote(part) for part in rest[at + 1 :]]
    if rest[at] not in WITH_PATH:
        return HubPath(channel, kind, repo, rest[at], "/".join(after))
    return HubPath(channel, kind, repo, rest[at], after[0] if after else "", "/".join(after[1:]))


def _file(channel: str | None, parts: list[str]) -> HubPath:
    kind = parts.pop(0) if parts and parts[0] in KINDS[1:] else "models"
    git = next((i for i, part in enumerate(parts[:2]) if part.endswith(".git")), None)
    if git is not None:
        repo = "/".join(map(unquote, parts[: git + 1])).removesuffix(".git")
        return HubPath(channel, kind, repo, "git", rest="/".join(map(unquote, parts[git + 1 :])))
    at = next((i for i, part in enumerate(parts) if i in (1, 2) and part in ("resolve", "raw", "blob", "commit")), None)
    if at is None or len(parts) < at + 2:
        return HubPath(channel, "", "", "/".join(map(unquote, parts)))
    repo, rest = "/".join(map(unquote, parts[:at])), "/".join(map(unquote, parts[at + 2 :]))
    return HubPath(channel, kind, repo, "resolve" if parts[at] == "raw" else parts[at], unquote(parts[at + 1]), rest)


def repository_of(raw_path: bytes) -> str:
    """The id in an address of the Hub's site, as clients print it: `/team/sql-lora/tree/main`; empty for another."""
    parts = [unquote(part) for part in raw_path.decode("latin-1").split("?")[0].split("/") if part]
    parts = parts[1:] if parts and parts[0].startswith("~") else parts
    return "" if len(parts) < 2 or parts[0] in ("api", *KINDS) else "/".join(parts[:2])
