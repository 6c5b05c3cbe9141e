"""The table of operations: addresses there and back, and its description for programs."""

from __future__ import annotations

import inspect

import pytest

from adapter_registry import app
from adapter_registry.api import openapi
from adapter_registry.api.openapi_others import NOT_DESCRIBED
from adapter_registry.api.server import make_app
from adapter_registry.api.sessions import is_page
from adapter_registry.domain.errors import InvalidInput, InvalidReference
from adapter_registry.domain.people.account import AccountKind
from adapter_registry.operation import address, arguments_from_wire, kinds_of
from adapter_registry.operations import OPERATIONS
from adapter_registry.settings import read_settings


class TestAddress:
    def test_a_reference_becomes_part_of_the_path(self):
        path, body = address(OPERATIONS["show.resolve"], {"reference": "team/sql-lora@>=1.2 <2"})
        assert path == "/api/v1/adapters/team/sql-lora/versions/%3E%3D1.2%20%3C2"
        assert body is None

    def test_an_adapter_where_a_version_is_asked_for_is_told_without_asking(self):
        with pytest.raises(InvalidReference, match="names an adapter, not a version: write team/sql-lora@v3,"):
            address(OPERATIONS["show.resolve"], {"reference": "team/sql-lora"})

    def test_what_is_left_of_a_read_is_in_the_query_and_nothing_stays_out_as_none(self):
        path, body = address(OPERATIONS["show.adapters"], {"stage": "prod", "base": None, "search": "a b"})
        assert (path, body) == ("/api/v1/adapters?stage=prod&search=a+b", None)

    def test_what_is_left_of_a_write_is_in_the_body(self):
        given = {"name": "ci", "kind": AccountKind.SERVICE, "password": None}
        path, body = address(OPERATIONS["access.create-account"], given)
        assert path == "/api/v1/accounts"
        assert arguments_from_wire(OPERATIONS["access.create-account"], {}, {}, body) == given

    @pytest.mark.parametrize("data", [b"[]", b"{", b'{"backend": 1}', b'{"return": 1}', b'{"name": []}'])
    def test_what_an_operation_does_not_take_is_refused(self, data):
        with pytest.raises(InvalidInput):
            arguments_from_wire(OPERATIONS["access.create-account"], {}, {}, data)

    def test_a_text_has_a_bound_and_what_is_signed_a_larger_one(self):
        import msgspec

        long = msgspec.json.encode({"account": "ci", "label": "x" * 20_001})
        with pytest.raises(InvalidInput, match="label holds a text of 20,001 characters; at most 20,000 are taken"):
            arguments_from_wire(OPERATIONS["access.create-token"], {}, {}, long)
        envelope = {"payload": "eA==" * 10_000, "payloadType": "x", "signatures": []}
        signed = arguments_from_wire(OPERATIONS["signing.sign"], {}, {}, msgspec.json.encode({"envelope": envelope}))
        assert signed["envelope"].payload == envelope["payload"]


class TestDescription:
    def test_every_operation_is_described_with_its_summary_and_types(self):
        document = openapi.document()
        described = {each["operationId"]: each for path in document["paths"].values() for each in path.values()}
        assert described.keys() >= OPERATIONS.keys()
        assert all(each["summary"] for each in described.values())
        assert document["components"]["schemas"]["Version"]["type"] == "object"

    def test_every_example_is_accepted_by_its_operation(self):
        for name, example in openapi.EXAMPLES.items():
            import msgspec

            arguments = arguments_from_wire(OPERATIONS[name], {}, {}, msgspec.json.encode(example))
            assert arguments.keys() == example.keys()

    def test_every_write_shows_a_body_and_every_place_of_an_address_a_value_of_its_type(self):
        kinds = {"string": str, "integer": int}
        for path, methods in openapi.document()["paths"].items():
            for described in methods.values():
                for content in described.get("requestBody", {}).get("content", {}).values():
                    assert "example" in content or content["schema"].get("format") == "binary", path
                for place in described.get("parameters", []):
                    if place["in"] == "path":
                        assert isinstance(place["example"], kinds[place["schema"]["type"]]), (path, place)

    def test_every_reference_leads_somewhere(self):
        import json
        import re

        text = json.dumps(openapi.document())
        names = set(re.findall(r'#/components/schemas/([^"]+)', text))
        assert names <= openapi.document()["components"]["schemas"].keys()

    def test_every_argument_has_a_type(self):
        for operation in OPERATIONS.values():
            wanted = set(inspect.signature(operation.call).parameters) - {"backend", "progress"}
            assert wanted <= kinds_of(operation).keys()

    def test_every_route_of_the_application_is_described_or_is_one_that_the_server_hands_out(self, tmp_path):
        settings = read_settings({"ADAPTERS_HOME": str(tmp_path), "ADAPTERS_CACHE": str(tmp_path / "cache")})
        routes = make_app(app.served(settings)).routes
        live = {(route.path.replace(":path", ""), method) for route in routes for method in route.methods}
        described = {
            (path, method.upper()) for path, methods in openapi.document()["paths"].items() for method in methods
        }
        # Starlette answers HEAD wherever it answers GET.
        missing = {each for each in live - described if each[1] != "HEAD" or (each[0], "GET") not in live}
        # Pages are for people; tests/pages walks over them.
        assert {path for path, _ in missing if path != "/" and not is_page(path)} == set(NOT_DESCRIBED)
        assert described <= live
