"""What LoRAX asks the control plane that PREDIBASE_GATEWAY_ENDPOINT names: where the files of `name/version` lie.

Source: lorax `server/lorax_server/utils/sources`, read at a7394ba: `GET {endpoint}/v2/repos/{name}/version/{version}`.
"""

from __future__ import annotations

import re

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter_registry.api.requests import backend_of
from adapter_registry.api.rights import require
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.ports import Backend
from adapter_registry.operations import OPERATIONS
from adapter_registry.services import pull, show

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
PLACE = "/api/v1/lorax/{adapter_namespace}/v2/repos/{adapter_name}/version/{selector}"


def routes() -> list[Route]:
    """Every route of this module."""
    return [Route(PLACE, _version, methods=["GET"])]


async def _version(request: Request) -> Response:
    """The folder of a version below the bucket and folder that LoRAX was started with, as `adapters sync` names it."""
    place = request.path_params
    # LoRAX's own versions are numbers.
    selector = f"v{place['selector']}" if _NUMBER.fullmatch(place["selector"]) else place["selector"]
    reference = f"{place['adapter_namespace']}/{place['adapter_name']}@{selector}"
    backend = backend_of(request)
    require(OPERATIONS["show.resolve"], backend, {"reference": reference})
    version = await run_in_threadpool(_served, backend, reference)
    return JSONResponse({"status": "completed", "adapterPath": version.digest.replace(":", "-")})


def _served(backend: Backend, reference: str) -> Version:
    return pull.served(show.resolve(backend, reference=reference))
