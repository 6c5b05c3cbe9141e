"""Measure the base and each adapter by their loss on held-out text.

The loss is the mean negative log likelihood of a token, in nats; its standard error is taken over samples. Lower is
better. Two workers run at the same time, one a text; what was measured before is not measured again.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo.console import say
from demo.material import Text, texts
from demo.places import BASE_SHA256, base_folder, root, sha256_of, threads
from demo.together import report, run
from demo.train import trained

TASKS = {"prose": "python_prose", "source": "python_source"}
TOKENS = 48
BATCH = 10


def evaluate() -> None:
    """Measure what was not measured before, and write a results file for each subject."""
    kept = texts()
    missing = [name for name, text in kept.items() if not all(_file(s, text).is_file() for s in subjects())]
    if missing:
        run("demo.evaluate", {name: [name] for name in missing}, doing="measuring")
    for subject in subjects():
        _write(results_file(subject), _results(subject))
    _print_table()


def subjects() -> dict[str, str]:
    """What is measured -> digest of its weights."""
    return {"base": BASE_SHA256} | {
        name: sha256_of(folder / "adapter_model.safetensors") for name, folder in trained().items()
    }


def results_file(subject: str) -> Path:
    """The scores of one subject, in the shape of a results file of lm-evaluation-harness."""
    return root() / "scores" / f"results-{subject}-{subjects()[subject][:12]}.json"


def measured(subject: str, text: str) -> dict[str, Any]:
    """One measurement: loss, stderr, n and the loss of every sample."""
    document: dict[str, Any] = json.loads(_file(subject, texts()[text]).read_text())
    return document


def _file(subject: str, text: Text) -> Path:
    digest = subjects()[subject]
    return root() / "scores" / f"{text.name}-{text.digest[:12]}-{TOKENS}-{digest[:16]}.json"


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(document, indent=1))
    aside.replace(path)


def work(name: str) -> None:
    """Measure every subject on one text, in this process."""
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(threads(workers=len(TASKS)))
    text = texts()[name]
    tokenizer = AutoTokenizer.from_pretrained(base_folder())
    missing = [subject for subject in subjects() if not _file(subject, text).is_file()]
    model = _model(missing)
    of, done = len(missing) * len(text.held_out), 0
    for subject in missing:
        losses: list[float] = []
        for part in _losses(model, tokenizer, text, subject=subject):
            losses += part
            report(done + len(losses), of, f"{subject} loss {statistics.fmean(losses):.3f}")
        done += len(losses)
        _write(_file(subject, text), _summary(losses))


def _model(wanted: list[str]) -> Any:
    """The base with every wanted adapter attached under its version's name."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base_folder(), dtype=torch.float32)
    for name in wanted:
        if name == "base":
            continue
        if isinstance(model, PeftModel):
            model.load_adapter(trained()[name], adapter_name=name)
        else:
            model = PeftModel.from_pretrained(model, trained()[name], adapter_name=name)
    return model.eval()


def _losses(model: Any, tokenizer: Any, text: Text, *, subject: str) -> Iterator[list[float]]:
    """Mean loss of a token of each held-out sample, batch by batch."""
    import torch
    from torch.nn.functional import cross_entropy

    samples = [tokenizer(sample)["input_ids"][:TOKENS] for sample in text.held_out]
    with torch.inference_mode(), _as(model, subject):
        for start in range(0, len(samples), BATCH):
            batch = torch.tensor(samples[start : start + BATCH])
            found = model(input_ids=batch).logits[:, :-1]
            yield cross_entropy(found.transpose(1, 2), batch[:, 1:], reduction="none").mean(dim=1).tolist()


@contextmanager
def _as(model: Any, subject: str) -> Iterator[None]:
    if subject != "base":
        model.set_adapter(subject)
        yield
    elif hasattr(model, "disable_adapter"):
        with model.disable_adapter():
            yield
    else:
        yield


def _summary(losses: list[float]) -> dict[str, Any]:
    stderr = statistics.stdev(losses) / math.sqrt(len(losses))
    return {"loss": statistics.fmean(losses), "stderr": stderr, "n": len(losses), "samples": losses}


def _results(subject: str) -> dict[str, Any]:
    kept = texts()
    found = {task: measured(subject, name) for name, task in TASKS.items()}
    return {
        "results": {
            task: {"alias": task, "loss,none": each["loss"], "loss_stderr,none": each["stderr"]}
            for task, each in found.items()
        },
        "higher_is_better": {task: {"loss": False} for task in found},
        "n-samples": {task: {"original": each["n"], "effective": each["n"]} for task, each in found.items()},
        "n-shot": dict.fromkeys(found, 0),
        "versions": dict.fromkeys(found, 1),
        "configs": {task: {"task": task, "test_split": "held_out", "num_fewshot": 0} for task in found},
        "task_hashes": {task: _task_hash(kept[name]) for name, task in TASKS.items()},
        "config": {"model": "hf", "model_args": {"pretrained": f"demo {subject}", "dtype": "float32"}},
    }


def _task_hash(text: Text) -> str:
    return hashlib.sha256(f"{text.digest}:{TOKENS}".encode()).hexdigest()


def _print_table() -> None:
    say(f"held-out loss, nats a token, lower is better{'':<8}prose{'':<13}source")
    names = {"base": "base, no adapter", "v1": "v1 scribe, early", "v2": "v2 scribe", "v3": "v3 coder"}
    for subject, name in names.items():
        cells = [measured(subject, text) for text in TASKS]
        shown = "   ".join(f"{cell['loss']:.3f} ± {cell['stderr']:.3f}" for cell in cells)
        say(f"  {name:<48}  {shown}")


if __name__ == "__main__":
    work(sys.argv[1]) if len(sys.argv) > 1 else evaluate()
