"""adapter-registry-vllm, built and installed with what it declares and nothing else: it follows, and it resolves."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from os.path import normpath
from pathlib import Path

import pytest

from adapter_registry.client import Registry
from adapter_registry.settings import read_settings
from tests.acceptance.test_life import retrained
from tests.deploy.test_files import installed_with
from tests.server_process import serving
from tests.unit.serving import vllm_stand_in

ROOT = Path(__file__).parents[2]
PACKAGE = tomllib.loads((ROOT / "serving" / "pyproject.toml").read_text())["project"]
WHOLE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SERVERS_OWN = {"sqlalchemy", "alembic", "scipy", "starlette", "uvicorn", "jinja2", "torch", "numba", "dbos"}
SCRIPT = """
import asyncio, json, sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from types import SimpleNamespace

sys.path.append(sys.argv[1])
import vllm_stand_in as stand_in

def tell(**facts):
    print(json.dumps(facts), flush=True)

async def served():
    registry = stand_in.install(SimpleNamespace(setitem=dict.__setitem__))
    [resolver] = entry_points(group="vllm.general_plugins")
    resolver.load()()
    models = stand_in.ServingModels(resolvers=[registry.get_resolver(name) for name in registry.resolvers])
    tell(resolved=(await models.resolve_lora("team/sql@v2")).lora_path)
    [endpoint] = entry_points(group="vllm.endpoint_plugins")
    follower = endpoint.load()()
    engine = SimpleNamespace(vllm_config=stand_in.config("./model"))
    state = SimpleNamespace(openai_serving_models=models)
    await follower.init_state(engine, state, SimpleNamespace(api_server_count=1))
    before = ""
    for _ in range(2):
        while "sql" not in models.lora_requests or models.lora_requests["sql"].lora_path == before:
            await asyncio.sleep(0.05)
        before = models.lora_requests["sql"].lora_path
        tell(followed=before)

tell(there=[name for name in sys.argv[2].split(",") if find_spec(name)])
asyncio.run(asyncio.wait_for(served(), 120))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "-w", folder, ROOT / "serving"], check=True)
    [made] = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """An environment with the package and what it declares, as it is installed here."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    for name in installed_with(PACKAGE["dependencies"]):
        there = distribution(name)
        for top in {file.parts[0] for file in there.files or () if file.parts[0] != ".."}:
            if not (site / top).exists():
                (site / top).symlink_to(there.locate_file(top))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return folder / "bin" / "python"


def test_it_follows_a_stage_and_resolves_an_adapter_without_anything_of_the_server(
    python, tmp_path, llama_folder, lora_folder
):
    with serving(tmp_path, {}) as server:
        client = {
            "ADAPTERS_HOME": str(tmp_path / "mine"),
            "ADAPTERS_URL": f"http://{server.host}",
            "ADAPTERS_TOKEN": server.token,
        }
        registry = Registry(read_settings({**client, "ADAPTERS_CACHE": str(tmp_path / "mine")}))
        registry.add_base("llama", llama_folder)
        registry.push(lora_folder, base="llama", name="team/sql")
        registry.push(retrained(lora_folder, tmp_path / "again", 1.5), base="llama", name="team/sql")
        registry.promote("team/sql@v1", "dev")
        environment = {
            **client,
            "ADAPTERS_CACHE": str(tmp_path / "vllm"),
            "ADAPTERS_SERVING_BASE": str(llama_folder),
            "ADAPTERS_FOLLOW": "sql=team/sql@dev",
        }
        command = [python, "-I", "-c", SCRIPT, Path(vllm_stand_in.__file__).parent, ",".join(SERVERS_OWN)]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        try:
            said = [process.stdout.readline() for _ in range(3)]
            registry.promote("team/sql@v2", "dev")
            rest, told = process.communicate(timeout=150)
        finally:
            process.kill()
        assert process.returncode == 0, told
        folders = [
            str(tmp_path / "vllm" / "versions" / registry.resolve(f"team/sql@{each}").digest.replace(":", "-"))
            for each in ("v1", "v2")
        ]
        there, *loaded = [json.loads(line) for line in [*said, *rest.splitlines()]]
        assert there == {"there": []}
        # Each load writes the path of its folder in a way of its own.
        assert [{key: normpath(path) for key, path in each.items()} for each in loaded] == [
            {"resolved": folders[1]},
            {"followed": folders[0]},
            {"followed": folders[1]},
        ]


def test_it_is_the_package_of_the_same_release_with_less_beside_it(wheel):
    assert wheel.name.startswith(f"adapter_registry_vllm-{WHOLE['version']}-")
    assert set(PACKAGE["dependencies"]) < set(WHOLE["dependencies"])
    assert PACKAGE["entry-points"] == WHOLE["entry-points"]
    assert not installed_with(PACKAGE["dependencies"]) & SERVERS_OWN
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {str(path.relative_to(ROOT / "registry")) for path in (ROOT / "registry").rglob("*.py")}
    assert modules <= names
    assert not [name for name in names if name.endswith(".pyc")]
