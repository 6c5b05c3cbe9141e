"""What the kinds that make an adapter share: options read, inputs opened, lineage told, the result pushed."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import msgspec

from adapter_registry.client import Registry
from adapter_registry.domain.base import Base
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.job import Progress
from adapter_registry.domain.lineage import Lineage, ModuleFit, Parent, total_error
from adapter_registry.domain.recipe import Recipe
from adapter_registry.jobs.kind import INPUTS, OUT, Report

BASE_TABLE, BASE_FILES = "base.json", "base"
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""What people call a type -> what safetensors calls it."""
MOST_RANK = 4096


def read_options(given: Mapping[str, Any], defaults: Mapping[str, Any], *, kind: str) -> dict[str, Any]:
    """The options with their defaults.

    Raises:
        InvalidInput: one that there is not, or of another type, or a rank, tolerance or dtype out of range.
    """
    unknown = sorted(given.keys() - defaults.keys())
    if unknown:
        raise InvalidInput(f"{kind} has no option {unknown[0][:60]!r}; it has {', '.join(defaults)}.")
    options = {**defaults, **given}
    rank, tolerance = options["rank"], options["tolerance"]
    if rank not in (None, "auto") and not (type(rank) is int and 1 <= rank <= MOST_RANK):
        raise InvalidInput(f"--rank is auto or a whole number of 1 to {MOST_RANK:,}, not {str(rank)[:40]!r}.")
    if rank == "auto" and not (isinstance(tolerance, int | float) and 0 < tolerance < 1):
        raise InvalidInput("--rank auto takes the error that is allowed: --tolerance, above 0 and below 1.")
    if rank != "auto" and tolerance is not None:
        raise InvalidInput("--tolerance is for --rank auto.")
    if options["dtype"] not in DTYPES:
        raise InvalidInput(f"--dtype is one of {', '.join(DTYPES)}, not {str(options['dtype'])[:40]!r}.")
    return options


def put_base(base: Base, scratch: Path) -> None:
    """Lay the table of the base's tensors among the inputs."""
    (scratch / INPUTS / BASE_TABLE).write_bytes(msgspec.json.encode(base))


def take_base(scratch: Path) -> Base:
    """What `put_base` laid there."""
    return msgspec.json.decode((scratch / INPUTS / BASE_TABLE).read_bytes(), type=Base)


def teller(report: Report, what: str) -> Callable[[int, int, str], None]:
    """Tells a report of modules that are done."""
    return lambda done, total, name: report(Progress(done / max(total, 1), f"{what} {name}", unit="modules"))


def outcome_of(fits: tuple[ModuleFit, ...], notes: tuple[str, ...], device: str) -> dict[str, Any]:
    """What a computation tells its publisher."""
    libraries = {name: version_of(name) for name in ("numpy", "adapter-registry")}
    libraries["python"] = platform.python_version()
    return {
        "modules": [msgspec.to_builtins(fit) for fit in fits],
        "error": total_error(fits),
        "notes": list(notes),
        "libraries": libraries,
        "device": f"{device} {platform.machine()} {sys.platform}",
    }


def told(recipe: Recipe, defaults: Mapping[str, Any]) -> dict[str, str]:
    """The options that are not their defaults."""
    return {key: str(value) for key, value in recipe.options.items() if value != defaults[key]}


def lineage_of(
    recipe: Recipe, outcome: Mapping[str, Any], parents: tuple[Parent, ...], options: Mapping[str, str]
) -> Lineage:
    """The lineage of what a recipe made; `options` as `told` gives them."""
    name, _, dialect = options["method"].partition(":")
    said = {key: value for key, value in options.items() if key != "method"}
    return Lineage(
        kind=recipe.kind,
        method=name,
        dialect=dialect,
        parents=parents,
        options=said,
        seed=recipe.seed,
        libraries=dict(outcome["libraries"]),
        device=outcome["device"],
        error=outcome["error"],
        modules=msgspec.convert(outcome["modules"], tuple[ModuleFit, ...]),
        notes=tuple(outcome["notes"]),
    )


def published(registry: Registry, recipe: Recipe, scratch: Path, lineage: Lineage) -> dict[str, Any]:
    """Store what was made in `scratch/out`; see `Kind.publish`."""
    assert recipe.base is not None  # noqa: S101  `check` filled it in
    message = lineage.recipe if len(lineage.recipe) < 1000 else f"{lineage.kind}: {lineage.method}"
    stored = registry.push(scratch / OUT, base=recipe.base, name=recipe.into, message=message, lineage=lineage)
    return {
        "reference": stored.version.reference,
        "digest": stored.version.digest,
        "created": stored.created,
        "error": lineage.error,
        "notices": [str(each) for each in stored.notices],
    }


def readme(title: str, facts: Mapping[str, str], lines: tuple[str, ...]) -> str:
    """A model card that says what an adapter was made of."""
    rows = [f"- {name}: {value}" for name, value in facts.items()]
    return "\n".join(["---", "library_name: peft", "---", "", f"# {title}", "", *rows, "", *lines]).rstrip() + "\n"
