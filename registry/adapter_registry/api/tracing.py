"""A span for each request and each statement, to where the standard OTEL_* variables say; nothing without them.

OpenTelemetry reads its own variables: endpoint, headers, sampler, service name. Spans hold the route with its places
unfilled, never an address, a header or a value.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from starlette.datastructures import Headers

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

LONGEST_STATEMENT = 2_000
_SPANS = "adapters.spans"
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
        """A span for each statement of a traced request; its text has placeholders where values were."""
        from opentelemetry.trace import SpanKind, StatusCode, get_current_span  # noqa: PLC0415  an extra

        # OpenTelemetry's own package for SQLAlchemy refuses to watch 2.1 and later.
        def begun(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
            span = None
            if get_current_span().is_recording():
                told = {"db.system.name": engine.dialect.name, "db.query.text": statement[:LONGEST_STATEMENT]}
                span = self._tracer.start_span(statement.split(None, 1)[0], kind=SpanKind.CLIENT, attributes=told)
            connection.info.setdefault(_SPANS, []).append(span)

        def ended(connection: Connection, *_: Any) -> None:
            if span := connection.info[_SPANS].pop():
                span.end()

        def failed(context: ExceptionContext) -> None:
            running = context.connection.info.get(_SPANS) if context.connection is not None else None
            if running and (span := running.pop()):
                span.set_status(StatusCode.ERROR)
                span.end()

        event.listen(engine, "before_cursor_execute", begun)
        event.listen(engine, "after_cursor_execute", ended)
        event.listen(engine, "handle_error", failed)

    def close(self) -> None:
        """Send what is not sent yet."""
        self._provider.shutdown()


def is_installed() -> bool:
    """Whether the `otel` extra is there."""
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter  # noqa: PLC0415
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
