"""Read and write the files people name on the command line."""

from __future__ import annotations

from pathlib import Path

from adapter_registry.domain.errors import InvalidInput


def read_bytes(path: Path) -> bytes:
    """The bytes of a file; raises InvalidInput when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error


def read_text(path: Path) -> str:
    """The text of a UTF-8 file; raises InvalidInput when it cannot be read."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text (byte {error.start}).") from error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file in place of any earlier one; raises InvalidInput when it cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}.") from error
