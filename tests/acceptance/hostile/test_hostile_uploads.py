"""Bytes that are not what they are said to be, by every way that bytes arrive: native, LFS, Xet."""

from __future__ import annotations

import hashlib
import json
import struct

import lz4.frame
import pytest

from tests.acceptance.hostile.conftest import MINE, VICTIM
from tests.acceptance.hostile.wire import ask, proper

pytestmark = pytest.mark.xdist_group("hostile-uploads")
DATA = b"the bytes that were announced"
SHA, SIZE = hashlib.sha256(DATA).hexdigest(), len(DATA)
BLOB = f"/api/v1/adapters/{MINE}/blobs/"
WRONG_BYTES = {
    "other": b"x" * len(DATA),
    "short": DATA[:-1],
    "long": DATA + b"x",
    "empty": b"",
    "twice": DATA * 2,
    "one bit": bytes([DATA[0] ^ 1]) + DATA[1:],
    "in base64": b"dGhlIGJ5dGVz",
    "in chunks": b"4\r\nabcd\r\n0\r\n\r\n",
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("kind", WRONG_BYTES)
def test_bytes_that_are_not_their_digest_are_not_kept(site, kind):
    answer = site.ask("PUT", BLOB + SHA, body=WRONG_BYTES[kind])
    assert (answer.status, answer.json["code"]) == (422, "digest-mismatch")
    assert missing(site) == [f"sha256:{SHA}"]


DIGESTS = [
    "0" * 63,
    "0" * 65,
    "g" * 64,
    "A" * 64,
    "sha1:" + "0" * 40,
    "md5:x",
    "sha256:",
    "..",
    "%2e%2e%2fregistry.db",
    "sha512:" + "0" * 128,
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "digest", [*DIGESTS, "sha256:sha256:" + "0" * 64, "%00" * 64, "0" * 64 + "%0a", " " + "0" * 64, "²" * 64]
)
def test_a_digest_is_one_or_nothing_is_read(site, digest):
    target = BLOB + digest.replace(" ", "%20").replace("²", "%c2%b2")
    assert site.ask("PUT", target, body=DATA).status in (404, 422)


def missing(site, data: bytes = DATA) -> list[str]:
    file = {"path": "a.txt", "size": len(data), "digest": f"sha256:{hashlib.sha256(data).hexdigest()}"}
    return site.ask("POST", f"/api/v1/adapters/{MINE}/missing", body=json.dumps({"files": [file]}).encode()).json


class TestLfs:
    def href(self, site, oid=SHA, size=SIZE, repo=MINE) -> str:
        batch = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": size}]}
        answer = site.ask("POST", f"/{repo}.git/info/lfs/objects/batch", body=json.dumps(batch).encode())
        return answer.json["objects"][0]["actions"]["upload"]["href"].removeprefix(site.url)

    @pytest.mark.usefixtures("unchanged")
    @pytest.mark.parametrize("kind", WRONG_BYTES)
    def test_other_bytes_than_announced_are_not_kept(self, site, kind):
        assert site.ask("PUT", self.href(site), by="nobody", body=WRONG_BYTES[kind]).status in (400, 422)

    @pytest.mark.usefixtures("unchanged")
    def test_more_than_announced_is_not_even_read_in_chunks(self, site):
        body = b"".join(b"10000\r\n" + b"x" * 0x10000 + b"\r\n" for _ in range(64)) + b"0\r\n\r\n"
        headers = [("Transfer-Encoding", "chunked")]
        assert site.ask("PUT", self.href(site), by="nobody", body=body, headers=headers).status == 413

    @pytest.mark.usefixtures("unchanged")
    @pytest.mark.parametrize("change", ["cut", "longer", "flip", "none", "empty", "two dots", "of xet"])
    def test_a_permission_is_the_servers_own(self, site, change):
        start, _, allowed = self.href(site).rpartition("/")
        header, claims, signature = allowed.split(".")
        xet = site.ask("GET", f"/api/models/{MINE}/xet-write-token/main").json["accessToken"]
        forged = {
            "cut": allowed[:-2],
            "longer": allowed + "x",
            "flip": f"{header}.{claims[:-2]}AA.{signature}",
            "none": f"eyJhbGciOiJub25lIn0.{claims}.",
            "empty": "-",
            "two dots": "..x",
            "of xet": xet,
        }[change]
        assert site.ask("PUT", f"{start}/{forged}", by="nobody", body=DATA).status in (401, 404)

    @pytest.mark.usefixtures("unchanged")
    @pytest.mark.parametrize(
        "objects",
        [
            None,
            {},
            "x",
            [None],
            [[]],
            ["x"],
            [{}],
            [{"oid": SHA}],
            [{"size": 1}],
            [{"oid": SHA, "size": -1}],
            [{"oid": SHA, "size": 2**60}],
            [{"oid": SHA, "size": True}],
            [{"oid": SHA, "size": 1.5}],
            [{"oid": SHA, "size": "1"}],
            [{"oid": "x" * 64, "size": 1}],
            [{"oid": SHA.upper(), "size": 1}],
            [{"oid": ["a"], "size": 1}],
            [{"oid": "../" * 30, "size": 1}],
            [{"oid": SHA, "size": 1}] * 1001,
        ],
        ids=lambda value: json.dumps(value)[:40],
    )
    def test_a_batch_of_nonsense_gets_no_address(self, site, objects):
        body = json.dumps({"operation": "upload", "objects": objects}).encode()
        answer = site.ask("POST", f"/{MINE}.git/info/lfs/objects/batch", body=body)
        assert answer.status in (200, 400)
        assert b"actions" not in answer.body

    @pytest.mark.usefixtures("unchanged")
    @pytest.mark.parametrize("operation", ["download", "verify", "delete", "", None, 1, ["upload"]])
    def test_nothing_but_uploads_is_asked_for(self, site, operation):
        body = json.dumps({"operation": operation, "objects": [{"oid": SHA, "size": 5}]}).encode()
        assert site.ask("POST", f"/{MINE}.git/info/lfs/objects/batch", body=body).status == 400

    @pytest.mark.usefixtures("unchanged")
    @pytest.mark.parametrize(
        "path",
        [
            "info/refs?service=git-upload-pack",
            "info/lfs/locks",
            "git-receive-pack",
            "HEAD",
            "objects/info/packs",
            "config",
        ],
    )
    def test_it_is_no_git_server(self, site, path):
        for method in ("GET", "POST"):
            assert site.ask(method, f"/{MINE}.git/{path}", body=b"").status == 404

    def test_the_same_bytes_may_come_again(self, site):
        data = b"sent twice by lfs"
        href = self.href(site, hashlib.sha256(data).hexdigest(), len(data))
        for _ in range(2):
            assert site.ask("PUT", href, by="nobody", body=data).status == 200
        assert site.ask("PUT", href, by="nobody", body=b"x" * len(data)).status == 400


def records(*parts: bytes) -> bytes:
    return b"".join(part.ljust(48, b"\0") for part in parts)


def as_stored(hexadecimal: str) -> bytes:
    """A hash as Xet stores it: four little-endian numbers."""
    return b"".join(struct.pack("<Q", int(hexadecimal[i : i + 16], 16)) for i in range(0, 64, 16))


def shard(*files: bytes, version: int = 2) -> bytes:
    head = b"HFRepoMetaData\x00".ljust(32, b"\0") + struct.pack("<QQ", version, 0)
    return records(head, *files, b"\xff" * 32)


def described(
    sha256: str, *segments: tuple[str, int, int, int], flags: int = 1 << 30, count: int | None = None
) -> bytes:
    """A file of a shard: (xorb, bytes, first, end) of each segment."""
    number = len(segments) if count is None else count
    rows = [as_stored("a" * 64) + struct.pack("<II", flags, number)]
    rows += [as_stored(x) + struct.pack("<IIII", 0, size, first, end) for x, size, first, end in segments]
    return records(*rows, as_stored(sha256))


def chunk(
    data: bytes, *, scheme: int = 0, size: int | None = None, packed: int | None = None, version: int = 0
) -> bytes:
    stored = lz4.frame.compress(data) if scheme else data
    head = bytes([version]) + (len(stored) if packed is None else packed).to_bytes(3, "little")
    return head + bytes([scheme]) + (len(data) if size is None else size).to_bytes(3, "little") + stored


XORB = "b" * 64
XORBS = {
    "empty": b"",
    "garbage": b"x" * 1000,
    "cut in a header": chunk(DATA)[:5],
    "cut in a chunk": chunk(DATA)[:-1],
    "lies about its packed size": chunk(DATA, packed=0xFFFFFF),
    "packed size of nothing": chunk(DATA, packed=0),
    "lies about its size": chunk(DATA, size=0xFFFFFF),
    "size of nothing": chunk(DATA, size=0),
    "stored and of two sizes": chunk(DATA, size=5),
    "unknown scheme": chunk(DATA, scheme=0)[:4] + b"\x09" + chunk(DATA)[5:],
    "another version": chunk(DATA, version=7),
    "footer alone": b"XETBLOB" + bytes(100),
    "too many chunks": chunk(b"x") * 8193,
}
UNPACKED = {
    "no LZ4": chunk(DATA)[:4] + b"\x01" + chunk(DATA)[5:],
    "a bomb": chunk(bytes(10_000_000), scheme=1, size=128 * 1024),
    "more than it says": chunk(DATA, scheme=1, size=5),
    "less than it says": chunk(DATA, scheme=1, size=500),
}
SHARDS = {
    "empty": b"",
    "garbage": b"x" * 500,
    "head alone": shard()[:48],
    "cut": shard(described(SHA, (XORB, 5, 0, 1)))[:-60],
    "another version": shard(version=9),
    "unknown flags": shard(described(SHA, (XORB, 5, 0, 1), flags=0xFF)),
    "counts beyond": shard(described(SHA, (XORB, 5, 0, 1), count=0xFFFFFFFF)),
    "no such xorb": shard(described(SHA, (XORB, 5, 0, 1))),
    "no such chunk": shard(described(SHA, (XORB, 5, 7000, 7001))),
    "backwards": shard(described(SHA, (XORB, 5, 3, 1))),
    "chunks beyond": shard(described(SHA, (XORB, 5, 0, 0xFFFFFFFF))),
    "size beyond": shard(described(SHA, (XORB, 0xFFFFFFFF, 0, 1))),
    "size of nothing": shard(described(SHA, (XORB, 0, 0, 1))),
    "many files": shard(*[described(SHA)] * 10_001),
    "terabytes of segments": shard(described(SHA, *[(XORB, 131072 * 8192, 0, 8192)] * 300)),
}


class TestXet:
    def grant(self, site):
        answer = site.ask("GET", f"/api/models/{MINE}/xet-write-token/main").json
        return answer["casUrl"].removeprefix(site.url), [("Authorization", f"Bearer {answer['accessToken']}")]

    def send(self, site, path, body, headers):
        return proper(ask(site.url, "POST", path, body=body, headers=headers), "POST", path)

    @pytest.mark.parametrize("kind", XORBS)
    def test_a_xorb_that_is_none_is_not_kept(self, site, kind):
        cas, headers = self.grant(site)
        before = site.state()
        assert self.send(site, f"{cas}/v1/xorbs/default/{XORB}", XORBS[kind], headers).status == 422
        assert site.state() == before

    @pytest.mark.parametrize("kind", UNPACKED)
    def test_a_chunk_that_does_not_unpack_to_what_it_says_makes_no_file(self, site, kind):
        cas, headers = self.grant(site)
        assert self.send(site, f"{cas}/v1/xorbs/default/{XORB}", UNPACKED[kind], headers).status in (200, 422)
        size = int.from_bytes(UNPACKED[kind][5:8], "little")
        answer = self.send(site, f"{cas}/v1/shards", shard(described("c" * 64, (XORB, size, 0, 1))), headers)
        assert answer.status == 422

    @pytest.mark.parametrize("kind", SHARDS)
    def test_a_shard_that_is_none_makes_no_file(self, site, kind):
        cas, headers = self.grant(site)
        before = site.state()
        assert self.send(site, f"{cas}/v1/shards", SHARDS[kind], headers).status in (404, 413, 422)
        assert site.state() == before

    def test_a_file_is_what_its_pieces_give_and_not_what_the_shard_says(self, site):
        data = b"bytes of this test alone: DATA arrives nowhere, and other tests ask for it"
        cas, headers = self.grant(site)
        theirs = site.version.files[0].digest.removeprefix("sha256:")
        assert self.send(site, f"{cas}/v1/xorbs/default/{XORB}", chunk(data), headers).status == 200
        before = site.state()
        for claimed in (theirs, "0" * 64):
            lie = shard(described(claimed, (XORB, len(data), 0, 1)))
            assert self.send(site, f"{cas}/v1/shards", lie, headers).status == 422
        assert site.state() == before
        honest = shard(described(hashlib.sha256(data).hexdigest(), (XORB, len(data), 0, 1)))
        assert self.send(site, f"{cas}/v1/shards", honest, headers).status == 200
        assert missing(site, data) == []

    @pytest.mark.usefixtures("unchanged")
    def test_pieces_of_one_upload_are_none_of_another(self, site):
        first, headers = self.grant(site)
        name = "d" * 64
        second, other = self.grant(site)
        answer = self.send(site, f"{second}/v1/shards", shard(described(SHA, (name, 5, 0, 1))), other)
        assert answer.status == 422
        assert first != second
        assert headers != []

    @pytest.mark.usefixtures("unchanged")
    @pytest.mark.parametrize("kind", ["none", "of an account", "of lfs", "garbage"])
    def test_pieces_come_with_a_permission_for_pieces(self, site, kind):
        cas, _ = self.grant(site)
        lfs = TestLfs().href(site, "e" * 64, 7).rpartition("/")[2]
        value = {"none": "", "of an account": site.tokens["mallory"], "of lfs": lfs, "garbage": "x.y.z"}[kind]
        headers = [("Authorization", f"Bearer {value}")] if value else []
        for path, body in ((f"{cas}/v1/shards", shard()), (f"{cas}/v1/xorbs/default/{XORB}", chunk(DATA))):
            assert self.send(site, path, body, headers).status == 401

    @pytest.mark.usefixtures("unchanged")
    def test_who_may_not_push_gets_no_permission(self, site):
        for repo, by in ((VICTIM, "mallory"), (MINE, "reader"), ("mallory/none", "mallory")):
            answer = site.ask("GET", f"/api/models/{repo}/xet-write-token/main", by=by)
            assert answer.status in (403, 404)
            assert "x-xet-access-token" not in answer.headers

    @pytest.mark.usefixtures("unchanged")
    @pytest.mark.parametrize(
        "route",
        [
            "v1/xorbs/default/" + "B" * 64,
            "v1/xorbs/default/..",
            "v1/xorbs/other/" + "b" * 64,
            "v2/shards",
            "v1/reconstructions/x",
            "v1/chunks/default/x",
            "",
            "../../api/v1/accounts",
        ],
    )
    def test_what_is_not_spoken_of_xet_is_not_found(self, site, route):
        cas, headers = self.grant(site)
        for method in ("GET", "POST"):
            answer = ask(site.url, method, f"{cas}/{route}", body=b"x", headers=headers)
            assert answer.status in (401, 404)


def test_none_of_this_was_a_defect(site):
    assert "Traceback" not in site.hub.log(), site.hub.log()[-3000:]
