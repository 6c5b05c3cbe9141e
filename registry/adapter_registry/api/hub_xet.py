"""The upload half of Xet, by which current clients send every large file.

Each upload gets an address of its own, so that no client believes that pieces it sent for another one are still here.
The pieces (xorbs) are kept as blobs that nothing refers to; the files are rebuilt from them, hashed, and stored.
"""

from __future__ import annotations

import hashlib
import io
import re
import secrets
import time
from typing import Any, BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adapter_registry.api import permission
from adapter_registry.api.hub_access import uploader, writable
from adapter_registry.api.hub_answers import HubError
from adapter_registry.api.hub_commit import branch_of, head_of
from adapter_registry.api.hub_paths import HubPath
from adapter_registry.api.requests import base_url, body, server_of
from adapter_registry.checkpoints import xet
from adapter_registry.domain.digest import of_bytes, parse
from adapter_registry.domain.errors import InvalidInput, NotFound, RegistryError
from adapter_registry.domain.ports import Backend
from adapter_registry.services import push

SECONDS = 3600
PURPOSE = "xet"
MAX_SHARD = 64 << 20
MAX_REBUILT = 16 << 30
"""Bytes of one file: a few pieces, named again and again, could otherwise fill any disk."""
_XORB = re.compile(r"v1/xorbs/default/([0-9a-f]{64})")


async def write_token(request: Request, path: HubPath) -> Response:
    """`GET /api/models/{id}/xet-write-token/{rev}`: where to send the pieces, and the permission to."""
    return await run_in_threadpool(_write_token, request, path)


def _write_token(request: Request, path: HubPath) -> Response:
    backend, adapter = writable(request, path)
    head_of(backend, adapter, branch_of(backend, request, path))
    upload, until = secrets.token_hex(16), int(time.time()) + SECONDS
    # Not bound to the address: a client that renews its permission goes on using its first address.
    claims = {"adapter": adapter, "token": backend.asks.token}
    allowed = permission.signed(server_of(request).signing_key, purpose=PURPOSE, seconds=SECONDS, **claims)
    address = f"{base_url(request)}/xet/{upload}"
    headers = {"x-xet-cas-url": address, "x-xet-token-expiration": str(until), "x-xet-access-token": allowed}
    return JSONResponse({"casUrl": address, "exp": until, "accessToken": allowed}, headers=headers)


async def answer(request: Request, path: HubPath) -> Response:
    """Everything below `/xet/{upload}`."""
    _, upload, route = [*path.action.split("/", 2), "", ""][:3]
    try:
        claims = _claims(request)
        backend = await run_in_threadpool(uploader, server_of(request).backend, claims)
        pieces = _Pieces(backend, claims["adapter"], f"{backend.asks.name} {claims['adapter']} {upload}")
        if request.method == "POST" and (found := _XORB.fullmatch(route)):
            data = await body(request, limit=xet.MAX_XORB)
            await run_in_threadpool(pieces.keep, found[1], data)
            return JSONResponse({"was_inserted": True})
        if request.method == "POST" and route == "v1/shards":
            data = await body(request, limit=MAX_SHARD)
            await run_in_threadpool(pieces.rebuild, data)
            return JSONResponse({"result": 1})
    except RegistryError as error:
        # Clients try a 5xx again for minutes; a full store will not be less full by then.
        raise HubError(413 if error.status == 507 else error.status, error.text) from error
    # What clients ask beside (known chunks, direct uploads, newer shards, telemetry) may be answered: not here.
    raise HubError(404, "not here")


def _claims(request: Request) -> dict[str, Any]:
    _, _, allowed = request.headers.get("authorization", "").partition(" ")
    return permission.read(server_of(request).signing_key, allowed.strip(), purpose=PURPOSE)


class _Pieces:
    """The pieces of one upload by one account to one adapter."""

    def __init__(self, backend: Backend, adapter: str, upload: str) -> None:
        self._backend, self._adapter = backend, adapter
        self._upload = hashlib.sha256(upload.encode()).hexdigest()

    def keep(self, name: str, data: bytes) -> None:
        """Store a xorb, as far as its shape can be checked."""
        xet.chunk_table(io.BytesIO(data))
        digest = of_bytes(data)
        self._backend.blobs.put(digest, io.BytesIO(data), name=f"xorb {name}")
        with self._backend.catalog.writing() as tx:
            tx.branches.stage_xorb(self._upload, name, digest, at=self._backend.clock())

    def rebuild(self, data: bytes) -> None:
        """Store every file of a shard under the sha256 of what its pieces give, which must be what the shard says."""
        for file in xet.shard_files(data):
            if file.size > MAX_REBUILT:
                raise InvalidInput(f"a file that is sent in pieces has at most {MAX_REBUILT:,} bytes.")
            if file.sha256 is not None:
                with push.receiving(self._backend, adapter=self._adapter, name=file.sha256) as incoming:
                    for part in xet.rebuild(file, self._open):
                        incoming.write(part)
                    incoming.publish(parse(file.sha256))

    def _open(self, name: str) -> BinaryIO:
        with self._backend.catalog.reading() as tx:
            digest = tx.branches.staged_xorb(self._upload, name)
        if digest is None:
            raise NotFound(f"the piece {name} of this upload never arrived; send the files again.")
        return self._backend.blobs.open(digest)
