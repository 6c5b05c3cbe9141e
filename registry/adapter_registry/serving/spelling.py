"""One folder under paths that are written differently each time, for vLLM's prefix cache.

VLLM keeps what it computed of a prompt under an adapter's name and path. While a name is loaded in place, requests that
came before still compute under the old path, with the new weights: were the old version to serve from that path again,
as after a rollback, it would be given their results. A path is therefore never written twice the same way.
"""

from __future__ import annotations

from pathlib import PurePosixPath


def anew(path: str, number: int) -> str:
    """`path`, written in a way of its own for each `number` from 1 on: `/x//././/.` is 9."""
    return path + "".join("/." if bit == "0" else "//." for bit in f"{number:b}")


def plain(path: str) -> str:
    """A path as it is written otherwise."""
    return str(PurePosixPath(path)) if path else ""
