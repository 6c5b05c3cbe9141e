"""Merge adapters into their base: a complete checkpoint that transformers loads, streamed file by file.

What nobody changes is copied by the kernel; what changes is computed in blocks of rows, in float32, and rounded once.
Memory is bounded by one block for each worker and the factors of the tensors at hand, whatever the size of the model.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from adapter_registry.checkpoints.base_files import INDEX
from adapter_registry.checkpoints.base_folder import Opened, open_checkpoint
from adapter_registry.checkpoints.confined import Limits
from adapter_registry.checkpoints.merged_from import LINEAGE, Input, Lineage, read_lineage
from adapter_registry.domain.base import Base
from adapter_registry.domain.digest import Digest, of_json
from adapter_registry.domain.errors import InvalidInput, Notice, StoreFull
from adapter_registry.tensors.dequantized import dequantized
from adapter_registry.tensors.devices import check_name, device_of, memory_explained
from adapter_registry.tensors.loaded import loaded
from adapter_registry.tensors.merging import kernel as merge_kernel
from adapter_registry.tensors.merging.blocks import Tally
from adapter_registry.tensors.merging.config import config_changes
from adapter_registry.tensors.merging.device import Lanes
from adapter_registry.tensors.merging.layout import OutFile, copied, index_name, index_of, layout
from adapter_registry.tensors.merging.methods import check_mergeable
from adapter_registry.tensors.merging.plan import Decode, Plan
from adapter_registry.tensors.merging.planner import Weighed, plan_of
from adapter_registry.tensors.merging.survival import Survived, kept_of, survived, warnings
from adapter_registry.tensors.merging.through_peft import plan_of_peft
from adapter_registry.tensors.merging.write import Written, aside, publish, write_files
from adapter_registry.tensors.through_peft import merged

CONFIG = "config.json"
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
COPY_RATE, COMPUTE_RATE = 0.6e9, 0.5e9
"""Bytes a second that one core copies and hashes, or computes, writes and hashes, with a wide margin."""
SPARE = 64 << 20
"""Bytes that must stay free on the disk."""


@dataclass(frozen=True, slots=True)
class Ingredient:
    """One adapter to merge.

    Attributes:
        folder: a PEFT folder that passed intake.
        weight: what its delta is multiplied by.
        name: what people call it.
        digest: of its Version; empty where it is none.
    """

    folder: Path
    weight: float = 1.0
    name: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """How to merge.

    Attributes:
        dtype: `float32`, `float16`, `bfloat16` for every tensor of floats; None keeps each one's own.
        shard: largest size of a weight file in bytes; None keeps the base's files.
        accumulate: `float32` sums in float32 and rounds once; `peft` takes the bits that PEFT computes.
        workers: threads; None for one on each core.
        device: of `devices.DEVICES`: what computes sums of low-rank products; all else is the processor's.
        onto: `dequantized` for the floats that a base quantised by bitsandbytes stands for; None for what is stored.
        limits: of the child process that PEFT merges in; None leaves those of this process.
    """

    dtype: str | None = None
    shard: int | None = None
    accumulate: str = "float32"
    workers: int | None = None
    device: str = "cpu"
    onto: str | None = None
    limits: Limits | None = None

    @property
    def threads(self) -> int:
        """How many workers there are."""
        return self.workers or len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a merge will take: files and bytes written, bytes computed, seconds (rough), bytes free where it goes."""

    files: int
    size: int
    computed: int
    seconds: float
    free: int


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged checkpoint.

    Attributes:
        folder: where it is; None after a dry run.
        files: its weight files.
        estimate: what it was expected to take.
        seconds: what it took.
        kept: the share of the whole change that the stored types carry.
        modules: what survived of each module's delta.
        notices: what is worth knowing.
    """

    folder: str | None
    files: tuple[Written, ...]
    estimate: Estimate
    seconds: float
    kept: float
    modules: tuple[Survived, ...]
    notices: tuple[Notice, ...]


Progress = Callable[[int], None]


def _silent(_bytes: int) -> None:
    return


def merge(
    base: Base,
    source: Path,
    ingredients: Sequence[Ingredient],
    out: Path,
    *,
    options: Options = Options(),
    progress: Progress = _silent,
    dry: bool = False,
) -> Merged:
    """Merge adapters into the base whose bytes are in `source`, into the new folder `out`.

    Args:
        base: what all of them are locked to; the caller has compared it with `source`.
        source: folder of the base.
        ingredients: what to merge; several are summed before they are rounded.
        out: folder to make; an interrupted merge of the same things into it is taken up again.
        options: see `Options`.
        progress: called with bytes as they are written.
        dry: plan and estimate only.

    Raises:
        Unsupported: something cannot be merged, with every reason; or numba is not installed.
        Conflict: `out` exists.
        StoreFull: there is not enough space; nothing was left behind.
    """
    started = time.monotonic()
    check_options(options)
    with lanes_of(options) as lanes, planned(base, source, ingredients, out, options=options) as task:
        estimate = task.estimate(out)
        if dry:
            return Merged(None, (), estimate, time.monotonic() - started, 1.0, (), task.notices())
        written, tallies = task.run(out, estimate, progress, lanes)
    return task.report(out, written, tallies, (estimate, time.monotonic() - started))


@contextmanager
def lanes_of(options: Options) -> Iterator[Lanes | None]:
    """Those of the device that is to compute; None: the processor does."""
    device = device_of(options.device)
    with memory_explained(device):
        yield Lanes(device) if device.torch else None


@contextmanager
def planned(
    base: Base, source: Path, ingredients: Sequence[Ingredient], out: Path, *, options: Options
) -> Iterator[Task]:
    """A merge with everything settled and nothing written; see `merge`."""
    check_options(options)
    opened, decoders = open_checkpoint(source), dict[str, Decode]()
    if options.onto:
        seen = dequantized(base, opened, dtype=_config_dtype(_folder(opened)))
        base, opened, decoders = seen.base, seen.opened, dict(seen.decoders)
    with ExitStack() as stack:
        plan = _plan(base, opened, ingredients, options, (out, stack, decoders))
        files = layout(plan, base, opened, dtype=DTYPES.get(options.dtype or ""), shard=options.shard)
        yield Task(base, opened, tuple(ingredients), options, plan, files)


def _plan(
    base: Base,
    opened: Opened,
    ingredients: Sequence[Ingredient],
    options: Options,
    place: tuple[Path, ExitStack, Mapping[str, Decode]],
) -> Plan:
    """What happens to which tensor; PEFT's own merge is computed for that, beside `out`."""
    out, stack, decoders = place
    named = [each.name or each.folder.name for each in ingredients]
    if not check_mergeable(base, ingredients, options):
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix=".peft-", dir=out.absolute().parent)))
        merged(_folder(opened), ingredients[0].folder, scratch / "merged", limits=options.limits)
        return plan_of_peft(opened, open_checkpoint(scratch / "merged"), named[0])
    adapters = [
        Weighed(stack.enter_context(loaded(each.folder, base)), each.weight, name)
        for each, name in zip(ingredients, named, strict=True)
    ]
    return plan_of(base, opened, adapters, decoders=decoders)


def _folder(opened: Opened) -> Path:
    return opened.files[0][0].parent


def _config_dtype(folder: Path) -> str:
    path = folder / CONFIG
    told = json.loads(path.read_bytes()) if path.is_file() else {}
    return str(told.get("dtype") or told.get("torch_dtype") or "float16")


def check_options(options: Options) -> None:
    """Refuse values that no merge has.

    Raises:
        InvalidInput: naming the values there are.
    """
    if options.dtype is not None and options.dtype not in DTYPES:
        raise InvalidInput(f"{options.dtype!r} is no type to store in; there are {', '.join(DTYPES)}.")
    if options.accumulate not in ("float32", "peft"):
        raise InvalidInput(f"deltas accumulate in float32, or as `peft` does it; not {options.accumulate!r}.")
    if options.shard is not None and options.shard < 1 << 10:
        raise InvalidInput(f"a weight file of at most {options.shard} bytes would hold nothing.")
    check_name(options.device)
    if options.workers is not None and options.workers < 1:
        raise InvalidInput(f"a merge has at least one worker, not {options.workers}.")
    if options.onto not in (None, "dequantized"):
        raise InvalidInput(f"a merge goes onto the stored weights, or onto `dequantized` ones; not {options.onto!r}.")


@dataclass(frozen=True)
class Task:
    """One merge, planned: its files are those of the result."""

    base: Base
    opened: Opened
    ingredients: tuple[Ingredient, ...]
    options: Options
    plan: Plan
    files: tuple[OutFile, ...]

    @property
    def folder(self) -> Path:
        """Of the base."""
        return _folder(self.opened)

    def estimate(self, out: Path) -> Estimate:
        """Space and time; the folder that `out` goes into may not exist yet."""
        size = sum(file.size for file in self.files)
        computed = sum(t.size for file in self.files for t in file.tensors if not t.untouched)
        seconds = ((size - computed) / COPY_RATE + computed / COMPUTE_RATE) / min(self.options.threads, 4)
        there = next(place for place in (out, *out.absolute().parents) if place.exists())
        return Estimate(len(self.files), size, computed, seconds, shutil.disk_usage(there).free)

    def recipe(self) -> Digest:
        """What an interrupted merge must have been to be taken up again."""
        heads = [(file.name, of_json(file.head.hex())) for file in self.files]
        inputs = [(each.digest or _told(each.folder), each.weight) for each in self.ingredients]
        told = asdict(self.options) | {"workers": None, "limits": None}
        return of_json({"base": self.base.digest, "inputs": inputs, "options": told, "heads": heads})

    def run(
        self, out: Path, estimate: Estimate, progress: Progress, lanes: Lanes | None
    ) -> tuple[list[Written], dict[str, Tally]]:
        """Write everything."""
        merge_kernel.load()
        out.parent.mkdir(parents=True, exist_ok=True)
        tallies = {name: Tally() for name in self.plan.edits}
        with aside(out, self.recipe()) as place:
            there = sum(path.stat().st_size for path in place.iterdir())
            if estimate.free + there < estimate.size + SPARE:
                raise StoreFull(
                    f"merging takes {estimate.size:,} bytes and {estimate.free + there:,} are free at {out.parent}; "
                    "nothing was written. Name another place."
                )
            threads = self.options.threads
            written = write_files(place, self.files, workers=threads, progress=progress, tallies=tallies, lanes=lanes)
            self._small_files(place)
            publish(place, out)
        return written, tallies

    def _small_files(self, place: Path) -> None:
        name = index_name(self.folder) if self.options.shard is None else None
        index = index_of(self.files, (self.folder / name).read_bytes() if name else None)
        if index is not None:
            _put(place / (name or INDEX), index)
        for path in copied(self.folder):
            _put(place / path.name, path.read_bytes())
        config = self.folder / CONFIG
        if config.is_file():
            told = config_changes(self.plan, self.base, json.loads(config.read_bytes()), self.dtype)
            same = told == json.loads(config.read_bytes())
            _put(place / config.name, config.read_bytes() if same else (json.dumps(told, indent=2) + "\n").encode())
        _put(place / LINEAGE, self.lineage().encoded())

    def lineage(self) -> Lineage:
        """What the result was made of."""
        inputs = tuple(Input(each.name or each.folder.name, each.digest, each.weight) for each in self.ingredients)
        name = self.base.repository or ""
        return Lineage(
            self.base.digest, name, inputs, self.options.accumulate, self.options.dtype or "", self.options.onto or ""
        )

    @property
    def dtype(self) -> str | None:
        """What config.json is to say: the type asked for, or what most weights were dequantised to; None: as before."""
        kinds = Counter(t.dtype for file in self.files for t in file.tensors if t.origin.decode)
        made = {kind: name for name, kind in DTYPES.items()}
        return self.options.dtype or next((made[kind] for kind, _ in kinds.most_common(1)), None)

    def notices(self) -> tuple[Notice, ...]:
        """What is known before anything is written."""
        found = list(self.plan.notices)
        earlier = read_lineage(self.folder)
        if earlier is not None:
            text = (
                f"this base is itself a merge ({earlier.told}); merging one after the other rounds each time: "
                "compose the adapters, or merge them at once into the first base, to lose less."
            )
            found.append(Notice("chained-merge", "", "", text))
        return tuple(found)

    def report(
        self, out: Path, written: list[Written], tallies: dict[str, Tally], took: tuple[Estimate, float]
    ) -> Merged:
        """What came of it."""
        tensors = {t.name: t for file in self.files for t in file.tensors if t.edit}
        found = (survived(t.edit.name, t.name, t.dtype, tallies[t.name]) for t in tensors.values() if t.edit)
        modules = tuple(each for each in found if each)
        notices = (*self.notices(), *warnings(tallies, (each.dtype for each in modules)))
        return Merged(str(out), tuple(written), took[0], took[1], kept_of(tallies.values()), modules, notices)


def _told(folder: Path) -> list[tuple[str, int, int]]:
    """The files of an adapter, so that another content is another recipe."""
    return sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir())


def _put(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
