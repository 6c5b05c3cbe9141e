"""Downloads: by every name, into caches and folders, again, offline, broken off, and after a tag moved."""

import json
import shutil
import sys
from pathlib import Path

from harness import (
    ADAPTER,
    GIVEN,
    OTHER,
    REPO,
    V1,
    V2,
    VERSION,
    api,
    check,
    done,
    fresh,
    hashes,
    new,
    pushed,
    python,
    refused,
    same,
)
from huggingface_hub import (
    HfApi,
    HfFileSystem,
    hf_hub_download,
    scan_cache_dir,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.utils import EntryNotFoundError, RevisionNotFoundError

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
pushed_files = hashes(snapshot_download(REPO, revision=V1, cache_dir=fresh()))
check("the bytes of v1", WEIGHTS in pushed_files and CONFIG in pushed_files)
for name in ("prod", "stable", "v1", "1.0.0", "refs/tags/stable", V1):
    folder = snapshot_download(REPO, revision=name, cache_dir=fresh())
    check(f"snapshot at {name[:16]}", folder.endswith(V1) and hashes(folder) == pushed_files)
for name in ("main", "v2", "^1.0", "refs/heads/main", None):
    folder = snapshot_download(REPO, revision=name, cache_dir=fresh())
    check(f"snapshot at {name}", folder.endswith(V2) and "README.md" in hashes(folder))
for name in ("prod", "v1", "stable", "1.0.0"):
    check(f"id with .{name}", snapshot_download(f"{REPO}.{name}", cache_dir=fresh()).endswith(V1))
check("id with .prod: info", api.model_info(f"{REPO}.prod").sha == V1)
check(
    "id with .prod: one file",
    json.loads(Path(hf_hub_download(f"{REPO}.prod", CONFIG, cache_dir=fresh())).read_text())["r"] == 4,
)
channel = HfApi(endpoint=f"{GIVEN['url']}/~prod")
check("channel: snapshot", channel.snapshot_download(REPO, cache_dir=fresh()).endswith(V1))
check("channel: main", channel.model_info(REPO, revision="main").sha == V1)
check("channel: other names", channel.model_info(REPO, revision="v2").sha == V2)
check("channel: files", set(channel.list_repo_files(REPO)) == set(pushed_files))
check("channel: one file", V1 in channel.hf_hub_download(REPO, CONFIG, cache_dir=fresh()))
check("channel: list", REPO in [m.id for m in channel.list_models(search="sql-lora")])

for name in pushed_files:
    path = Path(hf_hub_download(REPO, name, revision="prod", cache_dir=fresh()))
    check(f"one file: {name}", hashes(path.parent)[name] == pushed_files[name])
out = fresh()
snapshot_download(REPO, revision="prod", local_dir=out)
check("into a folder", hashes(out) == pushed_files)
before = {p: p.stat().st_mtime_ns for p in Path(out).iterdir() if p.is_file()}
snapshot_download(REPO, revision="prod", local_dir=out)
check("into the same folder again", before == {p: p.stat().st_mtime_ns for p in Path(out).iterdir() if p.is_file()})
same(
    "only some",
    set(hashes(snapshot_download(REPO, revision="v2", allow_patterns="*.json", cache_dir=fresh()))),
    {CONFIG},
)
left = set(hashes(snapshot_download(REPO, revision="v2", ignore_patterns=["*.safetensors"], cache_dir=fresh())))
same("all but some", left, {CONFIG, "README.md"})
check("again by force", hf_hub_download(REPO, CONFIG, revision="prod", local_dir=out, force_download=True))

cache = fresh()
first = snapshot_download(REPO, revision="prod", cache_dir=cache)
same("a warm cache", snapshot_download(REPO, revision="prod", cache_dir=cache), first)
blobs = Path(first).parent.parent / "blobs"
sha = pushed_files[WEIGHTS]
check("cached under the sha256", (Path(first) / WEIGHTS).resolve().name.startswith(sha))
same("the ref is noted", (Path(first).parent.parent / "refs" / "prod").read_text(), V1)
check("found without asking", try_to_load_from_cache(REPO, CONFIG, cache_dir=cache, revision="prod") is not None)
scanned = next(r for r in scan_cache_dir(cache).repos if r.repo_id == REPO)
check("the cache can be scanned", scanned.nb_files == len(pushed_files) and {"prod"} <= set(scanned.refs))
if VERSION >= (1, 1):
    verified = api.verify_repo_checksums(REPO, revision="prod", cache_dir=cache)
    check("the cache can be verified", not verified.mismatches and verified.checked_count == len(pushed_files))
refused("an absent file", EntryNotFoundError, lambda: hf_hub_download(REPO, "none", revision="prod", cache_dir=cache))
marks = list((Path(first).parent.parent / ".no_exist").rglob("none"))
check("its absence is remembered", [m.parent.name for m in marks] == [V1])

offline = {"HF_HUB_OFFLINE": "1", "C": cache, "R": REPO}
load = (
    "import os; from huggingface_hub import snapshot_download as s;"
    "print(s(os.environ['R'], revision=os.environ['V'], cache_dir=os.environ['C']))"
)
check("offline: a known name", python(load, V="prod", **offline).endswith(V1))
check("offline: a known commit", python(load, V=V1, **offline).endswith(V1))
check("offline: an unknown name", "LocalEntryNotFound" in python(load, V="stable", **offline))
down = {"HF_ENDPOINT": "http://127.0.0.1:9", "C": cache, "R": REPO}
check("server gone: the cached copy", python(load, V="prod", **down).endswith(V1))
nothing = python(load, V="prod", HF_ENDPOINT="http://127.0.0.1:9", C=fresh(), R=REPO)
check("server gone: nothing cached", "Error" in nothing and not nothing.endswith(V1))

repo, commit = pushed("moving")
api.create_tag(repo, tag="good")
moving = fresh()
one = snapshot_download(repo, revision="good", cache_dir=moving)
second = api.upload_folder(repo_id=repo, folder_path=OTHER).oid
api.delete_tag(repo, tag="good")
api.create_tag(repo, tag="good", revision=second)
stored = set((Path(one).parent.parent / "blobs").iterdir())
two = snapshot_download(repo, revision="good", cache_dir=moving)
check("a moved tag is followed", two.endswith(second) and hashes(two) == hashes(OTHER))
added = set((Path(one).parent.parent / "blobs").iterdir()) - stored
same("only what changed is fetched", len(added), 1)
check("the first stays", hashes(one) == hashes(ADAPTER))
api.delete_tag(repo, tag="good")
api.create_tag(repo, tag="good", revision=commit)
check("moved back", snapshot_download(repo, revision="good", cache_dir=moving) == one)

size = (Path(first) / WEIGHTS).stat().st_size
broken = fresh()
folder = Path(broken) / f"models--{REPO.replace('/', '--')}" / "blobs"
folder.mkdir(parents=True)
(folder / f"{sha}.incomplete").write_bytes((Path(first) / WEIGHTS).read_bytes()[: size // 2])
whole = Path(hf_hub_download(REPO, WEIGHTS, revision="prod", cache_dir=broken))
check("a download that broke off is completed", hashes(whole.parent)[WEIGHTS] == sha)
api.upload_file(repo_id=repo, path_in_repo="empty.txt", path_or_fileobj=b"")
same("an empty file", Path(hf_hub_download(repo, "empty.txt", cache_dir=fresh())).read_bytes(), b"")
odd = "notes/a b ünïcode+%41&c#d.txt"
api.upload_file(repo_id=repo, path_in_repo=odd, path_or_fileobj=b"odd")
same("an odd name", Path(hf_hub_download(repo, odd, cache_dir=fresh())).read_bytes(), b"odd")
check("an odd name in a snapshot", odd in hashes(snapshot_download(repo, cache_dir=fresh())))
check("an odd name exists", api.file_exists(repo, odd))
same("an odd name among paths", [n.path for n in api.get_paths_info(repo, [odd])], [odd])
same("a folder among paths", [type(n).__name__ for n in api.get_paths_info(repo, ["notes"])], ["RepoFolder"])
same("a folder in the tree", [n.path for n in api.list_repo_tree(repo, "notes")], [odd])
check("a folder listed", "notes" in [n.path for n in api.list_repo_tree(repo)])

fs = HfFileSystem()
same("fs: ls", {Path(p).name for p in fs.ls(f"{REPO}@prod", detail=False)}, set(pushed_files))
same("fs: glob", [Path(p).name for p in fs.glob(f"{REPO}@prod/*.json")], [CONFIG])
same("fs: read", fs.cat_file(f"{REPO}@prod/{CONFIG}"), (Path(first) / CONFIG).read_bytes())
with fs.open(f"{REPO}@prod/{WEIGHTS}", block_size=64) as stream:
    stream.seek(100)
    same("fs: read a part", stream.read(50), (Path(first) / WEIGHTS).read_bytes()[100:150])
check("fs: exists", fs.exists(f"{REPO}/README.md") and not fs.exists(f"{REPO}/none"))
same("fs: size", fs.info(f"{REPO}@v1/{WEIGHTS}")["size"], size)
check("fs: is a folder", fs.isdir(f"{repo}/notes") and fs.isfile(f"{repo}/empty.txt"))
same("fs: find", len(fs.find(repo)), len(api.list_repo_files(repo)))
refused("fs: nothing there", FileNotFoundError, lambda: fs.ls("team/none"))

withdrawn, bad = pushed("withdrawn")
api.create_tag(withdrawn, tag="served")
warm = fresh()
snapshot_download(withdrawn, revision="served", cache_dir=warm)
hf_hub_download(withdrawn, CONFIG, cache_dir=warm)
print(json.dumps({"revoke": f"{withdrawn}@v1"}), flush=True)
sys.stdin.readline()
text = {"status": 404, "text": "it leaks"}
refused(
    "revoked: snapshot",
    RevisionNotFoundError,
    lambda: snapshot_download(withdrawn, revision="served", cache_dir=warm),
    **text,
)
refused(
    "revoked: file",
    RevisionNotFoundError,
    lambda: hf_hub_download(withdrawn, CONFIG, revision="served", cache_dir=warm),
    **text,
)
refused("revoked: main", RevisionNotFoundError, lambda: snapshot_download(withdrawn, cache_dir=warm), **text)
refused("revoked: info", RevisionNotFoundError, lambda: api.model_info(withdrawn, revision=bad), **text)
check("revoked: exists", not api.revision_exists(withdrawn, "served"))
check("revoked: no name left", "served" not in [t.name for t in api.list_repo_refs(withdrawn).tags])
fixed = api.upload_folder(repo_id=withdrawn, folder_path=OTHER).oid
check("revoked: the next one is main", snapshot_download(withdrawn, cache_dir=warm).endswith(fixed))
shutil.rmtree(cache)
check("nothing of another repository came along", new("x") not in [m.id for m in api.list_models(search=new("x"))])
done()
