"""A merge that workers share, a weight file each, is byte for byte the one that is not shared."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from adapter_registry.domain.job import State
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs.kind import INPUTS, OUT, PARTS
from adapter_registry.jobs.merge import Merge
from tests.adapter_builders import llama
from tests.job_builders import ADAPTER, workshop
from tests.jobs_worker import SmallMerge


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def sharded(tmp_path_factory, llama_folder):
    """The tiny base in several files."""
    import transformers

    folder = tmp_path_factory.mktemp("sharded") / "base"
    llama(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="60KB")
    assert len(list(folder.glob("*.safetensors"))) == 2
    return folder


@pytest.fixture
def shop(tmp_path, sharded, lora_folder):
    with workshop(tmp_path / "home", sharded, lora_folder) as made:
        yield made


@pytest.fixture
def recipe(shop):
    return Merge().check(shop.registry, Recipe("merge", (Ingredient(f"{ADAPTER}@v1"),), into="default/merged"))


def place(shop, recipe, scratch: Path) -> Path:
    for name in (INPUTS, OUT, PARTS):
        (scratch / name).mkdir(parents=True)
    Merge().gather(shop.registry, recipe, scratch)
    return scratch


def in_parts(shop, recipe, tmp_path) -> tuple[Path, dict[str, dict]]:
    """The place to join in, with what each part made, and what each told."""
    whole, outcomes = place(shop, recipe, tmp_path / "joined"), {}
    for number, name in enumerate(SmallMerge().parts(recipe, whole)):
        scratch = place(shop, recipe, tmp_path / str(number))
        outcomes[name] = SmallMerge().compute_part(recipe, scratch, name, lambda _: None)
        assert list(contents(scratch / OUT)) == [name]
        (scratch / OUT).rename(whole / PARTS / name)
    return whole, outcomes


def test_parts_put_together_are_the_undivided_merge(shop, recipe, tmp_path):
    told = []
    undivided = place(shop, recipe, tmp_path / "undivided")
    expected = Merge().compute(recipe, undivided, told.append)
    joined, outcomes = in_parts(shop, recipe, tmp_path)
    found = SmallMerge().join(recipe, joined, outcomes, told.append)
    assert len(outcomes) == 2
    assert contents(joined / OUT) == contents(undivided / OUT)
    assert found["files"] == expected["files"]
    assert found["modules"] == expected["modules"]
    assert told[-1].fraction == 1


def test_a_part_that_was_damaged_on_the_way_is_made_again(shop, recipe, tmp_path):
    joined, outcomes = in_parts(shop, recipe, tmp_path)
    name, *_ = outcomes
    good = (joined / PARTS / name / name).read_bytes()
    (joined / PARTS / name / name).write_bytes(bytes(len(good)))
    SmallMerge().join(recipe, joined, outcomes, lambda _: None)
    assert (joined / OUT / name).read_bytes() == good


def test_what_is_small_or_one_file_is_not_shared_out(shop, recipe, tmp_path):
    scratch = place(shop, recipe, tmp_path / "small")
    assert Merge().parts(recipe, scratch) == []
    together = Recipe("merge", recipe.inputs, options={"max_shard_size": 10**9}, base=recipe.base, into=recipe.into)
    assert SmallMerge().parts(together, scratch) == []


def test_workers_share_a_merge_and_one_that_is_killed_changes_nothing(shop, recipe, tmp_path):
    made = Merge().compute(recipe, place(shop, recipe, tmp_path / "undivided"), lambda _: None)
    with shop.worker() as one, shop.worker():
        job = shop.registry.submit(recipe)
        parts = shop.scratch(job) / PARTS
        while not (parts.is_dir() and any(parts.iterdir())):
            assert not shop.registry.job(job.id).state.ended
            time.sleep(0.02)
        one.kill()
        ended = shop.ended(job)
    assert ended.state is State.SUCCEEDED, ended.error
    assert ended.progress.parts == 2
    stored = shop.registry.base(ended.result["digest"]).base
    assert {file.path: file.sha256 for file in stored.files} == {each["name"]: each["sha256"] for each in made["files"]}
