"""Which releases of vLLM the plugins were tested with: they use parts of it that no release promises to keep."""

from __future__ import annotations

import logging
import re

TESTED = ("0.32", "0.33")
logger = logging.getLogger("adapter_registry.serving.vllm")


def untested(version: str) -> str:
    """Why a plugin stays out of this release's way; empty where it was tested with it."""
    if any(re.match(rf"{re.escape(release)}\.\d+($|[.+])", version) for release in TESTED):
        return ""
    told = " and ".join(TESTED)
    return f"vLLM {version} was not tested with this release of adapter-registry ({told} were): nothing is loaded"


def running() -> str:
    """The version of the vLLM in whose process this runs."""
    from vllm.version import __version__  # noqa: PLC0415  there only where vLLM runs

    return str(__version__)
