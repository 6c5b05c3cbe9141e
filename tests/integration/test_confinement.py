"""What every kind of job computes in: a process of its own, limited, without secrets, without network."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from safetensors.numpy import load_file, save_file

from adapter_registry.checkpoints.confined import Limits
from adapter_registry.client import Registry
from adapter_registry.domain.errors import JobFailed
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs.computing import Ears, Task, computed
from adapter_registry.jobs.kind import INPUTS, OUT
from adapter_registry.jobs.kinds import KINDS
from adapter_registry.local.folders import file_digest
from adapter_registry.settings import read_settings
from tests.adapter_builders import copied
from tests.confined_kinds import EYED

ADAPTER, SECRET = "default/sql-lora", "canary-of-the-environment"
GENEROUS = Limits(8 << 30, 600)


@pytest.fixture(scope="module")
def registry(tmp_path_factory, llama_folder, lora_folder):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    root = tmp_path_factory.mktemp("confined")
    base = copied(llama_folder, root / "base")
    words = Tokenizer(models.WordLevel({f"w{index}": index for index in range(64)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(base)
    tuned = copied(base, root / "tuned")
    weights = load_file(tuned / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"] = weights["model.layers.0.mlp.up_proj.weight"] * 1.5
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    (root / "text").write_text("w1 w2 w3 w4")
    made = Registry(read_settings({"ADAPTERS_HOME": str(root / "home"), "ADAPTERS_CACHE": str(root / "cache")}))
    made.add_base("tiny", base)
    made.add_base("tuned", tuned)
    made.push(lora_folder, base="tiny", name="sql-lora")
    made.keep_file(root / "text", adapter=ADAPTER)
    return made


def recipe_of(kind: str, registry: Registry) -> Recipe:
    one = Ingredient(f"{ADAPTER}@v1")
    base = registry.base("tiny").base.digest
    return {
        "merge": Recipe("merge", (one,), into="default/merged"),
        "diff": Recipe("diff", (one, one), options={"weights": True}, into=ADAPTER),
        "compose": Recipe("compose", (one, one), options={"method": "svd"}, into="default/composed"),
        "flatten": Recipe("flatten", (one,), into="default/plain"),
        "extract": Recipe("extract", base=base, options={"checkpoint": "tuned", "rank": 2}, into="default/extracted"),
        "evaluate": Recipe(
            "evaluate",
            (one,),
            files={"data": file_digest(registry.settings.home.parent / "text")},
            into=ADAPTER,
        ),
    }[kind]


def outcome(name: str, registry: Registry, scratch, limits: Limits, **more):
    """What comes of a kind in its child, with an eye in it."""
    kind = EYED[name]
    exact = kind.check(registry, recipe_of(name, registry))
    (scratch / INPUTS).mkdir(parents=True)
    (scratch / OUT).mkdir()
    kind.gather(registry, exact, scratch)
    exact.options.update(more)
    return computed(Task(kind, exact, scratch), limits, Ears())


def test_every_kind_is_looked_into():
    assert EYED.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_it_computes_in_a_child_with_limits_and_without_secrets_and_network(
        self, registry, tmp_path, kind, monkeypatch
    ):
        for name in ("ADAPTERS_TOKEN", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"):
            monkeypatch.setenv(name, SECRET)
        seen = outcome(kind, registry, tmp_path / "s", GENEROUS)["seen"]
        assert seen["parent"] == os.getpid()
        assert SECRET not in str(seen["environment"])
        assert seen["memory"] == GENEROUS.memory
        assert seen["cpu"] == GENEROUS.seconds * os.cpu_count() + 1
        assert "PermissionError" in seen["network"]["connect"]
        assert "PermissionError" in seen["network"]["resolve"]

    def test_more_memory_than_it_may_take_ends_it(self, registry, tmp_path, kind):
        with pytest.raises(JobFailed, match="more than the 1 GB of memory"):
            outcome(kind, registry, tmp_path / "s", Limits(10**9, 600), take=3 * 10**9)

    def test_more_time_than_it_may_take_ends_it(self, registry, tmp_path, kind):
        with pytest.raises(JobFailed, match="longer than the 1 s"):
            outcome(kind, registry, tmp_path / "s", Limits(8 << 30, 1), sleep=60)


@pytest.mark.parametrize("allowed", [True, False])
def test_sockets_are_refused_also_where_the_kernel_allows_no_namespace(allowed):
    program = f"""
import socket
from adapter_registry.checkpoints import confined
if not {allowed}:
    confined._unshared = lambda: False
print(confined.cut_network())
for reach in (lambda: socket.create_connection(("127.0.0.1", 9)), lambda: socket.getaddrinfo("localhost", 80)):
    try:
        reach()
    except PermissionError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    how, *told = done.stdout.splitlines()
    assert how in (("namespace", "python") if allowed else ("python",))
    assert told == ["a job has no network"] * 2
