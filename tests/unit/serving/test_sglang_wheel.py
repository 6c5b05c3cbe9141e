"""SGLang's own code of adapters, out of the official wheel, beside the stand-in of the tests: both say the same.

The wheel has 39 MB and is not downloaded by the tests, which look for it in SGLANG_WHEELS or where this puts it:

    pip download --no-deps -d ~/.cache/adapter-registry/wheels sglang==0.5.23
"""

from __future__ import annotations

import ast
import asyncio
import itertools
import os
import textwrap
import types
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from adapter_registry.domain.servable_experts import SGLANG_EXPERTS
from adapter_registry.domain.servable_modules import SGLANG_BY_ALL, SGLANG_NAMES, unpaired
from tests.unit.serving.fake_servers import FakeSglang

PLACE = Path(os.environ.get("SGLANG_WHEELS", Path.home() / ".cache" / "adapter-registry" / "wheels"))
CONTROL = "sglang/srt/managers/tokenizer_control_mixin.py"


@pytest.fixture(scope="module")
def wheel():
    there = sorted(PLACE.glob("sglang-0.5.23-*.whl"))
    if not there:
        pytest.skip(f"the official SGLang wheel is not in {PLACE}: pip download --no-deps -d {PLACE} sglang==0.5.23")
    with zipfile.ZipFile(there[-1]) as archive:
        yield archive


def tree(wheel, path):
    return ast.parse(wheel.read(path))


def taken(wheel, path, *names):
    """The source of functions and classes of a file, without what stands around them."""
    found = {}
    for node in ast.walk(tree(wheel, path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name in names:
            found.setdefault(node.name, textwrap.dedent(ast.unparse(node)))
    assert found.keys() == set(names), path
    return "\n\n".join(found[name] for name in names)


ADAPTER, NAMES = "sglang/srt/lora/lora.py", "sglang/srt/lora/utils.py"


class Fusing:
    """SGLang's own code that fuses an adapter's modules, and finds the buffer that each goes to."""

    def __init__(self, wheel) -> None:
        fusing = ("normalize_qkv_proj", "normalize_gate_up_proj")
        finding = ("get_normalized_target_modules", "get_target_module_name")
        parts = [taken(wheel, ADAPTER, *fusing), taken(wheel, NAMES, *finding)]
        self.space: dict[str, Any] = {"torch": torch}
        code = "from __future__ import annotations\nfrom typing import *\n" + "\n\n".join(parts)
        exec(compile(code, ADAPTER, "exec"), self.space)

    def finds(self, path, kinds):
        """Whether there is a buffer for a module, of those for these kinds."""
        try:
            targets = self.space["get_normalized_target_modules"](kinds)
            return bool(self.space["get_target_module_name"](f"{path}.lora_A.weight", targets))
        except ValueError:
            return False

    def takes(self, kinds):
        """Whether a layer with these modules gets as far as its buffers."""
        weights = {f"layers.0.x.{kind}.lora_{factor}.weight": torch.ones(2, 2) for kind in kinds for factor in "AB"}
        itself = types.SimpleNamespace(_is_non_gated_moe_weight=lambda name: False)
        targets = self.space["get_normalized_target_modules"](kinds)
        try:
            for fuse in ("normalize_qkv_proj", "normalize_gate_up_proj"):
                self.space[fuse](itself, list(weights), weights)
            for name in weights:
                self.space["get_target_module_name"](name, targets)
        except (KeyError, ValueError):
            return False
        return True


@pytest.mark.parametrize(
    "kinds",
    [each for size in (1, 2, 3) for each in itertools.combinations(["q_proj", "k_proj", "v_proj", "o_proj"], size)]
    + [("gate_proj",), ("up_proj",), ("gate_proj", "up_proj"), ("up_proj", "down_proj"), ("qkv_proj",)],
    ids=" ".join,
)
def test_the_same_modules_are_missed_as_by_the_wheels_code(wheel, kinds):
    missed = unpaired([f"layers.0.x.{kind}" for kind in kinds], ())
    assert Fusing(wheel).takes(list(kinds)) is not bool(missed)


def test_stacks_of_experts_find_no_buffer_in_the_wheels_code_and_single_experts_do(wheel):
    fusing, targets = Fusing(wheel), sorted(SGLANG_EXPERTS)
    assert not fusing.finds("layers.0.mlp.experts", targets)
    assert not fusing.finds("layers.0.mlp.experts.base_layer", targets)
    assert fusing.takes([f"experts.0.{kind}" for kind in targets])


def test_experts_are_adapted_by_the_wheels_code_only_with_all_of_their_modules_asked_for(wheel):
    making = taken(wheel, "sglang/srt/lora/lora_manager.py", "init_lora_modules")
    assert "isinstance(module, (FusedMoE, InklingBatchDenseMLP)) and all((x in self.target_modules for x in" in making
    space = Fusing(wheel).space
    assert space["get_normalized_target_modules"](sorted(SGLANG_EXPERTS)) == {"gate_up_proj", "down_proj"}


def test_the_names_of_modules_are_those_that_the_wheel_lets_say(wheel):
    listed = next(
        ast.literal_eval(node.value)
        for node in ast.walk(tree(wheel, "sglang/srt/utils/common.py"))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SUPPORTED_LORA_TARGET_MODULES"
    )
    assert frozenset(listed) == SGLANG_NAMES


def test_what_is_asked_for_all_at_once_the_wheel_knows(wheel):
    known = next(
        ast.unparse(node.value)
        for node in ast.walk(tree(wheel, NAMES))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_KNOWN_LORA_TARGET_MODULES"
    )
    assert all(repr(name) in known for name in SGLANG_BY_ALL)


class Real:
    """SGLang's tokenizer process with the wheel's own code, and a backend that takes what is a folder."""

    def __init__(self, wheel, *, most: int | None) -> None:
        code = "from __future__ import annotations\nfrom typing import *\n" + "\n\n".join(
            [
                taken(wheel, "sglang/srt/utils/aio_rwlock.py", "RWLock", "_ReaderLock", "_WriterLock"),
                taken(wheel, "sglang/srt/utils/common.py", "ConcurrentCounter"),
                taken(wheel, "sglang/srt/lora/lora_registry.py", "LoRARef", "LoRARegistry"),
                taken(wheel, CONTROL, "_merge_lora_update_results", "_lora_load_needs_cleanup"),
                taken(wheel, CONTROL, "_unload_lora_adapter_locked", "load_lora_adapter", "unload_lora_adapter"),
                taken(wheel, "sglang/srt/managers/tokenizer_manager.py", "_resolve_lora_path"),
            ]
        )
        space: dict[str, Any] = {"asyncio": asyncio, "msgspec": msgspec, "logger": types.SimpleNamespace(info=print)}
        space |= {"OrderedDict": __import__("collections").OrderedDict, "fields": msgspec.structs.fields}
        space |= {"uuid4": __import__("uuid").uuid4}
        space |= {"get_lora": lambda: types.SimpleNamespace(enable_lora=True, max_loaded_loras=most)}
        space |= {"get_parallel": lambda: types.SimpleNamespace(dp_size=1)}
        for name in ("LoadLoRAAdapterReqInput", "UnloadLoRAAdapterReqInput", "LoRAUpdateOutput"):
            space[name] = record(wheel, name)
        space["LoadLoRAAdapterReqOutput"] = space["UnloadLoRAAdapterReqOutput"] = space["LoRAUpdateOutput"]
        exec(compile(code, CONTROL, "exec"), space)
        self.space, self.backend, self.refuses, self.half = space, {}, False, False
        self.manager = types.SimpleNamespace(
            lora_update_lock=asyncio.Lock(),
            lora_registry=space["LoRARegistry"](),
            lora_ref_cache={},
            pending_lora_unloads={},
            auto_create_handle_loop=lambda: None,
            update_lora_adapter_communicator=self.communicate,
        )
        for name in ("_unload_lora_adapter_locked", "load_lora_adapter", "unload_lora_adapter", "_resolve_lora_path"):
            setattr(self.manager, name, types.MethodType(space[name], self.manager))

    async def communicate(self, asked):
        """What its processes answer, two of them."""
        output = self.space["LoRAUpdateOutput"]
        if not hasattr(asked, "lora_path"):
            self.backend.pop(asked.lora_id, None)
            return [output(success=True, loaded_adapters=self.loaded())]
        if any(name == asked.lora_name for name, _ in self.backend.values()):
            told = f"Failed to load LoRA adapter {asked.lora_name} because it is already loaded"
            return [output(success=False, error_message=told, loaded_adapters=self.loaded())]
        if self.refuses or not (Path(asked.lora_path) / "adapter_config.json").is_file():
            failed = output(success=False, error_message=f"rank {asked.lora_path}", loaded_adapters=self.loaded())
            return [failed, output(success=True, loaded_adapters=self.loaded())] if self.half else [failed]
        self.backend[asked.lora_id] = (asked.lora_name, asked.lora_path)
        return [output(success=True, loaded_adapters=self.loaded())]

    def loaded(self):
        return dict(self.backend.values())

    def ask(self, path, body):
        return asyncio.run(self._ask(path, body))

    async def _ask(self, path, body):
        if path == "/generate":
            asked = types.SimpleNamespace(lora_path=body["lora_path"], lora_id=None)
            try:
                await self.manager._resolve_lora_path(asked)
            except ValueError as error:
                return 400, str(error).splitlines()[0]
            await self.manager.lora_registry.release(asked.lora_id)
            return 200, ""
        route = {"/load_lora_adapter": "Load", "/unload_lora_adapter": "Unload"}[path]
        request = self.space[f"{route}LoRAAdapterReqInput"](**body)
        said = await getattr(self.manager, path[1:])(request)
        return 200 if said.success else 400, {
            "success": said.success,
            "error_message": said.error_message,
            "loaded_adapters": said.loaded_adapters,
        }

    def models(self):
        return {name: each.lora_path for name, each in self.manager.lora_registry.get_all_adapters().items()}


def record(wheel, name):
    """A request or answer of SGLang, its fields and defaults."""
    node = next(
        each
        for each in ast.walk(tree(wheel, "sglang/srt/managers/io_struct.py"))
        if isinstance(each, ast.ClassDef) and each.name == name
    )
    fields = [
        (each.target.id, Any, None if each.value is None else ast.literal_eval(each.value))
        for each in node.body
        if isinstance(each, ast.AnnAssign)
    ]
    required = [(field, kind) for field, kind, default in fields if default is None and field.startswith("lora_n")]
    rest = [each for each in fields if (each[0], each[1]) not in required]
    return msgspec.defstruct(name, [*required, *rest], kw_only=True)


LOAD, UNLOAD, ASK = "/load_lora_adapter", "/unload_lora_adapter", "/generate"
STORIES = {
    "a name that is loaded is not loaded again": [(LOAD, "a", "one"), (LOAD, "a", "two")],
    "what is not loaded is not unloaded": [(UNLOAD, "a", "")],
    "a request brings back what was unloaded": [(LOAD, "a", "one"), (UNLOAD, "a", ""), (ASK, "a", "")],
    "a request for what was never loaded is refused": [(ASK, "a", "")],
    "a path that is not there is refused": [(LOAD, "a", "nowhere"), (LOAD, "a", "one")],
    "room is made without a word": [(LOAD, "a", "one"), (LOAD, "b", "two"), (LOAD, "c", "one"), (ASK, "a", "")],
    "one path under two names": [(LOAD, "a", "one"), (LOAD, "b", "one"), (UNLOAD, "a", "")],
    "half a load has to be unloaded": [
        ("refuse by half", "", ""),
        (LOAD, "a", "one"),
        ("recover", "", ""),
        (LOAD, "a", "one"),
        (UNLOAD, "a", ""),
        (LOAD, "a", "one"),
    ],
}


@pytest.mark.parametrize("story", STORIES)
def test_the_stand_in_answers_as_the_wheels_code_does(wheel, tmp_path, story):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}")
        (tmp_path / name / "adapter_model.safetensors").write_bytes(name.encode())
    fake, real = FakeSglang(), Real(wheel, most=2)
    fake.most = 2
    for path, name, folder in STORIES[story]:
        if not path.startswith("/"):
            fake.refuses = fake.half = real.refuses = real.half = path == "refuse by half"
            continue
        body = {"lora_name": name, "lora_path": str(tmp_path / folder)} if path == LOAD else {"lora_name": name}
        if path == ASK:
            status, said = fake.answer("POST", path, {"lora_path": name})
            told = said["error"]["message"] if status != 200 else ""
            assert (status, told) == real.ask(path, {"lora_path": name})
        else:
            status, said = fake.answer("POST", path, body)
            got = real.ask(path, body)
            told = {**said, "error_message": str(said["error_message"]).replace("dict_keys", "odict_keys")}
            assert (status, told) == (got[0], {**got[1], "error_message": str(got[1]["error_message"])})
        assert fake.loaded == real.models()


class TestRoutes:
    """What the deployer relies on beside that code."""

    def test_a_refusal_is_400_and_the_body_of_a_load_is_these_fields(self, wheel):
        text = ast.unparse(tree(wheel, "sglang/srt/entrypoints/http_server.py"))
        for route in (LOAD, UNLOAD):
            assert f"@app.api_route('{route}', methods=['POST'])\n@auth_level(AuthLevel.ADMIN_OPTIONAL)" in text
        assert text.count("HTTPStatus.OK if result.success else HTTPStatus.BAD_REQUEST") >= 2
        assert record(wheel, "LoadLoRAAdapterReqInput").__struct_fields__ == (
            "lora_name",
            "lora_path",
            "pinned",
            "lora_id",
        )

    def test_models_name_adapters_with_path_and_base(self, wheel):
        text = taken(wheel, "sglang/srt/entrypoints/http_server.py", "available_models")
        assert "id=lora_ref.lora_name, root=lora_ref.lora_path, parent=served_model_names[0]" in text

    def test_tokens_come_with_probability_first(self, wheel):
        text = taken(wheel, "sglang/srt/managers/tokenizer_manager.py", "detokenize_logprob_tokens")
        assert "(logprob, token_id, None)" in text

    @pytest.mark.parametrize(("key", "allowed"), [("user", False), ("admin", True)])
    def test_loading_takes_the_admin_key_where_there_is_one(self, wheel, key, allowed):
        space: dict[str, Any] = {}
        code = "from __future__ import annotations\nfrom typing import *\nfrom enum import Enum\nimport secrets\n"
        code += "from dataclasses import dataclass\n"
        code += taken(wheel, "sglang/srt/utils/auth.py", "AuthDecision", "AuthLevel", "decide_request_auth")
        exec(code, space)
        asked = {"method": "POST", "path": LOAD, "authorization_header": f"Bearer {key}"}
        level = space["AuthLevel"].ADMIN_OPTIONAL
        decision = space["decide_request_auth"](**asked, api_key="user", admin_api_key="admin", auth_level=level)
        assert decision.allowed is allowed
