"""The mean negative log-likelihood of a text's tokens under a model; runs in a job's child process, with torch."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.job import Progress
from adapter_registry.jobs.kind import Report
from adapter_registry.tensors.devices import device_of

VERSIONS = ("adapter-registry", "torch", "transformers", "peft")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
UNBOUNDED = 1 << 30
"""Above it, what a tokenizer says of the longest text is its way to say nothing."""


def measured(base: Path, adapter: Path | None, data: Path, options: dict[str, Any], report: Report) -> dict[str, Any]:
    """Loss and perplexity of a base with an adapter on it, in float32.

    Each document is cut into windows of `max_length` tokens, and in each window all tokens but the first are predicted.
    The loss is the mean over all predicted tokens. Its standard error takes windows as the samples, since tokens of one
    window depend on each other (ratio estimator, Cochran, Sampling Techniques, 3rd ed., chapter 6).

    Args:
        base: folder of the checkpoint.
        adapter: folder of the adapter; None measures the base alone.
        data: the text.
        options: see `evaluate.DEFAULTS`.
        report: told how far it is.

    Raises:
        InvalidInput: no tokenizer, no tokens to predict, or a file that is not what its format says.
        Unsupported: there is no such device.
    """
    report(Progress(0.0, "loading"))
    device = options["device"]
    model, tokenizer, identity = loaded(base, adapter, device)
    longest = min(
        options["max_length"],
        getattr(model.config, "max_position_embeddings", None) or UNBOUNDED,
        tokenizer.model_max_length or UNBOUNDED,
    )
    documents = list(_documents(data, options))
    windows = [window for text in documents for window in _windows(tokenizer(text)["input_ids"], longest)]
    if not windows:
        raise InvalidInput("the text holds no two tokens in a row, so there is nothing to predict.")
    sums = _sums(model, windows, options["batch"], report)
    return {
        **_summary(sums),
        "documents": len(documents),
        "max_length": longest,
        "tokenizer": identity,
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }


def loaded(base: Path, adapter: Path | None, device: str) -> tuple[Any, Any, str]:
    """(model in float32 on the device, tokenizer, what tells tokenizers apart) of a base with an adapter on it.

    Raises:
        InvalidInput: no tokenizer.
        Unsupported: there is no such device.
    """
    device_of(device)
    tokenizer = _tokenizer(base, adapter)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    return model.to(device).eval(), tokenizer, _identity(tokenizer)


def _tokenizer(base: Path, adapter: Path | None) -> Any:
    """The adapter's own where it has one, else the base's."""
    folders = [folder for folder in (adapter, base) if folder is not None]
    found = [folder for folder in folders if any((folder / name).exists() for name in TOKENIZER_FILES)]
    if not found:
        raise InvalidInput("neither the base nor the adapter has a tokenizer, so no text can be measured.")
    return AutoTokenizer.from_pretrained(found[0], local_files_only=True)


def _documents(data: Path, options: dict[str, Any]) -> Iterator[str]:
    try:
        text = data.read_text(encoding="utf-8")
        if options["format"] == "text":
            yield text
            return
        for line in filter(str.strip, text.splitlines()):
            value = json.loads(line)[options["field"]]
            if not isinstance(value, str):
                raise TypeError(f"{options['field']} is a {type(value).__name__}")
            yield value
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"the data is not {options['format']} with {options['field']!r}: {error}.") from error


def _windows(tokens: Sequence[int], longest: int) -> Iterator[Sequence[int]]:
    """Pieces of at most `longest` tokens; a piece begins with the last token before, so that each one is predicted."""
    for start in range(0, len(tokens) - 1, longest - 1):
        yield tokens[start : start + longest]


def _sums(model: Any, windows: Sequence[Sequence[int]], batch: int, report: Report) -> list[tuple[float, int]]:
    """(sum of the negative log-likelihoods in nats, tokens predicted) of each window."""
    found: list[tuple[float, int]] = []
    began, done = time.monotonic(), 0
    for start in range(0, len(windows), batch):
        some = windows[start : start + batch]
        with torch.inference_mode():
            found += _batch(model, some)
        done += sum(len(window) - 1 for window in some)
        rate = done / max(time.monotonic() - began, 1e-9)
        report(Progress(min(1.0, (start + len(some)) / len(windows)), f"{done:,} tokens", rate, "tokens"))
    return found


def _batch(model: Any, windows: Sequence[Sequence[int]]) -> list[tuple[float, int]]:
    length = max(map(len, windows))
    ids = torch.zeros(len(windows), length, dtype=torch.long, device=model.device)
    mask = torch.zeros_like(ids)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = torch.tensor(window)
        mask[row, : len(window)] = 1
    # Virtual tokens of prompt methods stand before the text's.
    logits = model(input_ids=ids, attention_mask=mask).logits[:, -length:-1].float()
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    sums = (losses * mask[:, 1:]).double().sum(1).tolist()
    return [(total, len(window) - 1) for total, window in zip(sums, windows, strict=True)]


def _summary(sums: Sequence[tuple[float, int]]) -> dict[str, Any]:
    tokens, count = sum(n for _, n in sums), len(sums)
    loss = math.fsum(total for total, _ in sums) / tokens
    stderr = None
    if count > 1 and math.isfinite(loss):
        spread = math.fsum((total - loss * n) ** 2 for total, n in sums)
        stderr = math.sqrt(spread * count / (count - 1)) / tokens
    perplexity = math.exp(loss) if loss < 700 else math.inf
    return {
        "loss": loss,
        "loss_stderr": stderr,
        "perplexity": perplexity,
        "perplexity_stderr": None if stderr is None or math.isinf(perplexity) else perplexity * stderr,
        "tokens": tokens,
        "windows": count,
    }


def _identity(tokenizer: Any) -> str:
    """Equal for tokenizers that cut texts alike, as far as their tables say."""
    table = json.dumps([sorted(tokenizer.get_vocab().items()), type(tokenizer).__name__], ensure_ascii=False)
    return f"sha256:{hashlib.sha256(table.encode()).hexdigest()}"
