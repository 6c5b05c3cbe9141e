"""The Hub's clients that are in use, from the last before the rewrite of their HTTP layer to the newest.

What they must be able to do stands in `checks/`, scripts that know nothing of ours and run under an interpreter that
has one version of the client. Each says how many of its statements held, and which did not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.acceptance.hub.conftest import HubServer
from tests.acceptance.test_life import retrained
from tests.adapter_builders import changed_config, copied

CHECKS = Path(__file__).with_name("checks")
REPO = "team/sql-lora"
LEAST = {"asking": 120, "errors": 95, "downloading": 70, "pushing": 65, "commands": 70}
"""How many statements each script makes at least, whatever the version: none of them ends early unnoticed."""
VERSIONS = ("0.36.2", "1.20.1", "installed")
RUNS = [*((version, script) for version in VERSIONS for script in LEAST), ("1.12.0", "asking"), ("1.12.0", "pushing")]


@pytest.fixture(scope="session")
def interpreters(tmp_path_factory):
    """version -> a Python that has it, and nothing else; made once."""
    known: dict[str, str] = {"installed": sys.executable}

    def interpreter(version: str) -> str:
        if version not in known:
            known[version] = _installed(version, tmp_path_factory.mktemp(f"client-{version}"))
        return known[version]

    return interpreter


def _installed(version: str, folder: Path) -> str:
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip(f"huggingface_hub {version} cannot be installed: there is no uv beside {sys.executable}")
    python = str(folder / "bin" / "python")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder], check=True)
    wanted = [f"huggingface_hub=={version}", "hf_xet", "click"]
    done = subprocess.run([uv, "pip", "install", "-q", "--python", python, *wanted], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"huggingface_hub {version} cannot be installed: {done.stderr.decode()[-300:]}")
    return python


def prepared(server: HubServer) -> dict[str, object]:
    """What a script is told of a server: commits of its versions, and tokens of others; made once per server."""
    noted = server.folder / "prepared.json"
    if not noted.exists():
        registry = server.registry
        registry.create_account("late-client")
        tokens = {
            "expired": registry.create_token(account="late-client", expires_in_seconds=1).secret,
            "stranger": server.token_of("strange-client", ("other/*", "reader")),
            "reader": server.token_of("reading-client", ("team/*", "reader")),
        }
        commits = [registry.resolve(f"{REPO}@v{n}").digest.removeprefix("sha256:")[:40] for n in (1, 2)]
        noted.write_text(json.dumps({"url": server.url, "repo": REPO, "tokens": tokens, "commits": commits}))
        time.sleep(1.1)  # until the expired one is
    return json.loads(noted.read_text())


def run(server: HubServer, interpreter: str, script: str, given: dict[str, object], home: Path) -> dict[str, object]:
    """What a script found out. It may ask to have a version revoked on the way."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ADAPTERS_", "PYTHON"))},
        "HF_ENDPOINT": server.url,
        "HF_TOKEN": server.token,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_COLOR": "1",
    }
    with (home.parent / "errors.txt").open("w+") as errors:
        with subprocess.Popen(
            [interpreter, str(CHECKS / f"{script}.py"), json.dumps(given)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process:
            answer: dict[str, object] = {}
            for line in process.stdout:
                said = json.loads(line) if line.startswith('{"') else {}
                if "revoke" in said:
                    server.registry.revoke(str(said["revoke"]), because="it leaks")
                    process.stdin.write("\n")
                    process.stdin.flush()
                elif "held" in said:
                    answer = said
        errors.seek(0)
        assert process.returncode == 0, errors.read()[-3000:]
    return answer


def does_its_work(server: HubServer, interpreter: str, script: str, version: str, pushable: Path, folder: Path) -> None:
    factor = 1 + len(version) + sum(map(ord, version + script)) / 1000
    trained = retrained(pushable, folder / "trained", factor)
    other = retrained(trained, folder / "other", 1.5)
    invalid = copied(trained, folder / "invalid")
    changed_config(invalid, r=16)
    folders = {"adapter": str(trained), "other": str(other), "invalid": str(invalid)}
    name = f"team/{version.replace('.', '-')}-{script}"
    answer = run(server, interpreter, script, {**prepared(server), **folders, "new": name}, folder / "hf")
    assert answer["failed"] == []
    assert len(answer["held"]) >= LEAST[script]
    print(f"huggingface_hub {answer['version']}, {script}: {len(answer['held'])} checks")


@pytest.mark.parametrize(("version", "script"), RUNS)
def test_a_client_does_all_its_daily_work(hub, interpreters, version, script, pushable, tmp_path):
    does_its_work(hub, interpreters(version), script, version, pushable, tmp_path)


@pytest.mark.parametrize("script", ["downloading", "pushing", "errors"])
@pytest.mark.parametrize("version", ["0.36.2", "installed"])
def test_it_does_on_postgresql_and_s3_too(large_hub, interpreters, version, script, pushable, tmp_path):
    does_its_work(large_hub, interpreters(version), script, version, pushable, tmp_path)
