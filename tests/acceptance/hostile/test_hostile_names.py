"""Names that nothing should be handed: in paths, revisions, ids, tags, branches and commits."""

from __future__ import annotations

import base64
import json

import pytest

from tests.acceptance.hostile.conftest import MINE, VICTIM
from tests.acceptance.hostile.routes import commit_of

pytestmark = [pytest.mark.usefixtures("unchanged"), pytest.mark.xdist_group("hostile-names")]

VERSIONS = f"/api/v1/adapters/{MINE}/versions"
TARGETS = {
    "dots": "../../../../etc/passwd",
    "dots encoded": "..%2f..%2f..%2fetc%2fpasswd",
    "dots encoded twice": "%252e%252e%252fetc%252fpasswd",
    "dots in part": "%2e%2e/%2e%2e/registry.db",
    "dot segments": "./././README.md",
    "semicolon": "..;/..;/etc/passwd",
    "parameters": "README.md;a=b",
    "backslash": "..\\..\\registry.db",
    "backslash encoded": "..%5c..%5cregistry.db",
    "drive": "C:%5cwindows%5cwin.ini",
    "absolute": "%2fetc%2fpasswd",
    "double slash": "//etc/passwd",
    "nul": "README.md%00.txt",
    "carriage return": "README.md%0d%0aSet-Cookie:%20a=b",
    "overlong dot": "%c0%ae%c0%ae/etc/passwd",
    "overlong slash": "..%c0%afetc%c0%afpasswd",
    "not UTF-8": "%ff%fe",
    "half a character": "%ed%a0%80",
    "right to left": "%e2%80%aetxt.exe",
    "decomposed": "cafe%cc%81.txt",
    "full width": "%ef%bc%8e%ef%bc%8e%ef%bc%8fetc",
    "long": "a" * 300,
    "very long": "a/" * 2000,
    "trailing dot": "README.md.",
    "trailing blank": "README.md%20",
    "other case": "readme.MD",
    "fragment": "README.md%23x",
    "question mark": "README.md%3fraw=true",
    "git": ".git/config",
    "device": "CON",
    "stream": "README.md::$DATA",
    "home": "~root",
    "environment": "$HOME",
    "template": "{{7*7}}",
    "blob": "blobs/sha256",
    "lock": "adapter_lock.json",
    "sql": "%27%20OR%20%271%27=%271",
    "percent": "100%",
    "percent half": "%4",
}
FILE_NAMES = [
    *("..", ".", "", "/", "../x.txt", "a/../x.txt", "/etc/x.txt", "a//x.txt", "a/./x.txt", "x.txt/", ".git/config"),
    *("a/.GIT/x.txt", "a\\x.txt", "C:\\x.txt", "a:b.txt", "x.txt.", "x.txt ", " x.txt", "nul.txt", "COM1.txt"),
    *("x\x00.txt", "x\n.txt", "x\r\n.txt", "x\x1b.txt", "x\x7f.txt", "x\u202e.txt", "x\u2066.txt", "cafe\u0301.txt"),
    *("a" * 300 + ".txt", "a/" * 300 + "x.txt", "a/" * 17 + "x.txt", "x*.txt", "x?.txt", "x|.txt", 'x".txt', "x<.txt"),
    *("\ud800.txt", "x\u2028.txt", "x\u0085.txt"),
]
REFS = [
    *("main", "HEAD", "head", "refs", "refs/heads/x", "refs/tags/x", "refs/pr/1", "latest", "sha256", "draft", "dev"),
    *("staging", "prod", "v1", "v9", "1.0.0", "1", "1.x", "^1", "deadbee", "DEADBEEF", "0" * 40, "f" * 64, "v1.2"),
    *("..", ".", "", " ", "a..b", "a--b", ".a", "a.", "-a", "a-", "a.lock", "a.git", "a/b", "a\\b", "a b", "a\x00"),
    *("a\n", "a\r\nb", "a@b", "a{0}", "a~1", "a^", "a:b", "a?", "a*", "a[", "\u202ea", "a\u0301", "é", "ª", "\ud800"),
    *("a" * 97, "a" * 10_000, "@", "@{-1}", "FETCH_HEAD/..", "sha256:" + "0" * 64, "good@v1", "%2e%2e"),
]
IDS = [
    *("", "/", "..", "../..", "a/..", "a/b/c", "a/b/c/d", "a//b", "a/.b", "a/b.", "a/b.git", "a/b.lock", "a/-b"),
    *("a/b--c", "a/b..c", "a/v3", "a/deadbeef", "a/" + "0" * 40, "a/" + "b" * 97, "a b/c", "a/b c", "a/b\x00", "a/b\n"),
    *("a\\b/c", "a/é", "a/\u202eb", "a/e\u0301", "a/b:c", "a/b@v1", "a/b;c", "a/b?c", "a/b#c", "a/%2e%2e", "a/~b"),
    *("~prod/a/b", "a/\ud800", "a/<script>", "a/'b", "*/b", "a/*", "@/b"),
]


def shown(text: str) -> str:
    return ascii(text)[:24]


def quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("name", TARGETS)
def test_no_spelling_of_a_path_leads_anywhere(site, name):
    for place in (f"/{MINE}/resolve/main/", f"/api/models/{MINE}/tree/main/", f"{VERSIONS}/v1/files/"):
        answer = site.ask("GET", place + TARGETS[name])
        assert answer.status in (400, 404, 413), (place, answer)
        assert "set-cookie" not in answer.headers
        assert b"root:" not in answer.body


@pytest.mark.parametrize("name", TARGETS)
def test_no_spelling_of_a_revision_means_one(site, name):
    for template in ("/api/models/{}/revision/", "/api/models/{}/commits/", "/api/v1/adapters/{}/versions/"):
        assert site.ask("GET", template.format(MINE) + TARGETS[name]).status in (400, 404, 405, 409, 413, 422)


@pytest.mark.parametrize("name", TARGETS)
def test_no_spelling_reaches_anothers_adapter_from_ones_own(site, name):
    for start in (f"/api/models/mallory/{TARGETS[name]}", f"/mallory/own/{TARGETS[name]}/resolve/main/README.md"):
        assert site.ask("GET", start).status in (400, 403, 404, 405, 413)


@pytest.mark.parametrize("name", FILE_NAMES, ids=shown)
def test_a_commit_takes_no_file_that_some_system_could_not_hold(site, name):
    content = base64.b64encode(b"x").decode()
    body = commit_of(("file", {"path": name, "content": content, "encoding": "base64"}))
    assert site.ask("POST", f"/api/models/{MINE}/commit/main", body=body).status in (400, 404)
    whole = commit_of(("deletedFile", {"path": name}), ("deletedFolder", {"path": name}))
    assert site.ask("POST", f"/api/models/{MINE}/commit/main", body=whole).status in (400, 404)


@pytest.mark.parametrize("name", FILE_NAMES, ids=shown)
def test_a_native_push_takes_none_either(site, name):
    files = [{"path": f.path, "size": f.size, "digest": f.digest} for f in site.own.files]
    files.append({"path": name, "size": files[0]["size"], "digest": files[0]["digest"]})
    body = json.dumps({"base": "org/llama", "files": files}).encode()
    assert site.ask("POST", f"/api/v1/adapters/{MINE}/versions", body=body).status == 422


@pytest.mark.parametrize("name", ["README.MD", "readme.md", "Adapter_Config.json", "README.md/x.txt"])
def test_no_two_files_take_each_others_place_on_some_system(site, name):
    files = [{"path": f.path, "size": f.size, "digest": f.digest} for f in site.own.files]
    text = next(f for f in files if f["path"] in ("README.md", "adapter_config.json"))
    pair = [{**text, "path": path} for path in (name.partition("/")[0] if "/" in name else "README.md", name)]
    kept = [f for f in files if f["path"] not in {p["path"] for p in pair}]
    body = json.dumps({"base": "org/llama", "files": [*kept, *pair]}).encode()
    assert site.ask("POST", f"/api/v1/adapters/{MINE}/versions", body=body).status == 422


@pytest.mark.parametrize("name", REFS, ids=shown)
def test_no_tag_or_branch_has_a_name_that_means_something_else(site, name):
    as_text = json.dumps({"tag": name}).encode()
    assert site.ask("POST", f"/api/models/{MINE}/tag/main", body=as_text).status in (400, 403, 404, 409)
    as_text = json.dumps({"name": name}).encode()
    assert site.ask("POST", f"/api/v1/adapters/{MINE}/versions/v1/tags", body=as_text).status == 422
    if name not in ("", ".", "..") and len(name) < 2000:
        status = site.ask("POST", f"/api/models/{MINE}/branch/{quoted(name)}", body=b"{}").status
        assert status in (400, 403, 404, 409)


@pytest.mark.parametrize("name", REFS, ids=shown)
def test_nothing_is_committed_to_what_is_no_branch(site, name):
    if name in ("main", "", ".", "refs/heads/main") or len(name) > 2000:
        pytest.skip("a branch, or no address")
    body = commit_of(("file", {"path": "a.txt", "content": "eA==", "encoding": "base64"}))
    status = site.ask("POST", f"/api/models/{MINE}/commit/{quoted(name)}", body=body).status
    assert status in (400, 403, 404)


@pytest.mark.parametrize("name", IDS, ids=shown)
def test_no_repository_has_a_hostile_name(site, name):
    for document in ({"name": name}, {"name": name.rpartition("/")[2], "organization": name.rpartition("/")[0]}):
        answer = site.ask("POST", "/api/repos/create", by="admin", body=json.dumps(document).encode())
        assert answer.status in (400, 403, 409), (document, answer)


@pytest.mark.parametrize("name", IDS, ids=shown)
def test_no_hostile_name_is_found(site, name):
    for target in (f"/api/models/{quoted(name)}", f"/{quoted(name)}/resolve/main/README.md"):
        assert site.ask("GET", target).status in (200, 400, 404) if name in ("", "/") else (400, 404)
    namespace, _, rest = name.partition("/")
    target = f"/api/v1/adapters/{quoted(namespace)}/{quoted(rest)}/versions"
    assert site.ask("GET", target, by="admin").status in (404, 405, 422)


@pytest.mark.parametrize("channel", ["prod", "dev", "main", "v1", "..", "%2e%2e", "x", "", "prod%2f..", "%7eprod"])
def test_a_channel_is_a_stage_and_opens_nothing(site, channel):
    for path in (f"/api/models/{VICTIM}", f"/{VICTIM}/resolve/main/README.md", "/api/v1/adapters", "/metrics"):
        answer = site.ask("GET", f"/~{channel}{path}")
        assert answer.status == 404
    body = commit_of(("file", {"path": "a.txt", "content": "eA==", "encoding": "base64"}))
    assert site.ask("POST", f"/~{channel}/api/models/{MINE}/commit/main", body=body).status in (403, 404)
