"""What an operator sees: counts of every server process, lines of JSON, spans."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from adapter_registry.client import Registry
from adapter_registry.settings import read_settings
from tests.server_process import Server, serving


def counts(server: Server) -> dict[str, float]:
    """Every sample that any one of the processes tells."""
    text = server.ask("GET", "/metrics")[1].decode()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


def requests(route: str, status: int = 200, method: str = "GET") -> str:
    return f'adapters_requests_total{{method="{method}",route="{route}",status="{status}"}}'


def workers_of(server: Server) -> list[int]:
    """The processes that serve, children of the one that was started."""
    pids = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}
    return [pid for pid, command in commands.items() if b"spawn_main" in command]


class TestCounts:
    def test_any_of_several_processes_answers_for_all(self, tmp_path):
        with serving(tmp_path, {}, "--workers", "3") as server:
            assert len(workers_of(server)) == 3
            environment = Path(f"/proc/{workers_of(server)[0]}/environ").read_text()
            folder = Path(re.search(r"PROMETHEUS_MULTIPROC_DIR=([^\0]+)", environment)[1])
            assert folder.is_dir()
            for _ in range(30):
                server.ask("GET", "/api/v1/whoami")
            told = [counts(server) for _ in range(12)]
            assert {each[requests("/api/v1/whoami")] for each in told} == {30.0}
            assert told[-1]["adapters_requests_in_flight"] == 1
            assert told[-1]['adapters_database_connections{state="open"}'] >= 1

            killed = workers_of(server)[0]
            os.kill(killed, signal.SIGKILL)
            deadline = time.monotonic() + 30
            while killed in workers_of(server) or len(workers_of(server)) < 3:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            server.ask("GET", "/api/v1/whoami")
            after = counts(server)
            assert after[requests("/api/v1/whoami")] == 31
            assert after["adapters_requests_in_flight"] == 1
        assert not folder.exists()

    def test_what_was_done_what_was_refused_and_how_much_went_through_is_counted(
        self, tmp_path, llama_folder, lora_folder
    ):
        with serving(tmp_path, {}) as server:
            home = {"ADAPTERS_HOME": f"{tmp_path}/mine", "ADAPTERS_CACHE": f"{tmp_path}/mine/cache"}
            where = {"ADAPTERS_URL": f"http://{server.host}", "ADAPTERS_TOKEN": server.token}
            registry = Registry(read_settings({**home, **where}))
            registry.add_base("org/llama", llama_folder)
            registry.push(lora_folder, base="org/llama", name="team/sql-lora", message="first")
            registry.attempt("team/sql-lora@v1", "dev")
            registry.attempt("team/sql-lora@v1", "prod")
            server.ask("GET", "/api/v1/adapters/team/nothing/versions/v1")
            server.ask("GET", "/api/models/team/nothing")
            server.ask("GET", "/api/v1/adapters", token="adapters_wrong")
            server.ask("BREW", "/api/v1/adapters")
            seen = counts(server)
        assert seen['adapters_events_total{action="push",outcome="done"}'] == 1
        assert sum(n for name, n in seen.items() if name.startswith('adapters_events_total{action="promote"')) == 2
        assert seen['adapters_refusals_total{code="not-found"}'] == 1
        assert seen['adapters_refusals_total{code="RepoNotFound"}'] == 1
        assert seen['adapters_refusals_total{code="unauthorised"}'] == 1
        weights = (lora_folder / "adapter_model.safetensors").stat().st_size
        assert seen["adapters_received_bytes_total"] > weights
        assert not [name for name in seen if "BREW" in name]
        route = "/api/v1/adapters/{adapter_namespace}/{adapter_name}/versions"
        bucket = f'adapters_request_seconds_bucket{{le="120.0",method="POST",route="{route}"}}'
        assert seen[bucket] == 1


def lines_of(server: Server) -> list[dict]:
    return [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]


class TestLines:
    def test_each_request_is_one_line_with_its_id_and_who_asked(self, tmp_path):
        with serving(tmp_path, {"ADAPTERS_LOG_REQUESTS": "1"}) as server:
            headers = server.ask("GET", "/api/v1/adapters?search=x")[2]
            server.ask("GET", "/api/v1/adapters", token="adapters_wrong")
        first, second = [line for line in lines_of(server) if line.get("path") == "/api/v1/adapters"]
        assert first["request"] == headers["x-request-id"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", first["at"])
        assert (first["account"], first["status"], first["route"]) == ("admin", 200, "/api/v1/adapters")
        assert (second["account"], second["status"]) == (None, 401)

    @pytest.mark.parametrize("switch", ["", "1"])
    def test_without_the_switch_there_are_none(self, tmp_path, switch):
        with serving(tmp_path, {"ADAPTERS_LOG_REQUESTS": switch}) as server:
            server.ask("GET", "/api/v1/adapters")
        assert bool(lines_of(server)) is bool(switch)
