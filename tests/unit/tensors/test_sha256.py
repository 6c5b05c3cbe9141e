"""Digests of two streams at once are those of each."""

from __future__ import annotations

import hashlib

import llvmlite.binding
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_registry.tensors.merging import sha256
from adapter_registry.tensors.merging.sha256 import Sha256, update_both

streams = st.lists(st.binary(max_size=200), max_size=5)


def array(data: bytes):
    return np.frombuffer(data, np.uint8)


@pytest.fixture(params=["together", "by hashlib"], autouse=True, scope="module")
def rounds(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "by hashlib":
            patch.setattr(sha256, "_rounds", lambda: None)
        elif not llvmlite.binding.get_host_cpu_features().get("sha"):
            pytest.skip("NO SHA INSTRUCTIONS: hashing two streams together was not run")
        else:
            assert sha256._rounds() is not None
        yield


@given(streams, streams)
def test_each_digest_is_hashlibs_however_the_bytes_come(one, other):
    left, right, first, second = Sha256(), Sha256(), list(map(array, one)), list(map(array, other))
    while first and second:
        count = update_both(left, first[0], right, second[0])
        assert count == min(len(first[0]), len(second[0]))
        first[0], second[0] = first[0][count:], second[0][count:]
        first, second = first if len(first[0]) else first[1:], second if len(second[0]) else second[1:]
    for digest, rest in ((left, first), (right, second)):
        for data in rest:
            digest.update(data)
    assert left.hexdigest() == hashlib.sha256(b"".join(one)).hexdigest()
    assert right.hexdigest() == hashlib.sha256(b"".join(other)).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 1 << 20])
def test_the_padding_is_right_at_the_ends_of_blocks(size):
    data, digest = np.arange(size, dtype=np.uint32).astype(np.uint8), Sha256()
    digest.update(data)
    assert digest.hexdigest() == hashlib.sha256(data.tobytes()).hexdigest()


def test_rounds_that_compute_something_else_are_not_used():
    assert not sha256._right(lambda *_: None)
