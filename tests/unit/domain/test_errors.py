"""Every error can be built and printed, and says the same to programs and people."""

import inspect

import pytest

from adapter_registry.domain import errors
from adapter_registry.domain.errors import DigestMismatch, OutsideFile, Problem, RegistryError
from docs.build import EXIT_CODES

CLASSES = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, RegistryError) and value is not RegistryError
]


def build(kind):
    if kind is DigestMismatch:
        return kind("w.safetensors", declared="9f" * 32, received="e3" * 32, size=67_121_608)
    if kind is OutsideFile:
        return kind("adapter_config.json", size=1_702)
    return kind("what happened; what to do")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.code)
def test_every_error_has_a_code_a_status_an_exit_code_and_a_text(kind):
    error = build(kind)
    assert str(error) == error.text
    assert kind.code == kind.code.lower()
    assert 400 <= kind.status < 600
    assert kind.exit_code in EXIT_CODES


def test_codes_are_unique():
    assert len({kind.code for kind in CLASSES}) == len(CLASSES)


def test_a_damaged_upload_names_both_digests_the_size_and_the_way_out():
    assert str(build(DigestMismatch)) == (
        "w.safetensors: declared sha256 9f9f9f9f9f9f, but the 67,121,608 bytes received are e3e3e3e3e3e3; "
        "nothing was stored. Try again; if it happens twice, the source is damaged."
    )


def test_a_problem_reads_as_a_sentence_with_place_values_and_way_out():
    problem = Problem("rank-mismatch", "adapter_config.json", "r", "8, as the tensors have", "16", "Set r to 8.")
    assert str(problem) == "adapter_config.json: r: expected 8, as the tensors have, found 16. Set r to 8."
