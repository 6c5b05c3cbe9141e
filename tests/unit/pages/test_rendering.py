"""The words of the pages: moments, sizes, figures, corners of lines; templates that hide nothing."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from adapter_registry.api.pages import rendering
from adapter_registry.api.pages.page import of_adapter, of_version, with_query
from adapter_registry.domain.people.access import Grant, grant_of
from adapter_registry.domain.promotions.finding import Finding, Outcome
from adapter_registry.domain.views.overview import Against

NOW = "2026-03-01T12:00:00.000000Z"


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("2026-03-01T12:00:00Z", "just now"),
        ("2026-03-01T11:59:01Z", "just now"),
        ("2026-03-01T11:59:00Z", "1 min ago"),
        ("2026-03-01T09:00:00Z", "3 h ago"),
        ("2026-02-27T12:00:00Z", "2 d ago"),
        ("2026-02-01T12:00:00Z", "4 w ago"),
        ("2025-09-01T12:00:00Z", "1 Sep 2025"),
        ("2023-03-01T00:00:00Z", "1 Mar 2023"),
        ("2026-01-29T13:00:00+01:00", "29 Jan 2026"),
        ("2026-03-01T15:00:00Z", "in 3 h"),
        ("2026-08-01T12:00:00Z", "in 5 mo"),
        ("2026-03-01T10:00:00+01:00", "3 h ago"),
        ("2026-03-01T09:00:00", "3 h ago"),
    ],
)
def test_a_moment_is_told_by_its_largest_unit_and_after_a_month_by_its_day(at, said):
    assert rendering.ago(at, NOW) == said


def test_a_moment_in_full_is_in_utc():
    assert rendering.moment("2026-03-01T15:30:05.9+01:00") == "2026-03-01 14:30:05 UTC"


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_940, "99.9 kB"),
        (99_960, "100 kB"),
        (999_600, "1.0 MB"),
        (16_400_000, "16.4 MB"),
        (10**18, "1000 PB"),
    ],
)
def test_bytes_are_told_in_thousands_and_never_as_a_thousand_of_a_unit_that_has_a_next(count, said):
    assert rendering.size(count) == said


def test_what_a_text_has_between_backticks_is_code_and_everything_is_escaped():
    assert rendering.commands("`adapters ls` lists <b>") == "<code>adapters ls</code> lists &lt;b&gt;"
    assert rendering.commands("one ` alone") == "one ` alone"


def test_a_value_that_is_not_there_is_a_dash():
    assert (rendering.figure(None), rendering.figure(0.123456)) == ("–", "0.1235")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.61, 0.7, 0.66), ["0.61", "0.70", "0.66"]),
        ((0.123456, 0.5), ["0.1235", "0.5000"]),
        ((12.0, 7.0), ["12", "7"]),
        ((0.5, 1e-9, 3e12), ["0.5", "1e-09", "3e+12"]),
        ((float("inf"), 0.25), ["inf", "0.25"]),
        ((), []),
    ],
)
def test_the_points_of_a_column_stand_below_each_other(values, said):
    assert [rendering.figure(value, rendering.places(values)) for value in values] == said


def test_a_difference_always_has_a_sign():
    assert [rendering.signed(value) for value in (0.02, -0.02, 0.0)] == ["+0.02", "−0.02", "+0"]


@pytest.mark.parametrize(
    ("difference", "width", "word"),
    [(0.3, 0.1, "good"), (-0.3, 0.1, "bad"), (0.1, 0.1, "quiet"), (0.1, None, "good"), (None, None, "quiet")],
)
def test_a_difference_is_good_or_bad_only_beyond_its_interval(difference, width, word):
    assert rendering.leaning(Against(1, difference, width)) == word


@pytest.mark.parametrize(
    ("grant", "said"),
    [
        (grant_of("team/*", ("maintainer", "audit")), "maintainer, audit on team/*"),
        (grant_of("team/a", ("promoter", "approver")), "promoter, approve on team/a"),
        (grant_of("*", ("reader",)), "reader on everything"),
        (Grant("*", ("*",)), "everything on everything"),
        (Grant("team/*", ("promote:prod",)), "promote:prod on team/*"),
    ],
)
def test_a_grant_is_told_by_the_roles_that_it_holds_whole(grant, said):
    assert rendering.granted(grant) == said


def test_what_stands_in_the_way_comes_first_and_each_kind_as_the_policy_has_it():
    outcomes = ("pass", "pending", "inconclusive", "waived", "fail", "incomparable", "error")
    findings = [Finding(str(place), Outcome(outcome), "") for place, outcome in enumerate(outcomes)]
    findings.append(Finding("shadow", Outcome.FAIL, "", shadow=True))
    told = [each.rule for each in rendering.urgent_first(findings)]
    assert told == ["4", "6", "2", "5", "1", "0", "3", "shadow"]


class TestWhisker:
    def test_what_passes_lies_right_of_the_line_that_it_has_to_reach(self):
        found = Finding("acc non-inferior", Outcome.PASS, "", difference=0.03, margin=0.01, interval=(0.0, 0.06))
        at = rendering.whisker(found, width=156)
        assert at == {"low": 28.0, "mean": 88.0, "high": 148.0, "zero": 28.0, "bar": 8.0, "asked": -0.01}

    def test_a_better_version_has_to_lie_beyond_the_margin_on_the_other_side(self):
        found = Finding("acc superior", Outcome.FAIL, "", difference=0.0, margin=0.01, interval=(-0.01, 0.01))
        assert rendering.whisker(found)["asked"] == 0.01

    def test_a_finding_without_an_interval_has_none(self):
        assert rendering.whisker(Finding("acc non-inferior", Outcome.PENDING, "never measured")) is None


class TestLines:
    def test_the_first_and_last_corner_lie_at_the_edges_and_the_best_value_on_top(self):
        assert rendering.points([1.0, 3.0, 2.0], width=20, height=10, margin=1) == "1.0,9.0 10.0,1.0 19.0,5.0"

    def test_equal_values_and_a_single_one_make_a_line_too(self):
        assert rendering.points([5.0, 5.0], width=20, height=10, margin=1) == "1.0,9.0 19.0,9.0"
        assert rendering.points([5.0], width=20, height=10, margin=1) == "1.0,9.0"


class TestTemplates:
    def test_what_somebody_wrote_is_text(self):
        made = rendering.environment().from_string("<b title='{{ x }}'>{{ x }}</b>{{ x|json }}")
        assert "<script>" not in made.render(x="<script>'\"")
        assert "'\"" not in made.render(x="<script>'\"")

    def test_a_name_that_is_not_there_is_a_defect_and_not_an_empty_place(self):
        with pytest.raises(UndefinedError):
            rendering.environment().from_string("{{ nothing }}").render()

    def test_the_address_of_a_file_changes_with_its_bytes(self):
        assert rendering.asset("app.css").startswith("/ui/static/app.css?")
        assert rendering.asset("app.css") != rendering.asset("app.js")


class TestAddresses:
    def test_what_stands_in_an_address_is_quoted(self):
        assert of_adapter("team/a b", "stages", "x/y?") == "/ui/adapters/team/a%20b/stages/x/y%3F"
        assert of_version("team/a", 3, "files") == "/ui/adapters/team/a/versions/v3/files"

    def test_a_query_leaves_out_what_is_empty_and_repeats_what_is_several(self):
        assert with_query("/x", a="", b=None, c="1 2", v=["p@v1", "q@v2"]) == "/x?c=1+2&v=p%40v1&v=q%40v2"
        assert with_query("/x", a="") == "/x"
