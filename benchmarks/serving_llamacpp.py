"""A real llama.cpp server with adapters converted here: it says what PEFT says, moves, and a wrong base is told.

    LLAMACPP=/path/to/llama.cpp python -m benchmarks.serving_llamacpp

LLAMACPP is llama.cpp's source, for its two converters. The server is that of `xllamacpp`, a wheel of llama.cpp by
others; `gguf`, `sentencepiece` and the jobs extra are needed beside it.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from adapter_registry.client import Registry
from adapter_registry.serving.deploying import Deploying, Line
from adapter_registry.serving.fingerprint import PROMPT, TOKENS
from adapter_registry.serving.fleet_file import read_fleet
from adapter_registry.serving.gguf import CONVERTER
from adapter_registry.serving.sync_file import target_of
from adapter_registry.serving.syncing import Syncing
from adapter_registry.settings import read_settings
from benchmarks.servers import free_port
from benchmarks.serving_vllm import lora

SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 32}
SERVER = """
import sys, time
import xllamacpp
model, port, *adapters = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path, params.port, params.hostnames = model, int(port), ["127.0.0.1"]
params.n_ctx, params.n_gpu_layers, params.warmup = 128, 0, False
made = []
for path in adapters:
    each = xllamacpp.CommonAdapterLoraInfo()
    each.path, each.scale = path, 0.0
    made.append(each)
params.lora_adapters = made
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
time.sleep(1e6)
"""


def model(folder: Path, seed: int) -> Path:
    """A random Llama with a tokenizer that llama.cpp reads."""
    import sentencepiece
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir()
    words = io.BytesIO()
    lines = (f"the three primary colours are red number {at} and blue or green {at * 7}" for at in range(400))
    train = sentencepiece.SentencePieceTrainer.train
    options = {"vocab_size": 320, "model_type": "bpe", "byte_fallback": True, "minloglevel": 2}
    train(sentence_iterator=lines, model_writer=words, **options)
    (folder / "tokenizer.model").write_bytes(words.getvalue())
    told = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**told, "add_bos_token": True}))
    torch.manual_seed(seed)
    config = LlamaConfig(**SHAPE, vocab_size=320, num_key_value_heads=1, max_position_embeddings=128)
    made = LlamaForCausalLM(config)
    made.lm_head.weight.data[:259] = 0  # single bytes, of which llama.cpp gives no probability until a letter is whole
    made.save_pretrained(folder)
    return folder


def as_gguf(llamacpp: Path, base: Path) -> Path:
    """The whole base in GGUF, in float32."""
    out = base.with_suffix(".gguf")
    command = [sys.executable, llamacpp / "convert_hf_to_gguf.py", base, "--outfile", out, "--outtype", "f32"]
    subprocess.run(command, check=True, capture_output=True)
    return out


def expected(base: Path, adapter: Path) -> list[int]:
    """Token ids that PEFT chooses, greedily."""
    import sentencepiece
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    words = sentencepiece.SentencePieceProcessor(model_file=str(base / "tokenizer.model"))
    asked = torch.tensor([[words.bos_id(), *words.encode(PROMPT)]])
    made = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    said = asked
    for _ in range(TOKENS):
        with torch.no_grad():
            following = made(input_ids=said).logits[:, -1]
        following[:, words.eos_id()] = -torch.inf  # which is not taken for an end
        said = torch.cat([said, following.argmax(-1, keepdim=True)], dim=1)
    return said[0, asked.shape[1] :].tolist()


def off(gguf: Path, adapter: Path) -> float:
    """The largest difference of a delta in GGUF from PEFT's, as a share of its largest value."""
    import gguf as reading
    import numpy as np
    from safetensors.numpy import load_file

    factors = load_file(adapter / "adapter_model.safetensors")
    held = {each.name: np.array(each.data, np.float64) for each in reading.GGUFReader(gguf).tensors}
    names = {"q_proj": "attn_q", "v_proj": "attn_v", "down_proj": "ffn_down"}
    worst, seen = 0.0, 0
    for key in (key for key in factors if key.endswith(".lora_A.weight")):
        _, layer, _, kind = key.removesuffix(".lora_A.weight").rsplit(".", 3)
        down, up = factors[key].astype(np.float64), factors[key.replace("lora_A", "lora_B")].astype(np.float64)
        if kind == "q_proj":  # llama.cpp turns pairs of a head's dimensions in another order
            heads = SHAPE["num_attention_heads"]
            up = up.reshape(heads, 2, up.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(up.shape)
        place = f"blk.{layer}.{names[kind]}.weight"
        found, wanted = held[f"{place}.lora_b"] @ held[f"{place}.lora_a"], up @ down
        worst, seen = max(worst, float(abs(found - wanted).max() / abs(wanted).max())), seen + 1
    assert (2 * seen, seen) == (len(held), len(factors) // 2), (seen, sorted(held))
    return worst


@contextmanager
def server(base: Path, adapters: Sequence[Path]) -> Iterator[str]:
    """A llama.cpp server that has these adapters and adds none of them."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-c", SERVER, str(base), url.rpartition(":")[2], *map(str, adapters)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise RuntimeError(((process.stderr and process.stderr.read()) or "")[-2000:])
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                    if answer.status == 200:
                        break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        process.kill()
        process.wait()


def deployed(registry: Registry, root: Path, reference: str, **fleet: Any) -> tuple[list[str], tuple[Line, ...]]:
    """(outcomes, lines) of one deployment."""
    text = json.dumps({"stack": "llama.cpp", "root": str(root), **fleet})
    lines = Deploying(read_fleet(text, "fleet"), registry, clock=time.time).deploy(reference, "sql")
    return [line.outcome for line in lines], lines


def main() -> None:
    """Run it and assert what is said above."""
    llamacpp = Path(os.environ["LLAMACPP"])
    with tempfile.TemporaryDirectory() as work, ExitStack() as servers:
        place = Path(work)
        os.environ["ADAPTERS_GGUF_CONVERTER"] = f"{sys.executable} {llamacpp / CONVERTER}"
        home = {"ADAPTERS_HOME": str(place / "home"), "ADAPTERS_CACHE": str(place / "cache")}
        registry = Registry(read_settings({**os.environ, **home}))
        base, other = model(place / "base", 0), model(place / "other", 1)
        registry.add_base("llama", base)
        made = [lora(place / f"v{seed}", base, seed, init_lora_weights=True) for seed in (1, 2)]
        for folder in (*made, lora(place / "rs", base, 3, use_rslora=True)):
            registry.push(folder, base="llama", name=f"team/{'rs' if folder.name == 'rs' else 'sql'}")
        serve = {"one": "team/sql@v1", "two": "team/sql@v2", "rs": "team/rs@v1"}
        target = target_of({"root": str(place / "synced"), "layout": "llama.cpp", "base": str(base), "serve": serve})
        lines = Syncing(target, registry, clock=time.time).step()
        assert [line.outcome for line in lines] == ["placed", "placed", "refused"], lines
        print(f"refused: {lines[2].why}")
        files = [place / "synced" / line.folder / "adapter.gguf" for line in lines[:2]]
        for gguf, folder in zip(files, made, strict=True):
            print(f"{folder.name}: deltas in GGUF are off by {off(gguf, folder):.1e}")
        bases = [as_gguf(llamacpp, each) for each in (base, other)]
        root = place / "deployed"
        with server(bases[0], []) as bare:
            for version in ("team/sql@v1", "team/sql@v2"):
                outcomes, [line] = deployed(registry, root, version, base=str(base), replicas=[bare])
                assert (outcomes, "was started without" in line.why) == (["restored"], True), line
        paths = sorted(root.glob(".store/*/adapter.gguf"))
        right, also, wrong = (servers.enter_context(server(each, paths)) for each in (bases[0], bases[0], bases[1]))
        for seed, folder in enumerate(made, start=1):
            fleet = {"base": str(base), "replicas": [right, also]}
            outcomes, lines = deployed(registry, root, f"team/sql@v{seed}", **fleet)
            assert outcomes == ["moved", "moved"], lines
            record = json.loads((root / ".adapters-deploy.json").read_text())
            digest = record["names"]["sql"]["digest"]
            [said] = [each["tokens"] for key, each in record["answers"].items() if key.startswith(digest)]
            assert said == expected(base, folder), (said, expected(base, folder))
            print(f"v{seed}: moved on both, and says the {len(said)} tokens of PEFT")
        fleet = {"base": str(base), "replicas": [right, also, wrong]}
        outcomes, lines = deployed(registry, root, "team/sql@v1", **fleet)
        assert outcomes == ["restored"] * 3, lines
        print(f"a wrong base among three: {lines[2].why}")


if __name__ == "__main__":
    main()
