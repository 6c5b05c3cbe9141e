"""`hf download` of an 80 MB adapter from `adapters serve` (SQLite, a folder, one process) and from nginx.

nginx serves the same files and the same answers as static files, with sendfile, one process and no access log. Rounds
take turns, each with a fresh HF_HOME; a whole `hf` process is timed. Beside it: a plain GET of the weights, and the CPU
that each server takes per GB of it.

Promised: at most 1.15 times as long as from nginx; at most 1.0 CPU second of the server per GB of GET.

    python -m benchmarks.download [--rounds 9] [--nginx /usr/sbin/nginx]
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapter_registry.client import Registry
from adapter_registry.settings import read_settings
from benchmarks.servers import BIN, Served, adapters_serve, answering, cpu_seconds, found, free_port, load
from benchmarks.shapes import all_linear_lora, llama_base

PROMISED, PROMISED_CPU = 1.15, 1.0
LAYERS, HIDDEN, RANK = 16, 2048, 32
NAME, WEIGHTS = "bench/x", "adapter_model.safetensors"
BLOCK = 1 << 20
ALONE = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
"""The client neither draws nor asks other servers for newer versions of itself."""
GETS = 5
"""Downloads of the weights between two readings of the CPU clock, which ticks a hundred times a second."""
HOW = (
    "Install it (Debian: `apt-get install nginx-light`), or unpack it without installing: `apt-get download nginx && "
    "dpkg -x nginx_*.deb nginx`, and give --nginx nginx/usr/sbin/nginx."
)

CONFIG = """
daemon off; master_process off; worker_processes 1; pid {work}/pid; error_log {work}/error.log;
events {{ worker_connections 256; }}
http {{
  sendfile on; tcp_nopush on; access_log off; etag off; default_type application/octet-stream;
  client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/fastcgi;
  uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
  server {{
    listen 127.0.0.1:{port}; root {work}/tree;
    location /api/ {{ default_type application/json; try_files $uri.json =404; }}
{files}
  }}
}}
"""
FILE = """
    location ~ ^/{name}/resolve/[^/]+/{path}$ {{
      alias {work}/files/{path}; add_header X-Repo-Commit {commit}; add_header ETag '"{etag}"';
      add_header Content-Disposition "attachment; filename*=UTF-8''{path}";
{large}    }}"""


def asked(url: str, path: str, token: str, method: str = "GET") -> http.client.HTTPResponse:
    """An answer of our server; raises HTTPError when it is not a good one."""
    request = urllib.request.Request(f"{url}{path}", method=method, headers={"Authorization": f"Bearer {token}"})
    return urllib.request.urlopen(request, timeout=60)


@contextmanager
def nginx(program: str, work: Path, ours: Served) -> Iterator[Served]:
    """nginx with the files and answers of our server; what it says of a file is what ours says of it."""
    tree, files = work / "tree" / "api" / "models" / NAME, work / "files"
    for folder in (tree / "revision", tree / "tree", files):
        folder.mkdir(parents=True)
    info = asked(ours.url, f"/api/models/{NAME}/revision/main", ours.token).read()
    document = json.loads(info)
    (tree.parent / f"{tree.name}.json").write_bytes(info)
    for revision in ("main", document["sha"]):
        (tree / "revision" / f"{revision}.json").write_bytes(info)
        listing = asked(ours.url, f"/api/models/{NAME}/tree/{revision}?recursive=true", ours.token).read()
        (tree / "tree" / f"{revision}.json").write_bytes(listing)
    places = []
    for path in (sibling["rfilename"] for sibling in document["siblings"]):
        with asked(ours.url, f"/{NAME}/resolve/main/{path}", ours.token) as answer, (files / path).open("wb") as file:
            shutil.copyfileobj(answer, file)
            told = answer.headers
        linked = [name for name in ("X-Linked-Etag", "X-Linked-Size") if told[name]]
        large = "".join(f"      add_header {name} '{told[name]}';\n" for name in linked)
        etag, commit = told["ETag"].strip('"'), told["X-Repo-Commit"]
        places.append(FILE.format(name=NAME, path=path, work=work, commit=commit, etag=etag, large=large))
    port = free_port()
    (work / "nginx.conf").write_text(CONFIG.format(work=work, port=port, files="".join(places)))
    command = [program, "-p", str(work), "-c", str(work / "nginx.conf")]
    with answering(command, f"http://127.0.0.1:{port}", log=work / "nginx.log") as server:
        yield server


def downloaded(server: Served, work: Path) -> float:
    """Seconds of one `hf download` into an empty HF_HOME; what arrived is looked at afterwards."""
    home = Path(tempfile.mkdtemp(dir=work))
    names = ("HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_HUB_ENABLE_HF_TRANSFER")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    environment = {
        **kept,
        "HF_HOME": str(home),
        "HF_ENDPOINT": server.url,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    }
    if server.token:
        environment["HF_TOKEN"] = server.token
    started = time.perf_counter()
    done = subprocess.run([BIN / "hf", "download", NAME], env=environment, capture_output=True, text=True, check=False)
    took = time.perf_counter() - started
    assert done.returncode == 0, done.stderr
    arrived = next((home / "hub").glob(f"models--*/snapshots/*/{WEIGHTS}"))
    with arrived.open("rb") as stream, (work / "lora" / WEIGHTS).open("rb") as sent:
        assert hashlib.file_digest(stream, "sha256").digest() == hashlib.file_digest(sent, "sha256").digest()
    shutil.rmtree(home)
    return took


def got(server: Served) -> tuple[float, float]:
    """(seconds of one plain GET of the weights, CPU seconds of the server per GB), means of GETS."""
    before, started, size = cpu_seconds(server.pid), time.perf_counter(), 0
    headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}
    buffer = memoryview(bytearray(BLOCK))
    for _ in range(GETS):
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=120)
        connection.request("GET", f"/{NAME}/resolve/main/{WEIGHTS}", headers=headers)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        while read := response.readinto(buffer):
            size += read
        connection.close()
    return (time.perf_counter() - started) / GETS, (cpu_seconds(server.pid) - before) / (size / 1e9)


def compare(ours: Served, peer: Served, work: Path, rounds: int) -> None:
    """Print the medians of rounds that take turns."""
    hub: dict[str, list[float]] = {"ours": [], "nginx": []}
    plain: dict[str, list[tuple[float, float]]] = {"ours": [], "nginx": []}
    for i in range(rounds + 1):
        # The first round warms the page cache and each server; who begins alternates.
        for name, server in [("ours", ours), ("nginx", peer)][:: 1 if i % 2 else -1]:
            took = downloaded(server, work)
            got_in = got(server)
            if i:
                hub[name].append(took)
                plain[name].append(got_in)
    told = {name: statistics.median(each) for name, each in hub.items()}
    pairs = statistics.median(a / b for a, b in zip(hub["ours"], hub["nginx"], strict=True))
    took = {name: statistics.median(each[0] for each in given) for name, given in plain.items()}
    cpu = {name: statistics.median(each[1] for each in given) for name, given in plain.items()}
    print(
        f"hf download: ours {told['ours']:.2f} s, nginx {told['nginx']:.2f} s: "
        f"{told['ours'] / told['nginx']:.2f}x, median of the pairs {pairs:.2f}x (promised {PROMISED}x)"
    )
    ratio = took["ours"] / took["nginx"]
    print(f"plain GET of the weights: ours {took['ours']:.3f} s, nginx {took['nginx']:.3f} s: {ratio:.2f}x")
    print(f"server CPU per GB of it: ours {cpu['ours']:.2f} s (promised {PROMISED_CPU}), nginx {cpu['nginx']:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--nginx", default="nginx", help="the program; found on PATH")
    options = parser.parse_args()
    program = found(options.nginx, HOW)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        work = Path(folder).resolve()
        lora = all_linear_lora(work / "lora", layers=LAYERS, hidden=HIDDEN, rank=RANK)
        (work / "nginx").mkdir()
        with adapters_serve(work, None, "--workers", "1") as ours:
            environment = {"ADAPTERS_HOME": str(work / "client"), "ADAPTERS_CACHE": str(work / "client-cache")}
            settings = read_settings({**environment, "ADAPTERS_URL": ours.url, "ADAPTERS_TOKEN": ours.token})
            registry = Registry(settings)
            registry.add_base("b", llama_base(work / "base", layers=LAYERS, hidden=HIDDEN))
            registry.push(lora, base="b", name=NAME)
            print(f"{(lora / WEIGHTS).stat().st_size / 1e6:.0f} MB, {options.rounds} rounds of each, {load()}")
            with nginx(program, work / "nginx", ours) as peer:
                compare(ours, peer, work, options.rounds)


if __name__ == "__main__":
    main()
