"""One digest of a tokenizer's vocabulary, independent of formatting and of what does not change token ids."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from adapter_registry.checkpoints.base_files import Read
from adapter_registry.domain.digest import Digest, of_json
from adapter_registry.domain.errors import InvalidInput

FORMAT = "adapters.tokenizer/1"
READ_ORDER = (
    "tokenizer.json",
    "tekken.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tiktoken.model",
    "qwen.tiktoken",
    "vocab.json",
    "vocab.txt",
)
"""The first of these that a checkpoint has decides; `merges.txt` is read with `vocab.json`."""


def tokenizer_digest(read: Read, *, source: str) -> Digest | None:
    """The digest of the vocabulary that a checkpoint's files describe; None without one.

    `tokenizer.json` counts by its vocabulary, merges and added tokens: what the rows of the embedding mean. The
    normaliser, pre-tokeniser and decoder do not count, because saving a tokenizer with another version of
    transformers writes the same behaviour in other pieces (5 turns Llama's normaliser into a pre-tokeniser). Padding,
    truncation, post-processing and the chat template are settings of a use. The other formats count by their bytes.

    Args:
        read: the bytes of a file of the checkpoint, None when it has no such file.
        source: for the error.

    Raises:
        InvalidInput: tokenizer.json is damaged.
    """
    for name in READ_ORDER:
        data = read(name)
        if data is None:
            continue
        if name == "tokenizer.json":
            return _of_tokenizer_json(data, source)
        files = {name: hashlib.sha256(data).hexdigest()}
        merges = read("merges.txt") if name == "vocab.json" else None
        if merges is not None:
            files["merges.txt"] = hashlib.sha256(merges).hexdigest()
        return of_json({"format": FORMAT, "files": files})
    return None


def _of_tokenizer_json(data: bytes, source: str) -> Digest:
    try:
        document: Any = json.loads(data)
        model = document["model"]
        parts = {
            "model": _kind(model),
            "vocab": _hash(_vocabulary(model["vocab"])),
            "merges": _hash([" ".join(m) if isinstance(m, list) else m for m in model.get("merges") or []]),
            "added": _hash(sorted((each["id"], each["content"]) for each in document.get("added_tokens") or [])),
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(
            f"{source}/tokenizer.json is no tokenizer of the tokenizers library ({str(error)[:100]}): download or "
            "save it again, or remove it if this base is used without one."
        ) from error
    return of_json({"format": FORMAT, "parts": parts})


def _kind(model: dict[str, Any]) -> str:
    """`BPE`, `WordPiece`, ...; files written before the library named it are told by what they hold."""
    return str(model.get("type") or ("BPE" if "merges" in model else "unnamed"))


def _vocabulary(vocab: Any) -> list[Any]:
    """Pairs in the order of ids: a mapping of text to id, or a list of (text, score)."""
    if isinstance(vocab, dict):
        return sorted(vocab.items(), key=lambda pair: (pair[1], pair[0]))
    return list(vocab)


def _hash(value: list[Any]) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
