"""The parts of vLLM that the plugins touch, doing what its source says: vLLM 0.32 and 0.33, without their dependencies.

`test_vllm_wheel.py` holds these against the official wheel's own source.
"""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import msgspec


class LoRARequest(msgspec.Struct, omit_defaults=True, array_like=True):
    """vllm/lora/request.py."""

    lora_name: str
    lora_int_id: int
    lora_path: str = ""
    base_model_name: str | None = None
    load_inplace: bool = False
    is_3d_lora_weight: bool = False

    def __post_init__(self):
        if self.lora_int_id < 1:
            raise ValueError(f"id must be > 0, got {self.lora_int_id}")
        assert self.lora_path, "lora_path cannot be empty"


class LoRAResolver(ABC):
    """vllm/lora/resolver.py."""

    @abstractmethod
    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None: ...


@dataclass
class ResolverRegistry:
    """vllm/lora/resolver.py; the module holds one."""

    resolvers: dict = field(default_factory=dict)

    def get_supported_resolvers(self):
        return self.resolvers.keys()

    def register_resolver(self, resolver_name, resolver):
        self.resolvers[resolver_name] = resolver

    def get_resolver(self, resolver_name):
        return self.resolvers[resolver_name]


@dataclass
class LoadLoRAAdapterRequest:
    """vllm/entrypoints/serve/lora/protocol.py."""

    lora_name: str
    lora_path: str
    load_inplace: bool = False
    is_3d_lora_weight: bool = False


class Engine:
    """Loads what it is given, unless told not to."""

    def __init__(self):
        self.refuses: str = ""
        self.loaded: list[str] = []

    async def add_lora(self, request):
        if self.refuses:
            raise ValueError(self.refuses)
        self.loaded.append(request.lora_path)


class ServingModels:
    """vllm/entrypoints/openai/models/serving.py; up to 0.32 `load_inplace` stays on what is kept."""

    def __init__(self, *, model: str = "./model", sticky: bool = False, resolvers=()):
        self.engine_client, self.model, self.sticky = Engine(), model, sticky
        self.lora_requests: dict[str, LoRARequest] = {}
        self.lora_resolvers = list(resolvers)
        self.lora_resolver_lock = defaultdict(asyncio.Lock)
        self._count = 0

    def is_base_model(self, model_name):
        return model_name == "base"

    async def load_lora_adapter(self, request, base_model_name=None):
        name = request.lora_name
        async with self.lora_resolver_lock[name]:
            if not request.load_inplace and name in self.lora_requests:
                return _error(f"The lora adapter '{name}' has already been loaded.", 400)
            kept = self.lora_requests.get(name)
            made = LoRARequest(name, kept.lora_int_id if kept else self._next(), request.lora_path)
            made.load_inplace, made.is_3d_lora_weight = request.load_inplace, request.is_3d_lora_weight
            try:
                await self.engine_client.add_lora(made)
            except ValueError as error:
                return _error(str(error), 500)
            if not self.sticky:
                made.load_inplace = False
            self.lora_requests[name] = made
            return f"Success: LoRA adapter '{name}' added successfully."

    async def resolve_lora(self, lora_name):
        async with self.lora_resolver_lock[lora_name]:
            if lora_name in self.lora_requests:
                return self.lora_requests[lora_name]
            number = self._next()
            for resolver in self.lora_resolvers:
                request = await resolver.resolve_lora(self.model, lora_name)
                if request is not None:
                    request.lora_int_id = number
                    await self.engine_client.add_lora(request)
                    self.lora_requests[lora_name] = request
                    return request
            return _error(f"LoRA adapter {lora_name} does not exist", 404)

    def _next(self):
        self._count += 1
        return self._count


def _error(message, code):
    return SimpleNamespace(error=SimpleNamespace(message=message, code=code))


def config(model: Path, *, processes: int = 1, lora: bool = True):
    """What `engine_client.vllm_config` has of what the follower reads."""
    return SimpleNamespace(
        model_config=SimpleNamespace(model=str(model), revision=None),
        load_config=SimpleNamespace(download_dir=None),
        parallel_config=SimpleNamespace(_api_process_count=processes),
        lora_config=object() if lora else None,
    )


class GracefulHTTPError(Exception):
    """vllm/exceptions.py: answered with its own status and text."""

    def __init__(self, message, http_status):
        super().__init__(message)
        self.message, self.http_status = message, http_status


def install(monkeypatch, version: str = "0.33.0", plugins: list[str] | None = None) -> ResolverRegistry:
    """Make `import vllm` find this; what resolvers register with."""
    registry = ResolverRegistry()
    modules = {
        "vllm": {"envs": SimpleNamespace(VLLM_PLUGINS=plugins)},
        "vllm.exceptions": {"GracefulHTTPError": GracefulHTTPError},
        "vllm.version": {"__version__": version},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": LoRARequest},
        "vllm.lora.resolver": {"LoRAResolver": LoRAResolver, "LoRAResolverRegistry": registry},
        "vllm.entrypoints": {},
        "vllm.entrypoints.serve": {},
        "vllm.entrypoints.serve.lora": {},
        "vllm.entrypoints.serve.lora.protocol": {"LoadLoRAAdapterRequest": LoadLoRAAdapterRequest},
    }
    for name, holds in modules.items():
        module = ModuleType(name)
        vars(module).update(holds)
        monkeypatch.setitem(sys.modules, name, module)
    return registry
