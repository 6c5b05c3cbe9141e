"""PostgreSQL and S3 hold other values than SQLite and folders: no argument is a defect on them either."""

from __future__ import annotations

import json

import msgspec
import pytest

from adapter_registry.api import openapi
from adapter_registry.operations import OPERATIONS
from tests.acceptance.hostile.routes import Places
from tests.acceptance.hostile.test_hostile_bodies import ARGUMENTS, PLAY, WRONG, played_with
from tests.acceptance.hostile.test_hostile_names import TARGETS
from tests.acceptance.hostile.test_hostile_wire import RANGES
from tests.acceptance.hostile.wire import ask, proper
from tests.acceptance.hub.conftest import large_hub  # noqa: F401  a fixture

pytestmark = pytest.mark.xdist_group("hostile-postgres")
PLAYED = "mallory/play"


@pytest.fixture(scope="module")
def played(large_hub, lora_folder):  # noqa: F811  the fixture
    for name in (PLAYED, "mallory/spent"):
        large_hub.registry.push(lora_folder, base="org/llama", name=name)
    large_hub.registry.create_account("toy")
    return large_hub


@pytest.mark.parametrize("name", sorted({name for name, _ in ARGUMENTS}))
def test_no_value_of_an_argument_is_a_defect(played, name):
    operation = OPERATIONS[name]
    target = Places(played_with(name), PLAY)(f"/api/v1{operation.route}")
    for argument in [argument for of, argument in ARGUMENTS if of == name]:
        for wrong in WRONG.values():
            given = {**msgspec.to_builtins(openapi.EXAMPLES.get(name, {})), argument: wrong}
            if operation.method in ("GET", "DELETE"):
                text = wrong if isinstance(wrong, str) else json.dumps(wrong)
                query, body = "".join(f"%{byte:02x}" for byte in text.encode()[:2000]), None
                way = f"{target}?{argument}={query}"
            else:
                way, body = target, json.dumps(given).encode()
            answer = ask(played.url, operation.method, way, token=played.token, body=body)
            proper(answer, operation.method, way)


@pytest.mark.parametrize("name", TARGETS)
def test_no_spelling_of_a_path_leads_anywhere(played, name):
    for place in (f"/{PLAYED}/resolve/main/", f"/api/v1/adapters/{PLAYED}/versions/v1/files/", "/api/models/mallory/"):
        answer = ask(played.url, "GET", place + TARGETS[name], token=played.token)
        assert proper(answer, "GET", place).status in (400, 404, 413)


@pytest.mark.parametrize("kind", RANGES)
def test_a_range_is_served_refused_or_ignored(played, kind):
    for method in ("GET", "HEAD"):
        target = f"/{PLAYED}/resolve/v1/adapter_config.json"
        answer = ask(played.url, method, target, token=played.token, headers=[("Range", RANGES[kind])])
        assert answer.status in (200, 206, 302, 400, 416), answer


def test_none_of_this_was_a_defect(played):
    assert "Traceback" not in played.log(), played.log()[-3000:]
