"""What deploy/compose.yaml starts, started without containers: its commands and variables, word for word.

As root, each process runs as compose says: on a file system that it can only read, but for the folders that are mounted
there, without a single capability (`read_only`, `cap_drop`, `no-new-privileges`). Different from compose: addresses and
ports, the user's number, and PostgreSQL's own command.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from adapter_registry.client import Registry
from adapter_registry.settings import read_settings
from tests import servers
from tests.servers import PostgresProcess

pytestmark = pytest.mark.xdist_group("compose")
DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
CONFINED = """
for folder in tmp backup; do mount --bind "$1/$folder" "$1/$folder"; done
mount -o remount,bind,ro /
shift
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""
PASSWORD = "p@ss/w:rd"
BUCKET_SECRET = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Stack:
    """The services of the compose file on this machine's ports."""

    folder: Path
    bucket_port: int
    server_port: int
    database: str

    def environment(self, service: str) -> dict[str, str]:
        given = {
            "ADAPTERS_PUBLIC_URL": f"http://localhost:{self.server_port}",
            "ADAPTERS_BLOBS_PUBLIC_URL": f"http://localhost:{self.bucket_port}",
            "BUCKET_SECRET": BUCKET_SECRET,
        }
        places = {
            "postgresql://adapters@database/adapters": self.database,
            "/run/secrets/": f"{self.folder}/",
            "http://bucket:8333": f"http://127.0.0.1:{self.bucket_port}",
        }
        variables = {}
        for name, value in SERVICES[service].get("environment", {}).items():
            text = re.sub(r"\$\{([A-Z_]+)[^}]*\}", lambda found: given[found[1]], str(value))
            for written, real in places.items():
                text = text.replace(written, real)
            variables[name] = text
        image = {"ADAPTERS_HOME": "/var/lib/adapters", "ADAPTERS_CACHE": f"{self.folder}/tmp/cache"}
        own = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "NO_COLOR": "1"}
        return {**own, **image, **variables, "TMPDIR": f"{self.folder}/tmp", "PYTHONDONTWRITEBYTECODE": "1"}

    def started(self, service: str, *extra: str, command: list[str] | None = None) -> subprocess.Popen:
        places = {"8321": str(self.server_port), "0.0.0.0": "127.0.0.1", "/backup": f"{self.folder}/backup"}
        words = [places.get(word, word) for word in (command or SERVICES[service]["command"])]
        return subprocess.Popen(
            [*self.confinement(), Path(sys.executable).with_name("adapters"), *words, *extra],
            env=self.environment(service),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def confinement(self) -> list[str]:
        """What comes before a command so that it may do what a container may; nothing where that takes root."""
        if os.geteuid() or not shutil.which("unshare") or not shutil.which("setpriv"):
            return []
        return ["unshare", "--mount", "--propagation=private", "sh", "-ceu", CONFINED, "sh", str(self.folder)]

    def ran(self, service: str, *extra: str, command: list[str] | None = None) -> str:
        process = self.started(service, *extra, command=command)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, (service, out, err)
        return out

    def answers(self, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server_port, timeout=20)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response.status, data, dict(response.headers)


@pytest.fixture(scope="module")
def postgres_here() -> Iterator[PostgresProcess]:
    with servers.postgres_process(password=PASSWORD) as running:
        yield running


@pytest.fixture(scope="module")
def stack(postgres_here) -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="adapters-compose-", dir="/tmp"))
    ports = servers._free_ports(12)
    import psycopg

    with psycopg.connect(postgres_here.url(password=PASSWORD), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE adapters LOGIN PASSWORD '{PASSWORD}'")
        for name in ("adapters", "restored"):
            connection.execute(f"CREATE DATABASE {name} OWNER adapters")
    try:
        for name in ("tmp", "backup"):
            (folder / name).mkdir()
        (folder / "database_password").write_text(PASSWORD + "\n")
        running = Stack(folder, ports[0], ports[1], postgres_here.url("adapters", user="adapters"))
        bucket = bucket_started(running, ports[2:])
        try:
            yield running
        finally:
            bucket.kill()
            bucket.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def bucket_started(stack: Stack, ports: list[int]) -> subprocess.Popen:
    """The bucket's command, with ports of its own for what compose leaves at its defaults."""
    data = stack.folder / "bucket"
    data.mkdir()
    places = {"-dir=/data": f"-dir={data}", "-s3.port=8333": f"-s3.port={stack.bucket_port}"}
    places["-ip.bind=0.0.0.0"] = "-ip.bind=127.0.0.1"
    words = [places.get(word, word) for word in SERVICES["bucket"]["command"]]
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    words += [f"-{name}={port}" for name, port in zip((*names, "s3.port.grpc"), ports, strict=False)]
    words += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-admin.port={ports[7]}", f"-admin.port.grpc={ports[8]}"]
    words += [f"-s3.localSocket={data}/s3.sock", f"-filer.localSocket={data}/filer.sock"]
    environment = {**stack.environment("bucket"), "HOME": str(data)}
    with (stack.folder / "bucket.log").open("wb") as log:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("weed"), *words], env=environment, cwd=data, stdout=log, stderr=log
        )
    [health] = [word for word in SERVICES["bucket"]["healthcheck"]["test"] if word.startswith("http")]
    assert servers._answers(process, health.replace("8333", str(stack.bucket_port))), (
        stack.folder / "bucket.log"
    ).read_text()[-3000:]
    return process


@pytest.fixture(scope="module")
def server(stack) -> Iterator[subprocess.Popen]:
    stack.ran("migrate")
    process = stack.started("server")
    try:
        assert servers._answers(process, f"http://127.0.0.1:{stack.server_port}/ready"), process.stderr.read()
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def registry(stack, server, llama_folder, lora_folder) -> Registry:
    token = stack.ran("server", command=["admin", "token", "-q"]).strip()
    url = f"http://127.0.0.1:{stack.server_port}"
    home = {"ADAPTERS_HOME": str(stack.folder / "mine"), "ADAPTERS_CACHE": str(stack.folder / "mine" / "cache")}
    registry = Registry(read_settings({**home, "ADAPTERS_URL": url, "ADAPTERS_TOKEN": token}))
    registry.add_base("org/llama", llama_folder)
    registry.push(lora_folder, base="org/llama", name="team/sql-lora", message="first")
    return registry


def test_the_containers_own_health_check_passes(stack, server):
    line = re.search(r"^ +CMD (\[\"python\".*\])$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)[1]
    words = json.loads(line.replace("8321", str(stack.server_port)))
    assert subprocess.run([sys.executable, *words[1:]], check=False).returncode == 0
    nowhere = json.loads(line.replace("8321", "1"))
    assert subprocess.run([sys.executable, *nowhere[1:]], capture_output=True, check=False).returncode != 0


def test_four_processes_serve_what_was_pushed_and_hand_out_the_buckets_public_address(stack, registry, lora_folder):
    token = registry._settings.token
    path = "/team/sql-lora/resolve/v1/adapter_model.safetensors"
    status, _, headers = stack.answers(path, Authorization=f"Bearer {token}")
    assert status == 302
    assert headers["location"].startswith(f"http://localhost:{stack.bucket_port}/adapters/blobs/sha256/")
    with urllib.request.urlopen(headers["location"]) as answer:
        assert answer.read() == (lora_folder / "adapter_model.safetensors").read_bytes()
    metrics = stack.answers("/metrics", Authorization=f"Bearer {token}")[1].decode()
    assert 'adapters_events_total{action="push",outcome="done"} 1.0' in metrics


def test_the_server_told_no_token(stack, server, registry):
    os.set_blocking(server.stdout.fileno(), False)
    printed = server.stdout.read() or ""
    assert "serving PostgreSQL adapters at" in printed
    assert "TOKEN" not in printed


def test_upkeep_dumps_backs_up_and_restores(stack, registry, postgres_here):
    assert json.loads(stack.ran("collect", "--json"))["blobs"] == 0
    programs = postgres_here.programs
    script = SERVICES["dump"]["command"][0].replace("$$", "$").replace("/backup", f"{stack.folder}/backup")
    script = script.replace("/run/secrets", str(stack.folder))
    script = script.replace("postgresql://adapters@database/adapters", f"'{stack.database}'")
    shell = [*SERVICES["dump"]["entrypoint"], script]
    subprocess.run(shell, env={"PATH": f"{programs}:/usr/bin:/bin"}, check=True)
    copied = json.loads(stack.ran("backup", "--json"))
    assert copied["new"] == copied["blobs"] > 0
    again = json.loads(stack.ran("backup", "--json"))
    assert (again["blobs"], again["new"]) == (copied["blobs"], 0)

    environment = {
        **stack.environment("backup"),
        "ADAPTERS_DATABASE_URL": postgres_here.url("restored", user="adapters"),
        "ADAPTERS_BLOBS_URL": "s3://adapters/restored",
        "PATH": f"{programs}:/usr/bin:/bin",
    }
    command = [Path(sys.executable).with_name("adapters"), "admin"]

    def ran(*words: str) -> dict:
        done = subprocess.run([*command, *words, "--json"], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    assert ran("restore", str(stack.folder / "backup"))["blobs"] == copied["blobs"]
    report = ran("check", "--read-data")
    assert report["damage"] == []
    assert report["blobs"] == copied["blobs"]


def test_the_dump_of_the_manifests_is_one_that_restore_reads(stack, registry, postgres_here, tmp_path):
    jobs = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "upkeep.yaml").read_text()))
    [job] = [each for each in jobs if (each["kind"], each["metadata"]["name"]) == ("CronJob", "adapters-backup")]
    [dump] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["initContainers"]
    words = [word.replace("/backup", str(tmp_path)) for word in [*dump["command"], *dump["args"]]]
    environment = {"PATH": f"{postgres_here.programs}:/usr/bin:/bin"}
    url = postgres_here.url("adapters", user="adapters", password=PASSWORD)
    subprocess.run(words, env={**environment, "ADAPTERS_DATABASE_URL": url}, check=True)
    listed = subprocess.run(
        [postgres_here.programs / "pg_restore", "--list", tmp_path / "registry.dump"], capture_output=True, text=True
    )
    assert "TABLE DATA public versions adapters" in listed.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["registry.dump"]


def test_what_a_container_may_not_write_to_is_not_written_to(stack, server):
    if not stack.confinement():
        pytest.skip("NOT CONFINED: that takes root, unshare and setpriv")
    trial = subprocess.run([*stack.confinement(), "touch", "/var/tmp/adapters-trial"], capture_output=True, text=True)
    assert "Read-only file system" in trial.stderr
    granted = subprocess.run([*stack.confinement(), "grep", "CapEff", "/proc/self/status"], capture_output=True)
    assert int(granted.stdout.split()[1], 16) == 0


def test_told_to_stop_it_stops_within_the_grace_it_has(stack, registry):
    [port] = servers._free_ports(1)
    other = stack.started("server", "--port", str(port))
    assert servers._answers(other, f"http://127.0.0.1:{port}/ready"), other.stderr.read()
    other.send_signal(signal.SIGTERM)
    assert other.wait(timeout=int(SERVICES["server"]["stop_grace_period"][:-1])) == 0
    other.communicate()
