"""The digest of a tokenizer: its vocabulary, however it is written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from adapter_registry.checkpoints.tokenizer import tokenizer_digest

TEXT = ["the cat sat on the mat", "an adapter registry keeps adapters"] * 5
BPE: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [{"id": 3, "content": "<s>", "special": True}, {"id": 4, "content": "</s>", "special": True}],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": None,
    "post_processor": None,
    "decoder": None,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "<s>": 3, "</s>": 4}, "merges": ["a b"]},
}


def digest(**files: bytes | dict[str, Any]) -> str | None:
    """The digest of files named by keyword, with `__` for the dot."""
    named = {name.replace("__", "."): data for name, data in files.items()}
    contents = {name: data if isinstance(data, bytes) else json.dumps(data).encode() for name, data in named.items()}
    return tokenizer_digest(contents.get, source="here")


def of_folder(folder: Path) -> str | None:
    def read(name: str) -> bytes | None:
        return (folder / name).read_bytes() if (folder / name).is_file() else None

    return tokenizer_digest(read, source=str(folder))


def model(**changes: Any) -> dict[str, Any]:
    return BPE | {"model": BPE["model"] | changes}


@pytest.mark.parametrize(
    "same",
    [
        json.dumps(BPE, indent=2).encode(),
        json.dumps(BPE | {"added_tokens": BPE["added_tokens"][::-1]}).encode(),
        json.dumps(BPE | {"truncation": {"max_length": 128}, "padding": {"strategy": "BatchLongest"}}).encode(),
        json.dumps(BPE | {"normalizer": None, "pre_tokenizer": {"type": "Metaspace"}}).encode(),
        json.dumps(BPE | {"post_processor": {"type": "TemplateProcessing"}}).encode(),
        json.dumps(model(merges=[["a", "b"]])).encode(),
        json.dumps(model(vocab=dict(reversed(BPE["model"]["vocab"].items())))).encode(),
        json.dumps(model(unk_token=None, fuse_unk=False)).encode(),
    ],
    ids=["indented", "order of added", "settings", "pieces", "post", "merges as pairs", "order of vocab", "defaults"],
)
def test_writing_the_same_vocabulary_otherwise_changes_nothing(same: bytes):
    assert digest(tokenizer__json=same) == digest(tokenizer__json=BPE)


@pytest.mark.parametrize(
    "other",
    [
        model(vocab={"a": 1, "b": 0, "ab": 2, "<s>": 3, "</s>": 4}),
        model(vocab=BPE["model"]["vocab"] | {"more": 5}),
        model(merges=[]),
        model(type="WordPiece"),
        BPE | {"added_tokens": BPE["added_tokens"][:1]},
        BPE | {"added_tokens": [{"id": 4, "content": "<s>"}, {"id": 3, "content": "</s>"}]},
    ],
    ids=["swapped", "longer", "merges", "kind", "added", "added swapped"],
)
def test_another_vocabulary_is_another_digest(other: dict[str, Any]):
    assert digest(tokenizer__json=other) != digest(tokenizer__json=BPE)


def test_the_chat_template_and_settings_beside_it_do_not_count():
    beside = {"chat_template__jinja": b"{{ messages }}", "tokenizer_config__json": b"{}"}
    assert digest(tokenizer__json=BPE, **beside) == digest(tokenizer__json=BPE)


def test_older_formats_count_by_their_bytes():
    pair = digest(vocab__json=b'{"a": 0}', merges__txt=b"#version\n")
    assert pair != digest(vocab__json=b'{"a": 0}')
    assert pair != digest(vocab__json=b'{"b": 0}', merges__txt=b"#version\n")
    assert digest(tokenizer__model=b"spm") != digest(tokenizer__model=b"spn")
    assert digest(vocab__txt=b"[PAD]\n") is not None


def test_without_a_tokenizer_there_is_no_digest():
    assert digest(config__json=b"{}") is None


def sentencepiece_like() -> Tokenizer:
    """As Llama 2 was published: the space marker is the normaliser's work, which transformers 5 rewrites on saving."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=300, special_tokens=special))
    return tokenizer


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


@pytest.mark.parametrize(
    ("made", "saved_as"),
    [
        (sentencepiece_like, "LlamaTokenizer"),
        (sentencepiece_like, "PreTrainedTokenizerFast"),
        (byte_level, "GPT2Tokenizer"),
        (byte_level, "Qwen2Tokenizer"),
    ],
)
def test_saving_it_again_with_transformers_changes_nothing(tmp_path: Path, made: Any, saved_as: str):
    from transformers import AutoTokenizer

    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    made().save(str(first / "tokenizer.json"))
    names = {"tokenizer_class": saved_as, "unk_token": "<unk>" if made is sentencepiece_like else "<|endoftext|>"}
    (first / "tokenizer_config.json").write_text(json.dumps(names))
    AutoTokenizer.from_pretrained(first).save_pretrained(second)
    assert of_folder(first) == of_folder(second)
