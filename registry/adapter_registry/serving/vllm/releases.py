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


def heard() -> None:
    """Have what is logged here come out as vLLM's own lines do: it sets up the logger of its name, and no other."""
    ours, theirs = logging.getLogger("adapter_registry"), logging.getLogger("vllm")
    if theirs.handlers and not ours.handlers:
        for each in theirs.handlers:
            ours.addHandler(each)
        ours.setLevel(theirs.level)
        ours.propagate = False


def running() -> str:
    """The version of the vLLM in whose process this runs."""
    from vllm.version import __version__  # noqa: PLC0415  there only where vLLM runs

    return str(__version__)


def plugins() -> list[str] | None:
    """What VLLM_PLUGINS names; None where it is not set."""
    from vllm import envs  # noqa: PLC0415  there only where vLLM runs

    named: list[str] | None = envs.VLLM_PLUGINS
    return named
