"""`adapters servable --for vllm` against vLLM's own loader, on adapters that PEFT makes: the share on which both agree.

    VLLM_PYTHON=/path/to/vllm/bin/python python -m benchmarks.serving_verdicts

That environment holds vLLM 0.32 or 0.33. Nothing is served: `vllm_side` runs the code that reads an adapter. Both have
to agree on whether it is taken as it is, from which `--max-lora-rank` on, and with which scale for how many modules.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open

from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.checkpoints.intake import examine_folder
from adapter_registry.domain.adapter import Description
from adapter_registry.domain.servable import Report, Servable, facts_of, report
from adapter_registry.domain.servable_rules import parse
from benchmarks.vllm_server import SHAPE, model

TAKEN = (Servable.LOADS, Servable.FLAGS, Servable.WRONG)
MLP = ["gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Case:
    """An adapter.

    Attributes:
        name: what is particular about it.
        options: of PEFT's LoraConfig, or of `kind`.
        base: which of the bases it is of.
        kind: class of PEFT's config.
        written: fields of the config file that are changed afterwards; what only differs while training.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    base: str = "llama"
    kind: str = "LoraConfig"
    written: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """A case with the folder that PEFT wrote, what intake found in it, and our verdict."""

    case: Case
    folder: Path
    description: Description
    told: Report


CASES = (
    Case("plain"),
    *(Case(f"rank {rank}", {"r": rank}) for rank in (1, 16, 17, 32, 64, 257, 512, 513)),
    Case("rank-stabilised", {"use_rslora": True}),
    Case("one smaller rank", {"rank_pattern": {"q_proj": 4}}),
    Case("one larger rank", {"rank_pattern": {"v_proj": 32}}),
    Case("all ranks smaller than r", {"r": 64, "rank_pattern": {"q_proj|v_proj": 8}}),
    Case("a pattern of ranks that no module has", {"rank_pattern": {"o_proj": 128}}),
    Case("alpha by module", {"alpha_pattern": {"q_proj": 3}}),
    Case("alpha by layer", {"alpha_pattern": {r"layers\.1\..*": 5}}),
    Case(
        "ranks and alphas, rank-stabilised",
        {"use_rslora": True, "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"v_proj": 7}},
    ),
    Case("a fraction as alpha", {"lora_alpha": 5, "r": 3}),
    Case("targets by a pattern", {"target_modules": r".*layers\.\d+\.self_attn\.(q|o)_proj"}),
    Case("every linear layer", {"target_modules": "all-linear"}),
    Case("one layer only", {"layers_to_transform": [1]}),
    Case(
        "a module left out",
        {"target_modules": ["q_proj", "v_proj"], "exclude_modules": r".*layers\.0\.self_attn\.v_proj"},
    ),
    Case("q_proj alone", {"target_modules": ["q_proj"]}),
    Case("the feed-forward layers", {"target_modules": MLP}),
    Case("the output head", {"target_modules": ["q_proj", "lm_head"]}),
    Case("the input embedding", {"target_modules": ["q_proj", "embed_tokens"]}),
    Case("a tied head", {"target_modules": ["q_proj", "lm_head"]}, base="tied"),
    Case("the head saved whole", {"modules_to_save": ["lm_head"]}),
    Case("the embedding saved whole", {"modules_to_save": ["embed_tokens"]}),
    Case("norms saved whole", {"modules_to_save": ["input_layernorm"]}),
    Case("a head of classes", {"task_type": "SEQ_CLS", "modules_to_save": ["score"]}),
    Case("trained tokens", {"trainable_token_indices": [1, 2]}),
    Case("DoRA", {"use_dora": True}),
    Case("DoRA, rank-stabilised", {"use_dora": True, "use_rslora": True}),
    Case("trained biases", {"bias": "lora_only"}, base="biased"),
    Case("lora_bias", {"lora_bias": True}, base="biased"),
    Case("layers replicated", {"layer_replication": [[0, 2], [1, 2]]}),
    Case("invoked by tokens", {"alora_invocation_tokens": [5, 6]}),
    *(
        Case(f"began {how}", written={"init_lora_weights": how})
        for how in ("gaussian", "orthogonal", "eva", "mica", "Gaussian")
    ),
    Case(
        "experts as stacks",
        {"target_modules": ["q_proj"], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
        base="mixtral",
    ),
    Case("attention beside experts", {"target_modules": ["q_proj", "v_proj"]}, base="mixtral"),
    Case("IA3", {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}, kind="IA3Config"),
    Case("LoHa", {"target_modules": ["q_proj"]}, kind="LoHaConfig"),
    Case("LoKr", {"target_modules": ["q_proj"]}, kind="LoKrConfig"),
    Case("OFT", {"target_modules": ["q_proj"], "oft_block_size": 4}, kind="OFTConfig"),
    Case("VeRA", {"target_modules": ["q_proj"]}, kind="VeraConfig"),
    Case("prompt tuning", {"num_virtual_tokens": 4}, kind="PromptTuningConfig"),
)


def bases(work: Path) -> dict[str, Path]:
    """Tiny random models: a Llama, one whose head is tied, one with biases, and a Mixtral."""
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    made = {
        "llama": model(work / "llama", 0),
        "tied": model(work / "tied", 0, tie_word_embeddings=True),
        "biased": model(work / "biased", 0, attention_bias=True),
        "mixtral": work / "mixtral",
    }
    torch.manual_seed(0)
    shape = {
        "vocab_size": 256,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    mixtral = MixtralConfig(
        **shape, num_key_value_heads=1, head_dim=32, num_local_experts=4, max_position_embeddings=128
    )
    MixtralForCausalLM(mixtral).save_pretrained(made["mixtral"])
    return made


def adapter(folder: Path, base: Path, case: Case) -> Path:
    """What PEFT saves of a case, as if it were trained."""
    import peft
    import transformers

    options = {"task_type": "CAUSAL_LM", **case.options}
    if case.kind == "LoraConfig":
        options = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], **options}
    auto = "AutoModelForSequenceClassification" if options["task_type"] == "SEQ_CLS" else "AutoModelForCausalLM"
    made = peft.get_peft_model(getattr(transformers, auto).from_pretrained(base), getattr(peft, case.kind)(**options))
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.2)
    made.save_pretrained(folder)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **case.written}))
    return folder


def asked(python: str, questions: list[dict[str, Any]]) -> dict[str, Any]:
    """What vLLM's loader says of each folder."""
    side = Path(__file__).with_name("vllm_side.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, side], input=json.dumps(questions), stdout=subprocess.PIPE, text=True, env=environment, check=True
    )
    answered: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answered


def question(each: Judged) -> dict[str, Any]:
    """What is asked of vLLM's loader, as of a server that was started with our flags."""
    return {
        "folder": str(each.folder),
        "kind": "mixtral" if each.case.base == "mixtral" else "llama",
        "vocabulary": SHAPE["vocab_size"],
        "labels": 2 if "--convert classify" in each.told.flags else 0,
        "width": SHAPE["hidden_size"],
    }


def agreement(each: Judged, answer: dict[str, Any]) -> str:
    """What both disagree on; empty when on nothing."""
    told = each.told
    if (told.verdict in TAKEN) != (answer["rank"] > 0):
        return f"{told.verdict} here, there {answer['why'] or 'it is taken'}"
    if not told.verdict.serves:
        return ""
    flagged = int(told.flags.partition("--max-lora-rank ")[2].split()[0])
    if max(flagged, 8) != answer["rank"]:
        return f"{told.flags!r} here, there from rank {answer['rank']} on"
    scaling = each.description.scaling
    return "" if scaling == answer["scales"] else f"scales {scaling} here, {answer['scales']} there"


def judged(work: Path) -> Iterator[Judged]:
    """Every case that is taken at its push, with its verdict."""
    folders = bases(work)
    known = {name: read_base(folder, cache=None, progress=_silent) for name, folder in folders.items()}
    for number, case in enumerate(CASES):
        folder = adapter(work / str(number), folders[case.base], case)
        _, examination = examine_folder(folder, known[case.base])
        if examination.description is None or examination.problems:
            print(f"-       {case.name:36} refused at its push: {examination.problems[0].code}")
            continue
        config = json.loads((folder / "adapter_config.json").read_text())
        with safe_open(folder / "adapter_model.safetensors", "numpy") as weights:
            tensors = list(weights.keys())
        facts = facts_of(examination.description, config, known[case.base], tensors=tensors)
        yield Judged(case, folder, examination.description, report(parse("vllm"), facts))


def main() -> None:
    """Every case by both."""
    python = os.environ.get("VLLM_PYTHON")
    if not python:
        sys.exit("not measured: VLLM_PYTHON names no environment with vLLM (the first lines say how).")
    with tempfile.TemporaryDirectory(prefix="serving-verdicts-") as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = list(judged(Path(name)))
        there = asked(python, [question(each) for each in cases])
    differ = 0
    for each, answer in zip(cases, there["answers"], strict=True):
        why = agreement(each, answer)
        differ += bool(why)
        told = why or "; ".join(each.told.reasons)
        print(f"{'differ' if why else 'agree':7} {each.case.name:36} {each.told.verdict:22} {told[:100]}")
    print(f"vLLM {there['version']}: {len(cases) - differ} of {len(cases)} verdicts agree")
    if differ:
        sys.exit(1)


def _silent(_: int) -> None:
    return


if __name__ == "__main__":
    main()
