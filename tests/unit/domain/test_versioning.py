"""The semantic version of a push follows from what changed."""

from dataclasses import replace

import pytest

from adapter_registry.domain.adapter import Description, Version
from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.errors import Conflict, InvalidReference
from adapter_registry.domain.versioning import Bump, next_semver

BASE = of_bytes(b"base")
LORA = Description(
    peft_type="LORA",
    variant=(),
    task_type="CAUSAL_LM",
    rank=8,
    ranks={"8": 60},
    alpha=16.0,
    scaling={"2": 60},
    target_modules=("q_proj", "v_proj"),
    matched={"q_proj": 30, "v_proj": 30},
    modules=60,
    candidates=60,
    saved_modules=(),
    dtype="F32",
    parameters=460_800,
    nonzero=True,
    vocab_resized=False,
    checked="full",
)
V1 = Version("default/a", 1, "1.4.2", of_bytes(b"v1"), BASE, "b", (), LORA, "", "ann", "2026-01-01T00:00:00Z")


def bumped(description=LORA, *, base=BASE, previous=V1, taken=("1.4.2",), **chosen):
    return next_semver(description, base=base, previous=previous, taken=taken, **chosen)


def test_the_first_version_is_1_0_0():
    assert bumped(previous=None, taken=()).semver == "1.0.0"


@pytest.mark.parametrize(
    ("change", "semver", "because"),
    [
        ({}, "1.4.3", "other weights"),
        ({"ranks": {"16": 60}, "rank": 16}, "1.5.0", "another rank"),
        ({"matched": {"q_proj": 30}}, "1.5.0", "other target modules"),
        ({"variant": ("dora",)}, "1.5.0", "another method"),
        ({"peft_type": "IA3"}, "1.5.0", "another method"),
        ({"vocab_resized": True}, "2.0.0", "another vocabulary"),
    ],
)
def test_what_changed_decides_the_step(change, semver, because):
    numbered = bumped(replace(LORA, **change))
    assert (numbered.semver, numbered.because) == (semver, because)


def test_another_base_is_major_whatever_else_changed():
    assert bumped(replace(LORA, rank=4, ranks={"4": 60}), base=of_bytes(b"other")).semver == "2.0.0"


def test_a_chosen_step_or_label_overrides_the_rule():
    assert bumped(bump=Bump.MAJOR).semver == "2.0.0"
    assert bumped(exact="7.0.0-rc.1").semver == "7.0.0-rc.1"


def test_a_label_is_never_reused_not_even_that_of_a_removed_version():
    with pytest.raises(Conflict, match="never reused"):
        bumped(taken=("1.4.2", "2.0.0"), exact="2.0.0")
    assert bumped(taken=("1.4.2", "1.4.3")).semver == "1.4.4"


def test_a_label_that_is_no_semantic_version_is_refused():
    with pytest.raises(InvalidReference, match=r"1\.2\.0"):
        bumped(exact="1.2")
