"""In vLLM's environment: what its own loader says of adapters; `serving_verdicts` sends folders and reads answers.

Nothing is served and no base is needed: it is the code that reads an adapter, in the order of vLLM's worker, with the
names of modules that its model classes give.
"""

from __future__ import annotations

import json
import logging
import sys
from types import SimpleNamespace
from typing import Any

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
LINEAR = {
    "llama": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "mixtral": ("qkv_proj", "o_proj", "gate", "experts"),
}


def expected_modules(kind: str) -> set[str]:
    """What vLLM/lora/worker_manager.py expects of the model."""
    from importlib import import_module

    module = import_module(f"vllm.model_executor.models.{kind}")
    model = getattr(module, f"{kind.title()}ForCausalLM")
    packed: dict[str, list[str]] = model.packed_modules_mapping
    names = {*LINEAR[kind], *model.embedding_modules}
    return {part for name in names for part in packed.get(name, [name])} | (names & {"experts"})


def said(asked: dict[str, Any], rank: int) -> tuple[str, dict[str, int]]:
    """(why it is refused, scale -> modules): one of the two is empty."""
    from vllm.config.lora import LoRAConfig
    from vllm.lora.layers import FusedMoEWithLoRA
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.model_manager import LoRAModelManager
    from vllm.lora.peft_helper import PEFTHelper

    folder = asked["folder"]
    head = SimpleNamespace(max_lora_cls_labels=asked["labels"], input_size=asked["width"])
    try:
        helper = PEFTHelper.from_local_dir(folder, 128)
        helper.validate_legal(LoRAConfig(max_lora_rank=rank))
        loaded = LoRAModel.from_local_checkpoint(
            folder,
            expected_modules(asked["kind"]),
            peft_helper=helper,
            lora_model_id=1,
            device="cpu",
            model_vocab_size=asked["vocabulary"],
        )
        wrapped = {name: object.__new__(FusedMoEWithLoRA) for name in loaded.loras if name.endswith(".experts")}
        manager = SimpleNamespace(
            modules=wrapped,
            _enable_mixed_moe_lora_format=False,
            _pooling_task="classify",
            _classification_head=("score", head) if asked["labels"] else None,
            _get_lora_layer_weights=lambda model, name: model.get_lora(name),
            _get_module_to_save_weights=lambda model, name: model.get_module_to_save(name),
        )
        LoRAModelManager._validate_moe_lora_format(manager, loaded)  # type: ignore[arg-type]
        LoRAModelManager._validate_classification_head_lora(manager, loaded)  # type: ignore[arg-type]
    except Exception as error:  # noqa: BLE001  whatever the loader raises is a refusal
        return f"{type(error).__name__}: {error}"[:300], {}
    scales: dict[str, int] = {}
    for layer in loaded.loras.values():
        text = f"{layer.scaling:.6g}"
        scales[text] = scales.get(text, 0) + 1
    return "", scales


def main() -> None:
    """One answer per adapter: the smallest rank that it is accepted with, or why it is refused with the largest."""
    logging.disable(logging.WARNING)
    answers: list[dict[str, Any]] = []
    for asked in json.load(sys.stdin):
        for rank in RANKS:
            why, scales = said(asked, rank)
            if not why:
                break
        answers.append({"rank": 0 if why else rank, "why": why, "scales": scales})
    import vllm

    print(json.dumps({"version": vllm.__version__, "answers": answers}))


if __name__ == "__main__":
    main()
