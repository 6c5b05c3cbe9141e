"""Prompt methods: the one tensor they save, against the base's width and depth."""

from __future__ import annotations

from collections.abc import Iterator

from adapter_registry.checkpoints.header import TensorEntry
from adapter_registry.checkpoints.lora import RESAVE, WEIGHTS
from adapter_registry.checkpoints.modules import Modules
from adapter_registry.domain.errors import Problem
from adapter_registry.domain.peft import AdapterConfig

EMBEDDINGS = "prompt_embeddings"
MULTITASK = frozenset({EMBEDDINGS, "prefix_task_cols", "prefix_task_rows"})


def prompt_problems(entries: tuple[TensorEntry, ...], config: AdapterConfig, modules: Modules) -> Iterator[Problem]:
    """Everything wrong with the tensors of prompt tuning, prefix tuning, p-tuning or multitask prompt tuning."""
    by_name = {entry.name: entry for entry in entries}
    expected = MULTITASK if config.peft_type == "MULTITASK_PROMPT_TUNING" else {EMBEDDINGS}
    # Before prompts are averaged for inference, p-tuning saves its encoder's embedding under the same name alone.
    for name in sorted(by_name.keys() - expected):
        fix = "Remove it: PEFT would ignore it."
        yield Problem("foreign-tensor", WEIGHTS, name, f"only {', '.join(sorted(expected))}", "another tensor", fix)
    prompt = by_name.get(EMBEDDINGS)
    if prompt is None:
        yield Problem("missing-tensors", WEIGHTS, EMBEDDINGS, "the prompt", "no such tensor", RESAVE)
        return
    yield from _size_problems(prompt, config, modules)


def _size_problems(prompt: TensorEntry, config: AdapterConfig, modules: Modules) -> Iterator[Problem]:
    if len(prompt.shape) != 2 or 0 in prompt.shape:
        yield _wrong("a matrix of tokens by width", str(list(prompt.shape)))
        return
    rows, width = prompt.shape
    tokens = config.num_virtual_tokens or rows
    if rows not in (tokens, tokens * (config.num_transformer_submodules or 1)):
        yield _wrong(f"{tokens} rows, as num_virtual_tokens says", str(rows))
    embedding = modules.input_embedding()
    hidden = embedding.shape[1] if embedding and embedding.shape and len(embedding.shape) == 2 else None
    if config.peft_type == "PREFIX_TUNING":
        yield from _prefix_problems(width, config, modules, hidden)
    elif hidden is not None and width != hidden:
        yield _wrong(f"{hidden} columns, the base's width", str(width))


def _prefix_problems(width: int, config: AdapterConfig, modules: Modules, hidden: int | None) -> Iterator[Problem]:
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
        for path, module in modules.by_path.items()
        if path.endswith(("k_proj", "key", "k", "v_proj")) and module.shape and len(module.shape) == 2
    }
    if keys and size not in keys | {hidden}:
        yield _wrong(f"{' or '.join(map(str, sorted(keys)))} columns for each key, as the base has", str(size))
    elif not keys and hidden is not None and size > hidden:
        yield _wrong(f"at most {hidden} columns for each key, the base's width", str(size))


def _wrong(expected: str, found: str) -> Problem:
    fix = "Name the base it was trained on with --base."
    return Problem("wrong-dimension", WEIGHTS, EMBEDDINGS, expected, found, fix)
