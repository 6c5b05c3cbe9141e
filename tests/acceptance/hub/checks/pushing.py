"""Pushes: folders, files, bytes, commits of every operation, drafts, branches and tags."""

import concurrent.futures
import io
import json
from pathlib import Path

from harness import ADAPTER, OTHER, VERSION, api, check, copied, done, fresh, hashes, new, pushed, refused, same, works
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfFileSystem,
    ModelCard,
    metadata_update,
    snapshot_download,
)
from huggingface_hub.utils import EntryNotFoundError, HfHubHTTPError, RevisionNotFoundError

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"

repo = new("push")
made = api.create_repo(repo, private=True)
same("create: id", made.repo_id, repo)
check("create: address", str(made).endswith(repo))
check("create: nothing in it", api.list_repo_files(repo) == [])
check("create: no commits", api.list_repo_commits(repo) == [])
check("create: no tags", api.list_repo_refs(repo).tags == [])
check("create: info", len(api.model_info(repo).sha) == 40)
commit = api.upload_folder(repo_id=repo, folder_path=ADAPTER, commit_message="first", commit_description="because")
check("folder: a commit", len(commit.oid) == 40 and commit.oid in commit.commit_url)
same("folder: files", set(api.list_repo_files(repo)), set(hashes(ADAPTER)))
same("folder: bytes", hashes(snapshot_download(repo, cache_dir=fresh())), hashes(ADAPTER))
same("folder: title", api.list_repo_commits(repo)[0].title, "first")
check("folder: a version", "v1" in [t.name for t in api.list_repo_refs(repo).tags])
same("folder: the same again", api.upload_folder(repo_id=repo, folder_path=ADAPTER).oid, commit.oid)
same("folder: one version still", len(api.list_repo_commits(repo)), 1)
second = api.upload_folder(repo_id=repo, folder_path=OTHER, commit_message="second").oid
same("folder: other bytes, another version", [c.commit_id for c in api.list_repo_commits(repo)], [second, commit.oid])
same("folder: versions stay", hashes(snapshot_download(repo, revision="v1", cache_dir=fresh())), hashes(ADAPTER))

text = api.upload_file(repo_id=repo, path_in_repo="notes/a.txt", path_or_fileobj=b"one").oid
check("file: bytes", text == api.model_info(repo).sha)
api.upload_file(repo_id=repo, path_in_repo="notes/b.txt", path_or_fileobj=io.BytesIO(b"two"))
path = Path(fresh()) / "c.txt"
path.write_bytes(b"three")
api.upload_file(repo_id=repo, path_in_repo="notes/c.txt", path_or_fileobj=path)
tree = {n.path for n in api.list_repo_tree(repo, recursive=True)}
check("file: stream and path", {"notes", "notes/a.txt", "notes/b.txt", "notes/c.txt"} <= tree)
same(
    "file: the same again",
    api.upload_file(repo_id=repo, path_in_repo="notes/c.txt", path_or_fileobj=path).oid,
    api.model_info(repo).sha,
)
large = bytes(range(256)) * 8000
api.upload_file(repo_id=repo, path_in_repo="large.json", path_or_fileobj=large)
check("file: large bytes", api.get_paths_info(repo, "large.json")[0].lfs["size"] == len(large))
path.write_bytes(large[::-1])
api.upload_file(repo_id=repo, path_in_repo="larger.json", path_or_fileobj=path)
same(
    "file: large from disk",
    hashes(snapshot_download(repo, cache_dir=fresh(), allow_patterns="larger.json")).keys(),
    {"larger.json"},
)
future = works(
    "file: in the background",
    lambda: api.upload_file(repo_id=repo, path_in_repo="f.txt", path_or_fileobj=b"f", run_as_future=True),
)
check("file: done in the background", len(future.result().oid) == 40)

head = api.model_info(repo).sha
operations = [
    CommitOperationAdd("notes/d.txt", b"four"),
    CommitOperationAdd("notes/a.txt", b"changed"),
    CommitOperationDelete("notes/b.txt"),
    CommitOperationCopy("notes/c.txt", "notes/copy.txt"),
]
mixed = api.create_commit(repo, operations, commit_message="mixed", parent_commit=head)
paths = set(api.list_repo_files(repo))
check("commit: added and copied", {"notes/d.txt", "notes/copy.txt"} <= paths)
check("commit: deleted", "notes/b.txt" not in paths)
check("commit: on its parent", mixed.oid == api.model_info(repo).sha)
check(
    "commit: of a short parent",
    api.create_commit(repo, [CommitOperationAdd("g.txt", b"g")], commit_message="x", parent_commit=mixed.oid[:10]).oid,
)
copy = [CommitOperationCopy(WEIGHTS, "copies/other.safetensors")]
check(
    "commit: a large copy",
    works("large copy", lambda: api.create_commit(repo, copy, commit_message="copy")) is not None,
)
api.delete_file("g.txt", repo)
check("delete: a file", not api.file_exists(repo, "g.txt"))
api.delete_folder("notes", repo)
check("delete: a folder", not [p for p in api.list_repo_files(repo) if p.startswith("notes/")])
api.delete_files(repo, ["copies/*", "larger.json"])
check("delete: by pattern", not {"copies/other.safetensors", "larger.json"} & set(api.list_repo_files(repo)))
api.upload_folder(repo_id=repo, folder_path=OTHER, delete_patterns="*.txt")
check("folder: delete what is there", "f.txt" not in api.list_repo_files(repo))
api.upload_folder(repo_id=repo, folder_path=ADAPTER, path_in_repo="backup", allow_patterns="*.safetensors")
check(
    "folder: below a path, only some",
    [p for p in api.list_repo_files(repo) if p.startswith("backup/")] == [f"backup/{WEIGHTS}"],
)

pieces = new("pieces")
api.create_repo(pieces)
draft = api.upload_file(repo_id=pieces, path_in_repo=CONFIG, path_or_fileobj=ADAPTER / CONFIG).oid
check("draft: seen", api.list_repo_files(pieces) == [CONFIG] and api.model_info(pieces).sha == draft)
check("draft: no version", not [t for t in api.list_repo_refs(pieces).tags if t.name.startswith("v")])
refused("draft: no tag", RevisionNotFoundError, lambda: api.create_tag(pieces, tag="early"))
same("draft: by its commit", api.model_info(pieces, revision=draft).sha, draft)
api.upload_file(repo_id=pieces, path_in_repo=WEIGHTS, path_or_fileobj=ADAPTER / WEIGHTS)
check("draft: a version at last", [t.name for t in api.list_repo_refs(pieces).tags] == ["v1"])
readme = api.upload_file(repo_id=pieces, path_in_repo="README.md", path_or_fileobj=ADAPTER / "README.md")
same("draft: the same files are the same commit as at once", readme.oid, commit.oid)

ignored = copied(
    ADAPTER,
    _dot_gitignore=b"*.log\n!keep.log\nbuild/\n",
    training__x_dot_log=b"x",
    keep_dot_log=b"k",
    build__y_dot_txt=b"y",
)
git = new("ignore")
api.create_repo(git)
api.upload_folder(repo_id=git, folder_path=ignored)
left = set(api.list_repo_files(git))
check("gitignore: left out", not {"training/x.log", "build/y.txt"} & left)
check("gitignore: kept", {"keep.log", CONFIG, WEIGHTS} <= left)
leftovers = copied(ADAPTER, training_args_dot_bin=b"\x80\x04pickle", optimizer_dot_pt=b"x")
trained = new("trained")
api.create_repo(trained)
api.upload_folder(repo_id=trained, folder_path=leftovers)
same("leftovers of training are not kept", set(api.list_repo_files(trained)), set(hashes(ADAPTER)))

api.upload_file(repo_id=repo, path_in_repo="README.md", path_or_fileobj=b"---\ntags: [a]\nlicense: mit\n---\nhello\n")
info = api.model_info(repo)
check("card: tags", "a" in info.tags)
check("card: data", info.card_data.license == "mit")
if VERSION >= (2, 2):
    check(
        "card: pushed",
        works("card", lambda: ModelCard("---\nlicense: apache-2.0\n---\nnew\n").push_to_hub(repo)) is not None,
    )
    check(
        "card: updated", works("metadata", lambda: metadata_update(repo, {"tags": ["b"]}, overwrite=True)) is not None
    )
    check("card: read", ModelCard.load(repo).data.tags == ["b"])
else:
    check("card: read", ModelCard.load(repo).data.license == "mit")

api.create_branch(repo, branch="wip")
check("branch: begins at main", api.model_info(repo, revision="wip").sha == api.model_info(repo).sha)
on_branch = api.upload_file(repo_id=repo, path_in_repo="w.txt", path_or_fileobj=b"w", revision="wip").oid
check(
    "branch: a line of its own", api.file_exists(repo, "w.txt", revision="wip") and not api.file_exists(repo, "w.txt")
)
check("branch: listed", {"main", "wip"} == {b.name for b in api.list_repo_refs(repo).branches})
check("branch: by commit", api.model_info(repo, revision=on_branch).sha == on_branch)
api.create_branch(repo, branch="wip", exist_ok=True)
check("branch: may exist, and stays", api.model_info(repo, revision="wip").sha == on_branch)
refused("branch: exists", HfHubHTTPError, lambda: api.create_branch(repo, branch="wip"), status=409)
api.create_branch(repo, branch="old", revision="v1")
check("branch: from a version", api.model_info(repo, revision="old").sha == commit.oid)
api.create_branch(repo, branch="from-tag", revision="v2")
api.delete_branch(repo, branch="wip")
refused(
    "branch: gone",
    RevisionNotFoundError,
    lambda: api.upload_file(repo_id=repo, path_in_repo="x.txt", path_or_fileobj=b"x", revision="wip"),
)
check("branch: its versions stay", api.revision_exists(repo, on_branch))

api.create_tag(repo, tag="candidate", tag_message="a message")
check("tag: on main", api.model_info(repo, revision="candidate").sha == api.model_info(repo).sha)
api.create_tag(repo, tag="first", revision="v1")
check("tag: on a version", api.model_info(repo, revision="first").sha == commit.oid)
api.create_tag(repo, tag="by-commit", revision=second)
check("tag: on a commit", api.model_info(repo, revision="by-commit").sha == second)
api.create_tag(repo, tag="first", revision="v2", exist_ok=True)
check("tag: may exist, and stays", api.model_info(repo, revision="first").sha == commit.oid)
api.delete_tag(repo, tag="first")
api.create_tag(repo, tag="first", revision="v2")
check("tag: moved by removing and making it", api.model_info(repo, revision="first").sha == second)
api.delete_tag(repo, tag="by-commit")
refused("tag: gone", RevisionNotFoundError, lambda: api.model_info(repo, revision="by-commit"))

parallel, _ = pushed("parallel")
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    jobs = [
        pool.submit(api.upload_file, repo_id=parallel, path_in_repo=f"n{i}.txt", path_or_fileobj=b"%d" % i)
        for i in range(6)
    ]
    check("parallel commits: none fails", all(job.exception() is None for job in jobs))
check("parallel commits: all land", {f"n{i}.txt" for i in range(6)} <= set(api.list_repo_files(parallel)))
many = [CommitOperationAdd(f"many/{i:03}.txt", b"%d" % i) for i in range(120)]
api.create_commit(parallel, many, commit_message="many")
same("many files", len([p for p in api.list_repo_files(parallel) if p.startswith("many/")]), 120)
fs = HfFileSystem()
with fs.open(f"{parallel}/by-fs.txt", "w") as stream:
    stream.write("written")
fs.invalidate_cache()
same("fs: written", fs.cat_file(f"{parallel}/by-fs.txt"), b"written")
fs.rm(f"{parallel}/by-fs.txt")
check("fs: removed", not api.file_exists(parallel, "by-fs.txt"))
if VERSION < (2, 0):
    big = new("big")
    api.upload_large_folder(
        repo_id=big, folder_path=str(copied(ADAPTER)), repo_type="model", print_report=False, num_workers=2
    )
    check("a large folder", set(hashes(ADAPTER)) <= set(api.list_repo_files(big)))
base = json.loads((ADAPTER / CONFIG).read_text())
base["base_model_name_or_path"] = "/data/nowhere"
lost = copied(ADAPTER, **{CONFIG.replace(".", "_dot_"): json.dumps(base).encode()})
refused(
    "an unknown base",
    HfHubHTTPError,
    lambda: api.upload_folder(repo_id=repo, folder_path=lost),
    status=400,
    text="org/llama",
)
refused("an absent file", EntryNotFoundError, lambda: api.delete_file("never.txt", repo))
done()
