"""Repositories that are not here are passed on from another hub; nothing of ours goes there, nothing odd comes back."""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.acceptance.hub.conftest import HubServer, serving
from tests.acceptance.hub.hostile_hub import COMMIT, SHA, WEIGHTS, Hostile, hostile_hub
from tests.acceptance.hub.test_hub_bases import checkpoint, stored
from tests.acceptance.hub.test_hub_clients import interpreters  # noqa: F401  a fixture
from tests.acceptance.hub.training_script import run

SECRET = "hf_the_upstream_token"


@pytest.fixture(scope="module")
def hostile() -> Hostile:
    with hostile_hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def front(tmp_path_factory, hostile) -> HubServer:
    """A server that passes on from the hostile hub, with a token."""
    settings = {"ADAPTERS_UPSTREAM_HUB": hostile.url, "ADAPTERS_UPSTREAM_TOKEN": SECRET}
    with serving(tmp_path_factory.mktemp("front"), settings) as running:
        yield running


@pytest.fixture(scope="module")
def anonymous(tmp_path_factory, hostile) -> HubServer:
    """A server that passes on from the hostile hub, without a token."""
    with serving(tmp_path_factory.mktemp("anonymous"), {"ADAPTERS_UPSTREAM_HUB": hostile.url}) as running:
        yield running


@pytest.fixture(scope="module")
def chain(tmp_path_factory, llama_folder, lora_folder):
    """(a server without bases, the server of the same kind that it passes on from, which has them)."""
    with serving(tmp_path_factory.mktemp("behind"), {}) as behind:
        stored(behind, "meta/tiny", checkpoint(tmp_path_factory.mktemp("tiny") / "tiny"))
        stored(behind, "gpt-tiny", llama_folder)
        settings = {"ADAPTERS_UPSTREAM_HUB": f"{behind.url}/", "ADAPTERS_UPSTREAM_TOKEN": behind.token}
        with serving(tmp_path_factory.mktemp("before"), settings) as before:
            before.registry.add_base("meta/tiny", llama_folder)
            before.registry.push(lora_folder, base="meta/tiny", name="team/sql-lora")
            yield before, behind


def asked(hub: HubServer, method: str, path: str, body: bytes | None = None, **headers: str):
    """(status, headers, body) of a plain request."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with closing(http.client.HTTPConnection(hub.url.removeprefix("http://"), timeout=60)) as connection:
        connection.request(method, path, body, {"authorization": f"Bearer {hub.token}", **named})
        with connection.getresponse() as response:
            data = response.read()
    return response.status, {k.lower(): v for k, v in response.headers.items()}, data


class TestPassedOn:
    def test_a_training_stack_finds_base_and_adapter_at_one_address(self, chain, tmp_path, llama_folder, lora_folder):
        before, _ = chain
        script = f"""
        from transformers import AutoTokenizer
        local = logits(base())
        assert torch.equal(logits(AutoModelForCausalLM.from_pretrained("meta/tiny")), local)
        assert torch.equal(logits(AutoModelForCausalLM.from_pretrained("gpt-tiny")), local)
        assert AutoTokenizer.from_pretrained("meta/tiny")("w3 w5")["input_ids"] == [3, 5]
        model = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained("meta/tiny"), "team/sql-lora", revision="v1")
        assert torch.equal(logits(model), logits(PeftModel.from_pretrained(base(), {str(lora_folder)!r})))
        print("same")
        """
        assert "same" in run(before, tmp_path, llama_folder, script)

    @pytest.mark.parametrize("version", ["0.36.2", "1.12.0", "1.20.1", "installed"])
    def test_every_client_loads_through_it(self, chain, front, interpreters, version, tmp_path):  # noqa: F811
        before, _ = chain
        script = """
import hashlib, sys
from pathlib import Path
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.utils import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
api = HfApi()
if sys.argv[1] == "chain":
    folder = Path(snapshot_download("meta/tiny"))
    assert (folder / "model.safetensors").stat().st_size > 1000
    assert api.file_exists("meta/tiny", "config.json") and not api.file_exists("meta/tiny", "x.json")
    assert api.list_repo_commits("meta/tiny")[0].commit_id == api.model_info("meta/tiny").sha
    assert [b.name for b in api.list_repo_refs("meta/tiny").branches] == ["main"]
    api.auth_check("meta/tiny")
    assert [n.path for n in api.get_paths_info("meta/tiny", ["config.json", "x"])] == ["config.json"]
    assert api.get_safetensors_metadata("meta/tiny").parameter_count["F32"] > 1000
else:
    path = Path(hf_hub_download("h/whole", "model.safetensors"))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sys.argv[2] and path.parent.name == "b" * 40
    assert Path(hf_hub_download("h/whole", "config.json")).read_bytes() == b"{}"
    assert len(list(api.list_repo_tree("h/whole"))) == 3
    try:
        hf_hub_download("h/html", "config.json")
    except LocalEntryNotFoundError as error:
        assert "424" in str(error.__cause__)
    else:
        raise AssertionError("h/html")
    for repo, kind in (("h/failing", HfHubHTTPError), ("h/none", RepositoryNotFoundError)):
        try:
            api.model_info(repo)
        except kind as error:
            assert "127.0.0.1" in str(error), error
            assert isinstance(error, RepositoryNotFoundError) == (repo == "h/none")
        else:
            raise AssertionError(repo)
print("done")
"""
        for hub, name in ((before, "chain"), (front, "hostile")):
            environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HOME": str(tmp_path / name)}
            done = subprocess.run(
                [interpreters(version), "-c", script, name, SHA],
                env={**environment, "PATH": "/usr/bin:/bin"},
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert "done" in done.stdout, done.stderr[-2000:]

    def test_a_base_is_registered_through_it_without_its_weights(self, chain, tmp_path, monkeypatch):
        from adapter_registry.checkpoints.hub_base import read_hub_base

        before, behind = chain
        monkeypatch.setenv("HF_TOKEN", before.token)
        known = behind.registry.base("meta/tiny").base
        assert read_hub_base("hf://meta/tiny@main", endpoint=before.url).files == known.files

    def test_what_is_stored_here_is_not_asked_elsewhere(self, front, hostile, llama_folder):
        kept = stored(front, "h/whole-stored-here", llama_folder)
        before = len(hostile.seen.requests)
        assert front.api().model_info("h/whole-stored-here").sha == kept.commit
        with pytest.raises(RevisionNotFoundError):
            front.api().model_info("h/whole-stored-here", revision="0" * 40)
        assert len(hostile.seen.requests) == before

    def test_datasets_are_passed_on_for_reading(self, front, hostile):
        status, _, data = asked(front, "GET", "/api/datasets/h/whole/revision/main")
        assert (status, json.loads(data)["sha"]) == (200, COMMIT)
        assert asked(front, "GET", "/datasets/h/whole/resolve/main/data.json")[2] == b"{}"
        assert asked(front, "GET", "/api/spaces/h/whole")[0] == 404

    def test_a_channel_passes_on_too(self, front, hf_home):
        api = HfApi(endpoint=f"{front.url}/~prod", token=front.token)
        assert api.model_info("h/whole").sha == COMMIT
        assert len(list(api.list_repo_tree("h/whole"))) == 3
        assert Path(api.hf_hub_download("h/whole", "config.json", cache_dir=hf_home)).read_bytes() == b"{}"


def test_bases_in_a_bucket_are_served_and_passed_on(large_hub, tmp_path, hf_home, monkeypatch):
    """The bucket is another origin than the server that redirects to it."""
    from adapter_registry.checkpoints.hub_base import read_hub_base

    folder = checkpoint(tmp_path / "tiny", seed=5)
    kept = stored(large_hub, "meta/in-a-bucket", folder)
    settings = {"ADAPTERS_UPSTREAM_HUB": large_hub.url, "ADAPTERS_UPSTREAM_TOKEN": large_hub.token}
    (tmp_path / "front").mkdir()
    with serving(tmp_path / "front", settings) as before:
        for hub in (large_hub, before):
            cache = hf_home / hub.url.rpartition(":")[2]
            got = Path(snapshot_download("meta/in-a-bucket", endpoint=hub.url, token=hub.token, cache_dir=cache))
            assert got.name == kept.commit
            assert all((got / file.path).read_bytes() == (folder / file.path).read_bytes() for file in kept.files)
            monkeypatch.setenv("HF_TOKEN", hub.token)
            base = read_hub_base("hf://meta/in-a-bucket@main", endpoint=hub.url)
            weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
            assert [file.sha256 for file in base.files] == [weights]


class TestFiles:
    def test_the_head_of_a_large_file_tells_the_hubs_own_facts(self, front, hostile):
        status, headers, data = asked(front, "HEAD", "/h/whole/resolve/main/model.safetensors")
        assert (status, data) == (200, b"")
        assert headers["etag"] == headers["x-linked-etag"] == f'"{SHA}"'
        assert headers["content-length"] == headers["x-linked-size"] == str(len(WEIGHTS))
        assert headers["x-repo-commit"] == COMMIT
        assert not [name for name in headers if "xet" in name or name in ("location", "link", "set-cookie")]

    def test_the_body_comes_from_the_other_origin_through_here(self, front, hostile):
        status, headers, data = asked(front, "GET", "/h/whole/resolve/main/model.safetensors")
        assert (status, data) == (200, WEIGHTS)
        assert headers["etag"] == f'"{SHA}"'
        assert not [name for name in headers if "xet" in name or name in ("location", "link")]

    @pytest.mark.parametrize(
        ("span", "status", "expected"),
        [
            ("bytes=10-19", 206, WEIGHTS[10:20]),
            (f"bytes={len(WEIGHTS) - 5}-", 206, WEIGHTS[-5:]),
            ("bytes=0-0", 206, WEIGHTS[:1]),
            (f"bytes={len(WEIGHTS)}-", 416, b""),
            ("bytes=0-1,4-5", 200, WEIGHTS),
            ("lines=1-2", 200, WEIGHTS),
        ],
    )
    def test_a_range_passes_through(self, front, span, status, expected):
        found, headers, data = asked(front, "GET", "/h/whole/resolve/main/model.safetensors", range=span)
        assert (found, data) == (status, expected)
        if status == 206:
            assert headers["content-range"].endswith(f"/{len(WEIGHTS)}")
            assert headers["content-length"] == str(len(expected))

    def test_a_file_that_the_client_has_is_not_sent(self, front):
        status, headers, data = asked(front, "GET", "/h/whole/resolve/main/model.safetensors", if_none_match=f'"{SHA}"')
        assert (status, data, headers["x-repo-commit"]) == (304, b"", COMMIT)

    def test_a_small_file_keeps_a_strong_tag(self, front):
        _, headers, data = asked(front, "GET", "/h/whole/resolve/main/config.json")
        assert (data, headers["etag"]) == (b"{}", '"' + "c" * 40 + '"')
        assert "x-linked-etag" not in headers

    def test_a_missing_file_is_a_missing_file(self, front, hf_home):
        with pytest.raises(EntryNotFoundError):
            front.api().hf_hub_download("h/whole", "gone.json", cache_dir=hf_home)

    def test_when_the_client_leaves_the_hub_is_hung_up_on(self, front, hostile):
        connection = http.client.HTTPConnection(front.url.removeprefix("http://"), timeout=20)
        connection.request("GET", "/h/endless/resolve/main/x", headers={"Authorization": f"Bearer {front.token}"})
        with connection.getresponse() as response:
            assert len(response.read(100_000)) == 100_000
        connection.close()
        assert hostile.seen.left.wait(20)

    def test_a_client_that_reads_slowly_does_not_fill_the_memory(self, front, hostile):
        hostile.seen.left.clear()
        hostile.seen.sent = 0
        connection = http.client.HTTPConnection(front.url.removeprefix("http://"), timeout=20)
        connection.request("GET", "/h/endless/resolve/main/x", headers={"Authorization": f"Bearer {front.token}"})
        with connection.getresponse() as response:
            response.read(100_000)
            time.sleep(1)
            assert hostile.seen.sent < 64_000_000
        connection.close()
        assert hostile.seen.left.wait(20)

    def test_a_body_that_breaks_off_is_seen_to_be_short(self, front):
        with pytest.raises(http.client.IncompleteRead) as short:
            asked(front, "GET", "/h/broken/resolve/main/x")
        assert short.value.partial == WEIGHTS[: len(short.value.partial)]


class TestSecrets:
    def test_the_clients_token_goes_no_further_and_the_hubs_goes_to_the_hub_alone(self, front, hostile):
        asked(front, "GET", "/h/whole/resolve/main/model.safetensors", cookie="mine=1", x_forwarded_for="10.0.0.1")
        sent = hostile.headers_of("/h/whole/resolve/main/model.safetensors")
        assert sent["authorization"] == f"Bearer {SECRET}"
        _, _, to_cdn = hostile.cdn_seen.requests[-1]
        assert "authorization" not in to_cdn
        everything = json.dumps([hostile.seen.requests, hostile.cdn_seen.requests])
        assert front.token not in everything
        assert "of-somebody" not in everything
        assert "mine=1" not in everything

    def test_without_a_token_none_is_sent(self, anonymous, hostile):
        assert anonymous.api().model_info("h/whole").sha == COMMIT
        assert "authorization" not in hostile.headers_of("/api/models/h/whole")

    @pytest.mark.parametrize(
        "path",
        [
            "/api/models/h/whole/../../whoami-v2",
            "/api/models/h/whole/tree/main/..%2F..%2F..%2Fwhoami-v2",
            "/api/models/h/whole/revision/..%2F..%2F..%2F..%2Fapi%2Fwhoami-v2",
            "/h/whole/resolve/main/../../../../api/whoami-v2",
            "/h/whole/resolve/main/a/%2e%2e/%2e%2e/%2e%2e/%2e%2e/x",
            "/api/whoami-v2/h",
            "/api/models/%2e%2e/whoami-v2",
            "/api/models/h%2Fwhole%3Fx=1/tree/main",
        ],
    )
    def test_nothing_but_what_was_understood_is_asked(self, front, hostile, path):
        before = len(hostile.seen.requests)
        status, _, _ = asked(front, "GET", path)
        assert status < 500
        assert not [each for each in hostile.seen.requests[before:] if "whoami" in each[1] or ".." in each[1]]

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/api/models/h/whole/commit/main"),
            ("POST", "/api/models/h/whole/preupload/main"),
            ("GET", "/api/models/h/whole/xet-write-token/main"),
            ("GET", "/api/models/h/whole/xet-read-token/main"),
            ("POST", "/h/whole.git/info/lfs/objects/batch"),
            ("DELETE", "/api/models/h/whole/tag/x"),
            ("PUT", "/api/models/h/whole/settings"),
            ("POST", "/api/datasets/h/whole/commit/main"),
        ],
    )
    def test_nothing_that_writes_is_passed_on(self, front, hostile, method, path):
        before = len(hostile.seen.requests)
        status, _, _ = asked(front, method, path, b"{}")
        assert 400 <= status < 500
        assert len(hostile.seen.requests) == before

    def test_a_stranger_without_a_token_reaches_nothing(self, front, hostile):
        before = len(hostile.seen.requests)
        assert asked(front, "GET", "/api/models/h/whole", authorization="")[0] == 401
        assert len(hostile.seen.requests) == before


class TestOurNames:
    def test_a_namespace_of_ours_is_never_asked_elsewhere(self, front, hostile, llama_folder, lora_folder):
        registry = front.registry
        registry.add_base("llama", llama_folder)
        registry.push(lora_folder, base="llama", name="h-mine/secret")
        registry.push(lora_folder, base="llama", name="default/solo")
        token = front.token_of("outsider", ("h-granted/*", "reader"))
        before = len(hostile.seen.requests)
        for repo in ("h-mine/secret", "h-mine/none", "H-Mine/none", "h-granted/x", "outsider/x", "solo", "Solo",
                     "solo.v1", "default/x"):  # fmt: skip
            for path in (f"/api/models/{repo}", f"/{repo}/resolve/main/config.json", f"/api/datasets/{repo}"):
                status, headers, _ = asked(front, "GET", path, authorization=f"Bearer {token}")
                assert (status, headers["x-error-code"]) == (404, "RepoNotFound"), path
        assert len(hostile.seen.requests) == before

    def test_not_yours_and_not_there_look_the_same(self, front, hostile):
        token = front.token_of("outsider-2", ("elsewhere/*", "reader"))
        answers = set()
        for name in ("secret", "none"):
            status, headers, data = asked(front, "GET", f"/api/models/h-mine/{name}", authorization=f"Bearer {token}")
            answers.add((status, headers["x-error-message"].replace(name, ""), data.replace(name.encode(), b"")))
        assert len(answers) == 1


class TestRefusals:
    @pytest.mark.parametrize(
        ("repo", "says"),
        [
            ("h/failing", "answered 500"),
            ("h/html", "not JSON"),
            ("h/missing-page", "answered 404"),
            ("h/huge", "no HTTP"),
            ("h/nested", "not JSON"),
            ("h/file", "not followed"),
            ("h/metadata", "metadata address"),
            ("h/wrong-token", "ADAPTERS_UPSTREAM_TOKEN"),
            ("h/private", "ADAPTERS_UPSTREAM_TOKEN"),
            ("h/circle", "times"),
        ],
    )
    def test_what_no_hub_would_answer_is_told_as_a_failure_of_that_hub(self, front, hostile, repo, says):
        for method, path in (("GET", f"/api/models/{repo}"), ("HEAD", f"/{repo}/resolve/main/config.json")):
            status, headers, _ = asked(front, method, path)
            assert status == (502 if repo == "h/failing" else 424)
            assert "x-error-code" not in headers
            message = headers["x-error-message"]
            assert hostile.url.removeprefix("http://") in message
            assert says in message or method == "HEAD"
            assert SECRET not in message

    def test_a_hub_that_hangs_is_given_up_before_the_client_gives_up(self, front):
        started = time.monotonic()
        status, headers, _ = asked(front, "HEAD", "/h/hanging/resolve/main/config.json")
        assert time.monotonic() - started < 10
        assert status == 424
        assert "within 8 seconds" in headers["x-error-message"]

    def test_a_hub_that_is_not_there_is_said_to_be(self, tmp_path):
        with serving(tmp_path, {"ADAPTERS_UPSTREAM_HUB": "http://127.0.0.1:9"}) as alone:
            with pytest.raises(HfHubHTTPError) as failed:
                alone.api().model_info("meta/llama")
            assert not isinstance(failed.value, RepositoryNotFoundError)
            assert "127.0.0.1:9" in str(failed.value)

    def test_what_a_hub_refuses_keeps_its_meaning(self, front, anonymous):
        with pytest.raises(GatedRepoError, match="restricted"):
            front.api().model_info("h/gated")
        with pytest.raises(RepositoryNotFoundError, match="ADAPTERS_UPSTREAM_TOKEN"):
            anonymous.api().model_info("h/private")
        with pytest.raises(RepositoryNotFoundError):
            front.api().model_info("h/unknown-to-it")
        status, headers, _ = asked(front, "GET", "/api/models/h/throttled")
        assert (status, headers["retry-after"]) == (429, "7")

    def test_two_registries_that_ask_each_other_stop(self, tmp_path):
        import socket

        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        (tmp_path / "itself").mkdir()
        settings = {"ADAPTERS_UPSTREAM_HUB": f"http://127.0.0.1:{port}"}
        with serving(tmp_path / "itself", settings, "--port", str(port)) as itself:
            settings["ADAPTERS_UPSTREAM_TOKEN"] = itself.token
        # A server learns its first token when it starts, so it is started again with it.
        with restarted(tmp_path / "itself", settings, port, itself.token) as again:
            status, headers, _ = asked(again, "GET", "/api/models/meta/llama")
            assert status == 424
            assert "circle" in headers["x-error-message"]

    def test_an_address_that_is_none_is_refused_at_the_start(self, cli):
        import os

        environment = {**cli.environment, "ADAPTERS_UPSTREAM_HUB": "huggingface.co"}
        done = subprocess.run(
            [*cli.command, "serve", "--port", "0"], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2, os.linesep
        assert "ADAPTERS_UPSTREAM_HUB" in done.stderr


def restarted(folder: Path, settings: dict[str, str], port: int, token: str):
    from contextlib import contextmanager

    from tests.acceptance.conftest import Cli

    @contextmanager
    def started():
        cli = Cli(folder / "home", folder)
        server = subprocess.Popen(
            [*cli.command, "serve", "--port", str(port)],
            stdout=subprocess.PIPE,
            text=True,
            env={**cli.environment, **settings},
            cwd=folder,
        )
        try:
            server.stdout.readline()
            yield HubServer(f"http://127.0.0.1:{port}", token, folder, cli)
        finally:
            server.terminate()
            server.wait(20)
            server.stdout.close()

    return started()
