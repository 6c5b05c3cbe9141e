"""`vllm serve` without its engine: takes its command and variables, loads its plugins, answers its routes.

It serves an adapter by telling which folder it would compute with.
"""

from __future__ import annotations

import argparse
import os
from importlib.metadata import entry_points
from types import SimpleNamespace

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.unit.serving import vllm_stand_in


def plugins(group: str) -> list:
    """vllm/plugins/__init__.py: those that VLLM_PLUGINS names."""
    allowed = os.environ["VLLM_PLUGINS"].split(",")
    return [each.load() for each in entry_points(group=group) if each.name in allowed]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--served-model-name")
    for name in ("port", "max-lora-rank", "max-loras", "max-cpu-loras", "api-server-count"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--enable-lora", action="store_true")
    return parser.parse_args()


class Application:
    """The routes that are asked for here; everything below /v1 wants the key."""

    def __init__(self, args: argparse.Namespace) -> None:
        registry = vllm_stand_in.install(SimpleNamespace(setitem=dict.__setitem__))
        for register in plugins("vllm.general_plugins"):
            register()
        self._args = args
        self.models = vllm_stand_in.ServingModels(model=args.model, resolvers=registry.resolvers.values())
        self._endpoints = [factory() for factory in plugins("vllm.endpoint_plugins")]
        self._routes = [
            Route("/health", lambda _: Response()),
            Route("/v1/models", self._keyed(self.listed)),
            Route("/v1/completions", self._keyed(self.completed), methods=["POST"]),
        ]
        for each in self._endpoints:
            each.attach_router(self)
        self.asgi = Starlette(routes=self._routes, lifespan=self._life)

    def add_api_route(self, path, endpoint, *, methods):
        async def answer(_):
            return JSONResponse(await endpoint())

        self._routes.append(Route(path, self._keyed(answer), methods=methods))

    async def listed(self, _):
        adapters = [{"id": name, "root": each.lora_path} for name, each in self.models.lora_requests.items()]
        return JSONResponse({"data": [{"id": self._args.served_model_name, "root": self._args.model}, *adapters]})

    async def completed(self, request: Request):
        name = (await request.json())["model"]
        found = self.models.lora_requests.get(name) or await self.models.resolve_lora(name)
        if hasattr(found, "error"):
            return JSONResponse({"error": {"message": found.error.message}}, found.error.code)
        return JSONResponse({"choices": [{"text": found.lora_path}]})

    @staticmethod
    def _keyed(handler):
        async def checked(request: Request):
            if request.headers.get("Authorization") != f"Bearer {os.environ['VLLM_API_KEY']}":
                raise HTTPException(401)
            return await handler(request)

        return checked

    async def _begun(self):
        config = vllm_stand_in.config(self._args.model, lora=self._args.enable_lora)
        state = SimpleNamespace(openai_serving_models=self.models)
        for each in self._endpoints:
            await each.init_state(SimpleNamespace(vllm_config=config), state, self._args)

    def _life(self, _):
        application = self

        class Life:
            async def __aenter__(self):
                await application._begun()

            async def __aexit__(self, *_):
                return

        return Life()


if __name__ == "__main__":
    given = arguments()
    uvicorn.run(Application(given).asgi, host="127.0.0.1", port=given.port, log_level="warning")
