"""A real vLLM server with both plugins, a registry that can be stopped, and tiny random models with their adapters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.servers import BIN, free_port

KEY = "sk-of-the-benchmark"
BLOCK = 32
"""Tokens of a prompt that vLLM's prefix cache keeps at a time."""
PROMPTS = ([3, 17, 42, 8], [101, 5, 77], [(7 * place) % 251 for place in range(2 * BLOCK)])
TOKENS = 12
START_SECONDS = 1_800
SLOTS, KEPT = 4, 8
"""--max-loras and --max-cpu-loras: adapters in a batch, and in memory."""
FOLLOWED = "sql=team/sql@prod,also=team/sql@prod"
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


@dataclass(frozen=True)
class Vllm:
    """A running server."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

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

    def end(self, signalled: int = signal.SIGTERM) -> None:
        """End it and the processes that it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signalled)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

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


def expected(base: Path, adapter: Path | None, prompts: Sequence[Sequence[int]] = PROMPTS) -> list[list[int]]:
    """What PEFT and transformers say to each prompt; prompts of one length are asked at once."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    made = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        made = PeftModel.from_pretrained(made, adapter)
    said: dict[int, list[list[int]]] = {}
    for length in {len(prompt) for prompt in prompts}:
        ids = torch.tensor([prompt for prompt in prompts if len(prompt) == length])
        for _ in range(TOKENS):
            with torch.no_grad():
                following = made(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, following], dim=1)
        said[length] = ids[:, length:].tolist()[::-1]
    return [said[len(prompt)].pop() for prompt in prompts]


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


def begun(python: str, base: Path, work: Path, registry: RegistryServer, token: str, *more: str) -> Vllm:
    """A vLLM server on `base` with both plugins that has been told to start."""
    port, log = free_port(), work / "vllm.log"
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VLLM_PYTHON")},
        "ADAPTERS_URL": registry.url,
        "ADAPTERS_TOKEN": token,
        "ADAPTERS_HOME": str(work / "vllm-home"),
        "ADAPTERS_CACHE": str(work / "vllm-cache"),
        "ADAPTERS_FOLLOW": FOLLOWED,
        "VLLM_PLUGINS": "adapters_resolver,adapters_follower",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    flags = f"--enable-lora --max-lora-rank 16 --max-loras {SLOTS} --max-cpu-loras {KEPT} --block-size {BLOCK}"
    flags += " --enforce-eager --dtype float32 --max-model-len 96 --host 127.0.0.1 --served-model-name base"
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(base), "--port", str(port)]
    command += [*flags.split(), "--api-key", KEY, *more]
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
    return Vllm(f"http://127.0.0.1:{port}", log, process)


@contextmanager
def vllm(python: str, base: Path, work: Path, registry: RegistryServer, token: str) -> Iterator[Vllm]:
    """The same, once it answers; its end is ours."""
    server = begun(python, base, work, registry, token)
    process = server.process
    try:
        taken = until(lambda: process.poll() is not None or answers(f"{server.url}/health"), START_SECONDS)
        if process.poll() is not None:
            sys.exit(f"vLLM did not start:\n{server.log.read_text()[-4000:]}")
        print(f"vLLM started in {taken:.0f} s", flush=True)
        yield server
    except BaseException:
        print(server.log.read_text()[-6000:], file=sys.stderr)
        raise
    finally:
        server.end()
