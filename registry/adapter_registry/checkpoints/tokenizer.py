"""One digest of a tokenizer's vocabulary, independent of formatting and of what does not change token ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from adapter_registry.domain.digest import Digest, of_json

READ_ORDER = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt")
"""The first of these that a checkpoint has decides; `merges.txt` is read with `vocab.json`."""

Read = Callable[[str], bytes | None]


def tokenizer_digest(read: Read) -> Digest | None:
    """The digest of the vocabulary that a checkpoint's files describe; None without one.

    `tokenizer.json` counts by its model (vocabulary, merges), added tokens, normaliser, pre-tokeniser and decoder, so
    writing it anew with another version of the library changes nothing. Padding, truncation, post-processing and the
    chat template are settings of a use, not of the vocabulary.

    Args:
        read: the bytes of a file of the checkpoint, None when it has no such file.
    """
    for name in READ_ORDER:
        data = read(name)
        if data is None:
            continue
        if name == "tokenizer.json":
            digest = _of_tokenizer_json(data)
            if digest is None:
                continue
            return digest
        parts = {name: hashlib.sha256(data).hexdigest()}
        merges = read("merges.txt") if name == "vocab.json" else None
        if merges is not None:
            parts["merges.txt"] = hashlib.sha256(merges).hexdigest()
        return of_json({"format": "adapters.tokenizer/1", "files": parts})
    return None


def _of_tokenizer_json(data: bytes) -> Digest | None:
    try:
        document = json.loads(data)
        model = document["model"]
        vocabulary = _hash(_vocabulary(model["vocab"]))
        merges = _hash([" ".join(m) if isinstance(m, list) else m for m in model.get("merges") or []])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    added = [[t.get("id"), t.get("content")] for t in document.get("added_tokens") or [] if isinstance(t, dict)]
    parts = {
        "model": model.get("type"),
        "vocab": vocabulary,
        "merges": merges,
        "added": sorted(added, key=str),
        "normalizer": document.get("normalizer"),
        "pre_tokenizer": document.get("pre_tokenizer"),
        "decoder": document.get("decoder"),
    }
    return of_json({"format": "adapters.tokenizer/1", "parts": parts})


def _vocabulary(vocab: Any) -> list[Any]:
    """Pairs in the order of ids: a mapping of text to id, or a list of (text, score)."""
    if isinstance(vocab, dict):
        return sorted(vocab.items(), key=lambda pair: pair[1])
    return list(vocab)


def _hash(value: list[Any]) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
