"""The ids git gives to files, which the Hub's protocol uses as entity tags. Source: git's object format, Git LFS v1."""

from __future__ import annotations

import hashlib


def blob_id(data: bytes) -> str:
    """The 40-hex id of a file with these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    """The text that stands for a large file in a repository."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def pointer_id(sha256: str, size: int) -> str:
    """The 40-hex id of the pointer to a large file."""
    return blob_id(pointer(sha256, size))


def tree_id(path: str, children: list[str]) -> str:
    """A stable 40-hex id of a folder: it changes when anything in it does."""
    return hashlib.sha1("\n".join([path, *children]).encode(), usedforsecurity=False).hexdigest()
