"""The front matter of a card: plain YAML becomes JSON, the rest is refused."""

from __future__ import annotations

import json

import pytest

from adapter_registry.checkpoints.front_matter import front_matter
from adapter_registry.domain.errors import InvalidInput


def card(matter: str) -> str:
    return f"---\n{matter}\n---\nhello\n"


def test_plain_yaml_is_read():
    read = front_matter(card("tags: [a, b]\nlicense: mit\nn: 3\nx: 0.5\nok: true\nnothing: ~\nnested: {a: [1]}"))
    expected = {
        "tags": ["a", "b"],
        "license": "mit",
        "n": 3,
        "x": 0.5,
        "ok": True,
        "nothing": None,
        "nested": {"a": [1]},
    }
    assert read == expected


@pytest.mark.parametrize("text", ["", "hello", "# hello\n---\na: b\n---\n", "---\n---\n", "---\n# nothing\n---\n"])
def test_a_text_without_front_matter_has_none(text):
    assert front_matter(text) == {}


@pytest.mark.parametrize(
    ("matter", "value"),
    [("a: 2020-01-01", "2020-01-01"), ("a: .nan", "nan"), ("a: -.inf", "-inf"), ("a: 0x" + "f" * 30, "0x" + "f" * 30)],
)
def test_what_json_lacks_becomes_text(matter, value):
    assert front_matter(card(matter)) == {"a": value}
    json.dumps(front_matter(card(matter)), allow_nan=False)


@pytest.mark.parametrize(
    ("matter", "word"),
    [
        ("a: &a [x]\nb: *a", "anchors"),
        ("a: &a [*a]", "anchors"),
        ("a: !!python/name:os.system ''", "tags"),
        ("a: !!bool x", "tags"),
        ("a: " + "[" * 500 + "]" * 500, "deep"),
        ("a: [", "YAML"),
        ("[a, b]", "mapping"),
        ("hello", "mapping"),
        ("? [a]\n: b", "YAML"),
        ("a: " + "x" * 70_000, "bytes"),
        ("a: " + "9" * 5000, "YAML"),
    ],
)
def test_what_is_not_plain_is_refused_with_the_reason(matter, word):
    with pytest.raises(InvalidInput, match=word):
        front_matter(card(matter))
