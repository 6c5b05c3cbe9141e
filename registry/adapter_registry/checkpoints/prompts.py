"""Prompt methods: the one tensor they save, against the base's width and depth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapter_registry.checkpoints.header import TensorEntry
from adapter_registry.checkpoints.modules import Modules
from adapter_registry.checkpoints.selection import OTHER_BASE, RESAVE
from adapter_registry.domain.errors import Problem
from adapter_registry.domain.peft.config import AdapterConfig
from adapter_registry.domain.peft.fields import WEIGHTS

EMBEDDINGS = "prompt_embeddings"
MULTITASK = frozenset({EMBEDDINGS, "prefix_task_cols", "prefix_task_rows"})
_KEYS = frozenset({"k_proj", "key", "k", "v_proj", "value", "v"})


def prompt_problems(entries: Sequence[TensorEntry], config: AdapterConfig, modules: Modules) -> Iterator[Problem]:
    """Everything wrong with the tensors of a prompt method that are not parameters of a module."""
    by_name = {entry.name: entry for entry in entries}
    expected = MULTITASK if config.peft_type == "MULTITASK_PROMPT_TUNING" else {EMBEDDINGS}
    for name in sorted(by_name.keys() - expected):
        fix = "Remove it: PEFT would ignore it."
        yield Problem("foreign-tensor", WEIGHTS, name, f"only {', '.join(sorted(expected))}", "another tensor", fix)
    prompt = by_name.get(EMBEDDINGS)
    if prompt is None:
        yield Problem("missing-tensors", WEIGHTS, EMBEDDINGS, "the prompt", "no such tensor", RESAVE)
    else:
        yield from _size_problems(prompt, config, modules)
    if config.peft_type == "MULTITASK_PROMPT_TUNING":
        yield from _task_problems(by_name, config)


def _task_problems(by_name: dict[str, TensorEntry], config: AdapterConfig) -> Iterator[Problem]:
    tasks = config.num_tasks or 1
    for name in sorted(MULTITASK - {EMBEDDINGS}):
        entry = by_name.get(name)
        if entry is None:
            # An adapter that was loaded for one task is saved without those of the others.
            continue
        if len(entry.shape) != 3 or entry.shape[0] != tasks:
            yield _wrong(f"{tasks} tasks, as num_tasks says", str(list(entry.shape)), name)


def _size_problems(prompt: TensorEntry, config: AdapterConfig, modules: Modules) -> Iterator[Problem]:
    if len(prompt.shape) != 2 or 0 in prompt.shape:
        yield _wrong("a matrix of tokens by width", str(list(prompt.shape)))
        return
    rows, width = prompt.shape
    tokens = config.num_virtual_tokens or rows
    if rows not in (tokens, tokens * (config.num_transformer_submodules or 1)):
        yield _wrong(f"{tokens} rows, as num_virtual_tokens says", str(rows))
    widths = _widths(modules)
    if config.peft_type in ("PREFIX_TUNING", "CARTRIDGE"):
        yield from _prefix_problems(width, config, modules, widths)
    elif widths and width not in widths:
        yield _wrong(f"{' or '.join(map(str, sorted(widths)))} columns, the base's width", str(width))


def _widths(modules: Modules) -> set[int]:
    """The width of the embedding, and where it is projected to another one, that of the layers."""
    embedding = modules.input_embedding()
    if embedding is None or embedding.shape is None or len(embedding.shape) != 2:
        return set()
    rows, width = embedding.shape
    projected = {
        size
        for module in modules.by_path.values()
        if module.shape and len(module.shape) == 2 and module.shape != embedding.shape and width in module.shape
        for size in module.shape
        if "project" in module.path or "embedding_hidden_mapping" in module.path
    }
    return {width} | (projected - {rows})


def _prefix_problems(width: int, config: AdapterConfig, modules: Modules, hidden: set[int]) -> Iterator[Problem]:
    depth = modules.depth
    if config.num_layers is not None and depth and config.num_layers > depth:
        yield _wrong(f"num_layers of at most {depth}, as the base has", str(config.num_layers))
        return
    layers = config.num_layers or depth
    if layers and width % (2 * layers):
        yield _wrong(f"a multiple of {2 * layers} columns: keys and values of {layers} layers", str(width))
        return
    size = width // (2 * layers) if layers else width
    keys = {
        module.shape[0]
        for module in modules.by_path.values()
        if module.kind in _KEYS and module.shape and len(module.shape) == 2
    }
    if keys and size not in keys | hidden:
        yield _wrong(f"{' or '.join(map(str, sorted(keys)))} columns for each key, as the base has", str(size))
    elif not keys and hidden and size > max(hidden):
        yield _wrong(f"at most {max(hidden)} columns for each key, the base's width", str(size))


def _wrong(expected: str, found: str, name: str = EMBEDDINGS) -> Problem:
    return Problem("wrong-dimension", WEIGHTS, name, expected, found, OTHER_BASE)
