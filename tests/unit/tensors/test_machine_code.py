"""Compiled loops are kept, and what is damaged is compiled again."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from adapter_registry.tensors.merging import machine_code
from adapter_registry.tensors.merging.kernel import load
from adapter_registry.tensors.merging.machine_code import loaded


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_code, "_places", lambda: [tmp_path / "not a folder", tmp_path / "kept"])
    (tmp_path / "not a folder").touch()
    return tmp_path / "kept"


def answer(number: int, compiled: list[int], source: bytes = b"") -> int:
    def assembly():
        compiled.append(number)
        yield f"define i32 @answer() {{ ret i32 {number} }}"

    return ctypes.CFUNCTYPE(ctypes.c_int32)(loaded("test", source, assembly)("answer"))()


def test_what_was_compiled_once_is_found_again(place):
    compiled = []
    assert (answer(1, compiled), answer(2, compiled)) == (1, 1)
    assert compiled == [1]


def test_another_source_is_compiled_anew(place):
    compiled = []
    assert (answer(1, compiled, b"one"), answer(2, compiled, b"two")) == (1, 2)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: bytes(len(data))])
def test_a_damaged_file_is_compiled_again(place, damage):
    compiled = []
    answer(1, compiled)
    [kept] = place.iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    assert answer(2, compiled) == 2
    assert answer(3, compiled) == 2


def test_where_nothing_can_be_kept_it_is_compiled_each_time(place):
    place.touch()
    assert [answer(number, []) for number in (1, 2)] == [1, 2]


def test_loops_that_were_compiled_before_are_loaded_without_numba():
    load()
    program = """
import sys
from adapter_registry.tensors.merging import merge
from adapter_registry.tensors.merging import kernel as merge_kernel
merge_kernel.load()
print('numba' in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"False\n"


def test_without_the_compiler_merging_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    with pytest.raises(machine_code.Unsupported, match=r"numba, which is not installed.*adapter-registry\[jobs\]"):
        answer(1, [])
