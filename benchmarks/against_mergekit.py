"""Every `mergekit` dialect of `adapters compose` against mergekit itself: the same deltas, the same answer.

A tiny Llama and three fine-tunes of it in float32 are merged by mergekit's own `run_merge`, and what it added to the
base is compared with what our method makes of the same differences; once with large changes, once with changes of the
size that a LoRA makes. Random masks are drawn with one seed on both sides. mergekit needs an environment of its own:

    python -m venv MK && MK/bin/pip install torch==2.13.0 mergekit==0.1.5
    python -m benchmarks.against_mergekit --mergekit MK/bin/python [--record tests/unit/tensors/mergekit.safetensors]

Promised: a relative difference below 1e-5 beside what storing base + delta in float32 rounds away. `--record` writes
deltas and answers for the tests, which hold our methods against them where mergekit is not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from adapter_registry.tensors.composing.methods import find_method
from adapter_registry.tensors.composing.options import How
from adapter_registry.tensors.composing.rows import ArrayRows
from adapter_registry.tensors.layers import Pair
from adapter_registry.tensors.lowrank import Span

Matrix = NDArray[Any]
SIZES = {"large": 0.05, "of a LoRA": 1e-4}
"""What the fine-tunes add to a weight, as a standard deviation; the base has 0.02."""
ADAPTED = ("self_attn.q_proj.weight", "mlp.down_proj.weight")
TOLERANCE = 1e-5
MIXED, POSITIVE, ONES = (0.7, -0.3, 1.1), (0.2, 0.5, 0.3), (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Case:
    """One merge, in our words and in mergekit's.

    Attributes:
        ours: `name:dialect`.
        method: mergekit's.
        weights: one for each model; None: mergekit's method takes none.
        options: of `How`.
        shared: mergekit's parameters of the merge.
        each: mergekit's parameters of each model.
        onto_base: whether mergekit is told the base.
    """

    ours: str
    method: str
    weights: tuple[float | None, ...] = MIXED
    options: Mapping[str, Any] = field(default_factory=dict)
    shared: Mapping[str, Any] = field(default_factory=dict)
    each: Mapping[str, Any] = field(default_factory=dict)
    onto_base: bool = True

    def __str__(self) -> str:
        said = " ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.ours} {said} of {', '.join(map(str, self.weights))}"


def _cases() -> Iterator[Case]:
    nothing = (None, None, None)
    yield Case("linear:sum", "task_arithmetic", options={"scale": 0.4}, shared={"lambda": 0.4})
    yield Case("linear:mergekit", "linear", POSITIVE, onto_base=False)
    yield Case("linear:mergekit", "task_arithmetic", shared={"normalize": True})
    yield Case("slerp:mergekit", "nuslerp", (0.3, 0.7))
    yield Case("slerp:mergekit", "nuslerp", (2.0, -0.5))
    yield Case("multislerp:mergekit", "multislerp", POSITIVE)
    yield Case("multislerp:mergekit", "multislerp", (2.0, 1.0, -0.5))
    yield Case("multislerp:mergekit", "multislerp", MIXED, {"normalise": False}, {"normalize_weights": False})
    yield Case("model_stock:mergekit", "model_stock", nothing)
    for density in (0.0, 0.001, 0.3, 1.0):
        kept = {"density": density}
        yield Case("ties:mergekit", "ties", options=kept, each=kept)
        yield Case("sce:mergekit", "sce", nothing, kept, {"select_topk": density})
    for density in (0.0, 0.3, 0.8, 1.0):
        kept = {"density": density}
        for name in ("dare_ties", "dare_linear"):
            yield Case(f"{name}:mergekit", name, options=kept, each=kept)
        for name in ("breadcrumbs", "breadcrumbs_ties"):
            for outliers in (0.0, 0.05, 0.5) if 0 < density < 1 else (0.05,):
                told = {**kept, "outliers": outliers}
                yield Case(f"{name}:mergekit", name, options=told, each={**kept, "gamma": outliers})
    for name in ("della", "della_linear"):
        yield Case(f"{name}:mergekit", name, options={"density": 0.5}, each={"density": 0.5})
        kept = {"density": 0.4, "spread": 0.3}
        yield Case(f"{name}:mergekit", name, options=kept, each={"density": 0.4, "epsilon": 0.3})
    for name in ("ties", "dare_ties", "dare_linear", "della", "della_linear", "breadcrumbs", "breadcrumbs_ties"):
        epsilon = {"spread": 0.15} if "della" in name else {}
        for divide in (True, False):
            options = {"density": 0.6, "normalise": divide, "scale": -0.5, **epsilon}
            shared = {"normalize": divide, "lambda": -0.5}
            yield Case(f"{name}:mergekit", name, POSITIVE, options, shared, {"density": 0.6})


CASES = tuple(_cases())


def delta_of(case: Case, deltas: Sequence[Matrix]) -> Matrix:
    """What our method makes of these differences."""
    used = deltas[: len(case.weights)]
    weights = tuple(1.0 if weight is None else weight for weight in case.weights)
    how = How(weights, keys=tuple(zlib.crc32(delta.tobytes()) for delta in used), **case.options)
    method = find_method(case.ours)[2]
    if method.normalise and how.normalise is None:
        how = replace(how, normalise=True)
    if method.dense is not None:
        return np.asarray(method.dense([ArrayRows(delta) for delta in used], how), dtype=np.float64)
    assert method.core is not None
    pairs = [Pair(delta, np.eye(delta.shape[1], dtype=np.float32), 1.0) for delta in used]
    factored = method.core(Span.of(pairs), how)
    up, down = factored.truncated(len(factored.values))
    return up @ down


def apart(case: Case, base: Matrix, tuned: Sequence[Matrix], merged: Matrix) -> tuple[float, float]:
    """(how far the two answers are apart, what may be), both beside the norm of mergekit's delta."""
    deltas = [each - base for each in tuned]
    theirs = merged.astype(np.float64) - base
    size = float(np.linalg.norm(theirs)) or 1.0
    # mergekit's answer was rounded when it was stored, as base + delta.
    rounding = float(np.finfo(np.float32).eps) * float(np.linalg.norm(base)) / size
    return float(np.linalg.norm(delta_of(case, deltas) - theirs)) / size, TOLERANCE + rounding


def checkpoints(folder: Path, size: float) -> tuple[Path, list[Path]]:
    """A base and three fine-tunes of it that agree somewhat."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder / "base")
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    common = {name: torch.randn_like(value) for name, value in before.items()}
    for number in range(len(MIXED)):
        with torch.no_grad():
            for name, value in model.named_parameters():
                own = torch.randn_like(value)
                value.copy_(before[name] + size * (number + 1) / 2 * (common[name] + own))
        model.save_pretrained(folder / f"tuned{number}")
    return folder / "base", [folder / f"tuned{number}" for number in range(len(MIXED))]


def merged_by_mergekit(python: str, folder: Path, size: float) -> dict[str, Matrix]:
    """`base/NAME`, `tuned0/NAME`, ... and `NUMBER of the case/NAME`, for each adapted tensor."""
    base, tuned = checkpoints(folder, size)
    question = {"base": str(base), "tuned": list(map(str, tuned)), "out": str(folder / "out")}
    question["cases"] = [asdict(case) for case in CASES]  # type: ignore[assignment]
    side = Path(__file__).with_name("mergekit_side.py")
    subprocess.run([python, "-I", str(side)], input=json.dumps(question).encode(), check=True)
    places = {"base": base, **{each.name: each for each in tuned}}
    places |= {str(number): folder / "out" / str(number) for number in range(len(CASES))}
    return {
        f"{said}/{name}": value
        for said, place in places.items()
        for path in sorted(place.glob("*.safetensors"))
        for name, value in load_file(path).items()
        if name.endswith(ADAPTED)
    }


def record(path: Path, found: Mapping[str, Mapping[str, Matrix]]) -> None:
    """Write deltas and answers, with the cases, for the tests."""
    arrays = {f"{size}/{name}": array for size, arrays in found.items() for name, array in arrays.items()}
    save_file(arrays, path, metadata={"cases": json.dumps([asdict(case) for case in CASES])})


def recorded(path: Path) -> Iterator[tuple[str, Case, Matrix, list[Matrix], Matrix]]:
    """(size and tensor, case, base, fine-tunes, mergekit's answer) of everything in a record."""
    with safe_open(path, "np") as file:
        told, names = json.loads(file.metadata()["cases"]), set(file.keys())
    arrays = load_file(path)
    for number, each in enumerate(told):
        case = Case(**{**each, "weights": tuple(each["weights"])})
        for name in sorted(name for name in names if name.split("/")[1] == str(number)):
            size, _, tensor = name.split("/")
            tuned = [arrays[f"{size}/tuned{i}/{tensor}"] for i in range(len(MIXED))]
            yield f"{size} {tensor}", case, arrays[f"{size}/base/{tensor}"], tuned, arrays[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mergekit", help="the Python of an environment that has mergekit")
    parser.add_argument("--record", type=Path, help="write deltas and answers here, for the tests")
    options = parser.parse_args()
    if not options.mergekit:
        raise SystemExit("name the Python of an environment that has mergekit with --mergekit (see --help)")
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {}
        for said, size in SIZES.items():
            (Path(name) / said).mkdir()
            found[said] = merged_by_mergekit(options.mergekit, Path(name) / said, size)
        path = options.record or Path(name) / "record.safetensors"
        record(path, found)
        worst: dict[str, tuple[float, float]] = {}
        for _, case, base, tuned, merged in recorded(path):
            distance, allowed = apart(case, base, tuned, merged)
            worst[str(case)] = max(worst.get(str(case), (0.0, 1.0)), (distance, allowed))
    for said, (distance, allowed) in worst.items():
        print(f"{'apart' if distance > allowed else 'same '}  {distance:8.1e} (allowed {allowed:.1e})  {said}")
    different = sum(distance > allowed for distance, allowed in worst.values())
    print(f"{len(worst) - different} of {len(worst)} cases are mergekit's, {different} are not")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
