"""The class of every error, as programs catch it, and that the reason reaches whoever reads it."""

import io
import logging

from harness import ADAPTER, GIVEN, INVALID, REPO, VERSION, api, check, done, fresh, new, pushed, refused
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.utils import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

NONE = "team/none"
for name, attempt in {
    "info": lambda: api.model_info(NONE),
    "tree": lambda: list(api.list_repo_tree(NONE)),
    "refs": lambda: api.list_repo_refs(NONE),
    "commits": lambda: api.list_repo_commits(NONE),
    "paths": lambda: api.get_paths_info(NONE, "x"),
    "download": lambda: hf_hub_download(NONE, "x", cache_dir=fresh()),
    "snapshot": lambda: snapshot_download(NONE, cache_dir=fresh()),
    "upload": lambda: api.upload_file(repo_id=NONE, path_in_repo="x.txt", path_or_fileobj=b"x"),
    "tag": lambda: api.create_tag(NONE, tag="a"),
    "branch": lambda: api.create_branch(NONE, branch="a"),
    "delete a tag": lambda: api.delete_tag(NONE, tag="a"),
    "dataset": lambda: api.dataset_info(REPO),
    "space": lambda: api.space_info(REPO),
    "one part": lambda: api.model_info("none"),
}.items():
    refused(f"no repository: {name}", RepositoryNotFoundError, attempt, status=404)
for name, attempt in {
    "info": lambda: api.model_info(REPO, revision="none"),
    "tree": lambda: list(api.list_repo_tree(REPO, revision="none")),
    "commits": lambda: api.list_repo_commits(REPO, revision="none"),
    "paths": lambda: api.get_paths_info(REPO, "x", revision="none"),
    "download": lambda: hf_hub_download(REPO, "README.md", revision="none", cache_dir=fresh()),
    "snapshot": lambda: snapshot_download(REPO, revision="none", cache_dir=fresh()),
    "tag of": lambda: api.create_tag(REPO, tag="a", revision="none"),
    "branch from": lambda: api.create_branch(REPO, branch="a", revision="none"),
    "delete a tag": lambda: api.delete_tag(REPO, tag="none"),
    "upload": lambda: api.upload_file(repo_id=REPO, path_in_repo="x.txt", path_or_fileobj=b"x", revision="none"),
    "range": lambda: api.model_info(REPO, revision="^9"),
}.items():
    refused(f"no revision: {name}", RevisionNotFoundError, attempt, status=404)
refused("no file: download", EntryNotFoundError, lambda: hf_hub_download(REPO, "none", cache_dir=fresh()), status=404)
refused(
    "no file: with a folder", EntryNotFoundError, lambda: hf_hub_download(REPO, "a", subfolder="b", cache_dir=fresh())
)
refused("no file: delete", EntryNotFoundError, lambda: api.delete_file("none.txt", REPO), status=404)
refused("no folder: delete", EntryNotFoundError, lambda: api.delete_folder("none", REPO), status=404)

missing = RepositoryNotFoundError
bad = HfApi(token="adapters_wrong")
refused("a bad token: info", HfHubHTTPError, lambda: bad.model_info(REPO), status=401, never=missing)
refused("a bad token: upload", HfHubHTTPError, lambda: bad.create_repo(new("bad")), status=401, never=missing)
late = HfApi(token=GIVEN["tokens"]["expired"])
refused(
    "an expired token", HfHubHTTPError, lambda: late.model_info(REPO), status=401, text="credentials", never=missing
)
refused("no token", RepositoryNotFoundError, lambda: HfApi(token=False).model_info(REPO), status=401)
nobody = HfApi(token=False)
refused("no token: list", HfHubHTTPError, lambda: list(nobody.list_models()), status=401, text="token", never=missing)
stranger = HfApi(token=GIVEN["tokens"]["stranger"])
refused("not theirs: info", RepositoryNotFoundError, lambda: stranger.model_info(REPO), status=404)
refused("not theirs: upload", RepositoryNotFoundError, lambda: stranger.delete_file("README.md", REPO), status=404)
refused("not theirs: create", HfHubHTTPError, lambda: stranger.create_repo("team/theirs"), status=403)
check("not theirs: exists", not stranger.repo_exists(REPO))
check("not theirs: list", not [model for model in stranger.list_models() if model.id.startswith("team/")])
reader = HfApi(token=GIVEN["tokens"]["reader"])
check("a reader reads", reader.model_info(REPO).id == REPO)
denied = {"status": 403, "never": missing}
refused(
    "a reader: upload",
    HfHubHTTPError,
    lambda: reader.upload_folder(repo_id=REPO, folder_path=ADAPTER),
    text="push",
    **denied,
)
refused("a reader: create", HfHubHTTPError, lambda: reader.create_repo(new("reader")), text="push", **denied)
check("a reader: create what exists", reader.create_repo(REPO, exist_ok=True).repo_id == REPO)
refused("a reader: tag", HfHubHTTPError, lambda: reader.create_tag(REPO, tag="a"), text="tag", **denied)
refused("a reader: branch", HfHubHTTPError, lambda: reader.create_branch(REPO, branch="a"), **denied)
refused("a reader: delete", HfHubHTTPError, lambda: reader.delete_file("README.md", REPO), **denied)
if VERSION >= (1, 0):
    refused("a reader: auth to write", HfHubHTTPError, lambda: reader.auth_check(REPO, write=True), **denied)

repo, commit = pushed("errors")
refused("create again", HfHubHTTPError, lambda: api.create_repo(repo), status=409)
check("create again, which may be", api.create_repo(repo, exist_ok=True).repo_id == repo)
refused("create in another case", HfHubHTTPError, lambda: api.create_repo(repo.upper()), status=409)
refused("create a dataset", HfHubHTTPError, lambda: api.create_repo(new("d"), repo_type="dataset"), **denied)
space = lambda: api.create_repo(new("s"), repo_type="space", space_sdk="static")  # noqa: E731
refused("create a space", HfHubHTTPError, space, **denied)
refused("unlike", HfHubHTTPError, lambda: api.unlike(repo), text="not supported", **denied)
refused("grant access", HfHubHTTPError, lambda: api.grant_access(repo, "ada"), text="not supported", **denied)
if hasattr(api, "duplicate_repo"):
    refused("copy", HfHubHTTPError, lambda: api.duplicate_repo(repo, new("twin")), text="not supported", **denied)
refused("delete", HfHubHTTPError, lambda: api.delete_repo(repo), text="not supported", **denied)
refused("move", HfHubHTTPError, lambda: api.move_repo(repo, new("moved")), **denied)
refused("gate", HfHubHTTPError, lambda: api.update_repo_settings(repo, gated="auto"), text="gating", **denied)
public = {"visibility": "public"} if VERSION >= (1, 8) else {"private": False}
refused("make public", HfHubHTTPError, lambda: api.update_repo_settings(repo, **public), text="public", **denied)
if VERSION >= (1, 8):
    heard = []
    listener = logging.Handler()
    listener.emit = lambda record: heard.append(record.getMessage())
    logging.getLogger("huggingface_hub").addHandler(listener)
    api.create_repo(new("open"), private=False)
    check("made as public: a warning", any("nothing is public here" in text for text in heard))
    check("made as public: private", api.model_info(new("open")).private)
private = {"visibility": "private"} if VERSION >= (1, 8) else {"private": True}
check("stay private", api.update_repo_settings(repo, **private) is None)
refused("a discussion", HfHubHTTPError, lambda: api.create_discussion(repo, title="abc"), **denied)
refused("a pull request", HfHubHTTPError, lambda: api.create_pull_request(repo, title="abc"), **denied)
refused("list discussions", HfHubHTTPError, lambda: list(api.get_repo_discussions(repo)), **denied)
note = {"repo_id": repo, "path_in_repo": "note.txt", "path_or_fileobj": b"x"}
refused(
    "upload as a pull request", HfHubHTTPError, lambda: api.upload_file(**note, create_pr=True), text="pull", **denied
)
squash = lambda: api.super_squash_history(repo)  # noqa: E731
refused("squash", HfHubHTTPError, squash, text="immutable", **denied)
refused("list large files", HfHubHTTPError, lambda: list(api.list_lfs_files(repo)), **denied)
refused("remove main", HfHubHTTPError, lambda: api.delete_branch(repo, branch="main"), **denied)
refused("tag a stage", HfHubHTTPError, lambda: api.create_tag(repo, tag="prod"), text="promote", **denied)
refused("untag a stage", HfHubHTTPError, lambda: api.delete_tag(repo, tag="prod"), text="stage", **denied)
refused("branch a stage", HfHubHTTPError, lambda: api.create_branch(repo, branch="prod"), status=409)
refused("push to a stage", HfHubHTTPError, lambda: api.upload_file(**note, revision="prod"), text="promote", **denied)
refused(
    "push to a version", BadRequestError, lambda: api.upload_file(**note, revision="v1"), status=400, text="version"
)
refused("push to a commit", BadRequestError, lambda: api.upload_file(**note, revision=commit), status=400)
api.create_tag(repo, tag="taken")
refused("push to a tag", BadRequestError, lambda: api.upload_file(**note, revision="taken"), status=400, text="tag")
refused("tag again", HfHubHTTPError, lambda: api.create_tag(repo, tag="taken"), status=409)
refused("branch named as a tag", HfHubHTTPError, lambda: api.create_branch(repo, branch="taken"), status=409)
for name in ("v1", "1.0.0", "main", "HEAD", "deadbeef", "a" * 97, "a..b"):
    refused(f"tag {name[:12]}", HfHubHTTPError, lambda n=name: api.create_tag(repo, tag=n), status=400)
    kind = 409 if name == "main" else 400
    refused(f"branch {name[:12]}", HfHubHTTPError, lambda n=name: api.create_branch(repo, branch=n), status=kind)
refused(
    "stale parent", HfHubHTTPError, lambda: api.upload_file(**note, parent_commit="0" * 40), status=412, text="somebody"
)
refused(
    "an invalid adapter",
    BadRequestError,
    lambda: api.upload_folder(repo_id=repo, folder_path=INVALID),
    status=400,
    text="expected rank",
)
same_head = api.model_info(repo).sha
said = ""
try:
    api.create_commit(
        repo, [CommitOperationAdd("a.weird", b"z"), CommitOperationAdd("b.weird", b"z")], commit_message="x"
    )
except BadRequestError as error:
    said = str(error)
check("a refused push says each problem once", [said.count(f"{n}.weird: expected") for n in "ab"] == [1, 1])
nul = CommitOperationAdd("n.txt", b"n")
refused(
    "a NUL in a message", BadRequestError, lambda: api.create_commit(repo, [nul], commit_message="a\x00"), text="NUL"
)
check("a refused push changes nothing", same_head == commit)
pickle = [CommitOperationAdd("adapter_model.bin", io.BytesIO(b"\x80\x04x"))]
refused("a pickle", BadRequestError, lambda: api.create_commit(repo, pickle, commit_message="x"), text="pickle")
code = [CommitOperationAdd("run.py", b"print()")]
refused("a program", BadRequestError, lambda: api.create_commit(repo, code, commit_message="x"), text="code")
odd = [CommitOperationAdd("CON.txt", b"x")]
refused("a name no system takes", BadRequestError, lambda: api.create_commit(repo, odd, commit_message="x"))
card = {**note, "path_in_repo": "README.md", "path_or_fileobj": b"---\na: [\n---\n"}
refused("a card that is no YAML", (ValueError, HfHubHTTPError), lambda: api.upload_file(**card), text="yaml")
gone = [CommitOperationDelete("none.txt")]
refused("delete what is not there", EntryNotFoundError, lambda: api.create_commit(repo, gone, commit_message="x"))
channel = HfApi(endpoint=f"{GIVEN['url']}/~prod")
refused("push through a channel", HfHubHTTPError, lambda: channel.create_tag(REPO, tag="x"), text="reading", **denied)
check("a channel of no stage", not HfApi(endpoint=f"{GIVEN['url']}/~none").repo_exists(REPO))
try:
    api.create_tag(REPO, tag="prod")
except HfHubHTTPError as error:
    check("errors carry the request's id", bool(error.request_id) and error.request_id in str(error))
    check("errors carry the server's text", "stage" in (error.server_message or ""))
done()
