"""The verdict: the same bytes, the same tensors, the same shapes, or not."""

from dataclasses import replace

import pytest

from adapter_registry.domain.base import Base, Tensor, WeightFile, identity, weights_root
from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.lock import Equivalence, Level, compare


def base(*, seed="a", shape=(4, 8), files=("one",), tokenizer="t", read=True):
    tensors = tuple(
        Tensor(f"layers.{i}.q_proj.weight", "F32", shape, (f"{seed}{i}".encode().hex() * 32)[:64] if read else None)
        for i in range(30)
    )
    weight_files = tuple(
        WeightFile(f"{name}.safetensors", 10, of_bytes(f"{seed}{shape}{name}".encode())[7:]) for name in files
    )
    root = weights_root(tensors) if read else None
    vocabulary = of_bytes(tokenizer.encode()) if tokenizer else None
    return Base(
        digest=identity(weights=root or of_bytes(seed.encode()), tokenizer=vocabulary),
        files=weight_files,
        tensors=tensors,
        config=of_bytes(b"config"),
        tokenizer=vocabulary,
        architecture="LlamaForCausalLM",
        model_type="llama",
        vocab_size=32,
        tied=True,
        root=root,
        repository=None,
        commit=None,
        quantization=None,
        spot=None,
        source="here",
    )


def test_the_same_files_are_exact():
    verdict = compare(base(), base())
    assert (verdict.level, verdict.accepted, verdict.differences) == (Level.EXACT, True, ())


def test_the_same_files_are_exact_even_when_their_bytes_were_never_read():
    assert compare(base(read=False), base()).level is Level.EXACT


def test_the_same_tensors_in_other_shards_are_equivalent():
    assert compare(base(), base(files=("two", "three"))).level is Level.EQUIVALENT


def test_the_same_shapes_with_other_bytes_are_structural_and_refused():
    verdict = compare(base(), base(seed="b"))
    assert verdict.level is Level.STRUCTURAL
    assert not verdict.accepted
    assert str(verdict.differences[0]) == "tensors with equal bytes: expected 30, found 0"


def test_differing_tensors_are_named_first_ones_and_counted():
    differences = compare(base(), base(seed="b")).differences
    assert [d.what for d in differences[1:3]] == ["layers.0.q_proj.weight", "layers.1.q_proj.weight"]
    assert str(differences[-1]) == "10 more tensors: expected equal, found different"


def test_other_shapes_are_incompatible():
    verdict = compare(base(), base(shape=(4, 16)))
    assert verdict.level is Level.INCOMPATIBLE
    assert "layers.0.q_proj.weight: expected F32 [4, 8], found F32 [4, 16]" in map(str, verdict.differences)


def test_another_tokenizer_on_the_same_weights_is_refused():
    verdict = compare(base(), base(tokenizer="other"))
    assert not verdict.accepted
    assert [d.what for d in verdict.differences] == ["tokenizer vocabulary"]


def test_a_missing_tokenizer_is_said_and_does_not_block():
    verdict = compare(base(), base(tokenizer=None))
    assert verdict.accepted
    assert verdict.notes == ("the tokenizer was not compared: only one side has one",)


def test_a_declared_stand_in_is_equivalent_and_says_who_declared_it():
    locked, quantised = base(), base(seed="q", shape=(2, 2))
    declared = Equivalence(locked.digest, quantised.digest, "NF4 of it", "ann", "2026-03-01T10:00:00Z")
    verdict = compare(locked, quantised, (declared,))
    assert verdict.accepted
    assert verdict.notes == ("declared equivalent by ann on 2026-03-01: NF4 of it",)


def test_a_declaration_does_not_work_backwards():
    locked, quantised = base(), base(seed="q", shape=(2, 2))
    declared = Equivalence(locked.digest, quantised.digest, "NF4 of it", "ann", "2026-03-01T10:00:00Z")
    assert not compare(quantised, locked, (declared,)).accepted


class TestRoot:
    def test_the_root_does_not_depend_on_the_order_of_tensors(self):
        tensors = base().tensors
        assert weights_root(reversed(tensors)) == weights_root(tensors)

    @pytest.mark.parametrize("change", [{"name": "x"}, {"dtype": "BF16"}, {"shape": (8, 4)}, {"digest": "0" * 64}])
    def test_any_change_of_any_tensor_changes_the_root(self, change):
        first, *others = base().tensors
        assert weights_root([replace(first, **change), *others]) != weights_root([first, *others])

    def test_a_root_needs_every_digest(self):
        with pytest.raises(ValueError, match="every tensor"):
            weights_root(base(read=False).tensors)
