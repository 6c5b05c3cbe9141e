"""The client's own command line, in the words of each of its lines."""

import json
from pathlib import Path

from command_line import command, hf
from harness import ADAPTER, GIVEN, OTHER, REPO, V1, VERSION, api, check, copied, done, fresh, hashes, new

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
OLD = VERSION < (1, 0)
AS_JSON = ("--format", "json") if VERSION >= (1, 20) else ()
REPOS = "repo" if OLD else "repos"

command("whoami", "auth", "whoami", says="admin")
command("whoami: a bad token", "auth", "whoami", code=1, HF_TOKEN="adapters_wrong")
command("version", "version")
command("env", "env", says=GIVEN["url"])

for name in ("prod", "v1", "stable", "1.0.0", V1):
    out = fresh()
    said = command(f"download --revision {name[:8]}", "download", REPO, "--revision", name, "--local-dir", out)
    check(f"download --revision {name[:8]}: the files", set(hashes(out)) >= {WEIGHTS, CONFIG})
check("download: says where", V1 in command("download to the cache", "download", REPO, "--revision", "prod"))
out = fresh()
command("download: one file", "download", REPO, CONFIG, "--local-dir", out)
check("download: one file only", set(hashes(out)) == {CONFIG})
out = fresh()
command("download --include", "download", REPO, "--include", "*.md", "--local-dir", out)
check("download --include: only these", set(hashes(out)) == {"README.md"})
out = fresh()
command("download --exclude", "download", REPO, "--exclude", "*.safetensors", "--local-dir", out)
check("download --exclude: all but these", WEIGHTS not in hashes(out))
command("download --quiet", "download", REPO, "--quiet")
command("download --force-download", "download", REPO, CONFIG, "--force-download")
command("download: id with .prod", "download", f"{REPO}.prod", says=V1)
command("download: channel", "download", REPO, says=V1, HF_ENDPOINT=f"{GIVEN['url']}/~prod")
command("download: no repository", "download", "team/none", code=1, says="ot found")
command("download: no revision", "download", REPO, "--revision", "none", code=1)
command("download: no file", "download", REPO, "none.json", code=1)
command("download: no token", "download", REPO, code=1, HF_TOKEN="", HF_HOME=fresh())
command("download: not theirs", "download", REPO, code=1, HF_TOKEN=GIVEN["tokens"]["stranger"], HF_HOME=fresh())
command("download: a reader's token", "download", REPO, HF_TOKEN=GIVEN["tokens"]["reader"])

repo = new("command")
command("create", REPOS, "create", repo, says=repo)
check("create: there", api.repo_exists(repo))
command("create again", REPOS, "create", repo, code=1)
command("create --exist-ok", REPOS, "create", repo, "--exist-ok")
command("create --private", REPOS, "create", new("private"), "--private")
data = ("--repo-type", "dataset") if VERSION < (2, 0) else ("--type", "dataset")
command("create a dataset", REPOS, "create", new("data"), *data, code=1)
command("upload", "upload", repo, ADAPTER, "--commit-message", "by command")
check("upload: the files", set(api.list_repo_files(repo)) == set(hashes(ADAPTER)))
check("upload: the message", api.list_repo_commits(repo)[0].title == "by command")
command("upload again", "upload", repo, ADAPTER)
check("upload again: no version", len(api.list_repo_commits(repo)) == 1)
command("upload other bytes", "upload", repo, OTHER, ".")
check("upload other bytes: a version", len(api.list_repo_commits(repo)) == 2)
note = Path(fresh()) / "note.txt"
note.write_text("note")
command("upload one file", "upload", repo, note, "notes/note.txt")
check("upload one file: there", api.file_exists(repo, "notes/note.txt"))
command("upload to a new branch", "upload", repo, note, "w.txt", "--revision", "wip")
check("upload to a new branch: there", api.file_exists(repo, "w.txt", revision="wip"))
command("upload --include", "upload", repo, OTHER, "only", "--include", "*.md")
check(
    "upload --include: only these",
    {p for p in api.list_repo_files(repo) if p.startswith("only/")} == {"only/README.md"},
)
command("upload --delete", "upload", repo, OTHER, ".", "--delete", "only/*")
check("upload --delete: gone", not api.file_exists(repo, "only/README.md"))
command("upload a new repository", "upload", new("fresh"), ADAPTER)
check("upload a new repository: there", api.revision_exists(new("fresh"), "v1"))
command("upload to a stage", "upload", repo, note, "x.txt", "--revision", "prod", code=1)
command("upload to a tag", "upload", repo, note, "x.txt", "--revision", "v1", code=1)
command("upload --create-pr", "upload", repo, note, "x.txt", "--create-pr", code=1)
command("upload an invalid adapter", "upload", repo, GIVEN["invalid"], code=1, says="rank")
command("upload by a reader", "upload", repo, note, "x.txt", code=1, HF_TOKEN=GIVEN["tokens"]["reader"])

command("tag create", REPOS, "tag", "create", repo, "candidate")
check("tag create: there", api.revision_exists(repo, "candidate"))
command("tag create --revision", REPOS, "tag", "create", repo, "first", "--revision", "v1", "-m", "text")
check(
    "tag create --revision: there",
    api.model_info(repo, revision="first").sha == api.model_info(repo, revision="v1").sha,
)
command("tag create again", REPOS, "tag", "create", repo, "candidate", code=1)
command("tag create: a stage", REPOS, "tag", "create", repo, "prod", code=1)
command("tag list", REPOS, "tag", "list", repo, says="candidate")
command("tag delete", REPOS, "tag", "delete", repo, "candidate", "-y")
check("tag delete: gone", not api.revision_exists(repo, "candidate"))

if OLD:
    command("cache scan", "cache", "scan", says=REPO)
    command("delete files", "repo-files", repo, "delete", "notes/*") if VERSION < (0, 35) else command(
        "delete files", "repo-files", "delete", repo, "notes/*"
    )
else:
    command("cache ls", "cache", "ls", *AS_JSON, says=REPO)
    command("cache verify", "cache", "verify", REPO, "--revision", "prod")
    command("cache rm", "cache", "rm", f"model/{REPO}", "-y")
    command("branch create", "repos", "branch", "create", repo, "side")
    check("branch create: there", api.revision_exists(repo, "side"))
    command("branch delete", "repos", "branch", "delete", repo, "side")
    check("branch delete: gone", not api.revision_exists(repo, "side"))
    command("delete files", "repos", "delete-files", repo, "notes/*")
    command("delete a repository", "repos", "delete", repo, "-y", code=1, says="not supported")
    check("delete a repository: still there", api.repo_exists(repo))
    command("move a repository", "repos", "move", repo, new("moved"), code=1)
    command("make it private", "repos", "settings", repo, "--private")
    command("models ls", "models", "ls", "--search", "sql-lora", *AS_JSON, says=REPO)
    command("models ls --author", "models", "ls", "--author", "team", "--limit", "9", *AS_JSON, says="team/")
    command("models info", "models", "info", REPO, says="peft")
    command("datasets ls", "datasets", "ls")
    command("spaces ls", "spaces", "ls")
    command("discussions", "discussions", "list", repo, code=1)
if VERSION >= (1, 20):
    command("repos ls", "repos", "ls", "--limit", "0", says=REPO)
    command("repos ls --namespace", "repos", "ls", "--namespace", "team", "--limit", "0", says=REPO)
    out = Path(fresh()) / "copied.json"
    command("cp from a repository", "cp", f"hf://{REPO}@prod/{CONFIG}", out)
    check("cp from a repository: the bytes", json.loads(out.read_text())["r"] == 4)
check("delete files: gone", not api.file_exists(repo, "notes/note.txt"))
if VERSION < (2, 0):
    command(
        "upload-large-folder",
        "upload-large-folder",
        new("large"),
        copied(ADAPTER),
        "--repo-type",
        "model",
        "--num-workers",
        "2",
    )
    check("upload-large-folder: there", WEIGHTS in api.list_repo_files(new("large")))
command("auth login", "auth", "login", "--token", GIVEN["tokens"]["reader"], HF_HOME=fresh())
command("auth login: a bad token", "auth", "login", "--token", "adapters_wrong", code=1, HF_HOME=fresh(), HF_TOKEN="")
check("the commands have help", hf("--help")[0])
done()
