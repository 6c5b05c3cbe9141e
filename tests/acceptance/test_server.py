"""Against a server every command does what it does on the embedded registry, and nobody gets in without the token."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import re
import subprocess

import pytest

from tests.acceptance.conftest import Cli
from tests.acceptance.test_life import retrained
from tests.adapter_builders import changed_config, copied, llama


@dataclasses.dataclass(frozen=True)
class RemoteCli(Cli):
    """`adapters` that asks a server; its own home stays empty of any store."""

    url: str = ""
    token: str = ""

    @property
    def environment(self):
        return {**super().environment, "ADAPTERS_URL": self.url, "ADAPTERS_TOKEN": self.token}


@contextlib.contextmanager
def serving(folder):
    cli = Cli(folder / "home", folder)
    server = subprocess.Popen(
        [*cli.command, "serve", "--port", "0"], stdout=subprocess.PIPE, text=True, env=cli.environment, cwd=folder
    )
    try:
        lines = server.stdout.readline() + server.stdout.readline()
        url = re.search(r"ADAPTERS_URL=(\S+)", lines)[1]
        token = re.search(r"ADAPTERS_TOKEN=(\S+)", lines)[1]
        yield RemoteCli(folder / "elsewhere", folder, url=url, token=token)
    finally:
        server.terminate()
        server.wait(20)
        server.stdout.close()


def filled(remote, llama_folder, lora_folder):
    remote("base", "add", "llama", llama_folder)
    remote("push", lora_folder, "--base", "llama", "--name", "sql-lora")
    return remote


@pytest.fixture
def remote(tmp_path):
    with serving(tmp_path) as running:
        yield running


@pytest.fixture
def pushed(remote, llama_folder, lora_folder):
    return filled(remote, llama_folder, lora_folder)


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory, llama_folder, lora_folder):
    """A server for requests that it refuses."""
    with serving(tmp_path_factory.mktemp("unharmed")) as running:
        yield filled(running, llama_folder, lora_folder)


def test_the_whole_life_works_against_a_server(pushed, llama_folder, lora_folder, tmp_path):
    assert pushed("push", lora_folder, "--base", "llama", "--name", "sql-lora").out.startswith("already v1")
    pushed("push", retrained(lora_folder, tmp_path / "b", 2.0), "--base", "llama", "--name", "sql-lora", "-m", "two")
    pushed("score", "add", "v1", "--metric", "x/acc", "--value", 0.5, "--n", 1000)
    pushed("score", "add", "v2", "--metric", "x/acc", "--value", 0.3, "--n", 1000)
    pushed("score", "add", "v2", "--metric", "x/loss", "--value", "nan")
    assert "nan" in pushed("show", "v2").out
    pushed("tag", "v2", "candidate")
    pushed("label", "v1", "license=mit")
    pushed("promote", "v1", "prod", "--reason", "first")
    assert "worse" in pushed("promote", "v2", "prod", code=3).out
    assert [v["number"] for v in pushed("ls", "sql-lora", "--json").json] == [2, 1]
    assert pushed("ls", "--json").json[0]["stages"] == {"prod": 1}
    pushed("pull", "sql-lora@prod", "-o", tmp_path / "out", "--base", llama_folder)
    for path in lora_folder.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    other = llama(tmp_path / "other", seed=9)
    assert (
        "tensors with equal bytes"
        in pushed("pull", "sql-lora@prod", "-o", tmp_path / "no", "--base", other, code=6).err
    )
    pushed("policy", "show", "prod")
    assert pushed("history", "sql-lora", "prod", "--json").json["pointing"] == {"prod": 1}
    pushed("admin", "check", "--read-data")
    assert not (pushed.home / "registry.db").exists()


def test_refusals_come_back_with_their_codes_problems_and_exit_codes(pushed, lora_folder, tmp_path):
    folder = copied(lora_folder, tmp_path / "bad")
    changed_config(folder, r=16)
    error = pushed("push", folder, "--base", "llama", "--name", "sql-lora", "--json", code=7).json["error"]
    assert (error["code"], error["problems"][0]["code"]) == ("push-refused", "rank-mismatch")
    assert "did you mean" in pushed("show", "sql-lor@v1", code=1).err.lower()
    other = retrained(lora_folder, tmp_path / "c", 3.0)
    reused = pushed("push", other, "--base", "llama", "--name", "sql-lora", "--version", "1.0.0", code=1)
    assert "never reused" in reused.err


def test_a_wrong_token_and_a_dead_server_are_told(remote, tmp_path):
    stranger = dataclasses.replace(remote, token="wrong")
    assert "ADAPTERS_TOKEN" in stranger("ls", code=1).err
    nowhere = dataclasses.replace(remote, url="http://127.0.0.1:9")
    assert "adapters serve" in nowhere("ls", code=1).err
    assert "http://host:port" in dataclasses.replace(remote, url="nonsense")("ls", code=2).err


def ask(remote, method, path, body=None, **headers):
    connection = http.client.HTTPConnection(remote.url.removeprefix("http://"), timeout=20)
    given = {"Authorization": f"Bearer {remote.token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
    connection.request(method, path, body, {k: v for k, v in given.items() if v})
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, data


SQL_LORA = "/api/v1/adapters/default/sql-lora"


class TestHostileRequests:
    @pytest.mark.parametrize(
        "path",
        ["/api/v1/adapters", f"{SQL_LORA}/blobs/" + "0" * 64, "/docs", "/api/v1/x", "/api/models", "/a/b/c"],
    )
    @pytest.mark.parametrize("token", ["", "Bearer ", "Bearer wrong", "Basic x"])
    def test_nothing_answers_without_a_token(self, unharmed, path, token):
        for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"):
            assert ask(unharmed, method, path, Authorization=token)[0] == 401

    def test_another_host_name_is_turned_away(self, unharmed):
        assert ask(unharmed, "GET", "/api/v1/adapters", Host="evil.example")[0] == 421
        assert ask(unharmed, "GET", "/health", Authorization="")[0] == 200

    @pytest.mark.parametrize(
        "body", ["[]", "{", '{"x": 1}', '{"backend": {}}', '{"files": 5}', '{"files": ["a"]}', "nan"]
    )
    def test_a_body_that_is_no_such_question_is_refused_with_a_reason(self, unharmed, body):
        status, data = ask(unharmed, "POST", f"{SQL_LORA}/missing", body)
        assert status == 422
        assert json.loads(data)["detail"]

    def test_a_missing_argument_is_named(self, unharmed):
        status, data = ask(unharmed, "POST", f"{SQL_LORA}/missing", "{}")
        assert status == 422
        assert "files" in json.loads(data)["detail"]

    @pytest.mark.parametrize("path", ["nope", "__class__", "adapters%2f..", "../health", "adapters/a/b/versions/v1/x"])
    def test_an_address_that_does_not_exist_is_not_found(self, unharmed, path):
        assert ask(unharmed, "POST", f"/api/v1/{path}", "{}")[0] in (404, 405)

    @pytest.mark.parametrize("digest", ["..%2f..%2fetc%2fpasswd", "sha256:..", "0" * 63, "A" * 64, "0" * 64 + "%00"])
    def test_a_blob_is_named_by_a_digest_and_nothing_else(self, unharmed, digest):
        assert ask(unharmed, "PUT", f"{SQL_LORA}/blobs/{digest}", b"x")[0] in (404, 422)

    @pytest.mark.parametrize(
        "path", ["../../registry.db", "..%2f..%2fregistry.db", "%2fetc%2fpasswd", "adapter_config"]
    )
    def test_a_file_is_one_of_the_version_and_nothing_else(self, unharmed, path):
        assert ask(unharmed, "GET", f"{SQL_LORA}/versions/v1/files/{path}")[0] == 404

    def test_bytes_that_are_not_their_digest_are_not_kept(self, unharmed):
        status, data = ask(unharmed, "PUT", f"{SQL_LORA}/blobs/" + "0" * 64, b"something else")
        assert status == 422
        assert json.loads(data)["code"] == "digest-mismatch"

    def test_a_commit_of_files_that_were_never_sent_is_refused(self, unharmed):
        file = {"path": "adapter_model.safetensors", "size": 5, "digest": "sha256:" + "1" * 64}
        body = json.dumps({"base": "llama", "files": [file]})
        status, data = ask(unharmed, "POST", "/api/v1/adapters/default/x/versions", body)
        assert (status, json.loads(data)["code"]) == (409, "conflict")


class TestIdempotency:
    def test_a_write_with_a_key_happens_once_and_answers_the_same(self, pushed):
        body, key = json.dumps({"name": "candidate"}), "k1"
        first = ask(pushed, "POST", f"{SQL_LORA}/versions/v1/tags", body, Idempotency_Key=key)
        again = ask(pushed, "POST", f"{SQL_LORA}/versions/v1/tags", body, Idempotency_Key=key)
        assert first == again
        actions = [event["entry"]["action"] for event in json.loads(ask(pushed, "GET", "/api/v1/events")[1])["items"]]
        assert actions.count("tag.set") == 1

    def test_a_key_is_for_one_request(self, pushed):
        for name, expected in (("one", 201), ("two", 422)):
            body = json.dumps({"name": name})
            assert ask(pushed, "POST", f"{SQL_LORA}/versions/v1/tags", body, Idempotency_Key="k2")[0] == expected


class TestReading:
    def test_what_was_read_is_not_sent_again(self, pushed):
        connection = http.client.HTTPConnection(pushed.url.removeprefix("http://"), timeout=20)
        headers = {"Authorization": f"Bearer {pushed.token}"}
        connection.request("GET", f"{SQL_LORA}/versions/v1", headers=headers)
        first = connection.getresponse()
        first.read()
        connection.request(
            "GET", f"{SQL_LORA}/versions/v1", headers={**headers, "If-None-Match": first.headers["ETag"]}
        )
        second = connection.getresponse()
        assert (second.status, second.read()) == (304, b"")
        connection.close()

    def test_a_revoked_version_is_gone(self, pushed, tmp_path):
        assert "reason" in pushed("revoke", "sql-lora@v1", "--because", " ", code=2).err
        pushed("revoke", "sql-lora@v1", "--because", "trained on leaked data")
        assert "trained on leaked data" in pushed("pull", "sql-lora@v1", "-o", tmp_path / "x", code=1).err
        assert "trained on leaked data" in pushed("promote", "sql-lora@v1", "dev", code=1).err
        assert ask(pushed, "GET", f"{SQL_LORA}/versions/v1/files/adapter_config.json")[0] == 410


def test_can_i_answers_with_its_exit_code(pushed):
    assert pushed("can-i", "promote:prod", "sql-lora").out.strip() == "yes"
    registry_token = pushed("account", "create", "reader-only") and pushed(
        "token", "create", "--account", "reader-only", "--quiet"
    )
    limited = dataclasses.replace(pushed, token=registry_token.out.strip())
    assert limited("can-i", "promote:prod", "sql-lora", code=1).out.strip() == "no"
