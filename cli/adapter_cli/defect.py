"""An error nobody foresaw: the trace goes to a file, the person gets a sentence."""

from __future__ import annotations

import tempfile
import traceback
from pathlib import Path

import click


def report(error: BaseException) -> None:
    """Write the trace to a temporary file and say where it is."""
    with tempfile.NamedTemporaryFile("w", prefix="adapters-", suffix=".txt", delete=False) as file:
        traceback.print_exception(error, file=file)
    click.echo(
        f"adapters: a defect of this program, not of your input: {type(error).__name__}: {str(error)[:200]}. "
        f"Nothing half done was kept. The trace is in {Path(file.name)}; report it with the command you ran.",
        err=True,
    )
