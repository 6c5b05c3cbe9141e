"""deploy/ by real linters and against the program: every setting, route, command and file it names is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from adapter_registry.api.authentication import is_public

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
CONTAINERFILE = (DEPLOY / "Containerfile").read_text()
DOCUMENTS = [
    document
    for path in sorted(KUBERNETES.glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for document in yaml.safe_load_all(path.read_text())
]
OTHERS = {"AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "POD_IP"}
"""Variables that boto3 reads, and the pod's own."""


def ran(name: str, *arguments: object) -> str:
    """What a linter of this environment says; empty when it has nothing to say."""
    program = Path(sys.executable).with_name(name)
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def kinds(*wanted: str) -> list[dict]:
    return [document for document in DOCUMENTS if document["kind"] in wanted]


def pods() -> list[dict]:
    """The pod template's spec of everything that runs."""
    found = []
    for document in kinds("Deployment", "Job", "CronJob"):
        spec = document["spec"]
        found.append((spec.get("jobTemplate", {}).get("spec") or spec)["template"]["spec"])
    return found


def containers() -> list[dict]:
    return [each for pod in pods() for each in [*pod.get("initContainers", []), *pod["containers"]]]


class TestLinters:
    def test_the_container_file_passes_hadolint(self):
        assert ran("hadolint", DEPLOY / "Containerfile") == ""

    def test_every_yaml_file_passes_yamllint(self):
        assert ran("yamllint", "--strict", "-c", DEPLOY / "yamllint.yaml", DEPLOY) == ""

    def test_the_compose_file_passes_composes_own_schema(self):
        assert ran("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml") == ""

    @pytest.mark.parametrize("version", ["1.31", "1.37"])
    @pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: f"{d['kind']}-{d['metadata']['name']}")
    def test_every_manifest_passes_kubernetes_own_schema(self, document, version):
        kubernetes_validate.validate(document, version, strict=True)

    def test_the_linters_find_what_is_wrong(self, tmp_path):
        wrong = tmp_path / "compose.yaml"
        wrong.write_text(json.dumps({"services": {"server": {"imag": "x"}}}))
        assert "imag" in ran("check-jsonschema", "--builtin-schema", "vendor.compose-spec", wrong)
        broken = json.loads(json.dumps(kinds("Deployment")[0]))
        broken["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(broken, "1.37", strict=True)


class TestAgainstTheProgram:
    def test_every_variable_is_a_setting(self):
        settings = (ROOT / "registry/adapter_registry/settings.py").read_text()
        known = set(re.findall(r"ADAPTERS_[A-Z_]+", settings)) | OTHERS
        named = {name for service in COMPOSE["services"].values() for name in service.get("environment", {})}
        named -= {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD_FILE"}
        named |= {each["name"] for container in containers() for each in container.get("env", [])}
        named |= {name for each in kinds("ConfigMap") for name in each["data"]}
        named |= {name for each in kinds("Secret") for name in each["stringData"]}
        named |= set(re.findall(r"\b(ADAPTERS_[A-Z_]+)", CONTAINERFILE))
        assert named
        assert named - known == set()

    def test_every_variable_that_compose_asks_for_is_in_the_example(self):
        asked = set(re.findall(r"\$\{([A-Z_]+)", (DEPLOY / "compose.yaml").read_text()))
        assert asked == set(re.findall(r"^([A-Z_]+)=", (DEPLOY / "example.env").read_text(), re.MULTILINE))

    def test_every_command_of_ours_is_one(self):
        ours = [c["args"] for c in containers() if c["image"] == "adapter-registry"]
        ours += [s["command"] for s in COMPOSE["services"].values() if s["image"] == COMPOSE["x-server"]["image"]]
        ours.append(json.loads(re.search(r"^CMD (\[.*\])", CONTAINERFILE, re.MULTILINE)[1]))
        assert len(ours) >= 9
        for arguments in ours:
            command = [Path(sys.executable).with_name("adapters"), *arguments, "--help"]
            asked = subprocess.run(command, capture_output=True, text=True, check=False)
            assert asked.returncode == 0, (arguments, asked.stderr)
            options = {each for each in arguments if each.startswith("--")}
            assert options <= set(re.findall(r"--[a-z-]+", asked.stdout)), arguments

    def test_every_probe_asks_a_public_route_by_a_name_that_the_server_knows(self):
        [server] = [c for c in containers() if "serve" in c.get("args", [])]
        probes = {kind: server[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert {kind: probe["path"] for kind, probe in probes.items()} == {
            "startup": "/health",
            "liveness": "/health",
            "readiness": "/ready",
        }
        assert all(is_public("GET", probe["path"]) for probe in probes.values())
        assert all(probe["httpHeaders"] == [{"name": "Host", "value": "localhost"}] for probe in probes.values())

    def test_what_the_container_files_copy_is_there_and_not_ignored(self):
        kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        files = (CONTAINERFILE, (DEPLOY / "vllm" / "Containerfile").read_text())
        lines = [line for text in files for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)]
        sources = {source for line in lines for source in line.split()[:-1]}
        assert sources
        assert sources == kept
        assert all((ROOT / source).exists() for source in sources)

    def test_what_the_image_installs_has_no_torch_in_it(self):
        extras = re.search(r'"\.\[([a-z0-9,]+)\]"', CONTAINERFILE)[1].split(",")
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        wanted = [*project["dependencies"], *(r for e in extras for r in project["optional-dependencies"][e])]
        names = installed_with(wanted)
        assert {"uvicorn", "psycopg-binary", "boto3", "opentelemetry-sdk"} <= names
        assert not names & {"torch", "transformers", "peft", "triton"}


def installed_with(requirements: list[str]) -> set[str]:
    """The names of these packages and of all that they need, extras included."""
    from packaging.requirements import Requirement

    found: set[tuple[str, str]] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        wanted = waiting.pop()
        for extra in ["", *wanted.extras]:
            key = (wanted.name.lower().replace("_", "-"), extra)
            if key in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
                continue
            found.add(key)
            try:
                deeper = [Requirement(text) for text in requires(wanted.name) or []]
            except PackageNotFoundError:
                continue
            for each in deeper:
                if each.marker is None or each.marker.evaluate({"extra": extra}):
                    each.marker = None
                    waiting.append(each)
    return {name for name, _ in found}


class TestRules:
    @pytest.mark.parametrize("container", containers(), ids=lambda c: c["name"])
    def test_a_container_may_do_nothing_it_does_not_need(self, container):
        allowed = container["securityContext"]
        assert allowed["allowPrivilegeEscalation"] is False
        assert allowed["readOnlyRootFilesystem"] is True
        assert allowed["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]

    def test_a_pod_is_nobody_in_particular(self):
        for pod in pods():
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert pod["automountServiceAccountToken"] is False
            # The links of a Service `adapters` would be variables that begin like our settings.
            assert pod["enableServiceLinks"] is False

    def test_a_pod_has_the_time_to_drain_and_to_finish(self):
        [settings] = [each["data"] for each in kinds("ConfigMap")]
        needed = float(settings["ADAPTERS_DRAIN_SECONDS"]) + float(settings["ADAPTERS_GRACE_SECONDS"])
        [deployment] = kinds("Deployment")
        assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > needed
        assert deployment["spec"]["replicas"] >= 2
        server = COMPOSE["services"]["server"]
        assert int(server["stop_grace_period"][:-1]) > float(server["environment"]["ADAPTERS_GRACE_SECONDS"])

    def test_the_kustomization_has_every_file_but_the_example_of_a_secret(self):
        listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
        there = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml", "secret.example.yaml"}
        assert set(listed) == there

    def test_kustomize_accepts_it(self):
        if shutil.which("kubectl") is None:
            pytest.skip("NOT RENDERED: kubectl is not installed; the manifests are validated one by one")
        done = subprocess.run(["kubectl", "kustomize", KUBERNETES], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        rendered = list(yaml.safe_load_all(done.stdout))
        assert len(rendered) == len(DOCUMENTS) - 1
        for document in rendered:
            kubernetes_validate.validate(document, "1.37", strict=True)
