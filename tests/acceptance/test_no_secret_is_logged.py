"""Whatever is asked, right or wrong, no secret comes out: in the log, the output, the counts, the spans, an answer."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from huggingface_hub import HfApi

from tests import servers
from tests.adapter_builders import changed_config, copied
from tests.otlp_receiver import receiver
from tests.server_process import Server, serving
from tests.warm_command import adapters

pytestmark = pytest.mark.xdist_group("no-secret")
DATABASE_PASSWORD = "canary-database/p@ss"
PASSWORD = "canary-of-a-person 123"


class Canaries:
    """Secrets, in every form they may come out in."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def add(self, name: str, secret: str) -> str:
        raw = secret.encode()
        for form in (secret, quote(secret, safe=""), base64.b64encode(raw).decode(), repr(secret)[1:-1]):
            self._known[form] = name
        return secret

    def found_in(self, text: str) -> set[str]:
        return {name for form, name in self._known.items() if form in text}


@pytest.fixture(scope="module")
def database():
    with servers.postgres_process(password=DATABASE_PASSWORD) as running:
        yield running


def test_nothing_secret_is_told_while_people_and_programs_work(
    database, s3_server, tmp_path, lora_folder, llama_folder
):
    canaries = Canaries()
    canaries.add("database password", DATABASE_PASSWORD)
    canaries.add("bucket key", s3_server.secret_key)
    answers: list[str] = []
    with receiver() as spans:
        settings = {
            "ADAPTERS_DATABASE_URL": database.url(password=DATABASE_PASSWORD),
            "ADAPTERS_BLOBS_URL": f"s3://{s3_server.fresh_bucket()}/x",
            "AWS_ENDPOINT_URL_S3": s3_server.endpoint,
            "AWS_ACCESS_KEY_ID": s3_server.access_key,
            "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
            "ADAPTERS_LOG_REQUESTS": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": spans.url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={canaries.add('collector header', 'canary-otlp-header')}",
        }
        with serving(tmp_path, settings, "--workers", "2") as server:
            canaries.add("first token", server.token)
            answers += people_work(server, canaries)
            answers += programs_push(server, canaries, tmp_path, lora_folder, llama_folder)
            answers += the_database_is_down(server, database)
            metrics = server.ask("GET", "/metrics")[1].decode()
            printed = server.process
        rest = printed.stdout.read() if not printed.stdout.closed else ""
    sent = spans.text()
    assert "/api/v1/sign-in" in metrics
    assert "POST /api/v1/sign-in" in sent
    log = server.log.read_text()
    assert log.count("\n") > 20
    for name, text in {"log": log, "metrics": metrics, "spans": sent, "output": rest}.items():
        assert canaries.found_in(text) == set(), name
    for text in answers:
        assert canaries.found_in(text) == set(), text


def people_work(server: Server, canaries: Canaries) -> list[str]:
    """Answers that should hold no secret; those that are to hold one are looked at and left out."""
    canaries.add("a person's password", PASSWORD)
    account = {"name": "paula", "password": PASSWORD}
    told = [server.ask("POST", "/api/v1/accounts", json.dumps(account).encode())[1]]
    signed_in = json.loads(server.ask("POST", "/api/v1/sign-in", json.dumps(account).encode())[1])
    canaries.add("a sign-in's token", signed_in["secret"])
    made = json.loads(server.ask("POST", "/api/v1/tokens", b"{}", token=signed_in["secret"])[1])
    canaries.add("a token", made["secret"])
    wrong = canaries.add("a wrong password", "canary-wrong-password")
    told.append(server.ask("POST", "/api/v1/sign-in", json.dumps({**account, "password": wrong}).encode())[1])
    for misplaced in ({"passwort": wrong}, {"name": ["x"], "password": wrong}, {"name": "paula", "password": [wrong]}):
        told.append(server.ask("POST", "/api/v1/sign-in", json.dumps(misplaced).encode())[1])
        told.append(server.ask("POST", "/api/v1/accounts", json.dumps(misplaced).encode())[1])
    told.append(server.ask("POST", "/api/v1/accounts", f'{{"password": "{wrong}"'.encode())[1])
    stale = canaries.add("a wrong token", "adapters_canary-token-of-nobody")
    for path in ("/api/v1/whoami", "/api/whoami-v2", "/metrics", "/api/v1/nothing", "/api/models/a/b"):
        told.append(server.ask("GET", path, token=stale)[1])
    # A program that puts its token where it does not belong; what is in a path is an address, and is told.
    told.append(server.ask("GET", f"/api/v1/whoami?token={stale}&access_token={stale}")[1])
    told.append(server.ask("DELETE", f"/api/v1/tokens/{made['secret']}")[1])
    told.append(server.ask("GET", "/api/v1/tokens")[1])
    told.append(server.ask("GET", "/api/v1/events")[1])
    return [each.decode() for each in told]


def programs_push(
    server: Server, canaries: Canaries, tmp_path: Path, lora_folder: Path, llama_folder: Path
) -> list[str]:
    """A push by Xet, one by LFS with its signed address, and a download by a presigned one."""
    from adapter_registry.client import Registry
    from adapter_registry.settings import read_settings

    url = f"http://{server.host}"
    home = {"ADAPTERS_HOME": f"{tmp_path}/mine", "ADAPTERS_CACHE": f"{tmp_path}/mine/cache"}
    registry = Registry(read_settings({**home, "ADAPTERS_URL": url, "ADAPTERS_TOKEN": server.token}))
    registry.add_base("org/llama", llama_folder)
    pushable = copied(lora_folder, tmp_path / "pushable")
    changed_config(pushable, base_model_name_or_path="org/llama")
    api = HfApi(endpoint=url, token=server.token)
    api.create_repo("team/sql-lora")
    api.upload_folder(repo_id="team/sql-lora", folder_path=pushable)

    told = []
    permit = json.loads(server.ask("GET", "/api/models/team/sql-lora/xet-write-token/main")[1])
    canaries.add("a xet permission", permit["accessToken"])
    told.append(
        server.ask("POST", urlsplit(permit["casUrl"]).path + "/v1/shards", b"x", token=permit["accessToken"])[1]
    )
    data = os.urandom(1000)
    oid = hashlib.sha256(data).hexdigest()
    batch = {"operation": "upload", "objects": [{"oid": oid, "size": len(data)}]}
    lfs = json.loads(server.ask("POST", "/team/sql-lora.git/info/lfs/objects/batch", json.dumps(batch).encode())[1])
    href = lfs["objects"][0]["actions"]["upload"]["href"]
    canaries.add("an LFS permission", href.rpartition("/")[2])
    if href.startswith(url):
        told.append(server.ask("PUT", urlsplit(href).path, b"something else")[1])
        told.append(server.ask("PUT", urlsplit(href).path, data)[1])
        told.append(server.ask("PUT", urlsplit(href).path[:-3], data)[1])
    status, _, headers = server.ask("GET", "/team/sql-lora/resolve/main/adapter_model.safetensors")
    assert status == 302
    location = headers["location"]
    signature = next(part for part in urlsplit(location).query.split("&") if "Signature=" in part)
    canaries.add("a presigned address", signature.partition("=")[2])
    with urllib.request.urlopen(location) as answer:
        assert answer.read() == (lora_folder / "adapter_model.safetensors").read_bytes()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(location[:-1] + ("0" if location[-1] != "0" else "1"))
    refused.value.close()
    return [each.decode("utf-8", "replace") for each in told]


def the_database_is_down(server: Server, database: servers.PostgresProcess) -> list[str]:
    database.stop()
    try:
        told = [server.ask("GET", path)[1].decode() for path in ("/ready", "/api/v1/adapters", "/api/models/a/b")]
    finally:
        database.start()
    assert server.comes_back("/api/v1/adapters")
    return told


SECRET = "canary-secret"


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["ls"], ["admin", "migrate"], ["admin", "backup", "x"]])
@pytest.mark.parametrize(
    "settings",
    [
        {"ADAPTERS_DATABASE_URL": f"postgresql://u:{SECRET}@127.0.0.1:1/x"},
        {"ADAPTERS_DATABASE_URL": f"postgresql://u:{SECRET}@127.0.0.1:port/x"},
        {"ADAPTERS_DATABASE_URL": f"postgresql://u:a/{SECRET}@127.0.0.1:1/x"},
        {"ADAPTERS_DATABASE_URL": f"postgresql://u:a@{SECRET}@127.0.0.1:1/x"},
        {"ADAPTERS_DATABASE_URL": f"mysql://u:{SECRET}@127.0.0.1:1/x"},
        {"ADAPTERS_DATABASE_URL": f"u:{SECRET}@127.0.0.1"},
        {"ADAPTERS_DATABASE_URL": f"postgresql://127.0.0.1:1/x?user=u&password={SECRET}"},
        {"ADAPTERS_DATABASE_URL": f"postgresql://127.0.0.1:1/x?passwort={SECRET}"},
        {"ADAPTERS_BLOBS_URL": f"s3://key:{SECRET}@bucket/x"},
        {"ADAPTERS_BLOBS_URL": f"s3://bucket/x?secret={SECRET}"},
        {"ADAPTERS_BLOBS_URL": f"https://key:{SECRET}@bucket/x"},
        {"ADAPTERS_BLOBS_URL": "s3://bucket", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL_S3": "nonsense"},
    ],
    ids=lambda settings: next(iter(settings.values())).replace(SECRET, "...")[:40],
)
def test_settings_that_are_wrong_are_refused_without_their_secrets(settings, command, tmp_path):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ADAPTERS_", "AWS_"))}
    environment = {**kept, "ADAPTERS_HOME": f"{tmp_path}/home", "TMPDIR": str(tmp_path), **settings}
    done = adapters(command, environment=environment, cwd=tmp_path)
    assert done.returncode != 0 or "ADAPTERS_BLOBS_URL" in settings
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "defect" not in done.stderr
    for trace in tmp_path.glob("adapters-*.txt"):
        assert SECRET not in trace.read_text()


def test_credentials_that_the_bucket_refuses_are_not_told(s3_server, tmp_path):
    canaries = Canaries()
    settings = {
        "ADAPTERS_BLOBS_URL": f"s3://{s3_server.fresh_bucket()}/x",
        "AWS_ENDPOINT_URL_S3": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": canaries.add("wrong key", "canary-of-a-wrong-secret-key"),
        "ADAPTERS_LOG_REQUESTS": "1",
    }
    environment = {"ADAPTERS_HOME": f"{tmp_path}/home", "ADAPTERS_CACHE": f"{tmp_path}/cache", **settings}
    serve = [Path(sys.executable).with_name("adapters"), "serve", "--port", "0"]
    done = subprocess.run(
        serve, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "bucket" in done.stderr
    assert "Traceback" not in done.stderr
    assert canaries.found_in(done.stdout + done.stderr) == set()


def test_settings_are_shown_without_their_secrets():
    from adapter_registry.settings import read_settings

    url = f"postgresql://u:{SECRET}@db.example.org/adapters"
    settings = read_settings({"ADAPTERS_DATABASE_URL": url, "ADAPTERS_TOKEN": SECRET})
    assert SECRET not in repr(settings) + settings.store
    assert settings.store == "PostgreSQL adapters at db.example.org"
