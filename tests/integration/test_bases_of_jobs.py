"""A job whose base no worker can open is refused when it is submitted, as far as that is known there."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs.checking import checked
from adapter_registry.services.first_admin import bootstrap
from tests.adapter_builders import copied
from tests.job_builders import ADAPTER, workshop

ONE = (Ingredient(f"{ADAPTER}@v1"),)
TWO = ONE * 2
MERGE = Recipe("merge", ONE, into="default/out")
DIFF = Recipe("diff", TWO, into=ADAPTER)
OF_WEIGHTS = replace(DIFF, options={"weights": True})


@pytest.fixture
def shop(tmp_path, llama_folder, lora_folder):
    with workshop(tmp_path / "home", copied(llama_folder, tmp_path / "base"), lora_folder) as made:
        yield made


def test_a_folder_that_is_gone_is_told_with_the_way_out(shop, tmp_path):
    registry, base = shop.registry, tmp_path / "base"
    assert registry.check_job(MERGE).base
    shutil.rmtree(base)
    with pytest.raises(InvalidInput, match=f"was registered from {base}, which is not on this machine") as told:
        registry.submit(MERGE)
    assert told.value.text.endswith("Store them where they are (`adapters base add tiny FOLDER --store`).")
    assert registry.jobs() == ()


def test_comparing_takes_a_bases_bytes_for_its_weights_alone(shop, tmp_path):
    settings, backend = shop.registry.settings, shop.registry._opened
    shutil.rmtree(tmp_path / "base")
    assert checked(settings, backend, DIFF).base
    with pytest.raises(InvalidInput, match="no worker gets its bytes"):
        checked(settings, backend, OF_WEIGHTS)


def test_where_others_wrote_folders_are_opened_that_the_setting_names(shop, tmp_path):
    bootstrap(shop.registry._opened)
    settings, backend = shop.registry.settings, shop.registry._opened
    with pytest.raises(InvalidInput, match="or name the folder in ADAPTERS_BASE_SOURCES, for the workers and for this"):
        checked(settings, backend, MERGE)
    assert checked(replace(settings, base_sources=(str(tmp_path),)), backend, MERGE).base


def test_workers_of_a_shared_database_may_have_a_folder_that_is_not_here(shop, tmp_path):
    settings, backend = shop.registry.settings, shop.registry._opened
    shutil.rmtree(tmp_path / "base")
    assert checked(replace(settings, database_url="postgresql+psycopg://elsewhere"), backend, MERGE).base


def test_stored_files_do(shop, tmp_path):
    registry = shop.registry
    base = tmp_path / "base"
    registry.store_base(registry.add_base("tiny", base), registry.copy_of(base, name="tiny"))
    shutil.rmtree(base)
    assert registry.check_job(MERGE).base
