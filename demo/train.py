"""Train the demo's adapters with PEFT, on the CPU, in float32.

Two workers run at the same time: `scribe` learns the prose of the language reference and is saved twice, a quarter of
the way and at the end; `coder` learns source code. Each finished folder stays, so that an interrupted run resumes.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from demo.console import say
from demo.material import Text, texts
from demo.places import BASE_SHA256, base_folder, placing, root, threads
from demo.together import report, run

BASE_NAME = "SmolLM2-135M-Instruct, converted from Q4_1"
PROBE = 'In Python, the "with" statement'
"""The trained model's logits on this text are kept, to hold the pulled adapter against."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what a training gives, but for the base and the text."""

    rank: int = 8
    alpha: int = 16
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    steps: int = 40
    early: int = 10
    batch: int = 4
    tokens: int = 64
    rate: float = 3e-3
    warm_up: int = 5
    seed: int = 0


RECIPE = Recipe()
LEARNS = {"scribe": "prose", "coder": "source"}
SAVED = {"scribe": (RECIPE.early, RECIPE.steps), "coder": (RECIPE.steps,)}
"""Adapter -> after how many steps it is saved."""


def folder_of(adapter: str, text: Text, *, steps: int) -> Path:
    """Where an adapter is, trained or not yet: keyed by all that decides its bytes."""
    libraries = {name: version(name) for name in ("torch", "transformers", "peft")}
    key = {"recipe": asdict(RECIPE), "base": BASE_SHA256, "text": text.digest, "libraries": libraries}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return root() / "adapters" / f"{adapter}-{digest[:12]}" / f"step-{steps}"


def probe_of(folder: Path) -> Path:
    """The trained model's logits on PROBE: float32, (tokens, vocabulary)."""
    return folder.with_name(f"{folder.name}-probe.npy")


def trained() -> dict[str, Path]:
    """Version as the demo pushes them -> folder: v1 scribe stopped early, v2 scribe, v3 coder."""
    kept = texts()
    prose, source = kept["prose"], kept["source"]
    return {
        "v1": folder_of("scribe", prose, steps=RECIPE.early),
        "v2": folder_of("scribe", prose, steps=RECIPE.steps),
        "v3": folder_of("coder", source, steps=RECIPE.steps),
    }


def train() -> None:
    """Train what is not there yet, all at the same time."""
    kept = texts()
    missing = [a for a, text in LEARNS.items() if not _is_trained(a, kept[text])]
    if missing:
        run("demo.train", {adapter: [adapter] for adapter in missing}, doing="training")
    for name, folder in trained().items():
        say(f"{name}: {folder}", "dim")


def _is_trained(adapter: str, text: Text) -> bool:
    folders = [folder_of(adapter, text, steps=steps) for steps in SAVED[adapter]]
    return all(folder.is_dir() for folder in folders)


def work(adapter: str) -> None:
    """Train one adapter in this process, and save it at its steps."""
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(threads(workers=len(LEARNS)))
    torch.manual_seed(RECIPE.seed)
    text = texts()[LEARNS[adapter]]
    tokenizer = AutoTokenizer.from_pretrained(base_folder())
    model = _fresh_model()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RECIPE.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _pace)
    for step, batch in enumerate(_batches(text, tokenizer), start=1):
        model.train()
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        report(step, RECIPE.steps, f"loss {loss.item():.2f}")
        if step in SAVED[adapter]:
            _save(model, tokenizer, folder_of(adapter, text, steps=step), card=_card(adapter, text, step))


def _fresh_model() -> Any:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(base_folder(), dtype=torch.float32)
    base.name_or_path = BASE_NAME
    config = LoraConfig(
        r=RECIPE.rank, lora_alpha=RECIPE.alpha, target_modules=list(RECIPE.targets), task_type="CAUSAL_LM"
    )
    return get_peft_model(base, config)


def _pace(step: int) -> float:
    """Learning rate at a step, as a part of the full rate: up over the first steps, then down to a tenth."""
    return min(1.0, (step + 1) / RECIPE.warm_up) * (1 - 0.9 * step / RECIPE.steps)


def _batches(text: Text, tokenizer: Any) -> Iterator[Any]:
    """`steps` batches of (batch, tokens); samples that are too short are left out, the rest drawn in random order."""
    import torch

    cut = [tokenizer(sample)["input_ids"][: RECIPE.tokens] for sample in text.train]
    samples = [ids for ids in cut if len(ids) == RECIPE.tokens]
    random.Random(RECIPE.seed).shuffle(samples)
    for step in range(RECIPE.steps):
        start = step * RECIPE.batch
        yield torch.tensor([samples[i % len(samples)] for i in range(start, start + RECIPE.batch)])


def _save(model: Any, tokenizer: Any, folder: Path, *, card: str) -> None:
    """Write a PEFT folder with a card, and the logits to hold it against; the folder comes last and complete."""
    import numpy as np

    folder.parent.mkdir(parents=True, exist_ok=True)
    np.save(probe_of(folder), logits(model, tokenizer))
    with placing(folder) as aside:
        model.save_pretrained(aside)
        (aside / "README.md").write_text(card, encoding="utf-8")


def logits(model: Any, tokenizer: Any) -> Any:
    """Logits of PROBE, (tokens, vocabulary), by one thread: how many threads share a sum changes its last bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    model.eval()
    with torch.inference_mode():
        found = model(**tokenizer(PROBE, return_tensors="pt")).logits[0].numpy()
    torch.set_num_threads(before)
    return found


def _card(adapter: str, text: Text, steps: int) -> str:
    learnt = {"prose": "the prose of Python's language reference", "source": "functions of Python's standard library"}
    return f"""---
base_model: {BASE_NAME}
library_name: peft
license: apache-2.0
pipeline_tag: text-generation
---

# {adapter}, after {steps} of {RECIPE.steps} steps

A LoRA adapter that learnt {learnt[text.name]} as Python {sys.version_info.major}.{sys.version_info.minor} carries it.

- base: {BASE_NAME}; model.safetensors has sha256 `{BASE_SHA256}`
- text: {len(text.train)} samples, sha256 `{text.digest}`; {len(text.held_out)} more were held out
- training: {steps} steps of {RECIPE.batch} x {RECIPE.tokens} tokens, AdamW, rate {RECIPE.rate:g}, seed {RECIPE.seed}
- made to show a registry at work; of no other use
"""


if __name__ == "__main__":
    work(sys.argv[1]) if len(sys.argv) > 1 else train()
