"""Bodies, arguments, filters and cursors that no client sends: refused in the protocol's form, and nothing changes."""

from __future__ import annotations

import base64
import gzip
import json
import threading

import msgspec
import pytest

from adapter_registry.api import openapi
from adapter_registry.operation import kinds_of
from adapter_registry.operations import OPERATIONS
from tests.acceptance.hostile.conftest import MINE
from tests.acceptance.hostile.routes import HUB, NATIVE, Route, commit_of

pytestmark = pytest.mark.xdist_group("hostile-bodies")

DEEP = 10_000
NO_OBJECT = {
    "not JSON": b"{",
    "text": b"hello",
    "array": b"[]",
    "scalar": b"1",
    "null": b"null",
    "two": b"{}{}",
    "trailing comma": b'{"a": 1,}',
    "single quotes": b"{'a': 1}",
    "deep arrays": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep and open": b'{"files":' + b"[" * DEEP,
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": -Infinity}',
    "too large a number": b'{"a": 1e999}',
    "too many digits": b'{"a": ' + b"9" * 5000 + b"}",
    "half a character": b'{"a": "\\ud800"}',
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "NUL": b'{"a": "\\u0000"}',
    "raw NUL": b'{"a": "\x00"}',
    "gzip": gzip.compress(b'{"a": 1}'),
    "gzip bomb": gzip.compress(bytes(20_000_000)),
    "form": b"a=1&b=2",
    "multipart": b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n',
    "YAML bomb": b"a: &a [x]\nb: &b [*a,*a]\n",
    "XML": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "pickle": b"\x80\x04\x95\x00.",
    "5 MB": b'{"a": "' + b"x" * 5_000_000 + b'", }',
}
READS_JSON = [
    r for r in (*NATIVE, *HUB) if r.method in ("POST", "PUT", "PATCH") and r.name not in ("blobs", "hub:commit")
]
UNREAD = ("hub:discussions", "hub:super-squash", "hub:move", "hub:paths-info")
"""Routes that refuse or read otherwise before they look at the body."""


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("route", [r for r in READS_JSON if r.name not in UNREAD], ids=str)
def test_what_is_no_object_of_json_is_refused(site, route):
    media = {"form": "application/x-www-form-urlencoded", "multipart": "multipart/form-data; boundary=x"}
    target = site.places(MINE)(route.template)
    for kind, body in NO_OBJECT.items():
        headers = [("Content-Type", media.get(kind, "application/json"))]
        if kind.startswith("gzip"):
            headers.append(("Content-Encoding", "gzip"))
        answer = site.ask(route.method, target, by="admin", body=body, headers=headers)
        assert answer.status in (400, 413, 422), (kind, answer)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("target", [f"/api/models/{MINE}/paths-info/main", f"/api/models/{MINE}/discussions"])
def test_what_reads_otherwise_is_not_harmed_by_it_either(site, target):
    for kind, body in NO_OBJECT.items():
        for media in ("application/json", "application/x-www-form-urlencoded", "text/plain", "x" * 500):
            answer = site.ask("POST", target, body=body, headers=[("Content-Type", media)])
            assert answer.status < 500, (kind, media)


WRONG = {
    "null": None,
    "true": True,
    "minus": -1,
    "zero": 0,
    "large": 2**63,
    "huge": 2**70,
    "digits": 10**300,
    "fraction": 0.5,
    "1e308": 1e308,
    "empty": "",
    "blank": " \t ",
    "long": "x" * 20_000,
    "control": "a\x01\x1b[31m",
    "line ends": "a\r\nb: c\n",
    "NUL": "a\x00b",
    "superscript": "²",
    "bidi": "\u202eabc",
    "quote": "'; DROP TABLE versions; --",
    "percent": "%s%n%x{0}{a}",
    "path": "../../etc/passwd",
    "at": "mallory/play@v1@v1",
    "array": [],
    "nested": [[[[[]]]]],
    "array of null": [None],
    "object": {},
    "object of null": {"": None},
    "many": ["a"] * 5000,
    "digit text": "9" * 5000,
    "nan": "nan",
    "inf": "inf",
    "date": "9999-99-99T99:99:99Z",
}
ARGUMENTS = [
    (name, argument)
    for name, operation in OPERATIONS.items()
    for argument in kinds_of(operation)
    if argument not in ("return", "adapter", "reference") and f"{{{argument}}}" not in operation.path
]
PLAY = {"stage": "staging", "account": "toy", "namespace": "play", "name": "played"}


def played_with(name: str) -> str:
    """The adapter that an operation may spoil: a withdrawn one would keep all others from being looked at closely."""
    return "mallory/spent" if name == "mark.revoke" else "mallory/play"


def playing(site, name):
    return site.places(played_with(name), **PLAY)


@pytest.mark.usefixtures("nothing_open")
@pytest.mark.parametrize(("name", "argument"), ARGUMENTS, ids=lambda text: text)
def test_no_value_of_an_argument_is_a_defect(site, name, argument):
    operation = OPERATIONS[name]
    target = playing(site, name)(f"/api/v1{operation.route}")
    for wrong, value in WRONG.items():
        given = {**msgspec.to_builtins(openapi.EXAMPLES.get(name, {})), argument: value}
        if operation.method in ("GET", "DELETE"):
            text = value if isinstance(value, str) else json.dumps(value)
            encoded = "".join(f"%{byte:02x}" for byte in text.encode()[:2000])
            answer = site.ask(operation.method, f"{target}?{argument}={encoded}", by="admin")
        else:
            answer = site.ask(operation.method, target, by="admin", body=json.dumps(given).encode())
        assert answer.status < 500, (wrong, answer)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_argument_that_is_none_of_the_operation_is_refused(site, name):
    operation = OPERATIONS[name]
    target = playing(site, name)(f"/api/v1{operation.route}")
    for extra in ("backend", "return", "progress", "actor", "asks", "__class__", "self", "adapter_namespace"):
        if operation.method in ("GET", "DELETE"):
            answer = site.ask(operation.method, f"{target}?{extra}=x", by="admin")
        else:
            given = {**msgspec.to_builtins(openapi.EXAMPLES.get(name, {})), extra: "x"}
            answer = site.ask(operation.method, target, by="admin", body=json.dumps(given).encode())
        assert answer.status == 422, (extra, answer)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", [n for n, o in OPERATIONS.items() if "{adapter}" in o.path or "{reference}" in o.path])
def test_what_the_address_names_cannot_be_named_otherwise(site, name):
    # The reader may read mallory's; a body or query that names another adapter must not be what rights are asked for.
    operation = OPERATIONS[name]
    target = site.places("victim/secret")(f"/api/v1{operation.route}")
    for extra in ("adapter", "reference", "namespace"):
        if operation.method in ("GET", "DELETE"):
            answer = site.ask(operation.method, f"{target}?{extra}={MINE}")
        else:
            given = {**msgspec.to_builtins(openapi.EXAMPLES.get(name, {})), extra: MINE}
            answer = site.ask(operation.method, target, body=json.dumps(given).encode())
        assert answer.status in (403, 404, 422)


FILTERS = [
    *("(", ")", "()", "((((", "rank", "rank<", "<16", "rank<=", "rank<=16 and", "and", "not", "rank<=16 or or rank>1"),
    *(
        "rank==16",
        "rank=16=17",
        "rank<<16",
        "rank<=1e999",
        "rank<=nan",
        "rank<=9" + "9" * 400,
        "rank<=0x10",
        "rank<=١٦",
    ),
    *("rank<='", 'rank<="', "rank<='a\\'", "score.", "score.a>", "score..a>1", "score.a/b/c>x", ".a>1", "a.b.c.d.e>1"),
    *("__class__", "__import__('os')", "rank;drop table versions", "rank<=16--", "rank<=16/*", "rank in (1,2)", "1=1"),
    *("rank<=16" + " and rank<=16" * 400, "(" * 1500 + "rank<=16" + ")" * 1500, "not " * 1500 + "rank<=16"),
    *(
        "label.a='%00'",
        "tag=''",
        "size<1k",
        "size<1zz",
        "size<-1",
        "created>9999-99-99",
        "created>now",
        "rank<=16\n",
        "\u202e",
    ),
    *("semver>1", "semver>^1", "semver>" + "9" * 400 + ".0.0", "rank<=1.5.2", "a" * 5000, "{}", "$where", "rank[0]>1"),
]


def encoded(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())[:8000]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("text", FILTERS, ids=lambda text: ascii(text)[:30])
def test_a_filter_is_read_or_refused(site, text):
    for path in ("/api/v1/adapters", f"/api/v1/adapters/{MINE}/versions"):
        assert site.ask("GET", f"{path}?where={encoded(text)}").status in (200, 413, 422)


NUMBERS = [
    "",
    "-1",
    "0",
    "²",
    "١",
    "1e9",
    "1.5",
    "0x10",
    "9" * 19,
    "9" * 30,
    "9" * 5000,
    "null",
    "[]",
    "%00",
    "%ff",
    "a b",
    "'",
]
COUNTED = [
    *(
        "/api/v1/adapters?limit=",
        f"/api/v1/adapters/{MINE}/versions?limit=",
        f"/api/v1/adapters/{MINE}/versions?before=",
    ),
    *(
        "/api/v1/events?after=",
        "/api/v1/events?limit=",
        "/api/models?limit=",
        "/api/models?cursor=",
        "/api/models?sort=",
    ),
    *(f"/api/models/{MINE}/commits/main?cursor=", f"/api/models/{MINE}/commits/main?p=", "/api/models?direction="),
    *(f"/api/models/{MINE}/tree/main?cursor=", f"/api/models/{MINE}/tree/main?limit=", "/api/v1/adapters?after="),
    *("/api/models?full=", "/api/models?expand=", f"/api/models/{MINE}?expand=", f"/api/models/{MINE}?blobs="),
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("target", COUNTED)
def test_counts_and_cursors_are_read_or_refused(site, target):
    for number in NUMBERS:
        value = number if number.startswith("%") else encoded(number)
        assert site.ask("GET", target + value, by="admin").status in (200, 413, 422, 400, 404), number


COMMITS = {
    "empty": b"",
    "blank lines": b"\n\n\r\n\n",
    "header alone": commit_of(),
    "no header": b'{"key":"deletedFile","value":{"path":"nothing"}}',
    "cut off": commit_of(("file", {"path": "a.txt", "content": "eA==", "encoding": "base64"}))[:-9],
    "an array": b"[]",
    "no value": b'{"key":"file"}',
    "value of text": b'{"key":"file","value":"x"}',
    "key of number": b'{"key":1,"value":{}}',
    "unknown key": commit_of(("explode", {"path": "a.txt"})),
    "copy": commit_of(("copyFile", {"path": "a.txt", "srcPath": "README.md", "srcRevision": "main"})),
    "no path": commit_of(("file", {"content": "eA=="})),
    "path of number": commit_of(("file", {"path": 1, "content": "eA==", "encoding": "base64"})),
    "path of list": commit_of(("file", {"path": ["a.txt"], "content": "eA==", "encoding": "base64"})),
    "path of null": commit_of(("deletedFile", {"path": None})),
    "content of number": commit_of(("file", {"path": "a.txt", "content": 1, "encoding": "base64"})),
    "content of null": commit_of(("file", {"path": "a.txt", "content": None, "encoding": "base64"})),
    "garbage in base64": commit_of(("file", {"path": "a.txt", "content": "%%%%", "encoding": "base64"})),
    "half of base64": commit_of(("file", {"path": "a.txt", "content": "eA", "encoding": "base64"})),
    "not ASCII in base64": commit_of(("file", {"path": "a.txt", "content": "é=", "encoding": "base64"})),
    "unknown encoding": commit_of(("file", {"path": "a.txt", "content": "x", "encoding": "rot13"})),
    "oid of number": commit_of(("lfsFile", {"path": "a.txt", "oid": 1, "size": 1})),
    "oid in capitals": commit_of(("lfsFile", {"path": "a.txt", "oid": "A" * 64, "size": 1})),
    "oid too short": commit_of(("lfsFile", {"path": "a.txt", "oid": "0" * 63, "size": 1})),
    "oid a path": commit_of(("lfsFile", {"path": "a.txt", "oid": "../../registry.db", "size": 1})),
    "size below zero": commit_of(("lfsFile", {"path": "a.txt", "oid": "0" * 64, "size": -1})),
    "size beyond": commit_of(("lfsFile", {"path": "a.txt", "oid": "0" * 64, "size": 2**70})),
    "size of text": commit_of(("lfsFile", {"path": "a.txt", "oid": "0" * 64, "size": "1"})),
    "delete nothing": commit_of(("deletedFile", {"path": "nothing"})),
    "delete no folder": commit_of(("deletedFolder", {"path": "nothing/"})),
    "delete all": commit_of(("deletedFolder", {"path": "/"})),
    "stale parent": b'{"key":"header","value":{"summary":"x","parentCommit":"%s"}}' % (b"0" * 40),
    "parent of number": b'{"key":"header","value":{"summary":"x","parentCommit":7}}',
    "parent of list": b'{"key":"header","value":{"summary":"x","parentCommit":["a"]}}',
    "summary of list": b'{"key":"header","value":{"summary":["x"]}}\n{"key":"deletedFile","value":{"path":"nothing"}}',
    "deep": b'{"key":"file","value":' + b'{"a":' * DEEP,
    "half a character": b'{"key":"file","value":{"path":"\\ud800.txt","content":"eA==","encoding":"base64"}}',
    "6,000 operations": commit_of(*[("deletedFile", {"path": f"{i}.txt"}) for i in range(6000)]),
    "not UTF-8": b'{"key":"file","value":{"path":"\xff"}}',
    "a broken adapter": commit_of(
        (
            "file",
            {"path": "adapter_config.json", "content": base64.b64encode(b"{").decode(), "encoding": "base64"},
        )
    ),
}
SAYS_NOTHING = ("empty", "blank lines", "header alone")
STALE = ("stale parent", "parent of number", "parent of list")


@pytest.mark.parametrize("kind", COMMITS)
def test_a_commit_that_is_none_is_refused(site, kind):
    before = site.state()
    answer = site.ask("POST", f"/api/models/{MINE}/commit/main", body=COMMITS[kind])
    if kind in SAYS_NOTHING:
        assert answer.json["hookOutput"] == "nothing changed"
    else:
        expected = (412,) if kind in STALE else (400, 403, 404, 413)
        assert answer.status in expected, answer
    after = site.state()
    assert [
        t for t in before if before[t] != after[t] and not (t == "owned_blobs" and kind == "a broken adapter")
    ] == []


CARDS = {
    "not finite": "a: .nan\nb: .inf\nc: -.inf",
    "dates": "a: 2020-01-01\nb: 2001-13-45\nc: 2001-12-14t21:59:43.10-05:00",
    "large numbers": "a: 0x" + "f" * 5000,
    "many digits": "a: " + "9" * 5000,
    "billion laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "\n".join(f"{c}: &{c} [*{p},*{p},*{p},*{p},*{p},*{p}]" for p, c in zip("abcdefghi", "bcdefghij", strict=True)),
    "loop": "a: &a [*a]",
    "merge": "a: &a {b: c}\nd: {<<: *a}",
    "python tag": "a: !!python/object/apply:os.system [id]",
    "empty int": "a: !!int ''",
    "empty float": "a: !!float ''",
    "bad bool": "a: !!bool x",
    "bad timestamp": "a: !!timestamp x",
    "set": "a: !!set {b, c}",
    "binary": "a: !!binary x",
    "half a character": 'a: "\\ud800"',
    "keys that are none": "? [a, b]\n: c\n? {a: b}\n: c",
    "null key": "~: a\n1: b\ntrue: c",
    "deep": "a: " + "[" * 500 + "]" * 500,
    "tabs": "\ta: b",
    "sexagesimal": "a: 1:60:60\nb: 190:20:30.15",
    "tags of all kinds": "tags: [1, null, {a: b}, [c], .nan]\npipeline_tag: {a: b}\nbase_model: 7",
    "octal": "a: 0o17\nb: 017\nc: 1_000",
    "control": 'a: "\\x01\\x1b[31m\\0"',
    "script": "a: <script>alert(1)</script>",
}


@pytest.mark.parametrize("kind", CARDS)
def test_the_front_matter_of_a_card_harms_nobody(site, kind):
    card = f"---\n{CARDS[kind]}\n---\nhello\n"
    answer = site.ask("POST", "/api/validate-yaml", body=json.dumps({"content": card, "repoType": "model"}).encode())
    assert answer.status in (200, 400)
    assert "errors" in answer.json
    repo = "mallory/card-" + "".join(c if c.isalnum() else "-" for c in kind)
    site.ask("POST", "/api/repos/create", body=json.dumps({"name": repo}).encode())
    content = base64.b64encode(card.encode()).decode()
    body = commit_of(("file", {"path": "README.md", "content": content, "encoding": "base64"}))
    assert site.ask("POST", f"/api/models/{repo}/commit/main", body=body).status == 200
    info = site.ask("GET", f"/api/models/{repo}")
    assert info.status == 200
    assert len(info.body) < 100_000
    assert isinstance(info.json["cardData"], dict)
    assert site.ask("GET", f"/{repo}/resolve/main/README.md").headers["content-disposition"].startswith("attachment")


class TestIdempotencyKeys:
    PATH = f"/api/v1/adapters/{MINE}/versions/v1/labels"

    def patch(self, site, key, body):
        return site.ask("PATCH", self.PATH, body=body, headers=[("Idempotency-Key", key)])

    @pytest.mark.usefixtures("unchanged")
    @pytest.mark.parametrize("key", ["", " ", "x" * 129, "a\tb", "\xff\xfe"], ids=ascii)
    def test_a_key_is_short_and_printable(self, site, key):
        answer = self.patch(site, key, b'{"labels": {}}')
        assert answer.status == 422 or (key == "\xff\xfe" and answer.status == 200)

    def test_of_many_at_once_one_is_carried_out(self, site):
        answers = []

        def ask(n):
            answers.append(self.patch(site, "the-same-key", b'{"labels": {"kept": "yes"}}'))

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {answer.status for answer in answers} <= {200, 409}
        assert len({answer.body for answer in answers if answer.status == 200}) == 1
        page = site.ask("GET", f"/api/v1/events?reference={MINE}", by="admin").json["items"]
        done = [e for e in page if e["entry"]["action"] == "label" and "kept" in json.dumps(e["entry"]["detail"])]
        assert len(done) == 1

    def test_another_body_or_address_under_the_same_key_is_refused(self, site):
        assert self.patch(site, "once", b'{"labels": {"a": "b"}}').status == 200
        assert self.patch(site, "once", b'{"labels": {"a": "c"}}').status == 422
        other = site.ask(
            "PATCH", self.PATH + "?x=1", body=b'{"labels": {"a": "b"}}', headers=[("Idempotency-Key", "once")]
        )
        assert other.status == 422


def test_a_route_that_takes_a_body_is_one_of_these():
    assert {r.method for r in READS_JSON} == {"POST", "PUT", "PATCH"}
    assert all(isinstance(route, Route) for route in READS_JSON)
