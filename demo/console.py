"""What the demo prints: headings, commands with their real output, and one line of progress."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence

_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_REPORT_SECONDS = 10.0
"""How often progress is printed where lines cannot be rewritten."""


def coloured(text: str, *styles: str) -> str:
    """`text` with terminal colours, where the output is a terminal and NO_COLOR is not set."""
    if not wants_colour():
        return text
    codes = ";".join(_COLOURS[style] for style in styles)
    return f"\x1b[{codes}m{text}\x1b[0m"


def wants_colour() -> bool:
    """Whether the output shows colours."""
    return "NO_COLOR" not in os.environ and (sys.stdout.isatty() or "FORCE_COLOR" in os.environ)


def say(text: str = "", *styles: str) -> None:
    """One line."""
    print(coloured(text, *styles) if styles else text, flush=True)


def heading(text: str) -> None:
    """The start of a chapter."""
    say()
    say(f"== {text}", "bold", "cyan")


def command(words: Sequence[str]) -> None:
    """A command as one would type it."""
    say(f"$ {' '.join(_quoted(word) for word in words)}", "bold")


def _quoted(word: str) -> str:
    return f'"{word}"' if not word or set(word) & set(" $*?&;|<>") else word


class Progress:
    """One line that is rewritten on a terminal, and printed every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._printed = time.monotonic()

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write(f"\r\x1b[K{text[:width]}")
            sys.stdout.flush()
        elif time.monotonic() - self._printed >= _REPORT_SECONDS:
            self._printed = time.monotonic()
            say(text)

    def done(self, text: str) -> None:
        """Replace the line for the last time."""
        if self._live:
            sys.stdout.write("\r\x1b[K")
        say(text)
