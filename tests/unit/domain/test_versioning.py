"""The semantic version of a push follows from what changed."""

from dataclasses import replace

import pytest
import semver
from hypothesis import given
from hypothesis import strategies as st

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.errors import Conflict, InvalidReference
from adapter_registry.domain.versioning import Bump, next_semver, precedence
from tests.descriptions import LORA

BASE = of_bytes(b"base")
V1 = Version("default/a", 1, "1.4.2", of_bytes(b"v1"), BASE, "b", (), LORA, "", "ann", "2026-01-01T00:00:00Z")


def bumped(description=LORA, *, base=BASE, previous=V1, taken=("1.4.2",), **chosen):
    highest = max(taken, key=precedence, default=None)
    return next_semver(description, base=base, previous=previous, highest=highest, given=taken.__contains__, **chosen)


def test_the_first_version_is_1_0_0():
    assert bumped(previous=None, taken=()).semver == "1.0.0"


@pytest.mark.parametrize(
    ("change", "semver", "because"),
    [
        ({}, "1.4.3", "other weights"),
        ({"ranks": {"16": 48}, "rank": 16}, "1.5.0", "another rank"),
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
    assert bumped(replace(LORA, rank=4, ranks={"4": 48}), base=of_bytes(b"other")).semver == "2.0.0"


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


PRECEDENCE = [
    "0.0.1",
    "0.0.2",
    "0.0.10",
    "0.9.99",
    "0.10.0",
    "1.0.0-0",
    "1.0.0-2",
    "1.0.0-10",
    "1.0.0-2-a",
    "1.0.0-A",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-alpha-",
    "1.0.0-alpha-1",
    "1.0.0-alpha0",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1-x",
    "1.0.1",
    "1.1.0",
    "2.0.0",
    "10.0.0",
    "999.0.0",
    "1000.0.0-a.b.c.d",
    "1000.0.0",
    "100000000000000000000.0.0",
]


def test_precedence_sorts_as_semantic_versions_do():
    """Against the library that compares them, over versions that differ in each way section 11 names."""
    assert sorted(PRECEDENCE, key=semver.Version.parse) == PRECEDENCE
    assert sorted(reversed(PRECEDENCE), key=precedence) == PRECEDENCE


def test_build_metadata_counts_for_nothing():
    assert precedence("1.0.0-rc.1+build.7") == precedence("1.0.0-rc.1") != precedence("1.0.0+rc.1")


IDENTIFIER = st.from_regex(r"0|[1-9][0-9]{0,20}|[0-9]{0,3}[A-Za-z-][0-9A-Za-z-]{0,5}", fullmatch=True)
VERSIONS = st.builds(
    lambda core, pre: ".".join(map(str, core)) + (f"-{'.'.join(pre)}" if pre else ""),
    st.tuples(*[st.integers(0, 120)] * 3),
    st.lists(IDENTIFIER, max_size=4),
)


@given(VERSIONS, VERSIONS)
def test_any_two_are_in_the_order_that_the_library_says(one, other):
    order = semver.Version.parse(one).compare(other)
    first, second = precedence(one), precedence(other)
    assert (first > second) - (first < second) == order
