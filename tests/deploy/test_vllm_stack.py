"""deploy/vllm: by real linters; and its services as processes, their commands and variables word for word.

vLLM itself is `vllm_process`, which loads the plugins as vLLM does and has no engine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from adapter_registry.client import Registry
from adapter_registry.domain.people.account import AccountKind
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.settings import read_settings
from tests import servers
from tests.acceptance.test_life import retrained
from tests.adapter_builders import llama
from tests.deploy.stalling_proxy import StallingProxy
from tests.deploy.test_files import DEPLOY, ROOT, ran

pytestmark = pytest.mark.xdist_group("vllm-stack")
COMPOSE = yaml.safe_load((DEPLOY / "vllm" / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
REPLICAS = ("vllm-1", "vllm-2")
DOCUMENTS = list(yaml.safe_load_all((DEPLOY / "vllm" / "kubernetes.yaml").read_text()))
FOLLOWED = "team/sql-lora"
PATIENCE = 150
"""Seconds after which nothing happens any more, on the busiest machine."""


def kind(wanted: str) -> dict:
    [document] = [each for each in DOCUMENTS if each["kind"] == wanted]
    return document


POD = kind("Deployment")["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]


class TestFiles:
    def test_linters_find_nothing(self):
        assert ran("hadolint", DEPLOY / "vllm" / "Containerfile") == ""
        compose = DEPLOY / "vllm" / "compose.yaml"
        assert ran("check-jsonschema", "--builtin-schema", "vendor.compose-spec", compose) == ""

    @pytest.mark.parametrize("version", ["1.31", "1.37"])
    @pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d["kind"])
    def test_every_manifest_passes_kubernetes_own_schema(self, document, version):
        kubernetes_validate.validate(document, version, strict=True)

    def test_both_start_replicas_the_same_way(self):
        """What compose says once for both replicas is what the pods get; only where things lie differs."""
        for name in REPLICAS:
            assert SERVICES[name]["command"] == CONTAINER["args"]
        variables = kind("ConfigMap")["data"]
        assert {"ADAPTERS_URL", "HOME"} >= {
            name for name, value in variables.items() if SERVICES["vllm-1"]["environment"].get(name) != value
        }
        assert SERVICES["vllm-1"]["healthcheck"]["test"][1:] == CONTAINER["readinessProbe"]["exec"]["command"]

    def test_every_variable_is_a_setting(self):
        known = set(re.findall(r"ADAPTERS_[A-Z_]+", (ROOT / "registry/adapter_registry/settings.py").read_text()))
        named = {name for each in SERVICES.values() for name in each["environment"]} | set(kind("ConfigMap")["data"])
        assert {name for name in named if name.startswith("ADAPTERS_")} <= known

    def test_every_variable_that_compose_asks_for_is_in_the_example(self):
        asked = set(re.findall(r"\$\{([A-Z_]+)", (DEPLOY / "vllm" / "compose.yaml").read_text()))
        example = (DEPLOY / "vllm" / "example.env").read_text()
        assert asked == set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE))

    def test_the_registry_starts_before_there_is_a_token_of_it(self):
        """Compose fills in the whole file, whichever service is started, and stops at `:?` where a value is empty."""
        needed = set(re.findall(r"\$\{([A-Z_]+):\?", (DEPLOY / "vllm" / "compose.yaml").read_text()))
        assert needed == {"MODEL_FOLDER", "VLLM_API_KEY"}

    def test_a_pod_is_nobody_in_particular_and_may_do_nothing_it_does_not_need(self):
        assert POD["securityContext"]["runAsNonRoot"] is True
        assert POD["automountServiceAccountToken"] is POD["enableServiceLinks"] is False
        allowed = CONTAINER["securityContext"]
        assert allowed["readOnlyRootFilesystem"] is True
        assert allowed["capabilities"] == {"drop": ["ALL"]}


@dataclass
class Replica:
    """One of the replicas, which can be killed and started again."""

    name: str
    folder: Path
    port: int
    environment: dict[str, str]
    command: list[str]
    process: subprocess.Popen | None = None

    def start(self) -> None:
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, cwd=ROOT, stdout=log, stderr=log)
        until(lambda: answers(f"http://127.0.0.1:{self.port}/health"))

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def healthy(self) -> bool:
        """What compose's health check says."""
        words = [word.replace(":8000/", f":{self.port}/") for word in SERVICES[self.name]["healthcheck"]["test"][2:]]
        checked = subprocess.run([sys.executable, *words], env=self.environment, capture_output=True, check=False)
        return checked.returncode == 0

    def asked(self, path: str, body: object = None) -> tuple[int, dict]:
        headers = {"Authorization": f"Bearer {self.environment['VLLM_API_KEY']}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, {}

    def serves(self, name: str = "sql") -> str:
        """The folder that a request for a name is computed with; empty while there is none."""
        status, answer = self.asked("/v1/completions", {"model": name})
        return answer["choices"][0]["text"] if status == 200 else ""

    def line(self) -> dict:
        [found] = [each for each in self.asked("/v1/adapters")[1]["adapters"] if each["name"] == "sql"]
        return found

    def kept(self) -> list[str]:
        """What lies beside whole versions in the cache."""
        versions = Path(self.environment["ADAPTERS_CACHE"]) / "versions"
        return [path.name for path in versions.iterdir() if not path.name.startswith("sha256-")]


class Stack:
    """The registry and two replicas on this machine's ports; replicas reach the registry through a proxy."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self._model = folder, model
        self.port = servers._free_ports(1)[0]
        self.proxy = StallingProxy("127.0.0.1", self.port, names="adapter_model.safetensors", passes=1_000)
        self.registry: subprocess.Popen | None = None

    def environment(self, service: str, places: dict[str, str]) -> dict[str, str]:
        variables = {name: str(value) for name, value in SERVICES[service]["environment"].items()}
        for written, real in places.items():
            variables = {name: value.replace(written, real) for name, value in variables.items()}
        own = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        return {**own, "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1", **variables}

    def start(self) -> None:
        places = {"8321": str(self.port), "0.0.0.0": "127.0.0.1"}
        words = [places.get(word, word) for word in SERVICES["registry"]["command"]]
        with (self.folder / "registry.log").open("ab") as log:
            self.registry = subprocess.Popen([self._adapters, *words], env=self.homed(), stdout=log, stderr=log)
        until(lambda: answers(f"http://127.0.0.1:{self.port}/ready"))

    def stop(self) -> None:
        if self.registry is not None:
            self.registry.terminate()
            self.registry.wait(60)

    def homed(self) -> dict[str, str]:
        homes = {"ADAPTERS_HOME": str(self.folder / "home"), "ADAPTERS_CACHE": str(self.folder / "cache")}
        return {**self.environment("registry", {}), **homes}

    def admin_token(self) -> str:
        told = subprocess.run(
            [self._adapters, "admin", "token", "-q"], env=self.homed(), capture_output=True, text=True, check=True
        )
        return told.stdout.strip()

    @property
    def _adapters(self) -> Path:
        return Path(sys.executable).with_name("adapters")

    def replica(self, name: str, token: str) -> Replica:
        port = servers._free_ports(1)[0]
        [mounted] = [each for each in SERVICES[name]["volumes"] if each.endswith(":/adapters")]
        places = {
            "http://registry:8321": self.proxy.url,
            "/adapters/": f"{self.folder / mounted.partition(':')[0]}/",
            "${ADAPTERS_TOKEN?see example.env}": token,
            "${VLLM_API_KEY:?see example.env}": "sk-clients",
        }
        words = {"/model": str(self._model), "--port=8000": f"--port={port}"}
        command = [sys.executable, "-m", "tests.deploy.vllm_process"]
        command += [words.get(word, word) for word in SERVICES[name]["command"]]
        return Replica(name, self.folder, port, self.environment(name, places), command)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def until(true) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def stack(tmp_path_factory, llama_folder):
    made = Stack(tmp_path_factory.mktemp("vllm-stack"), llama_folder)
    try:
        made.start()
        yield made
    finally:
        made.proxy.close()
        made.stop()


@pytest.fixture(scope="module")
def registry(stack, llama_folder, lora_folder):
    """team/sql-lora: v1 and v2 for the Llama, v3 for another one."""
    home = stack.folder / "mine"
    client = {"ADAPTERS_HOME": str(home), "ADAPTERS_CACHE": str(home), "ADAPTERS_URL": f"http://127.0.0.1:{stack.port}"}
    client["ADAPTERS_TOKEN"] = stack.admin_token()
    there = Registry(read_settings(client))
    there.add_base("llama", llama_folder)
    there.add_base("other", llama(home / "other", seed=7))
    there.push(lora_folder, base="llama", name=FOLLOWED)
    there.push(retrained(lora_folder, home / "again", 1.5), base="llama", name=FOLLOWED)
    there.push(retrained(lora_folder, home / "others", 2.0), base="other", name=FOLLOWED)
    there.set_policy("prod", Policy("prod"))
    return there


@pytest.fixture(scope="module")
def replicas(stack, registry):
    """Both replicas with the token that compose.yaml's comments say how to make."""
    registry.create_account("vllm", kind=AccountKind.SERVICE)
    registry.grant("vllm", "team/*", ("reader",))
    token = registry.create_token(account="vllm").secret
    made = [stack.replica(name, token) for name in REPLICAS]
    try:
        for each in made:
            each.start()
        yield made
    finally:
        for each in made:
            each.kill()


@pytest.fixture
def served(registry, replicas):
    """Both replicas at v1."""
    registry.promote(f"{FOLLOWED}@v1", "prod")
    until(lambda: all(each.line()["version"] == f"{FOLLOWED}@v1" for each in replicas))
    return replicas


def folder_name(registry, version: str) -> str:
    return registry.resolve(f"{FOLLOWED}@{version}").digest.replace(":", "-")


def test_replicas_are_healthy_once_they_serve_what_the_stage_points_to(registry, replicas):
    assert not any(each.healthy() for each in replicas)
    registry.promote(f"{FOLLOWED}@v1", "prod")
    until(lambda: all(each.healthy() for each in replicas))
    assert {Path(each.serves()).name for each in replicas} == {folder_name(registry, "v1")}


def test_a_promotion_and_a_rollback_reach_every_replica(registry, served):
    registry.promote(f"{FOLLOWED}@v2", "prod")
    until(lambda: {Path(each.serves()).name for each in served} == {folder_name(registry, "v2")})
    registry.rollback(FOLLOWED, "prod", to=f"{FOLLOWED}@v1")
    until(lambda: {Path(each.serves()).name for each in served} == {folder_name(registry, "v1")})


def test_a_version_for_another_base_leaves_what_serves_everywhere(registry, served):
    registry.promote(f"{FOLLOWED}@v3", "prod")
    until(lambda: all("is not for the base model that runs here" in each.line()["refused"] for each in served))
    assert {Path(each.serves()).name for each in served} == {folder_name(registry, "v1")}
    assert all(each.healthy() for each in served)


def test_requests_name_what_may_be_served_and_nothing_else(registry, served):
    one = served[0]
    assert Path(one.serves(f"{FOLLOWED}@v2")).name == folder_name(registry, "v2")
    assert [one.asked("/v1/completions", {"model": name})[0] for name in ("other/sql@v1", "../x@prod")] == [404, 404]


def test_a_replica_killed_in_the_middle_of_a_download_starts_anew_and_leaves_nothing_half(stack, registry, served):
    one, other = served
    digest = registry.resolve(f"{FOLLOWED}@v2").digest
    for each in served:
        shutil.rmtree(Path(each.environment["ADAPTERS_CACHE"]) / "versions" / digest.replace(":", "-"), True)
    stack.proxy.stalling.set()
    registry.promote(f"{FOLLOWED}@v2", "prod")
    until(lambda: all(len(each.kept()) == 1 for each in served))
    one.kill()
    stack.proxy.stalling.clear()
    one.start()
    until(lambda: {Path(each.serves()).name for each in served} == {folder_name(registry, "v2")})
    assert other.kept() == []
    [half] = one.kept()
    left = Path(one.environment["ADAPTERS_CACHE"]) / "versions" / half
    for path in (*left.rglob("*"), left):
        os.utime(path, (1, 1))
    registry.promote(f"{FOLLOWED}@v1", "prod")
    shutil.rmtree(left.with_name(folder_name(registry, "v1")))
    one.kill()
    one.start()
    until(lambda: Path(one.serves()).name == folder_name(registry, "v1"))
    assert one.kept() == []


def test_a_registry_that_is_down_changes_nothing_and_a_replica_that_starts_meanwhile_waits_for_it(
    stack, registry, served
):
    one, other = served
    before = other.serves()
    stack.stop()
    assert other.serves() == before != ""
    assert other.healthy()
    one.kill()
    one.start()
    assert not one.healthy()
    stack.start()
    until(one.healthy)


def test_vllm_does_not_start_with_several_api_servers(served):
    one = served[0]
    command = [*one.command, "--api-server-count=2"]
    done = subprocess.run(
        command, env=one.environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "2 API server processes" in done.stderr
