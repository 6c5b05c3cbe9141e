"""What a trust asks of a token, and what it may not be."""

from __future__ import annotations

import pytest

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.people.trust import Trust, check_claims, check_issuer, check_seconds, differences

AT = "2026-01-01T00:00:00.000000Z"


def trust(**claims: str) -> Trust:
    return Trust("0" * 12, "https://issuer.test", "us", claims, "ci", None, 900, "ann", AT)


def fields(made: Trust, **claims: object) -> list[str]:
    return [problem.field for problem in differences(made, {"aud": "us", **claims})]


class TestDifferences:
    @pytest.mark.parametrize(
        ("pattern", "value", "fits"),
        [
            ("a", "a", True),
            ("a", "A", False),
            ("a", "ab", False),
            ("a", "ba", False),
            ("a*", "a", True),
            ("a*", "abc", True),
            ("a*", "ba", False),
            ("a*c", "abc", True),
            ("a*c", "ac", True),
            ("a*c", "abcd", False),
            ("ab*ba", "aba", False),
            ("ab*ba", "abba", True),
            ("a*b*c", "axxbyyc", True),
            ("a*b*c", "axxcyyb", False),
            ("a*b*b*c", "abc", False),
            ("a**c", "abc", True),
            ("a.c", "abc", False),
            ("a[bc]", "ab", False),
            ("a?", "ab", False),
            ("a*", "a\nb", True),
            ("a", "a\n", False),
            ("1", 1, True),
            ("true", True, True),
            ("1", True, False),
            ("1", 1.0, False),
            ("None", None, False),
            ("b", ["a", "b"], True),
            ("ab", ["a", "b"], False),
            ("a", {"a": "a"}, False),
            ("a", [["a"]], False),
        ],
    )
    def test_a_claim_fits_exactly_or_by_its_pattern(self, pattern, value, fits):
        assert fields(trust(sub=pattern), sub=value) == ([] if fits else ["sub"])

    def test_a_star_in_the_audience_is_a_star(self):
        made = Trust("0" * 12, "https://issuer.test", "us*", {"sub": "a"}, "ci", None, 900, "ann", AT)
        assert [problem.field for problem in differences(made, {"aud": "us-too", "sub": "a"})] == ["aud"]
        assert differences(made, {"aud": ["other", "us*"], "sub": "a"}) == ()

    def test_everything_that_differs_is_told_at_once(self):
        assert fields(trust(sub="a", ref="b"), aud="them", sub="c") == ["aud", "sub", "ref"]

    def test_a_long_value_and_a_pattern_of_many_stars_take_no_time(self):
        pattern, value = "a" + "*a" * 400, "a" * 900 + "b"
        assert fields(trust(sub=pattern), sub=value) == ["sub"]


class TestIssuers:
    @pytest.mark.parametrize(
        "text",
        ["https://issuer.test", "https://issuer.test/tenant/v2.0/", "https://issuer.test:8443", "http://localhost:1/o"],
    )
    def test_https_and_loopback_names_are_issuers(self, text):
        assert check_issuer(text) == text

    @pytest.mark.parametrize(
        "text",
        [
            *(
                "",
                "x",
                "issuer.test",
                "http://issuer.test",
                "http://127.0.0.1.evil.test",
                "ftp://issuer.test",
                "file:///etc",
            ),
            *("https://", "https://u:p@issuer.test", "https://issuer.test?x", "https://issuer.test#x", "https://[::1"),
            *(
                "https://issuer.test:port",
                "https://issuer.test:99999",
                "https://issuer.test/\n",
                "https://a b",
                "https://a\\b",
            ),
            "https://issuer.test/" + "x" * 300,
        ],
    )
    def test_nothing_else_is(self, text):
        with pytest.raises(InvalidInput):
            check_issuer(text)


class TestWhatIsAskedFor:
    @pytest.mark.parametrize(
        "claims",
        [
            {},
            {"sub": "*"},
            {"sub": "*x", "ref": "*"},
            {"sub": ""},
            {"": "x"},
            {"a b": "x"},
            {"exp": "1"},
            {"sub": "x\n"},
        ],
    )
    def test_claims_that_let_anybody_in_or_are_none_are_refused(self, claims):
        with pytest.raises(InvalidInput):
            check_claims(claims)

    def test_one_claim_that_says_whose_pipeline_it_is_is_enough(self):
        assert check_claims({"repository": "team/x", "environment": "*"})

    @pytest.mark.parametrize(("seconds", "good"), [(59, False), (60, True), (3600, True), (3601, False), (0, False)])
    def test_a_token_is_good_for_a_minute_to_an_hour(self, seconds, good):
        if good:
            assert check_seconds(seconds) == seconds
        else:
            with pytest.raises(InvalidInput):
                check_seconds(seconds)
