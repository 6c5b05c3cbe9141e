"""What `uvicorn` loads in each server process: the application on the settings of the environment."""

from __future__ import annotations

from starlette.applications import Starlette

from adapter_registry import app
from adapter_registry.api import metrics, tracing
from adapter_registry.api.server import Watch, make_app
from adapter_registry.settings import read_settings


def create() -> Starlette:
    """The application of this process."""
    settings = read_settings()
    spans = tracing.start() if settings.traced else None
    watchers = [metrics.watch_connections, *([spans.watch] if spans else [])]
    return make_app(
        app.served(settings, heard=metrics.count_event, watchers=watchers),
        public_url=settings.public_url,
        hosts=settings.hosts,
        watch=Watch(spans, settings.drain_seconds),
    )
