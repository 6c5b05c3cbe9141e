"""Tasks of lm-evaluation-harness on a version, in a job's child process, with torch and the harness."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adapter_registry.domain.errors import InvalidInput, JobFailed, Unsupported
from adapter_registry.domain.evidence.harness_task import HarnessTask, read_task
from adapter_registry.domain.job import Progress
from adapter_registry.jobs.kind import Report

VERSIONS = ("adapter-registry", "lm-eval", "datasets", "torch", "transformers", "peft")
KEPT = (
    "results", "groups", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples",
)  # fmt: skip
"""Of the harness's results: what says what was measured and how; no times and no paths of this machine."""
TASK_FILE, DATA = "task.yaml", "data"


def is_installed() -> bool:
    """Whether what tasks need is there."""
    return not _missing()


def require_harness() -> None:
    """Refuse where the harness is not installed; raises Unsupported."""
    if missing := _missing():
        raise Unsupported(
            f"tasks need {' and '.join(missing)}, not installed where this runs: pip install 'adapter-registry[eval]'."
        )


def require_ends(tokenizer: Any) -> None:
    """Refuse a tokenizer that the harness has no use for; raises InvalidInput."""
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        raise InvalidInput(
            "the tokenizer has no token that begins a text and none that ends one, and the harness needs one of them; "
            "measure the loss on text instead (--data)."
        )


def _missing() -> list[str]:
    return [name for name in ("lm_eval", "accelerate") if importlib.util.find_spec(name) is None]


def measured(
    base: Path, adapter: Path | None, tasks: Path, options: Mapping[str, Any], *, seed: int, out: Path, report: Report
) -> dict[str, Any]:
    """The harness's results on a base with an adapter on it, in float32; what each sample scored goes to `out`.

    Args:
        base: folder of the checkpoint.
        adapter: folder of the adapter; None measures the base alone.
        tasks: folder of one folder for each task: `task.yaml`, and its files in `data`.
        options: see `evaluate.TASK_DEFAULTS`.
        seed: of everything that the harness draws.
        out: gets `samples_TASK.jsonl`, without any text of a sample.
        report: told how far it is.

    Raises:
        Unsupported: the harness is not installed, or there is no such device.
        InvalidInput: a task that jobs do not run, or that the harness refuses.
        JobFailed: a value that is no number.
    """
    require_harness()
    found = list(_read(tasks))
    configs = [task.placed(str(tasks / task.name / DATA)) for task in found]
    report(Progress(0.0, "loading"))
    from jinja2 import TemplateError  # noqa: PLC0415  of the harness
    from lm_eval import simple_evaluate, utils  # noqa: PLC0415  slow, and an extra
    from lm_eval.models.huggingface import HFLM  # noqa: PLC0415
    from lm_eval.tasks import TaskManager  # noqa: PLC0415

    from adapter_registry.jobs.evaluate_loss import loaded  # noqa: PLC0415  torch

    utils.env = _sandboxed(utils.env)
    model, tokenizer, identity = loaded(base, adapter, options["device"])
    require_ends(tokenizer)
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=options["batch"], max_length=options["max_length"])
    report(Progress(0.0, "evaluating"))
    seeds = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")
    try:
        answer = simple_evaluate(
            model=harness,
            tasks=configs,
            num_fewshot=options["shots"],
            limit=options["limit"],
            task_manager=TaskManager(include_defaults=False),
            **dict.fromkeys(seeds, seed),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError, TemplateError) as error:
        raise InvalidInput(f"the harness refuses a task: {type(error).__name__}: {str(error)[:400]}") from error
    _refuse_no_number(answer["results"])
    _write_samples(answer["samples"], out)
    report(Progress(1.0, "evaluated"))
    return {
        "document": _document(answer, found, options),
        "tokenizer": identity,
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "device": _device_name(options["device"]),
    }


def _read(tasks: Path) -> Iterator[HarnessTask]:
    for path in sorted(tasks.glob(f"*/{TASK_FILE}")):
        task = read_task(path.read_text(encoding="utf-8"), name=path.parent.name)
        if task.name != path.parent.name:
            raise InvalidInput(f"the task of {path.parent.name} calls itself {task.name}; submit it by its own name.")
        yield task


def _sandboxed(plain: Any) -> Any:
    """An environment for templates in which they reach nothing but the sample."""
    from jinja2 import BaseLoader, StrictUndefined  # noqa: PLC0415  with the harness
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    made = ImmutableSandboxedEnvironment(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True)
    made.filters.update(plain.filters)
    return made


def _refuse_no_number(results: Mapping[str, Mapping[str, Any]]) -> None:
    for task, row in results.items():
        for key, value in row.items():
            if isinstance(value, float) and not math.isfinite(value) and "_stderr" not in key:
                name = key.removesuffix(",none")
                raise JobFailed(f"{task}/{name} is {value}, which is no measurement; no score was recorded.")


def _document(answer: Mapping[str, Any], tasks: list[HarnessTask], options: Mapping[str, Any]) -> dict[str, Any]:
    """The results as the importer reads them; the configs are those that were given."""
    configs = {task.name: task.config for task in tasks}
    shots = {task: count for task, count in answer.get("n-shot", {}).items() if task in configs}
    document = {name: answer[name] for name in KEPT if answer.get(name)}
    document["configs"] = {name: {**config, "num_fewshot": shots.get(name, 0)} for name, config in configs.items()}
    document["config"] = {"model_dtype": "float32", "limit": options["limit"]}
    document["lm_eval_version"] = importlib.metadata.version("lm-eval")
    cleaned: dict[str, Any] = json.loads(json.dumps(_without_nan(document), default=str))
    return cleaned


def _without_nan(value: Any) -> Any:
    """The same with numbers of numpy as Python's, and those that are none as the harness writes what it lacks."""
    if isinstance(value, Mapping):
        return {str(key): _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    value = value.item() if hasattr(value, "item") else value
    return "N/A" if isinstance(value, float) and not math.isfinite(value) else value


def _write_samples(samples: Mapping[str, list[dict[str, Any]]], out: Path) -> None:
    for task, found in samples.items():
        with (out / f"samples_{task}.jsonl").open("w", encoding="utf-8") as sink:
            sink.writelines(f"{line}\n" for line in _lines(found))


def _lines(samples: list[dict[str, Any]]) -> Iterator[str]:
    """What each sample scored, and the digest of its document; nothing of its text."""
    for sample in samples:
        metrics = list(sample.get("metrics", ()))
        kept = {name: sample.get(name) for name in ("doc_id", "doc_hash", "filter", *metrics)}
        yield json.dumps(_without_nan({**kept, "metrics": metrics}), default=str)


def _device_name(device: str) -> str:
    import torch  # noqa: PLC0415  slow

    return str(torch.cuda.get_device_name()) if device == "cuda" else "cpu"
