"""The Hub's clients that are in use, from the last before the rewrite of their HTTP layer to the newest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.test_life import retrained
from tests.adapter_builders import changed_config, copied

SCRIPT = Path(__file__).with_name("client_script.py")


@pytest.fixture(scope="session")
def interpreter(request, tmp_path_factory) -> str:
    """A Python that has one version of the client, and nothing else."""
    if request.param == "installed":
        return sys.executable
    folder = tmp_path_factory.mktemp(f"client-{request.param}")
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip(f"huggingface_hub {request.param} cannot be installed: there is no uv beside {sys.executable}")
    python = str(folder / "bin" / "python")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder], check=True)
    wanted = [f"huggingface_hub=={request.param}", "hf_xet", "click"]
    done = subprocess.run([uv, "pip", "install", "-q", "--python", python, *wanted], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"huggingface_hub {request.param} cannot be installed: {done.stderr.decode()[-300:]}")
    return python


@pytest.mark.parametrize("interpreter", ["0.36.2", "1.12.0", "1.20.1", "installed"], indirect=True)
def test_a_client_does_all_its_daily_work(hub, interpreter, pushable, tmp_path, request):
    works(hub, interpreter, request.node.callspec.params["interpreter"], pushable, tmp_path)


@pytest.mark.parametrize("interpreter", ["0.36.2", "installed"], indirect=True)
def test_it_does_on_postgresql_and_s3_too(large_hub, interpreter, pushable, tmp_path, request):
    works(large_hub, interpreter, request.node.callspec.params["interpreter"], pushable, tmp_path)


def works(hub, interpreter, version, pushable, tmp_path):
    trained = retrained(pushable, tmp_path / "trained", 1 + len(version) + sum(map(ord, version)) / 1000)
    invalid = copied(trained, tmp_path / "invalid")
    changed_config(invalid, r=16)
    repo = f"team/client-{version.replace('.', '-')}"
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ADAPTERS_", "PYTHON"))},
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.token,
        "HF_HOME": str(tmp_path / "hf"),
    }
    done = subprocess.run(
        [interpreter, str(SCRIPT), str(trained), str(invalid), repo],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "checks" in done.stdout
