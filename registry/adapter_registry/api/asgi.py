"""What `uvicorn` loads in each server process: the application on the settings of the environment."""

from __future__ import annotations

from starlette.applications import Starlette

from adapter_registry import app
from adapter_registry.api.observed import log_to_stderr
from adapter_registry.api.server import make_app
from adapter_registry.sender import Sender
from adapter_registry.settings import read_settings
from adapter_registry.upstream import Upstream


def create() -> Starlette:
    """The application of this process."""
    settings = read_settings()
    if settings.log_requests:
        log_to_stderr()
    backend = app.served(settings)
    return make_app(
        backend,
        public_url=settings.public_url,
        hosts=settings.hosts,
        upstream=Upstream(settings.upstream_hub, settings.upstream_token) if settings.upstream_hub else None,
        beside=(Sender(backend, allow_private=settings.private_webhooks),),
    )
