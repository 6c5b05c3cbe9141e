import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_registry.domain.errors import InvalidInput, InvalidReference
from adapter_registry.domain.lock import Level
from adapter_registry.domain.names import STAGE_NAMES
from adapter_registry.domain.policies.file import INSTEAD, LARGEST_TEXT, read_policy, to_yaml
from adapter_registry.domain.policies.lint import lint
from adapter_registry.domain.policies.policy import (
    PRESETS,
    Bound,
    Comparison,
    Evals,
    Health,
    Integrity,
    Margin,
    Matched,
    Policy,
    Scanners,
    Signers,
    Test,
    WaiveIf,
    document,
    preset,
    to_json,
)
from adapter_registry.domain.promotions.gate import judge
from tests.unit.domain.test_gate import V3

FULL = """
# what prod asks
apiVersion: adapters/v1
kind: StagePolicy
stage: prod
require:
  compatibility: {verdict: [equivalent, exact]}
  health: {matched_modules: all, finite: true, nonzero: true}
  metadata: [description, owner]
  evals:
    - any: true
    - {metric: gsm8k/exact_match@strict-match, min: 0.42}
    - {metric: heldout/loss, max: 3}
    - {metric: heldout/loss, test: non-inferior, margin: 2%, confidence: 0.9}
    - {metric: "mmlu*", test: superior, waive_if: no-incumbent}
"""
PROD = Policy(
    "prod",
    (Level.EXACT, Level.EQUIVALENT),
    Health(Matched.ALL, finite=True, nonzero=True),
    ("description", "owner"),
    Evals(
        any=True,
        bounds=(Bound("gsm8k/exact_match@strict-match", min=0.42), Bound("heldout/loss", max=3.0)),
        comparisons=(
            Comparison("heldout/loss", Test.NON_INFERIOR, Margin(0.02, relative=True), 0.9),
            Comparison("mmlu*", Test.SUPERIOR, Margin(0.0), waive_if=WaiveIf.NO_INCUMBENT),
        ),
    ),
)
TOML = """
apiVersion = "adapters/v1"
kind = "StagePolicy"
stage = "staging"
[require.compatibility]
verdict = ["exact"]
[[require.evals]]
metric = "gsm8k/acc"
min = 0.4
"""


def changed(**parts: object) -> str:
    return json.dumps({**document(PROD), **parts})


def evals(*rules: object) -> str:
    return changed(require={"evals": list(rules)})


def problems(text: str) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        read_policy(text, name="prod.yaml")
    return {problem.field: str(problem) for problem in caught.value.problems}


class TestReading:
    def test_yaml(self):
        assert read_policy(FULL) == PROD

    def test_toml(self):
        found = read_policy(TOML)
        assert found == Policy("staging", (Level.EXACT,), evals=Evals(bounds=(Bound("gsm8k/acc", min=0.4),)))

    def test_json_is_yaml(self):
        assert read_policy(json.dumps(document(PROD))) == PROD

    def test_a_stage_may_ask_for_nothing(self):
        nothing = "apiVersion: adapters/v1\nkind: StagePolicy\nstage: dev\nrequire:\n"
        assert read_policy(nothing) == Policy("dev")

    def test_the_digest_does_not_depend_on_how_it_was_written(self):
        assert read_policy(FULL).digest == read_policy(json.dumps(document(PROD), indent=3)).digest == PROD.digest
        assert read_policy(FULL.replace("0.42", "0.43")).digest != PROD.digest

    def test_it_survives_the_catalog_s_json(self):
        assert msgspec.json.decode(msgspec.json.encode(PROD), type=Policy) == PROD


class TestProblems:
    def test_all_of_them_at_once_with_path_value_and_way_out(self):
        text = changed(stage="Production", require={"compatibility": {"verdict": ["structural"]}, "metadta": ["a"]})
        found = problems(text)
        assert found == {
            "stage": "prod.yaml: stage: expected the name of a stage, found 'Production'. Correct it.",
            "require.compatibility.verdict.0": (
                "prod.yaml: require.compatibility.verdict.0: expected 'exact' or 'equivalent', found 'structural'. "
                "Correct it."
            ),
            "require.metadta": (
                "prod.yaml: require.metadta: expected a known key, found 'metadta'. Did you mean metadata?"
            ),
        }

    @pytest.mark.parametrize("name", sorted(INSTEAD))
    def test_a_rule_that_there_is_not_is_refused_with_what_there_is_in_its_place(self, name):
        for text in (changed(**{name: {}}), changed(require={name: {}}), evals({"any": True, name: 1})):
            [problem] = problems(text).values()
            assert f"{name}, which is none. " in problem
            assert "evals: [{metric: TASK/ece, max: 0.05}]" in problem

    def test_a_declared_equivalent_is_an_equivalent(self):
        text = changed(require={"compatibility": {"verdict": ["exact", "declared-equivalent"]}})
        assert read_policy(text).verdicts == (Level.EXACT, Level.EQUIVALENT)

    @pytest.mark.parametrize(
        ("rule", "expected"),
        [
            ({"any": False}, "expected True"),
            ({"any": True, "metric": "a/b"}, "'any: true' on its own"),
            ({}, "a metric, or 'any: true'"),
            ({"metric": "a/b"}, "either a bound (min, max) or a test"),
            ({"metric": "a/b", "min": 1, "test": "superior"}, "either a bound (min, max) or a test"),
            ({"metric": "a/b", "min": 2, "max": 1}, "a min that is not above max"),
            ({"metric": "a/b", "min": True}, "expected a number"),
            ({"metric": "a/b", "min": "0.5"}, "expected a number"),
            ({"metric": "a/*", "min": 0.5}, "one metric by its full name"),
            ({"metric": "a/b", "test": "better"}, "'non-inferior' or 'superior'"),
            ({"metric": "a/b", "test": "non-inferior"}, "a margin: how much worse is still acceptable"),
            ({"metric": "a/b", "test": "non-inferior", "margin": -1}, "a number not below 0"),
            ({"metric": "a/b", "test": "non-inferior", "margin": "2"}, "a percentage such as 2%"),
            ({"metric": "a/b", "test": "non-inferior", "margin": "nan%"}, "a percentage such as 2%"),
            (
                {"metric": "a/b", "test": "non-inferior", "margin": 1, "min_effect": 1},
                "min_effect only with test: superior",
            ),
            ({"metric": "a/b", "test": "superior", "margin": 1, "min_effect": 1}, "margin or min_effect"),
            ({"metric": "a/b", "test": "superior", "min_effect": -1}, "a number not below 0"),
            ({"metric": "a/b", "test": "superior", "confidence": 95}, "less than 1"),
            ({"metric": "a/b", "test": "superior", "against": "best"}, "expected 'incumbent', 'base' or 'parents'"),
            ({"metric": "a/b", "test": "superior", "waive_if": "friday"}, "expected 'no-incumbent'"),
        ],
    )
    def test_a_rule_that_makes_no_sense_says_what_would(self, rule, expected):
        [problem] = problems(evals(rule)).values()
        assert expected in problem

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", "a mapping with stage and require"),
            ("- 1", "a mapping with stage and require"),
            ("stage: &s prod\nkind: *s", "no anchors and aliases"),
            ("stage: !!python/name:os.system x", "plain values without tags"),
            ("stage: prod\nstage: dev", "2 times 'stage'"),
            ("<<: {stage: prod}", "none of them <<"),
            ("stage: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: 1}}}}}}}}}}}}}", "12 levels of nesting"),
            ("{" * 50_000, "12 levels of nesting"),
            ("stage: [", "YAML"),
            ("? [a]\n: b", "YAML"),
            ("stage: 2026-99-99", "YAML"),
            ("\x00", "YAML"),
            ("stage = prod", "TOML"),
            ("a" * (LARGEST_TEXT + 1), "65,536 characters"),
        ],
    )
    def test_text_that_is_no_plain_document_is_refused(self, text, expected):
        assert expected in " ".join(problems(text).values())

    @given(st.text(max_size=80))
    def test_any_text_is_a_policy_or_a_refusal(self, text):
        for start in ("", "stage: ", "stage = ", "require: {evals: ["):
            with pytest.raises(InvalidInput):
                read_policy(start + text)

    @pytest.mark.parametrize(
        ("rest", "told"),
        [
            ("require: []", "require: expected a mapping, found []"),
            ("require: {evals: 3}", "require.evals: expected a list, found 3"),
            ("reverify_every: 90", "reverify_every: expected text, found 90"),
            ("auto_promote: 7.5", "auto_promote: expected true or false, found 7.5"),
            ("require: {evals: [{metric: a/acc, min: [1]}]}", "min: expected a number, found [1]"),
            ("require: {approvals: {count: x}}", "count: expected"),
        ],
    )
    def test_what_has_to_stand_there_is_told_in_the_words_of_documents(self, rest, told):
        with pytest.raises(InvalidInput) as caught:
            read_policy(f"apiVersion: adapters/v1\nkind: StagePolicy\nstage: prod\n{rest}\n")
        assert told in str(caught.value)


class TestPresets:
    @pytest.mark.parametrize("name", sorted(PRESETS))
    @pytest.mark.parametrize("stage", STAGE_NAMES)
    def test_each_stage_s_preset_reads_back_equal_and_nothing_in_it_is_impossible(self, name, stage):
        asked = preset(name, stage=stage)
        assert read_policy(to_yaml(asked)) == asked
        assert lint(asked, ()) == ()

    def test_solo_leaves_dev_free_but_for_compatibility(self):
        assert preset("solo", stage="dev") == Policy("dev", (Level.EXACT, Level.EQUIVALENT))

    def test_solo_asks_more_on_the_way_up(self):
        staging, prod = preset("solo", stage="staging"), preset("solo", stage="prod")
        assert staging.health == prod.health == Health(Matched.SOME, finite=True, nonzero=True)
        assert staging.evals == Evals(any=True)
        assert [each.metric for each in prod.evals.comparisons] == ["*"]

    def test_an_unknown_preset_names_those_there_are(self):
        with pytest.raises(InvalidReference, match="there is regulated, solo, team"):
            preset("enterprise", stage="prod")


@pytest.mark.parametrize(
    ("margin", "value", "expected", "written"),
    [(Margin(0.01), 50.0, 0.01, 0.01), (Margin(0.02, relative=True), -50.0, 1.0, "2%"), (Margin(0.0), 1.0, 0.0, 0.0)],
)
def test_a_margin_is_absolute_or_a_share_of_the_other_side(margin, value, expected, written):
    assert margin.of(value) == pytest.approx(expected)
    assert margin.written == written


def test_a_least_effect_is_the_margin_of_a_superior_version():
    wanted = read_policy(evals({"metric": "a/b", "test": "superior", "margin": 0.02}))
    assert read_policy(evals({"metric": "a/b", "test": "superior", "min_effect": 0.02})) == wanted


class TestWhatAlwaysHolds:
    CHANGES = ("policy_change", "evidence_change", "incumbent_change")

    def test_a_policy_may_say_it(self):
        said = changed(
            require={"approvals": {"count": 1, "stale_on": self.CHANGES}},
            rollback={"requires": ["integrity", "compatibility"], "approvals": 0},
        )
        assert read_policy(said) == read_policy(changed(require={"approvals": {"count": 1}}, rollback={}))

    @pytest.mark.parametrize(
        ("parts", "expected"),
        [
            ({"require": {"approvals": {"count": 1, "stale_on": CHANGES[:2]}}}, "any of them ends an approval"),
            ({"rollback": {"requires": ["compatibility"]}}, "going back always checks them"),
            ({"rollback": {"approvals": 1}}, "expected 0"),
        ],
    )
    def test_a_policy_may_not_say_less(self, parts, expected):
        [problem] = problems(changed(**parts)).values()
        assert expected in problem


def test_the_document_is_canonical_json():
    assert to_json(PROD) == to_json(read_policy(FULL))
    assert json.loads(to_json(PROD)) == document(PROD)


class TestIntegrity:
    TEXT = "{apiVersion: adapters/v1, kind: StagePolicy, stage: prod, require: {integrity: {%s}}}"

    def test_the_format_can_be_asked_for(self):
        read = read_policy(self.TEXT % "format: safetensors")
        assert read == Policy("prod", integrity=Integrity())
        assert read_policy(to_yaml(read)) == read

    @pytest.mark.parametrize(
        ("asked", "means"),
        [
            ("signature: any-trusted-key", Integrity(safetensors=False, signature=Signers())),
            ("signature: {keys: [a, b], count: 2}", Integrity(safetensors=False, signature=Signers(("a", "b"), 2))),
            ("signature: {count: 2}, format: safetensors", Integrity(signature=Signers(count=2))),
            ("scan: clean", Integrity(safetensors=False, scan=Scanners())),
            ("scan: {max_age: 30d}", Integrity(safetensors=False, scan=Scanners(max_age=30 * 86_400))),
            ("scan: {by: [adapters, clamav]}", Integrity(safetensors=False, scan=Scanners(("adapters", "clamav")))),
        ],
    )
    def test_signatures_and_scans_can_be_asked_for(self, asked, means):
        read = read_policy(self.TEXT % asked)
        assert read == Policy("prod", integrity=means)
        assert read_policy(to_yaml(read)) == read

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            ("", "format, signature or scan"),
            ("signature: any", "'any-trusted-key', or a mapping"),
            ("signature:", "'any-trusted-key', or a mapping"),
            ("format: safetensors, scan:", "'clean', or a mapping"),
            ("format:", "format, signature or scan"),
            ("signature: {keys: [ci], count: 2}", "a count of at most the keys that are named"),
            ("signature: {count: 0}", "greater than or equal to 1"),
            ("scan: dirty", "'clean', or a mapping"),
            ("scan: {by: []}", "1 or more entries"),
            ("scan: {max_age: soon}", "a time span"),
        ],
    )
    def test_what_nobody_could_sign_or_scan_is_refused(self, asked, expected):
        with pytest.raises(InvalidInput) as refused:
            read_policy(self.TEXT % asked)
        assert expected in str(refused.value)

    @pytest.mark.parametrize(
        ("files", "passes"),
        [
            (("adapter_config.json", "adapter_model.safetensors"), True),
            (("adapter_model.safetensors", "optimizer.PT"), False),
            (("adapter_model.bin",), False),
            (("adapter_config.json",), False),
        ],
    )
    def test_nothing_that_a_loader_could_run_is_among_the_files(self, files, passes):
        [finding] = judge(Policy("prod", integrity=Integrity()), replace(V3, files=files))
        assert (finding.rule, finding.passes) == ("integrity format", passes)
