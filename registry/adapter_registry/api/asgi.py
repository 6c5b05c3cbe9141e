"""What `uvicorn` loads in each server process: the application on the settings of the environment."""

from __future__ import annotations

from starlette.applications import Starlette

from adapter_registry import app
from adapter_registry.api.observed import log_to_stderr
from adapter_registry.api.server import make_app
from adapter_registry.settings import read_settings


def create() -> Starlette:
    """The application of this process."""
    settings = read_settings()
    if settings.log_requests:
        log_to_stderr()
    return make_app(
        app.served(settings),
        public_url=settings.public_url,
        hosts=settings.hosts,
        provider=settings.provider,
        oidc_loopback=settings.oidc_loopback,
    )
