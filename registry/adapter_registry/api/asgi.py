"""What `uvicorn` loads in each server process: the application on the settings of the environment."""

from __future__ import annotations

from starlette.applications import Starlette
from uvicorn.protocols.http import h11_impl, httptools_impl

from adapter_registry import app
from adapter_registry.api.observed import log_to_stderr
from adapter_registry.api.server import make_app
from adapter_registry.settings import read_settings

WAITING = 512 << 10
"""Bytes of a request that wait for the application before reading from its connection pauses. uvicorn's 64 kB make an
upload twice as expensive: most of its time goes into pausing and going on."""


def create() -> Starlette:
    """The application of this process."""
    for protocol in (httptools_impl, h11_impl):
        setattr(protocol, "HIGH_WATER_LIMIT", WAITING)  # noqa: B010  a constant that it does not export
    settings = read_settings()
    if settings.log_requests:
        log_to_stderr()
    return make_app(app.served(settings), public_url=settings.public_url, hosts=settings.hosts)
