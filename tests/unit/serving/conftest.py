"""A registry for each module of tests, and fleets of stand-ins for servers."""

from __future__ import annotations

import pytest

from tests.unit.serving.builders import registry_of
from tests.unit.serving.fleets import fleet_of


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    home = tmp_path_factory.mktemp("registry")
    return {"ADAPTERS_HOME": str(home / "home"), "ADAPTERS_CACHE": str(home / "cache")}


@pytest.fixture(scope="module")
def registry(environment, tmp_path_factory, llama_folder, lora_folder):
    """What `registry_of` says."""
    return registry_of(environment, tmp_path_factory.mktemp("made"), llama_folder, lora_folder)


@pytest.fixture(params=["vllm", "sglang"])
def fleet(request, registry, llama_folder, tmp_path):
    with fleet_of(request.param, registry, llama_folder, tmp_path) as made:
        yield made
