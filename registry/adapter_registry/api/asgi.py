"""What `uvicorn` loads in each server process: the application on the settings of the environment."""

from __future__ import annotations

from starlette.applications import Starlette
from uvicorn.protocols.http import h11_impl, httptools_impl

from adapter_registry import app
from adapter_registry.api import metrics, tracing
from adapter_registry.api.server import Watch, make_app
from adapter_registry.background.sender import Sender
from adapter_registry.background.sweeper import Sweeper
from adapter_registry.outside.upstream import Upstream
from adapter_registry.settings import read_settings

WAITING = 512 << 10
"""Bytes of a request that wait for the application before reading from its connection pauses. uvicorn's 64 kB make an
upload twice as expensive: most of its time goes into pausing and going on."""


def create() -> Starlette:
    """The application of this process."""
    for protocol in (httptools_impl, h11_impl):
        setattr(protocol, "HIGH_WATER_LIMIT", WAITING)  # noqa: B010  a constant that it does not export
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
        watch=Watch(spans, settings.drain_seconds, beside=(sender, Sweeper(backend))),
        provider=settings.provider,
        oidc_loopback=settings.oidc_loopback,
    )
