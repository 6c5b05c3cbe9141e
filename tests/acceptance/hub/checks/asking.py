"""Questions: who am I, what is there, what does this name mean, what does it hold."""

import datetime

from harness import ADAPTER, REPO, V1, V2, VERSION, api, check, done, hashes, refused, same, works
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
from huggingface_hub.utils import EntryNotFoundError, RepositoryNotFoundError

me = api.whoami()
same("whoami: name", me["name"], "admin")
same("whoami: type", me["type"], "user")
same("whoami: the token may write", me["auth"]["accessToken"]["role"], "write")
check("whoami: the token has a name", bool(me["auth"]["accessToken"]["displayName"]))
check("whoami: organisations are a list", isinstance(me["orgs"], list))
refused("whoami: a bad token", Exception, lambda: HfApi(token="adapters_wrong").whoami(), text="")

NAMES = {
    **{"main": V2, "refs/heads/main": V2, "prod": V1, "staging": V1, "dev": V1, "stable": V1, "refs/tags/stable": V1},
    **{
        "v1": V1,
        "v2": V2,
        "1.0.0": V1,
        "1.0.1": V2,
        "^1.0": V2,
        "~1.0.0": V2,
        "1.x": V2,
        ">=1.0 <1.0.1": V1,
        V1: V1,
        V2: V2,
    },
}
for name, commit in NAMES.items():
    same(
        f"revision {name[:20]}",
        works(f"info at {name[:20]}", lambda n=name: api.model_info(REPO, revision=n).sha),
        commit,
    )
same("no revision is main", api.model_info(REPO).sha, V2)
for name in ("prod", "^1.0", V1):
    check(f"revision {name[:8]} exists", api.revision_exists(REPO, name))
for name in ("nothing", "v9", "^7", "0" * 40, V1[:12], "refs/pr/1", "HEAD"):
    check(f"revision {name[:8]} does not exist", not api.revision_exists(REPO, name))
check("repository exists", api.repo_exists(REPO))
check("repository does not exist", not api.repo_exists("team/none"))
check("it is no dataset", not api.repo_exists(REPO, repo_type="dataset"))
check("it is no space", not api.repo_exists(REPO, repo_type="space"))

info = api.model_info(REPO)
same("info: id", (info.id, info.author), (REPO, "team"))
same("info: flags", (info.private, info.gated, info.disabled, info.downloads, info.likes), (True, False, False, 0, 0))
same("info: library", info.library_name, "peft")
check("info: tags", {"peft", "lora", "base_model:org/llama", "sql"} <= set(info.tags))
check("info: times", all(isinstance(t, datetime.datetime) and t.tzinfo for t in (info.created_at, info.last_modified)))
same("info: card", info.card_data.tags, ["sql", "lora"])
same("info: files", {s.rfilename for s in info.siblings}, {*hashes(ADAPTER), "README.md"})
check("info: no sizes unless asked", all(s.size is None for s in info.siblings))
sized = {s.rfilename: s for s in api.model_info(REPO, files_metadata=True).siblings}
weights = sized["adapter_model.safetensors"]
same(
    "info: sha256 of weights",
    weights.lfs["sha256"],
    api.get_paths_info(REPO, "adapter_model.safetensors")[0].lfs["sha256"],
)
same("info: sizes agree", weights.size, weights.lfs["size"])
check("info: blob ids", all(len(s.blob_id) == 40 for s in sized.values()))
check("info: small files are no LFS", sized["adapter_config.json"].lfs is None)
same("info: expand", api.model_info(REPO, expand=["sha", "tags"]).sha, V2)
check("info: expand leaves out", api.model_info(REPO, expand=["sha"]).siblings is None)
check(
    "info: unknown expand",
    works("expand of what is not kept", lambda: api.model_info(REPO, expand=["trendingScore"])) is not None,
)
check("info: security status", api.model_info(REPO, securityStatus=True).sha == V2)
same("repo_info", api.repo_info(REPO, revision="prod").sha, V1)

files = api.list_repo_files(REPO, revision="v1")
same("files", set(files), set(hashes(ADAPTER)))
tree = {n.path: n for n in api.list_repo_tree(REPO)}
same("tree: paths", set(tree), {*hashes(ADAPTER), "README.md"})
same("tree: sha256", tree["adapter_model.safetensors"].lfs.sha256, weights.lfs["sha256"])
same("tree: size", tree["adapter_model.safetensors"].size, weights.size)
same("tree: ids are those of info", {p: n.blob_id for p, n in tree.items()}, {p: s.blob_id for p, s in sized.items()})
expanded = next(iter(api.list_repo_tree(REPO, expand=True, revision="v1")))
same(
    "tree: last commit",
    expanded.last_commit["oid"] if isinstance(expanded.last_commit, dict) else expanded.last_commit.oid,
    V1,
)
same("tree: recursive", {n.path for n in api.list_repo_tree(REPO, recursive=True)}, set(tree))
refused("tree: no folder", EntryNotFoundError, lambda: list(api.list_repo_tree(REPO, "none")))

same("paths: one as text", [n.path for n in api.get_paths_info(REPO, "README.md")], ["README.md"])
same("paths: unknown are left out", [n.path for n in api.get_paths_info(REPO, ["x", "README.md"])], ["README.md"])
same("paths: none known", api.get_paths_info(REPO, ["x", "y"]), [])
same(
    "paths: at a revision",
    api.get_paths_info(REPO, ["README.md"], revision="nothing-" if False else "v2")[0].path,
    "README.md",
)
check("paths: expanded", api.get_paths_info(REPO, ["README.md"], expand=True)[0].last_commit is not None)
same("paths: many", len(api.get_paths_info(REPO, [f"x{i}" for i in range(900)] + ["README.md"])), 1)

refs = api.list_repo_refs(REPO)
same("refs: branches", {b.name: b.target_commit for b in refs.branches}, {"main": V2})
tags = {t.name: t.target_commit for t in refs.tags}
same("refs: stages are tags", (tags["prod"], tags["staging"], tags["dev"]), (V1, V1, V1))
same("refs: tags and versions", (tags["stable"], tags["v1"], tags["v2"]), (V1, V1, V2))
same("refs: full names", {t.ref for t in refs.tags if t.name == "stable"}, {"refs/tags/stable"})
same("refs: pull requests", api.list_repo_refs(REPO, include_pull_requests=True).pull_requests, [])
commits = api.list_repo_commits(REPO)
same("commits", [c.commit_id for c in commits], [V2, V1])
same("commits: titles", [c.title for c in commits], ["second", "first"])
same("commits: authors", commits[0].authors, ["admin"])
check("commits: times", commits[0].created_at >= commits[1].created_at)
same("commits: up to a stage", [c.title for c in api.list_repo_commits(REPO, revision="prod")], ["first"])
check("commits: formatted", api.list_repo_commits(REPO, formatted=True)[0].formatted_title is not None)

check("file exists", api.file_exists(REPO, "adapter_config.json"))
check("file exists at a stage", api.file_exists(REPO, "adapter_config.json", revision="prod"))
check("file does not exist", not api.file_exists(REPO, "none.json"))
check(
    "no file of what does not exist",
    not api.file_exists("team/none", "x") and not api.file_exists(REPO, "x", revision="no"),
)
url = hf_hub_url(REPO, "adapter_model.safetensors", revision="prod")
meta = get_hf_file_metadata(url)
same("metadata: commit", meta.commit_hash, V1)
check("metadata: etag is the sha256", len(meta.etag) == 64)
check(
    "metadata: size",
    meta.size == next(n.size for n in api.get_paths_info(REPO, "adapter_model.safetensors", revision="v1")),
)
small = get_hf_file_metadata(hf_hub_url(REPO, "adapter_config.json"))
same("metadata: git id of a small file", small.etag, tree["adapter_config.json"].blob_id)
parsed = api.parse_safetensors_file_metadata(REPO, "adapter_model.safetensors", revision="prod")
check("safetensors: tensors", len(parsed.tensors) == 8 and "F32" in parsed.parameter_count)

check("auth: read", works("auth_check", lambda: api.auth_check(REPO)) is None)
refused("auth: none", RepositoryNotFoundError, lambda: api.auth_check("team/none"))

same("list: by author and search", [m.id for m in api.list_models(author="team", search="SQL-lora")], [REPO])
check("list: all", REPO in [m.id for m in api.list_models()])
check("list: filter", REPO in [m.id for m in api.list_models(filter="lora")])
check("list: filters all hold", REPO in [m.id for m in api.list_models(filter=["lora", "base_model:org/llama"])])
same("list: unknown filter", list(api.list_models(filter="none")), [])
same("list: unknown author", list(api.list_models(author="nobody")), [])
same("list: limit", len(list(api.list_models(limit=1))), 1)
check(
    "list: sorted by time",
    len(list(api.list_models(sort="last_modified" if VERSION >= (1, 0) else "lastModified", limit=5))) > 0,
)
check(
    "list: sorted by downloads",
    works("sort by downloads", lambda: len(list(api.list_models(sort="downloads", limit=3)))),
)
check("list: full", next(iter(api.list_models(search="sql-lora", full=True))).id == REPO)
check("list: with cards", next(iter(api.list_models(search="sql-lora", cardData=True))).id == REPO)
listed = {m.id: m for m in api.list_models(search="sql-lora", full=True)}[REPO]
same("list: full says what info says", (listed.sha, listed.created_at, listed.tags), (V2, info.created_at, info.tags))
same("list: full has files", {s.rfilename for s in listed.siblings}, {s.rfilename for s in info.siblings})
brief = next(m for m in api.list_models(search="sql-lora") if m.id == REPO)
same("list: brief leaves files and commit out", (brief.sha, brief.siblings, brief.card_data), (None, None, None))
check("list: brief has the card's tags", "sql" in brief.tags)
carded = next(m for m in api.list_models(search="sql-lora", cardData=True) if m.id == REPO)
same("list: the card", carded.card_data.tags, ["sql", "lora"])
asked = next(m for m in api.list_models(search="sql-lora", expand=["sha"]) if m.id == REPO)
same("list: expand", (asked.sha, asked.tags), (V2, None))
check("list: by a tag of the card", REPO in [m.id for m in api.list_models(filter=["sql", "lora"])])
same("list: by a task that nobody has", list(api.list_models(pipeline_tag="image-classification")), [])
same("list: nobody serves", list(api.list_models(**{"inference": "warm"})), []) if VERSION >= (0, 36) else None
newest = list(api.list_models(sort="created_at" if VERSION >= (1, 0) else "createdAt", limit=50))
check("list: by creation", [m.created_at for m in newest] == sorted((m.created_at for m in newest), reverse=True))
same("nobody likes it", list(api.list_repo_likers(REPO)), [])
refused("nobody likes what is not there", RepositoryNotFoundError, lambda: list(api.list_repo_likers("team/none")))
same("nobody waits for access", list(api.list_pending_access_requests(REPO)), [])
if hasattr(api, "list_user_repos"):
    check("repositories of a namespace", REPO in [r.id for r in api.list_user_repos(namespace="team")])
    same("repositories of no namespace", list(api.list_user_repos(namespace="nobody")), [])
same("list: nothing is gated", list(api.list_models(gated=True, author="team")), [])
check("list: not gated", REPO in [m.id for m in api.list_models(gated=False, author="team")])
same("list: datasets", list(api.list_datasets()), [])
same("list: spaces", list(api.list_spaces()), [])
done()
