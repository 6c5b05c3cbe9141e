"""Unchanged Hugging Face clients push: whole adapters become versions through the same intake, the rest waits."""

from __future__ import annotations

import concurrent.futures
import hashlib
import http.client
import json

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RevisionNotFoundError

from tests.acceptance.hub.conftest import hf
from tests.acceptance.test_life import retrained
from tests.adapter_builders import changed_config


class TestUpload:
    def test_a_folder_becomes_a_version_locked_to_the_base_its_config_names(self, hub, pushable, tmp_path):
        api = hub.api()
        api.create_repo("team/pushed")
        done = api.upload_folder(repo_id="team/pushed", folder_path=pushable, commit_message="from a client")
        version = hub.registry.resolve("team/pushed@v1")
        assert version.base_name == "org/llama"
        assert version.message == "from a client"
        assert done.oid == version.digest.removeprefix("sha256:")[:40]
        back = api.snapshot_download("team/pushed", cache_dir=tmp_path)
        for path in pushable.iterdir():
            assert (tmp_path / back / path.name).read_bytes() == path.read_bytes()

    def test_the_command_line_pushes(self, hub, pushable, tmp_path):
        hf(hub, "upload", "team/by-command", pushable, home=tmp_path)
        assert hub.registry.resolve("team/by-command@v1").number == 1

    def test_the_same_folder_again_is_the_same_version(self, hub, pushable):
        api = hub.api()
        api.create_repo("team/twice")
        first = api.upload_folder(repo_id="team/twice", folder_path=pushable)
        assert api.upload_folder(repo_id="team/twice", folder_path=pushable).oid == first.oid
        assert len(hub.registry.versions("team/twice")) == 1

    def test_a_native_push_of_the_same_bytes_is_the_same_version(self, hub, pushable):
        hub.registry.push(pushable, base="org/llama", name="team/both")
        hub.api().upload_folder(repo_id="team/both", folder_path=pushable)
        assert len(hub.registry.versions("team/both")) == 1

    def test_bytes_in_memory_travel_by_lfs(self, hub, pushable):
        api = hub.api()
        api.create_repo("team/buffers")
        operations = [CommitOperationAdd(path.name, path.read_bytes()) for path in pushable.iterdir()]
        api.create_commit("team/buffers", operations, commit_message="x")
        assert hub.registry.resolve("team/buffers@v1").number == 1


class TestDrafts:
    def test_an_adapter_may_arrive_in_pieces(self, hub, pushable):
        api = hub.api()
        api.create_repo("team/pieces")
        api.upload_file(
            repo_id="team/pieces", path_in_repo="adapter_config.json", path_or_fileobj=pushable / "adapter_config.json"
        )
        assert hub.registry.versions("team/pieces") == ()
        assert api.list_repo_files("team/pieces") == ["adapter_config.json"]
        weights = pushable / "adapter_model.safetensors"
        api.upload_file(repo_id="team/pieces", path_in_repo=weights.name, path_or_fileobj=weights)
        assert [v.number for v in hub.registry.versions("team/pieces")] == [1]

    def test_what_the_draft_waits_for_is_said(self, hub, pushable):
        api = hub.api()
        api.create_repo("team/told")
        api.upload_file(repo_id="team/told", path_in_repo="README.md", path_or_fileobj=b"hello")
        assert hub.api().list_repo_commits("team/told")[0].title == "draft"

    def test_a_training_run_leaves_its_leftovers_out(self, hub, pushable):
        (pushable / "training_args.bin").write_bytes(b"\x80\x04pickle")
        api = hub.api()
        api.create_repo("team/trained")
        api.upload_folder(repo_id="team/trained", folder_path=pushable)
        assert "training_args.bin" not in [f.path for f in hub.registry.resolve("team/trained@v1").files]

    def test_a_branch_is_a_line_of_its_own(self, hub, pushable, tmp_path):
        api = hub.api()
        api.create_repo("team/branched")
        api.upload_folder(repo_id="team/branched", folder_path=pushable)
        api.create_branch("team/branched", branch="wip")
        other = retrained(pushable, tmp_path / "o", 3.0)
        api.upload_folder(repo_id="team/branched", folder_path=other, revision="wip")
        assert api.model_info("team/branched", revision="wip").sha != api.model_info("team/branched").sha
        api.create_branch("team/branched", branch="wip", exist_ok=True)
        api.delete_branch("team/branched", branch="wip")
        assert len(hub.registry.versions("team/branched")) == 2


class TestRefusals:
    def test_an_invalid_adapter_is_refused_with_the_reason_in_the_clients_error(self, hub, pushable):
        changed_config(pushable, r=16)
        api = hub.api()
        api.create_repo("team/invalid")
        with pytest.raises(BadRequestError, match="expected rank 16"):
            api.upload_folder(repo_id="team/invalid", folder_path=pushable)
        assert hub.registry.versions("team/invalid") == ()

    def test_an_unknown_base_is_refused_until_the_namespace_has_a_default(self, hub, pushable):
        changed_config(pushable, base_model_name_or_path="/data/somewhere")
        api = hub.api()
        api.create_repo("lab/unknown")
        with pytest.raises(BadRequestError, match="no registered base"):
            api.upload_folder(repo_id="lab/unknown", folder_path=pushable)
        hub.registry.set_default_base("lab", "org/llama")
        api.upload_folder(repo_id="lab/unknown", folder_path=pushable)
        assert hub.registry.resolve("lab/unknown@v1").base_name == "org/llama"

    def test_who_may_only_read_cannot_push(self, hub, pushable):
        reader = HfApi(endpoint=hub.url, token=hub.token_of("reader", ("team/*", "reader")))
        with pytest.raises(HfHubHTTPError, match="push") as refused:
            reader.create_repo("team/new")
        assert refused.value.response.status_code == 403
        with pytest.raises(HfHubHTTPError) as refused:
            reader.upload_folder(repo_id="team/sql-lora", folder_path=pushable)
        assert refused.value.response.status_code == 403

    def test_nothing_is_pushed_to_a_stage_or_a_tag(self, hub, pushable):
        for revision, text in (("prod", "promote"), ("stable", "tag"), ("v1", "version")):
            with pytest.raises(HfHubHTTPError, match=text):
                hub.api().upload_file(
                    repo_id="team/sql-lora", path_in_repo="README.md", path_or_fileobj=b"x", revision=revision
                )

    def test_a_stale_parent_is_refused(self, hub, pushable):
        api = hub.api()
        with pytest.raises(HfHubHTTPError) as refused:
            api.upload_file(
                repo_id="team/sql-lora", path_in_repo="README.md", path_or_fileobj=b"x", parent_commit="0" * 40
            )
        assert refused.value.response.status_code == 412

    def test_a_digest_alone_gives_nobody_the_bytes(self, hub, pushable):
        secret = hub.registry.resolve("team/sql-lora@v1")
        weights = next(f for f in secret.files if f.path.endswith(".safetensors"))
        token = hub.token_of("thief", ("thief/*", "maintainer"))
        import json
        import urllib.error
        import urllib.request

        HfApi(endpoint=hub.url, token=token).create_repo("thief/loot")
        lines = [
            {"key": "header", "value": {"summary": "x"}},
            {
                "key": "lfsFile",
                "value": {"path": weights.path, "algo": "sha256", "oid": weights.digest[7:], "size": weights.size},
            },
        ]
        request = urllib.request.Request(
            f"{hub.url}/api/models/thief/loot/commit/main",
            data="\n".join(map(json.dumps, lines)).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"},
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=20)
        assert refused.value.code == 400
        assert "never uploaded" in refused.value.read().decode()


class TestNames:
    def test_tags_are_made_and_removed_and_never_moved(self, hub, pushable):
        api = hub.api()
        api.create_repo("team/tagged")
        api.upload_folder(repo_id="team/tagged", folder_path=pushable)
        api.create_tag("team/tagged", tag="candidate")
        with pytest.raises(HfHubHTTPError):
            api.create_tag("team/tagged", tag="candidate")
        api.create_tag("team/tagged", tag="candidate", exist_ok=True)
        assert hub.registry.resolve("team/tagged@candidate").number == 1
        api.delete_tag("team/tagged", tag="candidate")
        with pytest.raises(RevisionNotFoundError):
            api.model_info("team/tagged", revision="candidate")

    def test_a_stage_is_no_tag_to_be_made(self, hub):
        with pytest.raises(HfHubHTTPError, match="promote"):
            hub.api().create_tag("team/sql-lora", tag="prod", revision="v2")

    def test_a_file_can_be_deleted_which_makes_another_version(self, hub, pushable):
        (pushable / "extra.txt").write_text("x")
        api = hub.api()
        api.create_repo("team/shrunk")
        api.upload_folder(repo_id="team/shrunk", folder_path=pushable)
        api.create_commit("team/shrunk", [CommitOperationDelete("extra.txt")], commit_message="smaller")
        assert "extra.txt" not in [f.path for f in hub.registry.resolve("team/shrunk@v2").files]

    def test_what_is_not_done_is_refused_as_clients_expect(self, hub):
        api = hub.api()
        for attempt in (
            lambda: api.delete_repo("team/sql-lora"),
            lambda: api.move_repo("team/sql-lora", "team/other"),
            lambda: api.create_repo("team/data", repo_type="dataset"),
            lambda: api.create_discussion("team/sql-lora", title="hello"),
            lambda: api.update_repo_settings("team/sql-lora", visibility="public"),
        ):
            with pytest.raises(HfHubHTTPError) as refused:
                attempt()
            assert refused.value.response.status_code == 403

    def test_parallel_commits_all_land(self, hub, pushable):
        api = hub.api()
        api.create_repo("team/parallel")
        api.upload_folder(repo_id="team/parallel", folder_path=pushable)

        def add(i):
            api.upload_file(repo_id="team/parallel", path_in_repo=f"note{i}.txt", path_or_fileobj=f"{i}".encode())

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(add, range(6)))
        assert {f"note{i}.txt" for i in range(6)} <= set(api.list_repo_files("team/parallel"))


def test_a_permission_to_upload_ends_with_the_token_that_it_was_given_to(hub):
    data = b"bytes of somebody who leaves"
    sha = hashlib.sha256(data).hexdigest()

    def ask(method, path, body=b"", **headers):
        connection = http.client.HTTPConnection(hub.url.removeprefix("http://"), timeout=20)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    secret = hub.token_of("leaver", ("team/*", "writer"))
    me = {"Authorization": f"Bearer {secret}"}
    batch = json.dumps({"operation": "upload", "objects": [{"oid": sha, "size": len(data)}]}).encode()
    _, answered = ask("POST", "/team/sql-lora.git/info/lfs/objects/batch", batch, **me)
    href = json.loads(answered)["objects"][0]["actions"]["upload"]["href"].removeprefix(hub.url)
    _, answered = ask("GET", "/api/models/team/sql-lora/xet-write-token/main", **me)
    xet = json.loads(answered)
    address, allowed = xet["casUrl"].removeprefix(hub.url), {"Authorization": f"Bearer {xet['accessToken']}"}
    assert ask("GET", f"{address}/v1/chunks/default/{sha}", **allowed)[0] == 404
    for change in (
        lambda: hub.registry.grant("leaver", "team/*", ("reader",)),
        lambda: hub.registry.grant("leaver", "team/*", ("writer",)),
        lambda: hub.registry.disable("leaver"),
        lambda: hub.registry.disable("leaver", disabled=False),
        lambda: hub.registry.revoke_token(next(t.id for t in hub.registry.tokens() if t.account == "leaver")),
    ):
        change()
        good = ask("GET", "/api/whoami-v2", **me)[0] == 200 and "push" in json.dumps(
            [grant.verbs for account in hub.registry.accounts() if account.name == "leaver" for grant in account.grants]
        )
        assert ask("PUT", href, data)[0] == (200 if good else 401)
        assert ask("POST", f"{address}/v1/shards", b"none", **allowed)[0] == (422 if good else 401)
