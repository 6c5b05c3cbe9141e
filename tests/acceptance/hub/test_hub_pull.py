"""Unchanged Hugging Face clients download by stage, tag, version number, semantic version and commit."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from adapter_registry.domain.policies.process import Sources
from adapter_registry.domain.promotions.stage import Stage
from tests.acceptance.hub.conftest import hf

REPO = "team/sql-lora"


def commit_of(hub, selector):
    return hub.registry.resolve(f"{REPO}@{selector}").digest.removeprefix("sha256:")[:40]


def raw(hub, path, method="GET", token=None, **headers):
    given = {"Authorization": f"Bearer {token or hub.token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
    request = urllib.request.Request(f"{hub.url}{path}", method=method, headers=given)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, dict(response.headers), response.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


class TestDownload:
    @pytest.mark.parametrize(
        ("revision", "selector"),
        [("prod", "v1"), ("stable", "v1"), ("v2", "v2"), ("main", "v2"), ("^1.0", "v2"), ("refs/tags/stable", "v1")],
    )
    def test_a_revision_may_be_a_stage_a_tag_a_number_or_a_range(self, hub, tmp_path, revision, selector):
        folder = snapshot_download(REPO, revision=revision, endpoint=hub.url, token=hub.token, cache_dir=tmp_path)
        assert folder.endswith(commit_of(hub, selector))

    def test_the_bytes_are_those_that_were_pushed(self, hub, tmp_path, lora_folder):
        folder = hub.api().snapshot_download(REPO, revision="prod", cache_dir=tmp_path / "c", local_dir=tmp_path / "l")
        for path in lora_folder.iterdir():
            assert (tmp_path / "l" / path.name).read_bytes() == path.read_bytes()
        assert folder

    def test_a_commit_is_a_revision(self, hub, tmp_path):
        commit = commit_of(hub, "v1")
        path = hub.api().hf_hub_download(REPO, "adapter_config.json", revision=commit, cache_dir=tmp_path)
        assert json.loads(Path(path).read_text())["r"] == 4

    def test_a_moved_stage_is_followed_and_fetches_only_what_changed(self, hub, tmp_path, pushable):
        registry = hub.registry
        registry.push(pushable, base="org/llama", name="team/moving")
        registry.attempt("team/moving@v1", "dev")
        api = hub.api()
        first = api.snapshot_download("team/moving", revision="dev", cache_dir=tmp_path)
        (pushable / "README.md").write_text("changed")
        registry.push(pushable, base="org/llama", name="team/moving")
        registry.attempt("team/moving@v2", "dev")
        second = api.snapshot_download("team/moving", revision="dev", cache_dir=tmp_path)
        assert first != second
        assert api.snapshot_download("team/moving", revision="v1", cache_dir=tmp_path) == first

    def test_an_id_may_carry_the_reference(self, hub, tmp_path):
        folder = snapshot_download(f"{REPO}.prod", endpoint=hub.url, token=hub.token, cache_dir=tmp_path)
        assert folder.endswith(commit_of(hub, "v1"))

    def test_a_channel_makes_main_mean_the_stage(self, hub, tmp_path):
        folder = snapshot_download(REPO, endpoint=f"{hub.url}/~prod", token=hub.token, cache_dir=tmp_path)
        assert folder.endswith(commit_of(hub, "v1"))

    def test_a_declared_stage_is_a_revision_a_channel_and_part_of_an_id(self, hub, tmp_path):
        hub.registry.declare_stage(Stage("beta", sources=Sources(("dev",)), like="dev", lanes=("eu",)))
        for place in ("beta", "beta.eu"):
            hub.registry.promote(f"{REPO}@v1", place)
            for repo, given in ((REPO, {"revision": place}), (f"{REPO}.{place}", {})):
                assert hub.api().model_info(repo, **given).sha == commit_of(hub, "v1")
            channel = HfApi(endpoint=f"{hub.url}/~{place}", token=hub.token)
            assert channel.model_info(REPO).sha == commit_of(hub, "v1")
        assert "beta" in {ref.name for ref in hub.api().list_repo_refs(REPO).tags}
        with pytest.raises(RepositoryNotFoundError):
            HfApi(endpoint=f"{hub.url}/~bet", token=hub.token).model_info(REPO)
        for make in (hub.api().create_tag, hub.api().create_branch):
            with pytest.raises(HfHubHTTPError, match="is a stage"):
                make(REPO, **({"tag": "beta"} if make.__name__ == "create_tag" else {"branch": "beta"}))

    def test_the_command_line_downloads(self, hub, tmp_path):
        hf(hub, "download", REPO, "--revision", "prod", "--local-dir", tmp_path / "out", home=tmp_path)
        assert (tmp_path / "out" / "adapter_model.safetensors").is_file()

    def test_the_caches_can_be_verified(self, hub, tmp_path):
        hub.api().snapshot_download(REPO, revision="prod", cache_dir=tmp_path)
        assert hub.api().verify_repo_checksums(REPO, revision="prod", cache_dir=tmp_path)


class TestQuestions:
    def test_the_api_answers_what_clients_ask(self, hub):
        api = hub.api()
        info = api.model_info(REPO, revision="prod", files_metadata=True)
        assert info.sha == commit_of(hub, "v1")
        weights = next(s for s in info.siblings if s.rfilename.endswith(".safetensors"))
        assert weights.lfs.sha256 == weights.lfs["sha256"]
        assert sorted(api.list_repo_files(REPO)) == sorted(s.rfilename for s in api.model_info(REPO).siblings)
        assert {ref.name for ref in api.list_repo_refs(REPO).tags} >= {"prod", "stable", "v1", "v2"}
        assert [c.title for c in api.list_repo_commits(REPO)] == ["second", "first"]
        assert [c.title for c in api.list_repo_commits(REPO, revision="prod", formatted=True)] == ["first"]
        [node] = api.get_paths_info(REPO, ["adapter_config.json", "nope"])
        assert node.path == "adapter_config.json"
        assert api.file_exists(REPO, "adapter_config.json")
        assert not api.file_exists(REPO, "nope")
        assert api.revision_exists(REPO, "prod")
        assert not api.revision_exists(REPO, "nope")
        assert api.repo_exists(REPO)
        assert REPO in [m.id for m in api.list_models(author="team", search="sql", filter="peft")]
        assert list(api.list_models(filter="no-such-tag")) == []
        assert "F32" in api.parse_safetensors_file_metadata(REPO, "adapter_model.safetensors").parameter_count

    def test_the_account_is_known(self, hub):
        assert hub.api().whoami()["name"] == "admin"

    def test_the_command_line_asks(self, hub, tmp_path):
        assert "admin" in hf(hub, "auth", "whoami", home=tmp_path)
        assert REPO in hf(hub, "models", "ls", "--search", "sql", "--format", "json", home=tmp_path)


class TestWhatIsNotThere:
    def test_errors_are_those_of_the_hub(self, hub, tmp_path):
        api = hub.api()
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("team/nothing")
        with pytest.raises(RevisionNotFoundError):
            api.model_info(REPO, revision="nothing")
        with pytest.raises(EntryNotFoundError):
            api.hf_hub_download(REPO, "nothing.json", cache_dir=tmp_path)
        with pytest.raises(EntryNotFoundError):
            list(api.list_repo_tree(REPO, "no-such-folder"))

    def test_a_bad_token_is_told_from_a_missing_repository(self, hub):
        status, headers, _ = raw(hub, f"/api/models/{REPO}", token="adapters_wrong")
        assert (status, headers["x-error-message"]) == (401, "Invalid credentials in Authorization header")
        assert "x-error-code" not in headers

    def test_without_a_token_nothing_is_shown(self, hub, tmp_path):
        with pytest.raises(RepositoryNotFoundError):
            HfApi(endpoint=hub.url, token=False).model_info(REPO)

    def test_not_yours_and_not_there_look_the_same(self, hub):
        reader = hub.token_of("stranger", ("other/*", "reader"))
        mine = raw(hub, f"/api/models/{REPO}", token=reader)
        none = raw(hub, "/api/models/team/sql-lorb", token=reader)
        assert mine[0] == none[0] == 404
        assert mine[2].replace(b"sql-lora", b"") == none[2].replace(b"sql-lorb", b"")
        assert list(HfApi(endpoint=hub.url, token=reader).list_models()) == []

    def test_a_revoked_version_stops_clients_with_a_warm_cache(self, hub, tmp_path, pushable):
        registry = hub.registry
        registry.push(pushable, base="org/llama", name="team/withdrawn")
        registry.tag("team/withdrawn@v1", "good")
        hub.api().snapshot_download("team/withdrawn", revision="good", cache_dir=tmp_path)
        registry.revoke("team/withdrawn@v1", because="it leaks")
        with pytest.raises(RevisionNotFoundError, match="it leaks"):
            hub.api().snapshot_download("team/withdrawn", revision="good", cache_dir=tmp_path)


class TestResolve:
    def test_the_headers_that_clients_cache_by(self, hub):
        status, headers, data = raw(hub, f"/{REPO}/resolve/prod/adapter_model.safetensors", "HEAD")
        assert (status, data) == (200, b"")
        assert headers["x-repo-commit"] == commit_of(hub, "v1")
        assert headers["etag"] == headers["x-linked-etag"]
        assert headers["content-length"] == headers["x-linked-size"]
        assert headers["accept-ranges"] == "bytes"
        small = raw(hub, f"/{REPO}/resolve/prod/adapter_config.json", "HEAD")[1]
        assert len(small["etag"].strip('"')) == 40

    @pytest.mark.parametrize(
        ("asked", "start", "end"), [("bytes=0-9", 0, 10), ("bytes=100-", 100, None), ("bytes=-7", -7, None)]
    )
    def test_a_part_of_a_file_is_sent_as_a_part(self, hub, lora_folder, asked, start, end):
        whole = (lora_folder / "adapter_model.safetensors").read_bytes()
        status, headers, data = raw(hub, f"/{REPO}/resolve/v1/adapter_model.safetensors", Range=asked)
        assert (status, data) == (206, whole[start:end])
        assert headers["content-range"].endswith(f"/{len(whole)}")

    def test_a_part_past_the_end_is_416(self, hub):
        assert raw(hub, f"/{REPO}/resolve/v1/adapter_model.safetensors", Range="bytes=99999999-")[0] == 416

    def test_a_missing_file_names_the_commit_so_that_its_absence_is_cached(self, hub):
        status, headers, _ = raw(hub, f"/{REPO}/resolve/prod/nope.json", "HEAD")
        assert (status, headers["x-error-code"]) == (404, "EntryNotFound")
        assert headers["x-repo-commit"] == commit_of(hub, "v1")

    @pytest.mark.parametrize(
        "path", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/registry.db", "a/b/c", "%00"]
    )
    def test_no_path_leads_out_of_a_version(self, hub, path):
        assert raw(hub, f"/{REPO}/resolve/prod/{path}")[0] == 404
