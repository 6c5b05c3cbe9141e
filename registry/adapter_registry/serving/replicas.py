"""Servers that serve adapters over HTTP, asked what they serve."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

import httpx2

from adapter_registry.domain.errors import StoreUnavailable

SECONDS = 10.0
"""How long a server may take to say what it serves."""


@dataclass(frozen=True, slots=True)
class Served:
    """One model of a server's `/v1/models`.

    Attributes:
        name: that requests use.
        root: the path or name it was loaded from; empty where the server does not say.
    """

    name: str
    root: str


def served_by(url: str, *, key: str | None = None) -> tuple[Served, ...]:
    """What the server at `url` serves now.

    Raises:
        StoreUnavailable: it does not say.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx2.get(f"{url}/v1/models", headers=headers, timeout=SECONDS)
        answer.raise_for_status()
        models = answer.json()["data"]
        return tuple(Served(str(each["id"]), str(each.get("root") or "")) for each in models)
    except httpx2.HTTPStatusError as error:
        raise StoreUnavailable(
            f"{url} does not say what it serves: it answered {error.response.status_code}."
        ) from error
    except (httpx2.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreUnavailable(f"{url} does not say what it serves ({type(error).__name__}).") from error


def names_in(served: Iterable[Served]) -> frozenset[str]:
    """Every name, and every part of every path, that models are served under: what may not be removed."""
    parts: set[str] = set()
    for each in served:
        parts.update((each.name, *PurePosixPath(each.name).parts, *PurePosixPath(each.root).parts))
        parts.add(each.name.rpartition(":")[2])
    return frozenset(parts)
