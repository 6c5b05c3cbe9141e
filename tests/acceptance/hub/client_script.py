"""What every version of the Hub's client must be able to do; run by an interpreter that has that version."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, __version__, hf_hub_download, snapshot_download
from huggingface_hub.utils import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

adapter, invalid, repo = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
api = HfApi()
done = []


def check(name, holds):
    assert holds, name
    done.append(name)


def refused(name, kind, attempt, *, status=None, text=""):
    try:
        attempt()
    except kind as error:
        check(name, text in str(error) and (status is None or error.response.status_code == status))
    else:
        raise AssertionError(f"{name}: nothing was raised")


def files_of(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in Path(folder).iterdir() if p.is_file()}


def cache():
    return tempfile.mkdtemp()


check("whoami", api.whoami()["name"] == "admin")
api.create_repo(repo)
api.create_repo(repo, exist_ok=True)
refused("create again", HfHubHTTPError, lambda: api.create_repo(repo), status=409)
check("empty repository", api.list_repo_files(repo) == [])
commit = api.upload_folder(repo_id=repo, folder_path=adapter, commit_message="first")
check("commit id", len(commit.oid) == 40)
check("the same again makes no commit", api.upload_folder(repo_id=repo, folder_path=adapter).oid == commit.oid)
check("info", api.model_info(repo).sha == commit.oid)
check(
    "info of files", {s.rfilename for s in api.model_info(repo, files_metadata=True).siblings} == set(files_of(adapter))
)
check("files", set(api.list_repo_files(repo)) == set(files_of(adapter)))
check("tree", {n.path for n in api.list_repo_tree(repo, recursive=True)} == set(files_of(adapter)))
check("download whole", files_of(snapshot_download(repo, cache_dir=cache())) == files_of(adapter))
check("by number", files_of(snapshot_download(repo, revision="v1", cache_dir=cache())) == files_of(adapter))
check("by commit", files_of(snapshot_download(repo, revision=commit.oid, cache_dir=cache())) == files_of(adapter))
check(
    "one file", json.loads(Path(hf_hub_download(repo, "adapter_config.json", cache_dir=cache())).read_text())["r"] == 4
)
warm = cache()
first = snapshot_download(repo, cache_dir=warm)
check("a warm cache", snapshot_download(repo, cache_dir=warm) == first)
api.create_tag(repo, tag="candidate")
refused("tag again", HfHubHTTPError, lambda: api.create_tag(repo, tag="candidate"), status=409)
api.create_tag(repo, tag="candidate", exist_ok=True)
check("refs", {"candidate", "v1"} <= {tag.name for tag in api.list_repo_refs(repo).tags})
check("commits", [c.commit_id for c in api.list_repo_commits(repo)] == [commit.oid])
check("paths", [n.path for n in api.get_paths_info(repo, ["adapter_config.json", "x"])] == ["adapter_config.json"])
check("file exists", api.file_exists(repo, "adapter_config.json") and not api.file_exists(repo, "x"))
check("revision exists", api.revision_exists(repo, "candidate") and not api.revision_exists(repo, "x"))
check("list", repo in [m.id for m in api.list_models(search=repo.split("/")[1])])
api.upload_file(repo_id=repo, path_in_repo="README.md", path_or_fileobj=b"---\ntags: [a]\n---\nhello\n")
check("a card", "a" in api.model_info(repo).tags)
operations = [CommitOperationAdd("notes/a.txt", b"a"), CommitOperationAdd("empty.txt", b"")]
api.create_commit(repo, operations, commit_message="notes", parent_commit=api.model_info(repo).sha)
check("folders", any(n.path == "notes" for n in api.list_repo_tree(repo)))
check("an empty file", Path(hf_hub_download(repo, "empty.txt", cache_dir=cache())).read_bytes() == b"")
api.delete_file("empty.txt", repo)
check("deleted", "empty.txt" not in api.list_repo_files(repo))
api.create_branch(repo, branch="wip")
api.upload_file(repo_id=repo, path_in_repo="wip.txt", path_or_fileobj=b"x", revision="wip")
check("a branch", api.file_exists(repo, "wip.txt", revision="wip") and not api.file_exists(repo, "wip.txt"))
api.delete_branch(repo, branch="wip")
api.delete_tag(repo, tag="candidate")
refused("no tag", RevisionNotFoundError, lambda: api.model_info(repo, revision="candidate"))
refused("no repo", RepositoryNotFoundError, lambda: api.model_info("team/none"))
refused("no file", EntryNotFoundError, lambda: hf_hub_download(repo, "none", cache_dir=cache()))
refused(
    "no branch",
    HfHubHTTPError,
    lambda: api.upload_file(repo_id=repo, path_in_repo="x.txt", path_or_fileobj=b"x", revision="none"),
)
refused(
    "invalid", HfHubHTTPError, lambda: api.upload_folder(repo_id=repo, folder_path=invalid), status=400, text="rank"
)
refused(
    "stale",
    HfHubHTTPError,
    lambda: api.upload_file(repo_id=repo, path_in_repo="x.txt", path_or_fileobj=b"x", parent_commit="0" * 40),
    status=412,
)
refused("a stage", HfHubHTTPError, lambda: api.create_tag(repo, tag="prod"), status=403)
refused("deleting", HfHubHTTPError, lambda: api.delete_repo(repo), status=403)
refused("a bad token", HfHubHTTPError, lambda: HfApi(token="adapters_wrong").model_info(repo), status=401)
name = "hf" if Path(sys.executable).with_name("hf").exists() else "huggingface-cli"
command = [str(Path(sys.executable).with_name(name)), "download", repo, "--revision", "v1", "--local-dir", cache()]
ran = subprocess.run(command, capture_output=True, check=False)
check(f"the command {ran.stderr[-300:]}", ran.returncode == 0)
command = [str(Path(sys.executable).with_name(name)), "upload", f"{repo}-2", str(adapter)]
check("the command uploads", subprocess.run(command, capture_output=True, check=False, env=os.environ).returncode == 0)
print(f"{__version__}: {len(done)} checks")
