"""Each dialect that bears mergekit's name is mergekit's function: its own answers, recorded by the benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapter_registry.tensors.composing.methods import METHODS
from benchmarks.against_mergekit import CASES, SIZES, apart, delta_of, recorded

RECORD = list(recorded(Path(__file__).with_name("mergekit.safetensors")))


@pytest.mark.parametrize("number", range(len(CASES)), ids=[str(case) for case in CASES])
def test_the_answer_is_mergekits(number):
    case = CASES[number]
    answers = [each for each in RECORD if each[1] == case]
    assert len(answers) == 2 * len(SIZES)
    for _, _, base, tuned, merged in answers:
        distance, allowed = apart(case, base, tuned, merged)
        assert distance <= allowed


def test_every_dialect_of_that_name_is_held_against_it():
    named = {f"{name}:mergekit" for name, dialects in METHODS.items() if "mergekit" in dialects}
    same_elsewhere = {name for name in named if name.startswith(("core-", "knots-"))}
    assert {case.ours for case in CASES} >= named - same_elsewhere


def test_sce_without_its_weights_is_another_function_for_deltas_of_a_loras_size():
    found = {}
    for said, case, base, tuned, merged in RECORD:
        if case.ours == "sce:mergekit" and case.options["density"] == 1:
            paper = delta_of(type(case)("sce:paper", "sce", case.weights, case.options), [t - base for t in tuned])
            theirs = merged.astype(np.float64) - base
            found[said] = np.linalg.norm(paper - theirs) / np.linalg.norm(theirs)
    for said, distance in found.items():
        assert (distance > 0.05) == said.startswith("of a LoRA"), said
