"""The same arithmetic on a device: by torch on the processor, and on the GPU where there is one."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from adapter_registry.domain.errors import InvalidInput, Unsupported
from adapter_registry.tensors.against_base import COMPARED, THRESHOLD, similarities_of, strongest
from adapter_registry.tensors.arrays import as_float32, as_stored
from adapter_registry.tensors.base_weights import base_weights
from adapter_registry.tensors.composing.methods import METHODS, find_method
from adapter_registry.tensors.composing.module import Wanted, composed, composed_rows
from adapter_registry.tensors.composing.options import How
from adapter_registry.tensors.composing.rows import ArrayRows, DoraRows, Moved, PairRows
from adapter_registry.tensors.composing.sparsify import at_random
from adapter_registry.tensors.devices import CPU, Device, check_name, device_of, host, memory_explained
from adapter_registry.tensors.extract import extract
from adapter_registry.tensors.layers import Pair
from adapter_registry.tensors.lowrank import subspace_svd
from adapter_registry.tensors.merging import merge
from adapter_registry.tensors.merging.blocks import Tally, Work
from adapter_registry.tensors.merging.device import Lanes
from adapter_registry.tensors.merging.edits import Edit, Part
from benchmarks import gpu
from tests.adapter_builders import adapter
from tests.unit.tensors.merging import base_of, by_us
from tests.unit.tensors.test_extract import noise, tuned

torch = pytest.importorskip("torch")

GPU = pytest.param(
    "cuda",
    marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="NO CUDA DEVICE: nothing here was run on a GPU"),
)
on_each_device = pytest.mark.parametrize("device", ["cpu", GPU])
NUMPY = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32, "F64": np.float64}
UNIT = {"BF16": 2**-7, "F16": 2**-10, "F32": 2**-22, "F64": 2**-22}
DENSE = [f"{name}:{d}" for name, dialects in METHODS.items() for d, method in dialects.items() if method.dense]
TOLERANCE = 1e-3
"""What docs/composing.md states: an entry whose sign or rank rounding decides may fall to the other side."""


def pairs_of(shape=(160, 96), ranks=(4, 6, 3)):
    rng = np.random.default_rng(7)
    return [
        Pair(
            rng.standard_normal((shape[0], rank)).astype(np.float32),
            rng.standard_normal((rank, shape[1])).astype(np.float32),
            0.2,
        )
        for rank in ranks
    ]


def how_of(name, **options):
    method = find_method(name)[2]
    given = {"density": 0.4, "spread": 0.1, "normalise": True, "election": "frequency"}
    taken = {key: value for key, value in given.items() if key in method.takes}
    weights = (
        (0.5, 0.5, 0.5) if name in ("ties:paper", "della:paper", "sce:paper", "sce:mergekit") else (0.7, -0.2, 0.4)
    )
    return replace(How(weights, keys=(1, 2, 3), **taken), **options)


class TestElementWiseMethods:
    @on_each_device
    @pytest.mark.parametrize("name", DENSE)
    def test_a_device_composes_what_the_processor_does(self, name, device):
        method, pairs, how = find_method(name)[2], pairs_of(), how_of(name)
        expected = method.dense([PairRows(pair) for pair in pairs], how)
        found = method.dense([PairRows(pair, Device(device)) for pair in pairs], how)
        assert isinstance(found, torch.Tensor)
        assert found.device.type == device
        assert np.linalg.norm(host(found) - expected) <= TOLERANCE * np.linalg.norm(expected)

    @on_each_device
    def test_a_seed_keeps_the_same_entries_on_every_device(self, device):
        block = np.ones((64, 48), np.float32)
        there = at_random(5, 0.3)(Device(device).put(block))
        assert np.array_equal(host(there), at_random(5, 0.3)(block))

    @on_each_device
    def test_of_equal_magnitudes_the_first_rows_stay(self, device):
        equal = np.full((6, 8), 2.0, np.float32)
        how = How((1.0,), keys=(0,), density=0.5)
        found = find_method("magnitude_prune")[2].dense([Moved(ArrayRows(equal), Device(device))], how)
        assert np.array_equal(host(found), np.repeat([[2.0], [0.0]], 3, axis=0) * np.ones((6, 8)))

    @on_each_device
    @pytest.mark.parametrize(
        ("shape", "wanted"),
        [((900, 700), Wanted(rank=8)), ((160, 96), Wanted(tolerance=0.2)), ((900, 700), Wanted(tolerance=0.5))],
    )
    def test_the_refit_on_a_device_has_the_same_delta_and_error(self, shape, wanted, device):
        pairs, method, how = pairs_of(shape), find_method("ties:mergekit")[2], how_of("ties:mergekit")
        expected = composed(pairs, method, how, wanted)
        found = composed(pairs, method, how, wanted, device=Device(device))
        assert isinstance(found.up, np.ndarray)
        assert found.rank == expected.rank
        assert found.error == pytest.approx(expected.error, rel=TOLERANCE)
        delta = expected.up @ expected.down
        assert np.linalg.norm(found.up @ found.down - delta) <= TOLERANCE * np.linalg.norm(delta)

    @on_each_device
    def test_a_dora_is_composed_on_a_device(self, device):
        rng = np.random.default_rng(3)
        weight = ArrayRows(rng.standard_normal((160, 96)).astype(np.float32))
        magnitude = rng.random(160).astype(np.float32) + 1
        deltas = [DoraRows(PairRows(pair), weight, magnitude) for pair in pairs_of()]
        how, method = How((1.0, 0.5, -0.3), keys=(1, 2, 3)), find_method("linear")[2]
        expected = composed_rows(deltas, method, how, Wanted(rank=8), name="q")
        found = composed_rows(deltas, method, how, Wanted(rank=8), name="q", device=Device(device))
        assert found.error == pytest.approx(expected.error, rel=TOLERANCE)


@on_each_device
@pytest.mark.parametrize("wanted", [Wanted(rank=3), Wanted(tolerance=0.3)])
def test_a_device_extracts_what_the_processor_does(tmp_path, llama_folder, llama_base, wanted, device):
    fine = tuned(llama_folder, tmp_path / "fine", noise(["q_proj", "norm"]))
    with base_weights(fine) as new, base_weights(llama_folder) as old:
        expected = extract(new, old, llama_base, wanted)
        found = extract(new, old, llama_base, wanted, device=Device(device))
    assert found.adapter.tensors.keys() == expected.adapter.tensors.keys()
    assert found.adapter.ranks == expected.adapter.ranks
    for one, other in zip(found.fits, expected.fits, strict=True):
        assert one.error == pytest.approx(other.error, rel=TOLERANCE)


@on_each_device
def test_a_subspace_iteration_begins_with_the_same_columns(device):
    matrix = np.random.default_rng(0).standard_normal((300, 200)).astype(np.float32)
    # One round: had it begun elsewhere, it would be far away still.
    _, expected, _ = subspace_svd(matrix, 6, key=4, iterations=1)
    _, found, _ = subspace_svd(Device(device).put(matrix), 6, key=4, iterations=1)
    assert found == pytest.approx(expected, rel=1e-5)


def work_of(dtype, stored, lanes, *, shape=(37, 600), stacked=False):
    """A tensor with two adapters; of a stack, the last matrix has none."""
    rng = np.random.default_rng(11)
    matrices, rows, columns = shape if stacked else (1, *shape)

    def part(rank, weight):
        up, down = (rng.standard_normal(size).astype(np.float32) for size in ((rows, rank), (rank, columns)))
        return Part(weight, lambda: Pair(up, down, 0.01))

    parts = {number: [part(5, 1.0), part(3, -0.7)] for number in range(matrices - stacked)}
    stored_as = np.ascontiguousarray(as_stored(rng.standard_normal(shape).astype(np.float32), dtype))
    edit = Edit("q", parts, stacked=stacked)
    return Work(edit, stored_as.reshape(-1).view(np.uint8), dtype, shape, stored, Tally(), lanes)


def bytes_of(work):
    return np.concatenate([block(work.buffer()).copy() for block in work.blocks()])


class TestMerge:
    @on_each_device
    @pytest.mark.parametrize(
        ("dtype", "stored"), [("BF16", "BF16"), ("F16", "F16"), ("F32", "F32"), ("BF16", "F32"), ("F64", "F64")]
    )
    def test_a_device_merges_what_the_kernel_does(self, dtype, stored, device):
        kernel, there = work_of(dtype, stored, None), work_of(dtype, stored, Lanes(Device(device)))
        expected, found = bytes_of(kernel), bytes_of(there)
        assert there.tally.weights == kernel.tally.weights
        assert there.tally.sums == pytest.approx(kernel.tally.sums, rel=1e-3 if device == "cuda" else 1e-9)
        if device == "cpu":
            assert np.array_equal(found, expected)
        one, other = (as_float32(each.view(NUMPY[stored]), stored) for each in (expected, found))
        # What docs/merging.md states: one unit in the last place of what is stored.
        assert np.all(np.abs(one - other) <= UNIT[stored] * np.maximum(np.abs(one), 0.1))

    @on_each_device
    def test_a_matrix_of_a_stack_that_no_adapter_changes_stays_as_it_is(self, device):
        work = work_of("BF16", "BF16", Lanes(Device(device)), shape=(3, 20, 48), stacked=True)
        size, merged = 20 * 48 * 2, bytes_of(work)
        assert np.array_equal(merged[2 * size :], work.source[2 * size :])
        assert not np.array_equal(merged[size : 2 * size], work.source[size : 2 * size])

    @on_each_device
    def test_a_checkpoint_is_the_same_whatever_the_device(self, tmp_path, device, monkeypatch):
        from peft import LoraConfig

        base = base_of(tmp_path / "base", "bfloat16")
        targets = LoraConfig(r=4, lora_alpha=7, target_modules=["q_proj", "down_proj"])
        lora = adapter(tmp_path / "lora", base, targets)
        kernel = by_us(base, tmp_path / "kernel", lora)
        monkeypatch.setattr(merge, "device_of", lambda _: Device(device))
        for workers in (1, 3):
            there = by_us(base, tmp_path / f"there{workers}", lora, workers=workers)
            assert there.kept == pytest.approx(kernel.kept, rel=1e-3)
            if device == "cpu":
                assert there.files == kernel.files

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
    def test_a_device_that_is_not_there_is_refused_before_anything_is_read(self, tmp_path):
        with pytest.raises(Unsupported, match="no CUDA device"):
            merge.merge(None, tmp_path / "none", [], tmp_path / "out", options=merge.Options(device="cuda"))
        assert not list(tmp_path.iterdir())


class TestIntruders:
    @on_each_device
    def test_the_same_dimensions_intrude_on_every_device(self, device):
        numbers = np.random.default_rng(5)
        matrix = numbers.standard_normal((220, 180)).astype(np.float32)
        up, down = numbers.standard_normal((220, 3)), numbers.standard_normal((3, 180))
        pair = Pair(up.astype(np.float32), down.astype(np.float32), 1.0)
        for each in (pair.up, pair.down):
            each.flags.writeable = False  # as those of a file that is mapped into memory
        found = []
        for each in (CPU, Device(device)):
            there = each.put(matrix)
            right = strongest(there, None, COMPARED, None)[1]
            found.append(similarities_of(there, pair, right))
        assert np.count_nonzero(found[0] < THRESHOLD) == 3
        # What docs/diffing.md states; the vectors themselves turn freely where singular values are close.
        assert found[1] == pytest.approx(found[0], abs=0.02)


class TestRefusal:
    def test_a_device_of_another_name_is_refused(self):
        for name in ("torch-cpu", "cuda:1", 3, None):
            with pytest.raises(InvalidInput, match="--device is one of cpu, cuda"):
                check_name(name)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
    def test_without_a_cuda_device_nothing_is_done(self):
        with pytest.raises(Unsupported, match=r"there is no CUDA device here.*nothing was done"):
            device_of("cuda")

    def test_memory_that_runs_out_is_told_as_such(self):
        with pytest.raises(Unsupported, match="ran out of memory; nothing was stored"), memory_explained(Device("cpu")):
            raise torch.cuda.OutOfMemoryError

    def test_without_torch_it_is_said_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        with pytest.raises(Unsupported, match=r"adapter-registry\[jobs\]"):
            device_of("cuda")

    def test_the_processor_takes_no_torch(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        assert device_of("cpu") is CPU


def test_the_benchmark_measures_what_agrees(tmp_path, monkeypatch):
    monkeypatch.setattr(merge, "device_of", merge.device_of)  # the benchmark sets it; this puts it back
    found = gpu.measured(Device("cpu"), size=128, layers=1, folder=tmp_path)
    assert found.keys() == {*gpu.METHODS, "intruders", "merge"}
    assert all(row["apart"] <= 0.02 for row in found.values())
    assert found["merge"]["apart"] == 0
