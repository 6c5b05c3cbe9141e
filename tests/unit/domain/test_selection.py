import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_registry.domain.adapter import File, Version
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.evidence.score import RecordedScore, Score
from adapter_registry.domain.views.selection import (
    FIELDS,
    KEYED,
    LONGEST,
    And,
    Compare,
    Exists,
    Field,
    Not,
    OneOf,
    Or,
    holds,
    parse,
    subject_of,
)
from adapter_registry.domain.views.selection_tree import FLAG, NUMBER, SIZE, STAGE, asks
from tests.descriptions import LORA

DIGEST = Digest("sha256:" + "3" * 64)
RS_LORA = replace(LORA, variant=("rslora",), dtype="BF16+F32")
V3 = Version(
    adapter="acme/text-to-SQL",
    number=3,
    semver="1.10.0",
    digest=DIGEST,
    base=Digest("sha256:" + "9f2c4e81aa03" + "b" * 52),
    base_name="mistral-7b",
    files=(File("adapter_model.safetensors", 99_000_000, DIGEST),),
    description=RS_LORA,
    message="",
    created_by="ada",
    created_at="2026-01-01T10:00:00.500000Z",
    labels={"team": "a", "seed": "42"},
    tags=("best",),
    stages=("staging", "prod"),
)


def score(metric, value, subject=DIGEST):
    return RecordedScore(subject, "acme/x@v3", Score(metric, value, None), "ada", "2026-01-02T00:00:00.000000Z")


SCORES = (score("gsm8k", 0.4), score("gsm8k", 0.6), score("gsm8k:5/acc", 0.7), score("t/nan", math.nan))
SUBJECT = subject_of(V3, SCORES)


def selects(text, subject=SUBJECT):
    return holds(parse(text), subject)


class TestFields:
    @pytest.mark.parametrize(
        "text",
        [
            "namespace = acme and name = text-to-SQL and adapter = acme/text-to-SQL",
            "number = 3 and number != 4",
            "semver > 1.9.0 and semver < 2.0.0-rc.1",
            "method = LORA and method = rslora and method = 'lora (RSLoRA)'",
            "rank <= 16 and rank >= 8 and rank < 8.5",
            "base = 9f2c4e81aa03 and base = sha256:9f2c4e8",
            'base.name = "mistral-7b" and base.name ~ MISTRAL',
            "dtype = bf16 and dtype = F32",
            "size < 100MB and size < 95MiB and size > 94MiB and size = 99000000",
            "pushed_by in (ada, bob)",
            "stage = prod and stage = staging and not stage = dev",
            "tag = best and tag ~ BES",
            "label.team = a and label.seed = 42",
            "score.gsm8k > 0.5",
            'score."gsm8k:5/acc" >= .7 and score.gsm8k:5/acc <= 7e-1',
            "parameters > 4e5",
            "task_type = causal_lm",
            "target = q_proj and target != k_proj",
            "nonzero and nonzero = true and nonzero != false",
            "name ~ 'sql'",
        ],
    )
    def test_each_can_be_asked(self, text):
        assert selects(text)
        assert not selects(f"not ({text})")

    def test_the_subject_has_every_field(self):
        assert set(SUBJECT) == set(FIELDS)

    def test_the_score_recorded_last_counts(self):
        assert selects("score.gsm8k = 0.6")
        assert not selects("score.gsm8k = 0.4")

    def test_scores_of_other_subjects_do_not_count(self):
        other = score("gsm8k", 0.9, Digest("sha256:" + "4" * 64))
        assert not holds(parse("exists score.gsm8k"), subject_of(V3, [other]))

    def test_targets_written_as_a_pattern_are_found_by_the_modules_they_matched(self):
        version = replace(V3, description=replace(LORA, target_modules=(".*_proj",)))
        assert selects("target = q_proj", subject_of(version, ()))


class TestTimes:
    @pytest.mark.parametrize("sign", ["=", ">=", "<="])
    def test_a_day_is_all_of_its_moments(self, sign):
        assert selects(f"pushed_at {sign} 2026-01-01")

    @pytest.mark.parametrize("text", ["pushed_at > 2026-01-01", "pushed_at < 2026-01-01", "pushed_at != 2026-01-01"])
    def test_after_a_day_is_after_its_end(self, text):
        assert not selects(text)

    @pytest.mark.parametrize("moment", ["2026-01-01T10:00", "2026-01-01T10:00:00Z", "'2026-01-01T12:30:00+02:30'"])
    def test_a_moment_without_a_zone_is_in_utc(self, moment):
        assert selects(f"pushed_at = {moment}")

    @pytest.mark.parametrize("text", ["2026-02-30", "0001-01-01T00:00+23:00", "2026-1-1", "20260101", "yesterday"])
    def test_what_is_no_time_is_refused(self, text):
        with pytest.raises(InvalidInput, match="expected a day or a time, as in 2026-01-01"):
            parse(f"pushed_at > {text}")


class TestMissing:
    @pytest.mark.parametrize("test", ["rank <= 16", "rank > 16", "rank != 16", "rank in (8, 16)"])
    def test_a_missing_value_matches_neither_a_comparison_nor_its_negation(self, test):
        without = {**SUBJECT, "rank": None}
        assert not selects(test, without)
        assert not selects(f"not {test}", without)
        assert not selects(f"not ({test} and nonzero)", without)

    def test_unknown_does_not_spoil_what_is_decided_without_it(self):
        assert selects("score.never > 1 or nonzero")
        assert selects("not (score.never > 1 and not nonzero)")

    def test_existence_is_asked_by_name(self):
        assert selects("exists score.gsm8k and exists stage and exists label.team and exists rank")
        assert selects("not exists score.never and not exists label.who")
        assert selects("not exists stage and not exists tag", {**SUBJECT, "stage": frozenset(), "tag": frozenset()})

    def test_a_score_that_is_not_a_number_was_measured_and_compares_with_nothing(self):
        assert selects("exists score.t/nan")
        assert not selects("score.t/nan != 1")
        assert not selects("not score.t/nan > 1")

    def test_a_version_in_no_stage_is_not_in_prod(self):
        without = {**SUBJECT, "stage": frozenset()}
        assert selects("not stage = prod and stage != prod and stage not in (prod, dev)", without)

    def test_an_empty_subject_matches_no_comparison(self):
        assert not any(selects(f"{name} = true", {}) for name, kind in FIELDS.items() if kind is FLAG)
        assert not selects("label.a = b or score.a = 1 or stage = prod or rank = 1", {})


class TestGrammar:
    def test_not_binds_tighter_than_and_and_and_tighter_than_or(self):
        a, b, c = (Compare(Field("rank"), "=", n) for n in (1, 2, 3))
        assert parse("not rank = 1 and rank = 2 or rank = 3") == Or((And((Not(a), b)), c))
        assert parse("not (rank = 1 and (rank = 2 or rank = 3))") == Not(And((a, Or((b, c)))))

    def test_words_of_the_grammar_stand_in_any_case_and_blanks_are_optional(self):
        assert parse("NOT(rank<=16)AND nonzero\n") == parse("not rank <= 16 and nonzero = true")

    def test_two_equal_signs_are_one(self):
        assert parse("rank == 1") == parse("rank=1")

    def test_not_in_is_the_negation_of_in(self):
        assert parse("rank not in (1, 2)") == parse("not rank in (1,2)")
        assert str(parse("not rank in (1,2)")) == "rank not in (1, 2)"

    def test_quoted_text_may_contain_quotes_and_words_of_the_grammar(self):
        assert parse(r'label.x = "a \"b\" \\"') == Compare(Field("label", "x"), "=", r'a "b" \ '.strip())
        assert parse("name = 'or'") == Compare(Field("name"), "=", "or")

    def test_a_filter_says_which_fields_it_looks_at(self):
        looked = parse("rank = 1 or not (exists score.x and name ~ a)")
        assert [asks(looked, name) for name in ("rank", "score", "name", "stage")] == [True, True, True, False]

    def test_many_tests_side_by_side_are_not_deep(self):
        assert len(parse(" and ".join(["rank=1"] * 180)).parts) == 180


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "refusal"),
        [
            ("", "character 1: expected a field, as in rank <= 16, found the end."),
            ("rank", "character 5: expected an operator (=, !=, in, <, <=, >, >=) after rank, found the end."),
            ("rank <=", "character 8: expected a number, as in 16, 0.5 or 1e6, found the end."),
            ("rank = x", "character 8: expected a number, as in 16, 0.5 or 1e6, found `x`."),
            ('rank = "16"', "found the text '16'. rank is compared without quotation marks."),
            ("rank = 1e999", "found `1e999`. No measurement is that large."),
            ("name < a", "character 6: expected one of =, !=, in, ~, which name can be asked with, found `<`."),
            ("nonzero in (true)", "character 9: expected `and`, `or` or the end, found `in`."),
            ("size < 1XB", "expected a size, as in 100MB, 1.5GiB or bytes, found `1XB`."),
            ("semver = 1.2", "expected a semantic version, as in 1.2.0, found `1.2`."),
            ("base = mistral", "base is the digest; a base's name is asked with base.name."),
            ("name = sql adapter", "character 12: expected `and`, `or` or the end, found `adapter`."),
            ("name = and", "found `and`. Text that is a word of the grammar is quoted."),
            ('name = "sql', "character 8: expected a closing quotation mark, found none."),
            ("name # 3", "character 6: expected a field, an operator or a value, found '#'."),
            ("(rank = 1", "character 10: expected `and`, `or` or `)`, found the end."),
            ("rank in 1", "character 9: expected `(` and a list of values, found `1`."),
            ("rank in (1 2)", "character 12: expected `,` or `)`, found `2`."),
            ("rank not = 1", "character 10: expected `in` after `not`, found `=`."),
            ("label = a", "character 1: expected label.<key>, found `label`."),
            ("score. = 1", "character 1: expected score.<metric>, found `score.`."),
            ("label.Team = a", "'Team' is not a label key"),
        ],
    )
    def test_it_says_where_what_was_expected_and_what_was_found(self, text, refusal):
        with pytest.raises(InvalidInput) as caught:
            parse(text)
        assert str(caught.value).startswith("the filter, at character ")
        assert refusal in str(caught.value)

    def test_an_unknown_field_gets_the_list_and_the_nearest(self):
        with pytest.raises(InvalidInput, match=r"namespace, name, .*label\.<key>, .*nonzero\. Did you mean rank\?$"):
            parse("rnk < 3")

    def test_nesting_is_limited(self):
        assert parse("(" * 20 + "nonzero" + ")" * 20) == parse("nonzero")
        for opening, closing in [("(", ")"), ("not ", "")]:
            with pytest.raises(InvalidInput, match="at most 20 parentheses and `not`s"):
                parse(opening * 21 + "nonzero" + closing * 21)

    def test_length_is_limited(self):
        parse("nonzero".ljust(LONGEST))
        with pytest.raises(InvalidInput, match="2,001 characters; 2,000 is the most"):
            parse("nonzero".ljust(LONGEST + 1))


texts = st.text(max_size=12) | st.sampled_from(["and", "a", "prod", 'q"u\\o', "", "7b", "-", "in"])
values = {
    **{name: texts for name in FIELDS},
    **{name: st.integers(0, 10**12) | st.floats(-1e6, 1e6) for name, kind in FIELDS.items() if kind is NUMBER},
    **{name: st.integers(0, 10**15) for name, kind in FIELDS.items() if kind is SIZE},
    **{name: st.sampled_from(["dev", "staging", "prod"]) for name, kind in FIELDS.items() if kind is STAGE},
    **{name: st.booleans() for name, kind in FIELDS.items() if kind is FLAG},
    "semver": st.sampled_from(["1.0.0", "1.10.0", "2.0.0-rc.1"]),
    "base": st.sampled_from(["9f2c4e8", "b" * 64]),
    "pushed_at": st.sampled_from(["2026-01-01", "2026-01-01T10:00:00Z", "1999-12-31"]),
}
keys = {"label": st.sampled_from(["team", "seed", "a.b/c", "and"]), "score": st.text(min_size=1, max_size=8)}


@st.composite
def a_test(draw):
    name = draw(st.sampled_from(sorted(FIELDS)))
    field = Field(name, draw(keys[name]) if name in KEYED else "")
    operator = draw(st.sampled_from(["exists", *field.kind.operators]))
    if operator == "exists":
        return Exists(field)
    if operator == "in":
        return OneOf(field, tuple(draw(st.lists(values[name], min_size=1, max_size=3))))
    return Compare(field, operator, draw(values[name]))


filters = st.recursive(
    a_test(),
    lambda inner: (
        inner.map(Not)
        | st.lists(inner, min_size=2, max_size=3).map(tuple).map(And)
        | st.lists(inner, min_size=2, max_size=3).map(tuple).map(Or)
    ),
    max_leaves=8,
)
pieces = st.lists(
    st.sampled_from(
        [*FIELDS, *"()=~<,'", "and", "or", "not", "in", "exists", "score.x", "label.y", "1", '"a"', "prod"]
    ),
    max_size=12,
).map(" ".join)


class TestLaws:
    @given(st.text(max_size=80) | pieces)
    def test_any_text_is_a_filter_or_is_refused_and_a_filter_can_always_be_asked(self, text):
        try:
            found = parse(text)
        except InvalidInput:
            return
        assert parse(str(found)) == found
        assert holds(found, SUBJECT) in (True, False)

    @given(filters)
    def test_a_filter_s_text_is_that_filter(self, filter):
        if len(str(filter)) <= LONGEST:
            assert parse(str(filter)) == filter

    @given(filters, filters, st.booleans())
    def test_de_morgan(self, a, b, known):
        subject = SUBJECT if known else {**SUBJECT, "rank": None, "score": {}, "label": {}}
        assert holds(Not(And((a, b))), subject) == holds(Or((Not(a), Not(b))), subject)
        assert holds(Not(Or((a, b))), subject) == holds(And((Not(a), Not(b))), subject)

    @given(filters)
    def test_nothing_matches_both_a_filter_and_its_negation(self, filter):
        assert not (holds(filter, SUBJECT) and holds(Not(filter), SUBJECT))
        assert holds(Not(Not(filter)), SUBJECT) == holds(filter, SUBJECT)
