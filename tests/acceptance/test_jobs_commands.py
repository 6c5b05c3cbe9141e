"""Jobs by the command line: on the embedded store, and through a server."""

from __future__ import annotations

import pytest
import torch

from adapter_cli.main import adapters
from adapter_registry.client import Registry
from adapter_registry.domain.errors import Unsupported
from adapter_registry.domain.job import State
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.settings import read_settings
from tests.adapter_builders import llama
from tests.integration.test_evaluate import folders  # noqa: F401  a fixture
from tests.server_process import serving


@pytest.fixture
def ready(cli, folders):  # noqa: F811  the fixture
    cli("base", "add", "tiny", folders / "base")
    cli("push", folders / "lora", "--base", "tiny", "--name", "sql-lora")
    return cli


def test_without_a_server_a_submission_starts_a_worker_and_says_where(ready, folders):  # noqa: F811
    said = ready("score", "run", "sql-lora@v1", "--data", folders / "text", "--submit").out
    assert "in a worker of its own on this machine" in said
    job = said.split()[0]
    assert ready("jobs", "watch", job, "--wait").out.strip() == f"{job} succeeded"
    shown = ready("jobs", "show", job, "--json").json
    assert shown["result"]["scores"].keys() == {"heldout/loss", "heldout/perplexity"}
    assert [each["job"] for each in ready("score", "ls", "sql-lora@v1", "--json").json] == [job, job]
    assert "begins, attempt 1" in ready("jobs", "logs", job).out
    assert ready("jobs", "ls", "-q").out.split() == [job]
    assert "has succeeded already" in ready("jobs", "cancel", job, code=1).err


def test_directly_it_prints_the_scores(ready, folders):  # noqa: F811
    said = ready("score", "run", "sql-lora@v1", "--data", folders / "text").out
    assert "recorded 2 scores of default/sql-lora@v1" in said
    assert "heldout/perplexity" in said


def test_the_file_of_the_base_that_moved_has_to_be_named(ready, folders, tmp_path):  # noqa: F811
    other = llama(tmp_path / "other", seed=4)
    refused = ready("score", "run", "v1", "--data", folders / "text", "--base-path", other, code=6)
    assert "is not tiny@" in refused.err


def test_a_server_runs_a_worker_of_its_own_from_the_first_job_on(ready, folders, tmp_path):  # noqa: F811
    place = tmp_path / "server"
    place.mkdir()
    (place / "short").write_text("w1")
    settings = {"ADAPTERS_HOME": str(ready.home), "HF_HUB_OFFLINE": "1", "ADAPTERS_BASE_SOURCES": str(folders)}
    with serving(place, settings) as server:
        remote = {**ready.environment, "ADAPTERS_URL": f"http://{server.host}", "ADAPTERS_TOKEN": server.token}
        registry = Registry(read_settings(remote))
        digest = registry.keep_file(place / "short", adapter="default/sql-lora")
        given = (Ingredient("default/sql-lora@v1"),)
        job = registry.submit(Recipe("evaluate", given, files={"data": digest}, into="default/sql-lora"))
        assert registry.start_worker("cpu") == f"for a worker of http://{server.host}"
        ended = ready("jobs", "watch", job.id, code=1)
        assert "nothing to predict" in ended.out
        assert registry.job(job.id).state is State.FAILED
        assert registry.job_log(job.id)[-1].text.startswith("failed: the text holds no two tokens")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
class TestWithoutAGpu:
    @pytest.mark.parametrize(
        "asked",
        [
            ("compose", "none@v1", "--method", "ties", "--name", "x"),
            ("merge", "none@v1", "-o", "out"),
            ("diff", "none@v1", "none@v2", "--intruders"),
            ("extract", "none", "--base", "none", "--rank", "2", "--name", "x"),
            ("score", "run", "none@v1", "--data", "none"),
        ],
    )
    def test_work_for_one_is_refused_before_anything_is_read(self, monkeypatch, tmp_path, asked):
        monkeypatch.setenv("ADAPTERS_HOME", str(tmp_path / "home"))
        monkeypatch.chdir(tmp_path)
        with pytest.raises(Unsupported, match=r"there is no CUDA device here.*Leave --device out"):
            adapters.main([*asked, "--device", "cuda"], standalone_mode=False)
        assert not list(tmp_path.iterdir())

    def test_submitted_work_for_one_waits_in_its_queue_and_fails_with_the_reason(self, ready):
        asked = ("compose", "sql-lora@v1=2", "--method", "ties:peft", "--density", "0.5", "--name", "both")
        job = ready(*asked, "--device", "cuda", "--submit", "-q").out.strip()
        assert "there is no CUDA device here" in ready("jobs", "watch", job, code=1).out
        assert ready("jobs", "show", job, "--json").json["queue"] == "cuda"
