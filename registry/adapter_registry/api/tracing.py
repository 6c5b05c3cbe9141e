"""A span for each request and each statement, to where the standard OTEL_* variables say; nothing without them.

OpenTelemetry reads its own variables: endpoint, headers, sampler, service name. Spans hold the route with its places
unfilled, never an address, a header or a value.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine
from starlette.datastructures import Headers

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

MISSING = "OTEL_EXPORTER_OTLP_ENDPOINT is set, but nothing is traced: pip install 'adapter-registry[otel]'."


class Span:
    """One request's span while it runs."""

    def __init__(self, span: Any) -> None:
        self._span = span
        self.trace = format(span.get_span_context().trace_id, "032x")

    def ended(self, *, method: str, route: str, status: int, request: str, account: str | None) -> None:
        """Note how the request was answered."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415  an extra

        self._span.update_name(f"{method} {route}")
        facts = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
        facts |= {"adapters.request_id": request, **({"enduser.id": account} if account else {})}
        self._span.set_attributes(facts)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)


class Tracing:
    """Makes spans and sends them."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("adapter_registry")

    @contextmanager
    def span(self, headers: Headers) -> Iterator[Span]:
        """A span for a request, below the caller's own where a `traceparent` came with it."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415  an extra
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        parent = TraceContextTextMapPropagator().extract(headers)
        # An error's text may hold what a caller sent; its status says enough.
        with self._tracer.start_as_current_span(
            "request", context=parent, kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            yield Span(span)

    def watch(self, engine: Engine) -> None:
        """A span for each statement; its text has placeholders where values were."""
        from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor  # noqa: PLC0415

        SQLAlchemyInstrumentor().instrument(engine=engine, tracer_provider=self._provider)

    def close(self) -> None:
        """Send what is not sent yet."""
        self._provider.shutdown()


def is_installed() -> bool:
    """Whether the `otel` extra is there."""
    try:
        import opentelemetry.exporter.otlp.proto.http  # noqa: PLC0415
        import opentelemetry.instrumentation.sqlalchemy  # noqa: PLC0415
        import opentelemetry.sdk.trace  # noqa: F401, PLC0415
    except ImportError:
        return False
    return True


def start() -> Tracing | None:
    """Tracing as the environment configures it; None, and a warning, without the `otel` extra."""
    if not is_installed():
        logging.getLogger("adapters.tracing").warning(MISSING)
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    named = Resource.create()  # from OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
    unnamed = str(named.attributes.get("service.name", "unknown_service")).startswith("unknown_service")
    provider = TracerProvider(resource=named.merge(Resource({"service.name": "adapters"})) if unnamed else named)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)
