"""Local checkpoints: which folders are a Base, that equal weights are one Base, and what other folders are told."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from adapter_registry.checkpoints.base_folder import open_checkpoint, read_base, spot_verdict
from adapter_registry.domain.base import Base
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.lock import Level, compare

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "vocab_size": 32,
    "tie_word_embeddings": False,
}
TOKENIZER = {
    "added_tokens": [{"id": 2, "content": "<s>"}],
    "normalizer": None,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "<s>": 2}, "merges": ["a b"]},
}

Arrays = Mapping[str, np.ndarray]


def weights(*, layers: int = 4) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    table = {"model.embed_tokens.weight": (32, 8), "lm_head.weight": (32, 8), "model.norm.weight": (8,)}
    table |= {f"model.layers.{i}.mlp.weight": (64, 128) for i in range(layers)}
    return {name: random.random(shape, dtype=np.float32) for name, shape in table.items()}


def folder(path: Path, tensors: Arrays | None = None, *, shards: int = 0, **extra: Any) -> Path:
    """A checkpoint: one file, or `shards` files and an index; `extra` files are JSON by stem, None leaves one out."""
    path.mkdir(parents=True)
    tensors = weights() if tensors is None else tensors
    if shards:
        weight_map = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(tensors)}
        for file in set(weight_map.values()):
            save_file({name: tensors[name] for name, where in weight_map.items() if where == file}, path / file)
        (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    else:
        save_file(dict(tensors), path / "model.safetensors", metadata={"format": "pt"})
    for stem, document in ({"config": CONFIG, "tokenizer": TOKENIZER} | extra).items():
        if document is not None:
            (path / f"{stem}.json").write_text(json.dumps(document))
    return path


def base(path: Path) -> Base:
    return read_base(path, cache=None, progress=lambda _: None)


def refusal(path: Path) -> str:
    with pytest.raises(InvalidInput) as refused:
        base(path)
    return str(refused.value)


class TestIdentity:
    def test_the_same_tensors_in_other_shards_are_the_same_base(self, tmp_path: Path):
        one, three = base(folder(tmp_path / "one")), base(folder(tmp_path / "three", shards=3))
        assert [file.path for file in three.files] == [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
        assert (one.digest, one.root, one.tensors) == (three.digest, three.root, three.tensors)
        assert compare(one, three).level is Level.EQUIVALENT

    @pytest.mark.parametrize(
        "change",
        [
            lambda t: t | {"model.norm.weight": np.nextafter(t["model.norm.weight"], 9, dtype=np.float32)},
            lambda t: t | {"model.norm.weight": t["model.norm.weight"].view(np.int32)},
            lambda t: t | {"model.norm.weight": t["model.norm.weight"].reshape(2, 4)},
            lambda t: {name.replace("norm", "ln"): value for name, value in t.items()},
            lambda t: {name: value for name, value in t.items() if "norm" not in name},
            lambda t: t | {"more": np.zeros(1, dtype=np.float32)},
        ],
        ids=["one bit", "dtype", "shape", "name", "one less", "one more"],
    )
    def test_another_bit_dtype_shape_or_name_is_another_base(self, tmp_path: Path, change: Any):
        one, other = base(folder(tmp_path / "one")), base(folder(tmp_path / "other", change(weights())))
        assert one.root != other.root
        assert one.digest != other.digest
        assert not compare(one, other).accepted

    def test_another_vocabulary_is_another_base(self, tmp_path: Path):
        model = TOKENIZER["model"] | {"vocab": {"b": 0, "a": 1, "<s>": 2}}
        other = base(folder(tmp_path / "other", tokenizer=TOKENIZER | {"model": model}))
        one = base(folder(tmp_path / "one"))
        assert (one.root, one.digest == other.digest) == (other.root, False)
        assert compare(one, other).level is Level.STRUCTURAL

    def test_tables_and_files_are_sorted_and_every_tensor_has_a_digest(self, tmp_path: Path):
        read = base(folder(tmp_path / "base", shards=3))
        assert [t.name for t in read.tensors] == sorted(weights())
        assert all(t.digest and len(t.digest) == 64 for t in read.tensors)

    def test_reading_headers_alone_gives_the_same_table_without_digests(self, tmp_path: Path):
        table = open_checkpoint(folder(tmp_path / "base", shards=2)).checkpoint.tensors()
        assert [(t.name, t.dtype, t.shape, t.digest) for t in table] == [
            (t.name, t.dtype, t.shape, None) for t in base(tmp_path / "base").tensors
        ]


class TestFacts:
    def test_facts_come_from_config_and_tensors(self, tmp_path: Path):
        read = base(folder(tmp_path / "base"))
        assert (read.architecture, read.model_type, read.vocab_size) == ("LlamaForCausalLM", "llama", 32)
        assert (read.tied, read.quantization, read.repository, read.commit) == (False, None, None, None)
        assert read.source == str(tmp_path / "base")
        assert read.notices == ()

    def test_the_vocabulary_is_as_large_as_the_embedding_whatever_the_config_says(self, tmp_path: Path):
        assert base(folder(tmp_path / "base", config=CONFIG | {"vocab_size": 30})).vocab_size == 32

    def test_facts_of_a_nested_text_config_count(self, tmp_path: Path):
        nested = {"model_type": "gemma3", "text_config": {"vocab_size": 99, "tie_word_embeddings": True}}
        tensors = {"vision.weight": np.zeros(3, dtype=np.float32)}
        read = base(folder(tmp_path / "base", tensors, config=nested))
        assert (read.model_type, read.vocab_size, read.tied) == ("gemma3", 99, True)

    def test_a_language_model_without_a_head_is_tied_when_the_config_does_not_say(self, tmp_path: Path):
        config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}
        tensors = {"wte.weight": np.zeros((32, 8), dtype=np.float32)}
        tied, untied = folder(tmp_path / "tied", tensors, config=config), folder(tmp_path / "two", config=config)
        assert (base(tied).tied, base(untied).tied) == (True, False)

    def test_a_quantised_copy_is_known_as_such(self, tmp_path: Path):
        config = CONFIG | {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
        assert base(folder(tmp_path / "base", config=config)).quantization == "bitsandbytes"

    def test_a_base_needs_neither_config_nor_tokenizer(self, tmp_path: Path):
        read = base(folder(tmp_path / "base", config=None, tokenizer=None))
        assert (read.config, read.tokenizer, read.architecture) == (None, None, None)

    def test_quantities_of_what_is_stored(self, tmp_path: Path):
        read = base(folder(tmp_path / "base", shards=2))
        assert read.parameters == sum(array.size for array in weights().values())
        assert read.bytes == sum(path.stat().st_size for path in (tmp_path / "base").glob("*.safetensors"))


class TestHubFolders:
    def cache(self, root: Path, *commits: str) -> Path:
        """A Hub cache folder: files are links into `blobs`, as the Hub's client makes it."""
        repository = root / "models--org--name"
        (repository / "blobs").mkdir(parents=True)
        for commit in commits:
            made = folder(root / f"made-{commit}")
            snapshot = repository / "snapshots" / commit
            snapshot.mkdir(parents=True)
            for file in made.iterdir():
                shutil.copy(file, repository / "blobs" / f"{commit}-{file.name}")
                (snapshot / file.name).symlink_to(f"../../blobs/{commit}-{file.name}")
        return repository

    def test_the_snapshot_of_main_is_read_and_its_repository_and_commit_are_known(self, tmp_path: Path):
        repository = self.cache(tmp_path, COMMIT, "f" * 40)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
        read = base(repository)
        assert (read.repository, read.commit) == ("org/name", COMMIT)
        assert read.digest == base(folder(tmp_path / "plain")).digest

    def test_the_only_snapshot_is_read(self, tmp_path: Path):
        assert base(self.cache(tmp_path, COMMIT)).commit == COMMIT

    def test_a_snapshot_may_be_named_also_from_within_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        snapshot = self.cache(tmp_path, COMMIT, "f" * 40) / "snapshots" / COMMIT
        assert base(snapshot).commit == COMMIT
        monkeypatch.chdir(snapshot)
        assert (base(Path()).repository, base(Path()).commit) == ("org/name", COMMIT)

    def test_several_snapshots_without_a_main_are_listed(self, tmp_path: Path):
        text = refusal(self.cache(tmp_path, COMMIT, "f" * 40))
        assert "holds 2 snapshots" in text
        assert COMMIT in text

    def test_a_link_into_a_cleaned_up_cache_is_told(self, tmp_path: Path):
        repository = self.cache(tmp_path, COMMIT)
        (repository / "blobs" / f"{COMMIT}-model.safetensors").unlink()
        assert "is a link to a file that is gone" in refusal(repository)

    def test_a_cache_without_snapshots_is_told(self, tmp_path: Path):
        (tmp_path / "models--a--b" / "snapshots").mkdir(parents=True)
        assert "without a snapshot" in refusal(tmp_path / "models--a--b")

    def test_a_download_into_a_folder_knows_its_commit(self, tmp_path: Path):
        made = folder(tmp_path / "base")
        metadata = made / ".cache" / "huggingface" / "download" / "model.safetensors.metadata"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"{COMMIT}\n{'a' * 64}\n1700000000.0\n")
        assert (base(made).repository, base(made).commit) == (None, COMMIT)

    def test_files_of_two_commits_have_no_commit(self, tmp_path: Path):
        made = folder(tmp_path / "base")
        for name, commit in (("a", COMMIT), ("b", "f" * 40)):
            metadata = made / ".cache" / "huggingface" / "download" / f"{name}.metadata"
            metadata.parent.mkdir(parents=True, exist_ok=True)
            metadata.write_text(f"{commit}\n")
        assert base(made).commit is None


class TestWhichFiles:
    def test_one_safetensors_file_may_be_named(self, tmp_path: Path):
        made = folder(tmp_path / "base")
        assert base(made / "model.safetensors").digest == base(made).digest

    def test_a_single_file_of_another_name_is_the_checkpoint(self, tmp_path: Path):
        made = folder(tmp_path / "base")
        (made / "model.safetensors").rename(made / "weights.safetensors")
        assert [file.path for file in base(made).files] == ["weights.safetensors"]

    @pytest.mark.parametrize("beside", ["consolidated.safetensors", "model.fp16.safetensors", "extra.safetensors"])
    @pytest.mark.parametrize("shards", [0, 2])
    def test_another_copy_beside_the_checkpoint_is_left_out_with_a_notice(
        self, tmp_path: Path, shards: int, beside: str
    ):
        made = folder(tmp_path / "base", shards=shards)
        save_file({"x": np.zeros(2)}, made / beside)
        read = base(made)
        assert beside not in [file.path for file in read.files]
        assert [(notice.code, notice.file) for notice in read.notices] == [("weights-left-out", beside)]

    def test_the_index_wins_over_a_single_file(self, tmp_path: Path):
        made = folder(tmp_path / "base", shards=2)
        save_file({"x": np.zeros(2)}, made / "model.safetensors")
        assert len(base(made).files) == 2

    def test_shards_without_an_index_are_read_together(self, tmp_path: Path):
        made = folder(tmp_path / "base", shards=3)
        (made / "model.safetensors.index.json").unlink()
        assert base(made).digest == base(folder(tmp_path / "one")).digest

    def test_a_missing_shard_is_named_with_and_without_an_index(self, tmp_path: Path):
        made = folder(tmp_path / "base", shards=3)
        (made / "model-00002-of-00003.safetensors").unlink()
        assert "lacks 1 of 3 shards: model-00002-of-00003.safetensors" in refusal(made)
        (made / "model.safetensors.index.json").unlink()
        assert "lacks shards: model-00002-of-00003.safetensors" in refusal(made)

    def test_a_tensor_in_two_files_is_refused(self, tmp_path: Path):
        made = folder(tmp_path / "base")
        (made / "model.safetensors").rename(made / "a.safetensors")
        shutil.copy(made / "a.safetensors", made / "b.safetensors")
        text = refusal(made)
        assert "found in a.safetensors and b.safetensors" in text
        assert "name one .safetensors file" in text


def reindexed(made: Path, **changes: str | None) -> Path:
    """The folder with tensors put elsewhere in its index, or left out of it."""
    path = made / "model.safetensors.index.json"
    document = json.loads(path.read_text())
    named = document["weight_map"] | changes
    document["weight_map"] = {name: file for name, file in named.items() if file is not None}
    path.write_text(json.dumps(document))
    return made


class TestIndex:
    @pytest.mark.parametrize("file", ["../secret.safetensors", "/etc/x.safetensors", "a/b.safetensors", "x.bin", ".."])
    def test_a_shard_outside_the_folder_is_refused(self, tmp_path: Path, file: str):
        made = reindexed(folder(tmp_path / "base", shards=2), more=file)
        assert "shards are plain .safetensors file names in the same folder" in refusal(made)

    def test_a_tensor_that_is_elsewhere_or_nowhere_is_refused(self, tmp_path: Path):
        first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
        tensors = {name: np.zeros(2) for name in ("a", "b", "c", "d")}
        made = reindexed(folder(tmp_path / "base", tensors, shards=2), b=first, gone=second)
        text = refusal(made)
        assert f"{first}: b: expected the tensor here, as the index of shards says, found in {second}" in text
        assert f"{second}: gone: expected the tensor here, as the index of shards says, found nowhere" in text

    def test_a_tensor_that_the_index_leaves_out_counts_and_is_told(self, tmp_path: Path):
        made = reindexed(folder(tmp_path / "base", shards=2), **{"lm_head.weight": None})
        read = base(made)
        assert "lm_head.weight" in [tensor.name for tensor in read.tensors]
        assert [notice.code for notice in read.notices] == ["index-incomplete"]

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": null}', "[" * 100_000])
    def test_anything_else_is_no_index(self, tmp_path: Path, text: str):
        made = folder(tmp_path / "base", shards=2)
        (made / "model.safetensors.index.json").write_text(text)
        assert "is no index of shards" in refusal(made)

    def test_an_index_that_names_nothing_is_refused(self, tmp_path: Path):
        made = folder(tmp_path / "base", shards=2)
        (made / "model.safetensors.index.json").write_text('{"weight_map": {}}')
        assert "names no tensors" in refusal(made)


class TestRefusals:
    def files(self, root: Path, *names: str) -> Path:
        root.mkdir()
        for name in names:
            (root / name).write_bytes(b"{}")
        return root

    @pytest.mark.parametrize(
        ("names", "told"),
        [
            (("adapter_config.json", "adapter_model.safetensors"), "holds an adapter, not a base"),
            (("pytorch_model.bin", "config.json"), "its weights are pickled. Load it with transformers once and save"),
            (("model.gguf",), "its weights are GGUF"),
            (("README.md", "config.json"), "it holds README.md, config.json"),
            ((), "it is empty"),
        ],
    )
    def test_what_a_folder_holds_instead_and_what_to_do(self, tmp_path: Path, names: tuple[str, ...], told: str):
        assert told in refusal(self.files(tmp_path / "base", *names))

    def test_a_missing_folder(self, tmp_path: Path):
        assert "does not exist" in refusal(tmp_path / "nowhere")

    def test_another_file(self, tmp_path: Path):
        (tmp_path / "model.bin").write_bytes(b"x")
        assert "is a file; name the folder" in refusal(tmp_path / "model.bin")

    def test_a_git_lfs_pointer(self, tmp_path: Path):
        made = folder(tmp_path / "base")
        (made / "model.safetensors").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\n")
        assert "Run `git lfs pull`" in refusal(made)

    def test_every_damaged_shard_is_told(self, tmp_path: Path):
        made = folder(tmp_path / "base", shards=3)
        for number in (1, 3):
            os.truncate(made / f"model-0000{number}-of-00003.safetensors", 1000)
        with pytest.raises(InvalidInput) as refused:
            base(made)
        assert [problem.file[:11] for problem in refused.value.problems] == ["model-00001", "model-00003"]
        assert str(refused.value).count("bytes are missing") == 2

    @pytest.mark.parametrize("text", ["", "[1]", '"x"', "{" * 3, "[" * 100_000, '{"hidden_size": "8", "a": "\\ud800"}'])
    def test_a_config_that_is_no_object(self, tmp_path: Path, text: str):
        made = folder(tmp_path / "base")
        (made / "config.json").write_text(text)
        assert "config.json is" in refusal(made)

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"model": {"vocab": {"a": [], "b": 1}}}', "[" * 100_000])
    def test_a_damaged_tokenizer(self, tmp_path: Path, text: str):
        made = folder(tmp_path / "base")
        (made / "tokenizer.json").write_text(text)
        assert "tokenizer.json is no tokenizer" in refusal(made)

    def test_a_file_that_may_not_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        made = folder(tmp_path / "base")

        def denied(path: Path) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr("adapter_registry.checkpoints.base_folder._header", denied)
        assert "base/model.safetensors could not be read: Permission denied" in refusal(made)

    def test_a_folder_where_a_file_belongs(self, tmp_path: Path):
        made = self.files(tmp_path / "base")
        (made / "model.safetensors").mkdir()
        assert "holds no safetensors" in refusal(made)


class TestSpot:
    def test_the_same_checkpoint_is_exact_and_it_is_said_that_not_all_was_read(self, tmp_path: Path):
        locked = base(folder(tmp_path / "base", shards=2))
        verdict = spot_verdict(tmp_path / "base", locked)
        assert verdict.level is Level.EXACT
        assert "not all bytes" in verdict.notes[0]

    def test_other_shards_are_equivalent(self, tmp_path: Path):
        locked = base(folder(tmp_path / "one"))
        assert spot_verdict(folder(tmp_path / "three", shards=3), locked).level is Level.EQUIVALENT

    def test_another_training_of_the_same_shape_is_told_apart_by_tensor(self, tmp_path: Path):
        locked = base(folder(tmp_path / "one"))
        other = {name: array + np.float32(0.5) for name, array in weights().items()}
        verdict = spot_verdict(folder(tmp_path / "other", other), locked)
        assert verdict.level is Level.STRUCTURAL
        assert str(verdict.differences[0]) == "tensors with equal slices: expected 7, found 0"
        assert {each.what for each in verdict.differences[1:]} == set(weights())

    def test_one_changed_tensor_is_named(self, tmp_path: Path):
        locked = base(folder(tmp_path / "one"))
        changed = weights()
        changed["model.layers.2.mlp.weight"] = -changed["model.layers.2.mlp.weight"]
        verdict = spot_verdict(folder(tmp_path / "other", changed), locked)
        assert [each.what for each in verdict.differences[1:]] == ["model.layers.2.mlp.weight"]

    def test_other_shapes_are_incompatible(self, tmp_path: Path):
        locked = base(folder(tmp_path / "one"))
        verdict = spot_verdict(folder(tmp_path / "other", weights(layers=2)), locked)
        assert verdict.level is Level.INCOMPATIBLE

    def test_another_tokenizer_is_seen(self, tmp_path: Path):
        locked = base(folder(tmp_path / "one"))
        model = TOKENIZER["model"] | {"vocab": {"b": 0, "a": 1, "<s>": 2}}
        verdict = spot_verdict(folder(tmp_path / "other", tokenizer=TOKENIZER | {"model": model}), locked)
        assert verdict.level is Level.STRUCTURAL
        assert [each.what for each in verdict.differences] == ["tokenizer vocabulary"]

    def test_small_tensors_are_read_whole(self, tmp_path: Path):
        locked = base(folder(tmp_path / "one"))
        changed = weights()
        changed["model.norm.weight"][3] += 1
        assert not spot_verdict(folder(tmp_path / "other", changed), locked).accepted

    def test_the_places_are_others_for_every_registration(self, tmp_path: Path):
        made = folder(tmp_path / "one")
        first, second = base(made).spot, base(made).spot
        assert first is not None
        assert second is not None
        assert first.key != second.key
        assert first.digests != second.digests

    def test_a_base_known_by_file_digests_alone_has_no_slices(self, tmp_path: Path):
        made = folder(tmp_path / "one")
        opened = open_checkpoint(made)
        with pytest.raises(InvalidInput, match="leave out --spot"):
            spot_verdict(made, opened.checkpoint.base(["0" * 64]))
