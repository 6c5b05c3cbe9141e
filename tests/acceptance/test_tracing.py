"""Spans, for who set OpenTelemetry's own variables; received by a collector's protocol."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.otlp_receiver import facts, receiver
from tests.server_process import serving

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.fixture
def seen(tmp_path):
    """(spans received, lines logged, request id) after one request of a caller that traces, by two processes."""
    with receiver() as collector:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "ADAPTERS_LOG_REQUESTS": "1"}
        with serving(tmp_path, settings, "--workers", "2") as server:
            import http.client

            connection = http.client.HTTPConnection(server.host, timeout=30)
            headers = {"Authorization": f"Bearer {server.token}", "traceparent": f"00-{TRACE}-{PARENT}-01"}
            connection.request("GET", "/api/v1/adapters/team/x/versions?before=5", headers=headers)
            identity = connection.getresponse().headers["x-request-id"]
            connection.close()
            server.ask("GET", "/api/v1/whoami", token="adapters_wrong")
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    return collector, lines, identity


def test_a_request_is_a_span_below_its_callers_with_the_statements_below_it(seen):
    collector, lines, identity = seen
    [span] = [each for each in collector.spans() if each.parent_span_id.hex() == PARENT]
    route = "/api/v1/adapters/{adapter_namespace}/{adapter_name}/versions"
    assert span.name == f"GET {route}"
    assert span.trace_id.hex() == TRACE
    told = facts(span)
    assert told["http.route"] == route
    assert told["http.response.status_code"] in (200, 404)
    assert (told["adapters.request_id"], told["enduser.id"]) == (identity, "admin")
    below = [each for each in collector.spans() if each.parent_span_id == span.span_id]
    assert "SELECT" in {each.name for each in below}
    assert not [each for each in below if "team/x" in str(each)]
    [line] = [each for each in lines if each.get("request") == identity]
    assert line["trace"] == TRACE


def test_a_refused_request_has_a_span_without_an_account(seen):
    collector, _, _ = seen
    [span] = [each for each in collector.spans() if facts(each).get("http.response.status_code") == 401]
    assert "enduser.id" not in facts(span)


def test_the_service_has_a_name_unless_it_is_given_one(seen):
    assert seen[0].services() == {"adapters"}


def test_without_the_extra_the_server_serves_and_says_that_nothing_is_traced(tmp_path):
    """The packages are hidden, as if they were not installed."""
    hidden = tmp_path / "hidden"
    (hidden / "opentelemetry").mkdir(parents=True)
    (hidden / "opentelemetry" / "__init__.py").write_text("raise ImportError('not installed', name='opentelemetry')\n")
    import os

    path = f"{hidden}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "PYTHONPATH": path}
    with serving(tmp_path, settings) as server:
        assert server.ask("GET", "/api/v1/whoami")[0] == 200
    assert "pip install 'adapter-registry[otel]'" in server.log.read_text()


@pytest.mark.parametrize("settings", [{}, {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}])
def test_without_the_variables_nothing_of_it_is_imported(settings):
    script = (
        "import sys\nfrom adapter_registry.settings import read_settings\nfrom adapter_registry.api import asgi\n"
        f"assert not read_settings({settings!r}).traced\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    assert subprocess.run([Path(sys.executable), "-c", script], check=False).returncode == 0
