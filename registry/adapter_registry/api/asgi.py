"""What `uvicorn` loads in each server process: the application on the settings of the environment."""

from __future__ import annotations

from starlette.applications import Starlette

from adapter_registry import app
from adapter_registry.api import metrics, tracing
from adapter_registry.api.server import Watch, make_app
from adapter_registry.sender import Sender
from adapter_registry.settings import read_settings
from adapter_registry.upstream import Upstream


def create() -> Starlette:
    """The application of this process."""
    settings = read_settings()
    spans = tracing.start() if settings.traced else None
    watchers = [metrics.watch_connections, *([spans.watch] if spans else [])]
    backend = app.served(settings, heard=metrics.count_event, watchers=watchers)
    sender = Sender(backend, allow_private=settings.private_webhooks)
    return make_app(
        backend,
        public_url=settings.public_url,
        hosts=settings.hosts,
        upstream=Upstream(settings.upstream_hub, settings.upstream_token) if settings.upstream_hub else None,
        watch=Watch(spans, settings.drain_seconds, beside=(sender,)),
        provider=settings.provider,
        oidc_loopback=settings.oidc_loopback,
    )
