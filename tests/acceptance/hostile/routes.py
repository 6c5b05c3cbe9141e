"""Every route of the server with a request that it would carry out: what rules are multiplied with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from adapter_registry.api import pages
from adapter_registry.operation import Operation
from adapter_registry.operations import OPERATIONS

ADAPTER = "/api/v1/adapters/{adapter_namespace}/{adapter_name}"
PLACES_OF_ADAPTERS = ("repo", "adapter_name")


@dataclass(frozen=True)
class Places:
    """What an address is about.

    Attributes:
        repo: `namespace/name`.
        values: of the other places: digest, rev, selector, path, stage, name, ...
    """

    repo: str
    values: dict[str, str] = field(default_factory=dict)

    def __call__(self, template: str) -> str:
        namespace, _, name = self.repo.partition("/")
        known = {
            "repo": self.repo,
            "namespace": namespace,
            "adapter_namespace": namespace,
            "adapter_name": name,
            "selector": "v1",
            "rev": "main",
            "path": "README.md",
            "digest": "0" * 64,
            "sketch": "0" * 64,
            "stage": "dev",
            "number": "1",
            "name": "good",
            "account": "victor",
            "token": "000000000000",
            "job": "000000000000",
            "delivery": "msg_000000000000_1",
            "request": "P-1",
            "freeze": "999",
            "group": "leads",
            "key": "ci",
            "of": "adapters",
            **self.values,
        }
        for place, value in known.items():
            template = template.replace(f"{{{place}}}", value)
        return template


Body = Callable[[Places], Any]


@dataclass(frozen=True)
class Route:
    """One route.

    Attributes:
        name: the operation, or `hub:` and the marker word.
        method: of HTTP.
        template: its address with places.
        body: the document it takes; None for none. Bytes are sent as they are.
        media: the type of the body.
    """

    name: str
    method: str
    template: str
    body: Body | None = None
    media: str = "application/json"

    def __str__(self) -> str:
        return f"{self.name}-{self.method}"

    @property
    def places(self) -> list[str]:
        return re.findall(r"\{(\w+)\}", self.template)

    @property
    def reads(self) -> bool:
        return self.method in ("GET", "HEAD")

    def payload(self, places: Places) -> bytes | None:
        if self.body is None:
            return None
        document = self.body(places)
        return document if isinstance(document, bytes) else json.dumps(document).encode()


def commit_of(*operations: tuple[str, dict[str, Any]]) -> bytes:
    """The body of a commit."""
    lines = [("header", {"summary": "x"}), *operations]
    return b"\n".join(json.dumps({"key": key, "value": value}).encode() for key, value in lines)


def lfs_file(places: Places) -> dict[str, Any]:
    """Somebody's bytes, claimed by their digest."""
    return {"path": "adapter_model.safetensors", "algo": "sha256", "oid": places("{digest}"), "size": 100}


def stored_file(places: Places) -> dict[str, Any]:
    """The same in the native API's words."""
    return {"path": "adapter_model.safetensors", "size": 100, "digest": "sha256:" + places("{digest}")}


HUB = [
    Route("hub:list", "GET", "/api/models?search=secret&author=victim"),
    Route("hub:info", "GET", "/api/models/{repo}"),
    Route("hub:revision", "GET", "/api/models/{repo}/revision/{rev}"),
    Route("hub:tree", "GET", "/api/models/{repo}/tree/{rev}?recursive=true&expand=true"),
    Route("hub:paths-info", "POST", "/api/models/{repo}/paths-info/{rev}", lambda _: {"paths": ["README.md"]}),
    Route("hub:resolve", "HEAD", "/{repo}/resolve/{rev}/{path}"),
    Route("hub:resolve", "GET", "/{repo}/resolve/{rev}/{path}"),
    Route("hub:auth-check", "GET", "/api/models/{repo}/auth-check"),
    Route("hub:other", "GET", "/api/models/{repo}/likers"),
    Route("hub:settings", "PUT", "/api/models/{repo}/settings", lambda _: {"private": True}),
    Route("hub:refs", "GET", "/api/models/{repo}/refs?include_prs=1"),
    Route("hub:commits", "GET", "/api/models/{repo}/commits/{rev}"),
    Route("hub:tag", "POST", "/api/models/{repo}/tag/{rev}", lambda _: {"tag": "stolen"}),
    Route("hub:tag", "DELETE", "/api/models/{repo}/tag/{name}"),
    Route("hub:branch", "POST", "/api/models/{repo}/branch/stolen", lambda _: {}),
    Route("hub:branch", "DELETE", "/api/models/{repo}/branch/{name}"),
    Route(
        "hub:preupload",
        "POST",
        "/api/models/{repo}/preupload/{rev}",
        lambda _: {"files": [{"path": "README.md", "size": 5, "sample": ""}]},
    ),
    Route(
        "hub:commit",
        "POST",
        "/api/models/{repo}/commit/{rev}",
        lambda places: commit_of(("lfsFile", lfs_file(places))),
        "application/x-ndjson",
    ),
    Route(
        "hub:git",
        "POST",
        "/{repo}.git/info/lfs/objects/batch",
        lambda places: {"operation": "upload", "objects": [{"oid": places("{digest}"), "size": 100}]},
    ),
    Route("hub:xet-write-token", "GET", "/api/models/{repo}/xet-write-token/{rev}"),
    Route("hub:whoami", "GET", "/api/whoami-v2"),
    Route("hub:harnesses", "GET", "/api/agent-harnesses"),
    Route("hub:telemetry", "HEAD", "/api/telemetry/x"),
    Route("hub:validate-yaml", "POST", "/api/validate-yaml", lambda _: {"content": "---\na: b\n---\n"}),
    Route("hub:create", "POST", "/api/repos/create", lambda places: {"name": places("{repo}")}),
    Route("hub:repositories", "GET", "/api/settings/repositories"),
    Route("hub:discussions", "POST", "/api/models/{repo}/discussions", lambda _: {"title": "x"}),
    Route("hub:super-squash", "POST", "/api/models/{repo}/super-squash/{rev}", lambda _: {}),
    Route("hub:lfs-files", "GET", "/api/models/{repo}/lfs-files"),
    Route("hub:move", "POST", "/api/repos/move", lambda places: {"fromRepo": places("{repo}"), "toRepo": "mallory/x"}),
    Route("hub:delete", "DELETE", "/api/repos/delete", lambda places: {"name": places("{repo}")}),
]


def _taking(operation: Operation) -> Body | None:
    if operation.method in ("GET", "DELETE"):
        return None
    documents: dict[str, Body] = {
        "push.missing": lambda places: {"files": [stored_file(places)]},
        "push.commit": lambda places: {"base": "org/llama", "files": [stored_file(places)]},
        "mark.revoke": lambda _: {"because": "x"},
        "mark.tag": lambda _: {"name": "stolen"},
        "deployment.report": lambda places: {
            "fleet": "eu",
            "name": "sql",
            "follows": places("{repo}@v1"),
            "because": "x",
        },
        "mark.label": lambda _: {"labels": {"a": "b"}},
        "score.add": lambda _: {"scores": []},
        "score.invalidate": lambda _: {"because": "x", "metric": "sql/acc"},
        "signing.sign": lambda _: {"envelope": {"payload": "e30=", "payloadType": "x", "signatures": []}},
        "scan.report": lambda places: {
            "report": {"scanner": "x", "release": "1", "found": [], "files": {}, "digest": places("sha256:{digest}")}
        },
        "promote.promote": lambda _: {"reason": "x"},
        "promote.rollback": lambda _: {"reason": "x"},
        "job.submit": lambda places: {
            "recipe": {"kind": "evaluate", "into": places("{repo}"), "inputs": [{"reference": places("{repo}@v1")}]}
        },
        "job.check": lambda places: {
            "recipe": {"kind": "evaluate", "into": places("{repo}"), "inputs": [{"reference": places("{repo}@v1")}]}
        },
        "request.decline": lambda _: {"reason": "x"},
        "stages.declare": lambda places: {"declared": {"name": places("{stage}")}},
        "standstill.freeze": lambda _: {"begins": "2030-01-01", "ends": "2030-01-02", "reason": "x"},
        "access.create-token": lambda _: {"account": "victor"},
        "access.set-password": lambda _: {"password": "a long enough one"},
    }
    return documents.get(operation.name, lambda _: {})


NATIVE = [
    *(
        Route(operation.name, operation.method, f"/api/v1{operation.route}", _taking(operation))
        for operation in OPERATIONS.values()
    ),
    Route(
        "lorax",
        "GET",
        "/api/v1/lorax/{adapter_namespace}/v2/repos/{adapter_name}/version/{selector}",
    ),
    Route("files", "GET", f"{ADAPTER}/versions/{{selector}}/files/adapter_config.json"),
    Route("blobs", "PUT", f"{ADAPTER}/blobs/{{digest}}", lambda _: b"bytes"),
    Route("blobs-ahead", "HEAD", f"{ADAPTER}/uploads/{{sketch}}"),
    Route("blobs-ahead", "PATCH", f"{ADAPTER}/uploads/{{sketch}}", lambda _: b"bytes"),
]
PAGES = [
    *(Route(f"page:{page.path}", "GET", f"/ui{page.path}") for page in pages.PAGES),
    *(
        Route(
            f"page:{page.path}", "POST", f"/ui{page.path}", lambda _: b"reason=x", "application/x-www-form-urlencoded"
        )
        for page in pages.PAGES
        if page.sent
    ),
]
OPEN = [
    Route("health", "GET", "/health"),
    Route("ready", "GET", "/ready"),
    Route("openapi", "GET", "/api/v1/openapi.json"),
    Route("sign-in", "POST", "/api/v1/sign-in", lambda _: {"name": "victor", "password": "wrong wrong"}),
    Route("uploads", "PUT", "/api/v1/uploads/x.y.z", lambda _: b"bytes"),
    Route("xet", "POST", "/xet/00/v1/shards", lambda _: b"bytes"),
]
GREETINGS = ("hub:harnesses", "hub:telemetry", "hub:validate-yaml")
"""What Hub clients ask without a token."""
CLOSED = [
    *NATIVE,
    *PAGES,
    *(route for route in HUB if route.name not in GREETINGS),
    Route("metrics", "GET", "/metrics"),
]
ABOUT_ADAPTERS = [route for route in (*NATIVE, *PAGES, *HUB) if set(PLACES_OF_ADAPTERS) & set(route.places)]
ABOUT_VERSIONS = [route for route in ABOUT_ADAPTERS if {"selector", "rev"} & set(route.places)]
