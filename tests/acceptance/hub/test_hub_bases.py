"""Bases whose bytes are stored: served to unchanged clients under their repository's id."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from adapter_registry.checkpoints.hub_base import read_hub_base
from adapter_registry.domain.errors import Conflict, Forbidden, InvalidInput, InvalidReference, NotFound, PushRefused
from tests.acceptance.hub.conftest import HubServer, serving
from tests.acceptance.hub.training_script import run
from tests.acceptance.test_rights import ask
from tests.adapter_builders import copied, llama

COMMIT = "26bca36bde8333b5d7f72e9ed20ccda6a618af24"
REPO = "mistralai/Tiny-7B-v0.1"


def checkpoint(folder: Path, *, seed: int = 0) -> Path:
    """A checkpoint as a repository of the Hub has it: tokenizer, card, and what must not be stored."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    llama(folder, seed=seed)
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(64)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0").save_pretrained(folder)
    (folder / "README.md").write_text("---\npipeline_tag: text-generation\ntags: [tiny]\n---\nA tiny model.\n")
    (folder / "modeling_tiny.py").write_text("print('code')\n")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04pickled")
    (folder / "consolidated.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    return folder


SAFE = {
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "onnx/config.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


def as_hub_cache(folder: Path, target: Path, repo: str = REPO, commit: str = COMMIT) -> Path:
    """The same files as the Hub's client leaves them in its cache."""
    root = target / f"models--{repo.replace('/', '--')}"
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        blob = root / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blob)
        link = root / "snapshots" / commit / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    return root


def stored(hub: HubServer, name: str, folder: Path):
    """Register a folder and store it."""
    registry = hub.registry
    copy = registry.copy_of(folder, name=name)
    return registry.store_base(registry.add_base(name, folder), copy).stored[0]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("tiny") / "tiny")


@pytest.fixture(scope="session")
def base_hub(tmp_path_factory, tiny, lora_folder) -> HubServer:
    """A server with the base of the lora stored from a Hub cache, and team/sql-lora on it."""
    with serving(tmp_path_factory.mktemp("base-hub"), {}) as running:
        stored(running, "tiny", as_hub_cache(tiny, tmp_path_factory.mktemp("cache")))
        running.registry.push(lora_folder, base="tiny", name="team/sql-lora")
        yield running


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> HubServer:
    """A server without anything."""
    with serving(tmp_path_factory.mktemp("storing"), {}) as running:
        yield running


class TestServed:
    def test_a_stored_base_is_served_by_its_name_and_by_its_repository_of_the_hub(self, base_hub):
        for repo in ("tiny", REPO):
            info = base_hub.api().model_info(repo, files_metadata=True)
            assert info.sha == COMMIT
            assert {each.rfilename for each in info.siblings} == SAFE
            assert info.library_name == "transformers"
            assert {"llama", "tiny"} <= set(info.tags)

    def test_its_one_state_is_main_and_its_commit_and_nothing_else(self, base_hub):
        api = base_hub.api()
        refs = api.list_repo_refs(REPO)
        assert [(b.name, b.target_commit) for b in refs.branches] == [("main", COMMIT)]
        assert [c.commit_id for c in api.list_repo_commits(REPO)] == [COMMIT]
        assert api.model_info(REPO, revision=COMMIT).sha == COMMIT
        for name in ("prod", "v1", "0" * 40):
            with pytest.raises(RevisionNotFoundError):
                api.model_info(REPO, revision=name)

    def test_its_files_are_those_of_the_folder_without_pickles_and_programs(self, base_hub, tiny, hf_home):
        folder = Path(snapshot_download(REPO, endpoint=base_hub.url, token=base_hub.token, cache_dir=hf_home))
        found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert found == SAFE
        assert all((folder / name).read_bytes() == (tiny / name).read_bytes() for name in SAFE)
        with pytest.raises(EntryNotFoundError):
            hf_hub_download(REPO, "pytorch_model.bin", endpoint=base_hub.url, token=base_hub.token, cache_dir=hf_home)

    @pytest.mark.parametrize("kind", ["base_hub", "large_hub"])
    def test_the_command_line_reads_it_from_the_server(self, request, tmp_path, kind):
        hub, folder = request.getfixturevalue(kind), checkpoint(tmp_path / "other", seed=8)
        stored(hub, "other", copied(folder, tmp_path / "gone"))
        shutil.rmtree(tmp_path / "gone")
        found = hub.registry.checkpoint("other")
        assert {str(path.relative_to(found)) for path in found.rglob("*") if path.is_file()} == SAFE
        assert all((found / name).read_bytes() == (folder / name).read_bytes() for name in SAFE)

    def test_tree_paths_and_tensors_are_told(self, base_hub, tiny):
        api = base_hub.api()
        assert {n.path for n in api.list_repo_tree(REPO, recursive=True)} == {*SAFE, "onnx"}
        [node] = api.get_paths_info(REPO, ["model.safetensors", "none"])
        assert node.lfs.sha256 == hashlib.sha256((tiny / "model.safetensors").read_bytes()).hexdigest()
        assert api.file_exists(REPO, "config.json")
        assert api.get_safetensors_metadata(REPO).parameter_count["F32"] > 10_000

    def test_a_channel_serves_it_too(self, base_hub, hf_home):
        from huggingface_hub import HfApi

        api = HfApi(endpoint=f"{base_hub.url}/~prod", token=base_hub.token)
        assert api.model_info(REPO).sha == COMMIT
        assert Path(api.hf_hub_download(REPO, "config.json", cache_dir=hf_home)).parent.name == COMMIT

    def test_it_is_listed(self, base_hub):
        api = base_hub.api()
        assert {"tiny", REPO, "team/sql-lora"} <= {each.id for each in api.list_models()}
        assert [each.id for each in api.list_models(author="mistralai")] == [REPO]
        assert "tiny" not in [each.id for each in api.list_models(filter="peft")]
        one_by_one = [each.id for each in api.list_models(limit=100)]
        assert sorted(one_by_one) == sorted({*one_by_one})

    def test_every_page_of_a_listing_goes_on_where_the_last_ended(self, base_hub):
        found, path = [], "/api/models?limit=1"
        while path:
            connection = http.client.HTTPConnection(base_hub.url.removeprefix("http://"))
            connection.request("GET", path, headers={"Authorization": f"Bearer {base_hub.token}"})
            response = connection.getresponse()
            found += [each["id"] for each in json.loads(response.read())]
            link = response.headers.get("link")
            path = re.search(r"<http://[^/]+(/[^>]+)>", link)[1] if link else ""
            connection.close()
        assert [each for each in found if each in (REPO, "tiny")] == [REPO, "tiny"]
        assert found[0] == "team/sql-lora"
        assert len(set(found)) == len(found)

    def test_transformers_and_peft_load_base_and_adapter_from_here(self, base_hub, tmp_path, tiny, lora_folder):
        script = f"""
        from transformers import AutoTokenizer
        local = AutoModelForCausalLM.from_pretrained(base_folder)
        assert torch.equal(logits(AutoModelForCausalLM.from_pretrained({REPO!r})), logits(local))
        assert torch.equal(logits(AutoModelForCausalLM.from_pretrained("tiny", revision={COMMIT!r})), logits(local))
        assert AutoTokenizer.from_pretrained({REPO!r})("w3 w5")["input_ids"] == [3, 5]
        remote = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained({REPO!r}), "team/sql-lora", revision="v1")
        assert torch.equal(logits(remote), logits(PeftModel.from_pretrained(base(), {str(lora_folder)!r})))
        print("same")
        """
        assert "same" in run(base_hub, tmp_path, tiny, script)

    def test_what_is_trained_on_it_is_pushed_and_locked_to_it(self, base_hub, tmp_path, tiny):
        script = f"""
        config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], init_lora_weights=False)
        get_peft_model(AutoModelForCausalLM.from_pretrained({REPO!r}), config).push_to_hub("team/trained")
        from peft import AutoPeftModelForCausalLM
        AutoPeftModelForCausalLM.from_pretrained("team/trained", revision="v1")
        print("done")
        """
        assert "done" in run(base_hub, tmp_path, tiny, script)
        version = base_hub.registry.resolve("team/trained@v1")
        assert (version.base_name, version.base) == (REPO, base_hub.registry.base("tiny").base.digest)

    def test_a_base_is_for_every_account_and_for_nobody_without_one(self, base_hub):
        stranger = base_hub.token_of("stranger", ("elsewhere/*", "reader"))
        assert base_hub.api(stranger).model_info(REPO).sha == COMMIT
        assert ask(base_hub, "GET", f"/api/models/{REPO}", "")[0] == 401

    def test_nothing_is_pushed_to_it(self, base_hub, tmp_path):
        api = base_hub.api()
        with pytest.raises(HfHubHTTPError) as refused:
            api.upload_file(repo_id=REPO, path_in_repo="x.txt", path_or_fileobj=b"x")
        assert refused.value.response.status_code == 403
        with pytest.raises(HfHubHTTPError) as refused:
            api.create_repo(REPO)
        assert refused.value.response.status_code == 409


class TestRegistering:
    def test_a_base_is_registered_from_here_without_downloading_its_weights(self, tmp_path, monkeypatch):
        big = llama(tmp_path / "big", seed=3, hidden_size=256, intermediate_size=2048, vocab_size=512)
        weights = (big / "model.safetensors").stat().st_size
        (tmp_path / "one").mkdir()
        with serving(tmp_path / "one", {}) as hub:
            kept = stored(hub, "acme/big", big)
            monkeypatch.setenv("HF_TOKEN", hub.token)
            before = sent(hub)
            base = read_hub_base(f"hf://acme/big@{kept.commit}", endpoint=hub.url)
            assert sent(hub) - before < min(weights / 10, 100_000)
            registered = hub.registry.base("acme/big").base
            assert base.files == registered.files
            assert [t.name for t in base.tensors] == [t.name for t in registered.tensors]
            assert (base.repository, base.commit) == ("acme/big", kept.commit)

    def test_the_command_does_it_with_nothing_but_hf_endpoint(self, base_hub, tmp_path):
        out = command_on(base_hub, tmp_path, "base", "add", "tiny", f"hf://{REPO}@{COMMIT[:8]}")
        assert COMMIT in out
        assert "no: file digests only" in out

    def test_with_store_it_downloads_it_and_keeps_it(self, base_hub, tmp_path):
        out = command_on(base_hub, tmp_path, "base", "add", "tiny", f"hf://{REPO}@main", "--store")
        assert "stored 7 files" in out
        assert f"tiny, {REPO}" in out
        assert COMMIT in out


def command_on(hub: HubServer, folder: Path, *arguments: str) -> str:
    """What the command says, on an embedded registry of its own, with a server of ours as its hub."""
    environment = {
        **hub.cli.environment,
        "ADAPTERS_HOME": str(folder / "home"),
        "HF_HOME": str(folder / "hf"),
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.token,
        "HF_HUB_OFFLINE": "0",
    }
    command = [*hub.cli.command, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def sent(hub: HubServer) -> float:
    """Bytes of all answers so far, as the server counts them."""
    text = ask(hub, "GET", "/metrics", hub.token)[1].decode()
    return float(re.search(r"^adapters_sent_bytes_total (\S+)", text, re.MULTILINE)[1])


class TestStoring:
    def test_the_command_stores_embedded_and_says_so(self, cli, tiny):
        done = cli("base", "add", "acme/tiny", tiny, "--store").out
        assert re.search(r"stored 7 files", done)
        assert "acme/tiny" in cli("base", "show", "acme/tiny").out
        assert cli("base", "ls", "--json").json[0]["served_as"] == ["acme/tiny"]
        assert "already stored" in cli("base", "add", "acme/tiny", tiny, "--store").out
        assert cli("admin", "collect", "--dry-run", "--json").json["blobs"] == 0

    def test_the_bytes_are_kept_until_nothing_serves_them(self, cli, tiny):
        cli("base", "add", "acme/tiny", tiny, "--store")
        cli("base", "add", "tiny", tiny, "--store")
        blobs = cli("admin", "check", "--read-data", "--json").json["blobs"]
        assert blobs == 7
        cli("base", "unstore", "acme/tiny")
        assert cli("admin", "collect", "--grace", "0", "--json").json["blobs"] == 0
        cli("base", "unstore", "tiny")
        assert cli("base", "ls", "--json").json[0]["served_as"] == []
        assert cli("admin", "collect", "--grace", "0", "--json").json["blobs"] == blobs
        assert "no stored base" in cli("base", "unstore", "tiny", code=1).err

    def test_a_check_names_the_base_whose_bytes_are_gone(self, cli, tiny):
        cli("base", "add", "acme/tiny", tiny, "--store")
        digest = hashlib.sha256((tiny / "config.json").read_bytes()).hexdigest()
        [blob] = [path for path in (cli.home / "blobs").rglob("*") if digest[4:] in path.name]
        blob.chmod(0o600)
        blob.unlink()
        found = cli("admin", "check", "--json", code=7).json
        assert found["damage"][0]["affected"] == ["base acme/tiny"]

    def test_only_missing_bytes_travel(self, fresh, tiny, tmp_path):
        stored(fresh, "acme/one", tiny)
        before = received(fresh)
        assert stored(fresh, "acme/one", tiny).name == "acme/one"
        assert received(fresh) - before < 100_000

    def test_two_repositories_may_hold_the_same_weights_with_other_files(self, fresh, tiny, tmp_path):
        stored(fresh, "maker/tiny", tiny)
        mirror = copied(tiny, tmp_path / "mirror")
        (mirror / "README.md").write_text("A mirror.\n")
        stored(fresh, "mirror/tiny", mirror)
        api = fresh.api()
        assert {each.rfilename for each in api.model_info("mirror/tiny").siblings} == SAFE
        assert api.model_info("mirror/tiny").sha != api.model_info("maker/tiny").sha
        with pytest.raises(Conflict, match="README"):
            stored(fresh, "maker/tiny", mirror)

    def test_another_state_under_the_same_name_is_main_and_the_first_stays(self, fresh, tmp_path):
        first = stored(fresh, "acme/line", checkpoint(tmp_path / "first", seed=1))
        second = stored(fresh, "acme/line", checkpoint(tmp_path / "second", seed=2))
        api = fresh.api()
        assert api.model_info("acme/line").sha == second.commit
        assert api.model_info("acme/line", revision=first.commit).sha == first.commit
        assert [c.commit_id for c in api.list_repo_commits("acme/line")] == [second.commit, first.commit]
        fresh.registry.unstore_base(f"acme/line@{second.commit[:12]}")
        assert api.model_info("acme/line").sha == first.commit

    def test_a_name_belongs_to_an_adapter_or_to_a_base(self, fresh, tiny, lora_folder, tmp_path):
        registry = fresh.registry
        stored(fresh, "acme/tiny", tiny)
        for name in ("acme/tiny", "acme/TINY"):
            with pytest.raises(Conflict, match="stored base"):
                registry.push(lora_folder, base="acme/tiny", name=name)
        registry.push(lora_folder, base="acme/tiny", name="team/lora")
        for name in ("team/lora", "team/Lora", "team/lora.v1"):
            with pytest.raises(Conflict, match="adapter"):
                stored(fresh, name, tiny)
        with pytest.raises(InvalidReference, match="stage"):
            stored(fresh, "team/lora.prod", tiny)
        stored(fresh, "solo", tiny)
        with pytest.raises(Conflict, match="stored base"):
            registry.push(lora_folder, base="acme/tiny", name="default/solo")

    def test_it_takes_the_right_to_push_to_the_name(self, fresh, tiny, tmp_path):
        token = fresh.token_of("tess", ("team/*", "writer"))
        from dataclasses import replace

        theirs = fresh.registry
        theirs._settings = replace(theirs._settings, token=token)
        copy = theirs.copy_of(tiny, name="team/tiny")
        theirs.store_base(theirs.add_base("team/tiny", tiny), copy)
        for name in ("mistralai/tiny", "tiny"):
            registration = theirs.add_base(name, tiny)
            with pytest.raises((Forbidden, NotFound)):
                theirs.store_base(registration, copy)
        with pytest.raises((Forbidden, NotFound)):
            theirs.unstore_base("team/tiny")
        cached = as_hub_cache(tiny, tmp_path)
        [only] = theirs.store_base(
            theirs.add_base("team/cached", cached), theirs.copy_of(cached, name="team/cached")
        ).stored
        assert only.name == "team/cached"

    def test_the_same_tensors_in_other_files_are_read_through_and_stored_as_they_are(self, fresh, tmp_path):
        from safetensors.torch import load_file, save_file

        whole = checkpoint(tmp_path / "whole", seed=7)
        fresh.registry.add_base("acme/sharded", whole)
        sharded = copied(whole, tmp_path / "sharded")
        tensors = load_file(sharded / "model.safetensors")
        (sharded / "model.safetensors").unlink()
        names = sorted(tensors)
        parts = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
        for file, held in parts.items():
            save_file({name: tensors[name] for name in held}, sharded / file)
        index = {"metadata": {}, "weight_map": {name: file for file, held in parts.items() for name in held}}
        (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
        kept = stored(fresh, "acme/sharded", sharded)
        assert {*parts} < {file.path for file in kept.files}
        registration = fresh.registry.add_base("acme/sharded", sharded)
        save_file({name: tensors[name] + 1 for name in parts[file]}, sharded / file)
        copy = fresh.registry.copy_of(sharded, name="acme/other")
        with pytest.raises(InvalidInput, match=r"safetensors"):
            fresh.registry.store_base(registration, copy)

    def test_a_folder_that_is_not_the_registered_base_is_refused(self, fresh, tiny, tmp_path):
        registry = fresh.registry
        registration = registry.add_base("acme/changed", tiny)
        other = copied(tiny, tmp_path / "other")
        config = json.loads((other / "config.json").read_text())
        (other / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
        with pytest.raises(InvalidInput, match=r"config\.json"):
            registry.store_base(registration, registry.copy_of(other, name="acme/changed"))

    def test_what_cannot_be_stored_is_refused_before_anything_is_sent(self, fresh, tiny, tmp_path):
        linked = copied(tiny, tmp_path / "linked")
        (linked / "chat_template.jinja").symlink_to("/etc/hostname")
        with pytest.raises(PushRefused, match="symbolic link"):
            fresh.registry.copy_of(linked, name="linked")
        with pytest.raises(InvalidInput, match="fetch_base"):
            fresh.registry.copy_of("hf://acme/x@main", name="x")

    def test_what_is_left_out_is_said(self, fresh, tiny):
        told = {notice.file: notice.text for notice in fresh.registry.copy_of(tiny, name="tiny").notices}
        assert told.keys() == {"modeling_tiny.py", "pytorch_model.bin", "consolidated.safetensors"}


def received(hub: HubServer) -> float:
    text = ask(hub, "GET", "/metrics", hub.token)[1].decode()
    return float(re.search(r"^adapters_received_bytes_total (\S+)", text, re.MULTILINE)[1])


def test_a_base_that_is_not_here_is_refused_with_the_way_out_and_as_anything_that_is_not_here(base_hub):
    stranger = base_hub.token_of("stranger-2", ("elsewhere/*", "reader"))
    answers = []
    for repo in ("meta/none", "team/sql-lora", "team/none"):
        with pytest.raises(RepositoryNotFoundError) as refused:
            base_hub.api(stranger).model_info(repo)
        text = str(refused.value)
        assert "--store" in text
        assert "ADAPTERS_UPSTREAM_HUB" in text
        answers.append(refused.value.response.headers["x-error-message"].replace(repo, "X"))
    assert len(set(answers)) == 1
