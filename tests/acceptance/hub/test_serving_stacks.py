"""What serving stacks ask of a hub and of a control plane, with the client they use; each in a process of its own.

Read in their source: text-generation-inference db931fc (`utils/hub.py`, `utils/adapter.py`), kserve-storage 0.21.0
(`Storage._download_hf`), lorax a7394ba (`utils/sources`). KServe's own code runs, too, where its wheel of 33 KB lies:

    pip download --no-deps -d ~/.cache/adapter-registry/wheels kserve-storage==0.21.0
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.serving.sync_file import target_of
from adapter_registry.serving.syncing import Syncing
from tests.acceptance.hub.test_hub_pull import REPO, commit_of, raw
from tests.acceptance.test_life import retrained
from tests.adapter_builders import adapter

TGI = """
import os, sys
from pathlib import Path
from huggingface_hub import HfApi, constants, file_download, hf_hub_download
repo, revision = sys.argv[1], sys.argv[2] or None
names = [each.rfilename for each in HfApi().model_info(repo, revision=revision).siblings]
for name in (name for name in names if name.endswith(".safetensors") and "/" not in name):
    hf_hub_download(filename=name, repo_id=repo, revision=revision, local_files_only=False)
config = hf_hub_download(repo, "adapter_config.json")  # by PEFT, which is not told of the revision
cache = Path(constants.HF_HUB_CACHE) / file_download.repo_folder_name(repo_id=repo, repo_type="model")
commit = (cache / "refs" / (revision or "main")).read_text()
print(commit, Path(config).parent.name, *sorted(os.listdir(cache / "snapshots" / commit)))
"""
KSERVE = """
import os, sys
from huggingface_hub import snapshot_download
owner, name = sys.argv[1].removeprefix("hf://").split("/")
model, _, revision = name.partition(":")
patterns = {"allow_patterns": sys.argv[3:]} if sys.argv[3:] else {}
snapshot_download(repo_id=f"{owner}/{model}", revision=revision or None, local_dir=sys.argv[2], **patterns)
print(*sorted(each for each in os.listdir(sys.argv[2]) if not each.startswith(".")))
"""
KSERVE_ITSELF = """
import os, sys
from kserve_storage import Storage
sys.stdout, printed = sys.stderr, sys.stdout
Storage.download_files([sys.argv[1]], [sys.argv[2]])
print(*sorted(each for each in os.listdir(sys.argv[2]) if not each.startswith(".")), file=printed)
"""
WHEELS = Path(os.environ.get("KSERVE_WHEELS", Path.home() / ".cache" / "adapter-registry" / "wheels"))
LORAX = """
import sys
from pathlib import Path
from huggingface_hub import HfApi, hf_hub_download
repo, token = sys.argv[1:]
api = HfApi(token=token)
api.model_info(repo, revision=None)
names = [each.rfilename for each in api.model_info(repo, revision=None).siblings]
files = [hf_hub_download(filename=name, repo_id=repo, revision=None, token=token) for name in names]
print(*sorted({Path(each).parent.name for each in files}))
"""


@pytest.fixture
def run(hub, tmp_path):
    def running(script, *arguments, channel="", token=None, **settings):
        environment = {
            **os.environ,
            **settings,
            "HF_ENDPOINT": hub.url + channel,
            "HF_TOKEN": hub.token if token is None else token,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "0",
        }
        command = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.split()

    return running


@pytest.fixture(scope="module")
def wide(hub, llama_folder, tmp_path_factory):
    """team/wide: v1, which is prod and stable, and v2; of a rank that LoRAX does not pad."""
    from peft import LoraConfig

    config = LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["q_proj", "v_proj"])
    first = adapter(tmp_path_factory.mktemp("wide") / "first", llama_folder, config)
    hub.registry.push(first, base="org/llama", name="team/wide")
    hub.registry.push(retrained(first, first.parent / "second", 2.0), base="org/llama", name="team/wide")
    hub.registry.add_scores("team/wide@v1", (Score("x/acc", 0.5, Direction.HIGHER, n=1000),))
    for stage in ("dev", "staging", "prod"):
        hub.registry.attempt("team/wide@v1", stage)
    hub.registry.tag("team/wide@v1", "stable")
    return "wide"


class TestTgi:
    def test_a_channel_gives_weights_and_config_of_what_the_stage_means(self, hub, run):
        prod = commit_of(hub, "v1")
        assert run(TGI, REPO, "", channel="/~prod")[:2] == [prod, prod]

    def test_by_revision_the_weights_are_the_stages_and_the_config_is_mains(self, hub, run):
        weights, config, *files = run(TGI, REPO, "prod")
        assert (weights, config) == (commit_of(hub, "v1"), commit_of(hub, "v2"))
        assert "adapter_model.safetensors" in files


class TestKserve:
    @pytest.mark.parametrize("revision", ["prod", "stable", "v1"])
    def test_a_uri_names_a_stage_a_tag_or_a_version(self, run, tmp_path, lora_folder, revision):
        files = run(KSERVE, f"hf://{REPO}:{revision}", str(tmp_path / "models"))
        assert {"adapter_config.json", "adapter_model.safetensors"} <= set(files)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            assert (tmp_path / "models" / name).read_bytes() == (lora_folder / name).read_bytes()

    def test_patterns_choose_files(self, run, tmp_path):
        assert run(KSERVE, f"hf://{REPO}:prod", str(tmp_path / "models"), "*.json") == ["adapter_config.json"]


class TestKserveItself:
    """`kserve-storage`, as its init container runs it."""

    @pytest.fixture
    def initialise(self, run, tmp_path):
        there = sorted(WHEELS.glob("kserve_storage-0.21.*.whl"))
        if not there:
            pytest.skip(f"kserve-storage's wheel is not in {WHEELS}: pip download --no-deps kserve-storage==0.21.0")
        path = os.pathsep.join([str(there[-1]), *filter(None, [os.environ.get("PYTHONPATH")])])
        return lambda uri, **more: run(KSERVE_ITSELF, uri, str(tmp_path / "models"), PYTHONPATH=path, **more)

    @pytest.mark.parametrize("revision", ["prod", "stable", "v1"])
    def test_a_uri_names_a_stage_a_tag_or_a_version(self, initialise, tmp_path, lora_folder, revision):
        files = initialise(f"hf://{REPO}:{revision}")
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            assert name in files
            assert (tmp_path / "models" / name).read_bytes() == (lora_folder / name).read_bytes()

    def test_patterns_choose_files(self, initialise):
        found = initialise(f"hf://{REPO}:prod", STORAGE_ALLOW_PATTERNS='["*.json"]')
        assert found == ["adapter_config.json"]


class TestLorax:
    def test_as_a_hub_it_gives_main_and_through_a_channel_the_stage(self, hub, run):
        assert run(LORAX, REPO, hub.token, token="") == [commit_of(hub, "v2")]
        assert run(LORAX, REPO, hub.token, token="", channel="/~prod") == [commit_of(hub, "v1")]

    @pytest.mark.parametrize(("version", "selector"), [("prod", "v1"), ("2", "v2"), ("v1", "v1"), ("stable", "v1")])
    def test_as_a_control_plane_it_names_the_folder_that_sync_made(
        self, hub, wide, tmp_path, llama_folder, version, selector
    ):
        options = {"root": str(tmp_path / "root"), "layout": "lorax", "base": str(llama_folder)}
        target = target_of({**options, "serve": {"sql": f"team/{wide}@{selector}"}})
        Syncing(target, hub.registry, clock=lambda: 1.0).step()
        status, _, data = raw(hub, f"/api/v1/lorax/team/v2/repos/{wide}/version/{version}")
        told = json.loads(data)
        assert (status, told["status"]) == (200, "completed")
        folder = Path(tmp_path / "root" / ".store" / told["adapterPath"])
        assert {"adapter_config.json", "adapter_model.safetensors"} <= {each.name for each in folder.iterdir()}

    @pytest.mark.parametrize(
        ("place", "token", "expected"),
        [
            ("team/v2/repos/sql-lora/version/nothing", None, 404),
            ("team/v2/repos/nothing/version/prod", None, 404),
            ("team/v2/repos/sql-lora/version/prod", "adapters_wrong", 401),
            ("team/v2/repos/sql-lora/version/prod", " ", 401),  # what it loads with where a request brings no token
            ("team/v1/models/version/name/sql-lora?version=prod", None, 404),
        ],
    )
    def test_what_is_not_there_and_what_it_asks_after_that_is_an_error(self, hub, place, token, expected):
        assert raw(hub, f"/api/v1/lorax/{place}", token=token)[0] == expected

    def test_an_adapter_that_the_token_may_not_see_is_not_there(self, hub):
        token = hub.token_of("lorax-elsewhere", ("other/*", "reader"))
        assert raw(hub, "/api/v1/lorax/team/v2/repos/sql-lora/version/prod", token=token)[0] == 404
