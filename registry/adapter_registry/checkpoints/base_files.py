"""Which files of a folder or repository are a checkpoint's weights, and whether an index of shards fits them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from adapter_registry.checkpoints.header import Header
from adapter_registry.domain.errors import InvalidInput, Notice, Problem

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
LISTED = 5

Read = Callable[[str], bytes | None]
"""The bytes of a small file by name; None when there is no such file."""

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
_VARIANT = re.compile(r".+\.(fp16|bf16|fp32|fp8|int8|int4|non_ema|ema)(-\d{5}-of-\d{5})?\.safetensors")
_ORIGINAL = re.compile(r"consolidated([.-].*)?\.safetensors")
"""What the makers of a model train with, published beside the copy that transformers reads."""


@dataclass(frozen=True, slots=True)
class WeightNames:
    """The weight files of a checkpoint.

    Attributes:
        names: sorted.
        weight_map: tensor name -> file, as an index says; None without an index.
        notices: weight files that lie beside them and were left out.
    """

    names: tuple[str, ...]
    weight_map: Mapping[str, str] | None
    notices: tuple[Notice, ...] = ()


def choose(there: Iterable[str], *, read: Read, source: str) -> WeightNames:
    """The weight files among `there`: what an index names, else model.safetensors, else the other safetensors.

    Args:
        there: names of the files in the folder itself.
        read: for the index.
        source: for errors.

    Raises:
        InvalidInput: there is no safetensors checkpoint, or it is incomplete; the text says what there is instead.
    """
    listed = sorted(there)
    weights = [name for name in listed if name.endswith(".safetensors")]
    index = _index_name(listed)
    if index is not None:
        weight_map = _weight_map(read(index), where=f"{source}/{index}")
        names = _present(sorted(set(weight_map.values())), weights, source=source)
        return WeightNames(names, weight_map, _left_out(weights, names, f"{index} does not name it"))
    if SINGLE in weights:
        return WeightNames((SINGLE,), None, _left_out(weights, (SINGLE,), f"{SINGLE} is the checkpoint"))
    if "adapter_config.json" in listed:
        raise InvalidInput(
            f"{source} holds an adapter, not a base; name its base here, and push the adapter with "
            f"`adapters push {source} --base NAME`."
        )
    if not weights:
        raise InvalidInput(f"{source} holds no safetensors: {_instead(listed)}")
    names = _without_copies(weights)
    _require_every_shard(names, source)
    return WeightNames(names, None, _left_out(weights, names, "another copy of the weights"))


def _index_name(listed: Sequence[str]) -> str | None:
    if INDEX in listed:
        return INDEX
    if SINGLE in listed:
        return None
    indexes = [name for name in listed if name.endswith(".safetensors.index.json")]
    return indexes[0] if len(indexes) == 1 else None


def _weight_map(data: bytes | None, *, where: str) -> dict[str, str]:
    try:
        document: Any = json.loads(data or b"")
        weight_map = document["weight_map"]
        names = {name: str(file) for name, file in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"{where} is no index of shards: expected a JSON object with weight_map.") from error
    outside = [file for file in names.values() if not _is_plain(file)]
    if outside:
        raise InvalidInput(
            f"{where} names {outside[0]!r}: shards are plain .safetensors file names in the same folder."
        )
    if not names:
        raise InvalidInput(f"{where} names no tensors.")
    return names


def _is_plain(file: str) -> bool:
    return PurePosixPath(file).name == file and "\\" not in file and file.endswith(".safetensors")


def _present(names: Sequence[str], weights: Sequence[str], *, source: str) -> tuple[str, ...]:
    missing = [name for name in names if name not in weights]
    if missing:
        raise InvalidInput(
            f"{source} lacks {len(missing)} of {len(names)} shards: {_shown(missing)}. Finish the download first."
        )
    return tuple(names)


def _without_copies(weights: Sequence[str]) -> tuple[str, ...]:
    """The weights without a variant in another precision or the makers' own copy, unless nothing else is there."""
    for kind in (_ORIGINAL, _VARIANT):
        kept = [name for name in weights if not kind.fullmatch(name)]
        weights = kept or weights
    return tuple(weights)


def _require_every_shard(names: Sequence[str], source: str) -> None:
    shards = [found for name in names if (found := _SHARD.fullmatch(name))]
    wanted = {
        f"{each['stem']}-{number + 1:05}-of-{each['count']}.safetensors"
        for each in shards
        for number in range(min(int(each["count"]), len(names) + LISTED))
    }
    missing = sorted(wanted.difference(names))
    if missing:
        raise InvalidInput(f"{source} lacks shards: {_shown(missing)}. Finish the download first.")


def _left_out(weights: Sequence[str], names: Sequence[str], why: str) -> tuple[Notice, ...]:
    beside = [name for name in weights if name not in names]
    return tuple(Notice("weights-left-out", name, "", f"not read: {why}") for name in beside)


def _instead(there: Sequence[str]) -> str:
    if any(name.endswith((".bin", ".pt", ".pth")) for name in there):
        return (
            "its weights are pickled. Load it with transformers once and save it: save_pretrained writes safetensors."
        )
    if any(name.endswith(".gguf") for name in there):
        return "its weights are GGUF. Load it with transformers (gguf_file=...) and save it as safetensors."
    return f"it holds {_shown(there)}." if there else "it is empty."


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def table_problems(files: Sequence[tuple[str, Header]], weight_map: Mapping[str, str] | None) -> Iterator[Problem]:
    """Why the files are no sound checkpoint together: a tensor in two files, or not where the index says it is."""
    where: dict[str, str] = {}
    for file, header in files:
        for entry in header.tensors:
            if entry.name in where:
                fix = "Keep one copy; or name one .safetensors file instead of the folder."
                found = f"in {where[entry.name]} and {file}"
                yield Problem("tensor-twice", file, entry.name, "each tensor in one file", found, fix)
            where[entry.name] = file
    for name, file in (weight_map or {}).items():
        if where.get(name) != file:
            found = f"in {where[name]}" if name in where else "nowhere"
            fix = "The shards and their index are of different saves: download or save the checkpoint again."
            yield Problem("index-disagrees", file, name, "the tensor here, as the index of shards says", found, fix)


def unlisted(files: Sequence[tuple[str, Header]], weight_map: Mapping[str, str] | None) -> tuple[Notice, ...]:
    """A notice when files hold tensors that the index does not name; loaders read whole files, so they count."""
    if weight_map is None:
        return ()
    names = [entry.name for _, header in files for entry in header.tensors if entry.name not in weight_map]
    text = f"the index of shards does not name {len(names)} of the tensors in its files: {_shown(names)}"
    return (Notice("index-incomplete", "", "", text),) if names else ()
