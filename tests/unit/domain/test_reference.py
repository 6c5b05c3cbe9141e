"""References and ranges: one sign, one grammar."""

import pytest

from adapter_registry.domain.errors import InvalidReference
from adapter_registry.domain.reference import Kind, highest_in_range, parse, split_adapter

DIGEST = "sha256:" + "9c" * 32


class TestParse:
    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            ("sql-lora@v3", Kind.NUMBER),
            ("sql-lora@1.2.0", Kind.SEMVER),
            ("sql-lora@1.2.0-rc.1", Kind.SEMVER),
            ("sql-lora@^1.2", Kind.RANGE),
            ("sql-lora@1.x", Kind.RANGE),
            ("sql-lora@>=1.2 <2", Kind.RANGE),
            ("sql-lora@*", Kind.RANGE),
            (f"sql-lora@{DIGEST}", Kind.DIGEST),
            (f"sql-lora@{'9c' * 32}", Kind.DIGEST),
            (f"sql-lora@{'9c' * 20}", Kind.DIGEST),
            ("sql-lora@prod", Kind.NAME),
            ("sql-lora@candidate", Kind.NAME),
        ],
    )
    def test_the_selector_after_the_sign_has_one_meaning(self, text, kind):
        assert parse(text).kind is kind

    def test_a_name_without_a_selector_names_the_adapter(self):
        reference = parse("team/sql-lora")
        assert (str(reference), reference.kind) == ("team/sql-lora", None)

    def test_a_name_without_a_namespace_is_in_the_default_one(self):
        assert str(parse("sql-lora@v3", namespace="team")) == "team/sql-lora@v3"

    @pytest.mark.parametrize(("text", "full"), [("v3", "team/sql@v3"), ("@prod", "team/sql@prod")])
    def test_a_bare_selector_is_of_the_adapter_in_use(self, text, full):
        assert str(parse(text, in_use="team/sql")) == full

    def test_a_bare_version_without_an_adapter_in_use_says_how_to_choose_one(self):
        with pytest.raises(InvalidReference, match="adapters use NAME"):
            parse("v3")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "@",
            "a@",
            "a/b/c@v1",
            "../x@v1",
            "a@@v1",
            "a@sha256:12",
            "-a@v1",
            "a b@v1",
            "a@pr od",
            "v3/x@v1@v2",
            "a@^",
        ],
    )
    def test_anything_else_is_refused(self, text):
        with pytest.raises(InvalidReference):
            highest_in_range(parse(text, in_use="team/sql").selector, [])

    @pytest.mark.parametrize("name", ["v3", "deadbeef", "a..b", "x--y", ".hidden", "repo.git", "a/../b", "ä"])
    def test_a_name_that_reads_as_something_else_is_refused(self, name):
        with pytest.raises(InvalidReference):
            split_adapter(name)


class TestRanges:
    VERSIONS = ("0.0.3", "0.2.5", "0.3.0", "1.0.0", "1.2.0", "1.2.9", "1.3.0-rc.1", "1.9.0", "2.0.0", "2.1.0-a")

    @pytest.mark.parametrize(
        ("expression", "highest"),
        [
            ("^1.2", "1.9.0"),
            ("^1.2.9", "1.9.0"),
            ("^0.2", "0.2.5"),
            ("^0.0.3", "0.0.3"),
            ("~1.2.3", "1.2.9"),
            ("~1", "1.9.0"),
            ("1.x", "1.9.0"),
            ("1.2.*", "1.2.9"),
            ("1", "1.9.0"),
            (">=1.2 <2", "1.9.0"),
            (">= 1.2, < 2", "1.9.0"),
            ("<=1.2", "1.2.9"),
            (">1", "2.0.0"),
            ("*", "2.0.0"),
            ("1.2 || 2.x", "2.0.0"),
            ("=1.2.0", "1.2.0"),
            ("^1.3.0-rc.0", "1.9.0"),
            (">=1.3.0-rc.0 <1.3.0", "1.3.0-rc.1"),
            ("^3", None),
        ],
    )
    def test_the_highest_match_wins_and_prereleases_only_when_asked_for(self, expression, highest):
        assert highest_in_range(expression, self.VERSIONS[::-1]) == highest
