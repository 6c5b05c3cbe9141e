import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.results.file import ResultsFile
from adapter_registry.domain.results.formats import LARGEST_FILE, read_results

FILES = Path(__file__).parent / "results"
NAMES = sorted(path.name for path in FILES.iterdir())
LM_EVAL_4 = "lm_eval_0.4.2.json"
LM_EVAL_13 = "lm_eval_0.4.13.json"


def read(name: str) -> ResultsFile:
    return read_results((FILES / name).read_bytes(), name=name)


def document(name: str) -> dict[str, Any]:
    return json.loads((FILES / name).read_bytes())


def read_document(value: object) -> ResultsFile:
    return read_results(json.dumps(value).encode(), name="results.json")


def scores(name: str) -> dict[str, Score]:
    return {score.metric: score for score in read(name).scores}


def refusal(data: bytes) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        read_results(data, name="results.json")
    return caught.value


def compressed(header: bytes, *, entry: str = "header.json") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(entry, header)
        archive.writestr("samples/1_epoch_1.json", b"{}")
    return stream.getvalue()


class TestEveryFormat:
    @pytest.mark.parametrize("name", NAMES)
    def test_gives_scores_that_carry_the_file_they_came_from(self, name):
        found = read(name)
        assert found.scores
        for score in found.scores:
            assert score.source == name
            assert score.evidence == of_bytes((FILES / name).read_bytes())
            assert score.producer == found.producer
            assert "/" in score.metric
            assert list(score.setting) == sorted(score.setting)

    @pytest.mark.parametrize("name", NAMES)
    def test_keeps_nothing_of_the_machine_it_ran_on(self, name):
        assert "secret-host" not in repr(read(name))
        assert "/home/ann" not in repr(read(name))
        assert "/scratch/ann" not in repr(read(name))

    @pytest.mark.parametrize("name", NAMES)
    def test_no_model_name_decides_what_may_be_compared(self, name):
        assert not any("tiny-1b" in value for score in read(name).scores for value in score.setting.values())


class TestLmEval03:
    def test_plain_metric_names(self):
        score = scores("lm_eval_0.3.json")["gsm8k/acc"]
        assert (score.value, score.stderr, score.n) == (0.0834, 0.0076, None)
        assert score.setting == {"dtype": "float16", "harness": "lm-eval", "shots": "8", "task_version": "0"}

    def test_directions_come_from_the_name_where_it_leaves_no_doubt(self):
        found = scores("lm_eval_0.3.json")
        assert found["gsm8k/acc"].direction is Direction.HIGHER
        assert found["wikitext/bits_per_byte"].direction is Direction.LOWER
        assert found["crows_pairs_english/pct_stereotype"].direction is None

    def test_what_it_claims_to_have_measured(self):
        found = read("lm_eval_0.3.json")
        assert found.claims == {"model": "acme/tiny-1b", "adapter": "runs/sql-lora"}
        assert found.claimed == "model acme/tiny-1b, adapter runs/sql-lora"
        assert found.producer == "lm-eval"


class TestLmEval04:
    def test_the_filter_is_part_of_the_name_unless_there_is_none(self):
        found = scores(LM_EVAL_4)
        assert found["gsm8k/exact_match@strict-match"].value == 0.31
        assert found["gsm8k/exact_match@flexible-extract"].setting["filter"] == "flexible-extract"
        assert "filter" not in found["mmlu/acc"].setting

    def test_everything_that_decides_comparability(self):
        setting = scores(LM_EVAL_4)["gsm8k/exact_match@strict-match"].setting
        assert setting.pop("generation")
        assert setting == {
            "dataset": "gsm8k/main",
            "filter": "strict-match",
            "harness": "lm-eval",
            "shots": "5",
            "split": "test",
            "task_version": "3",
        }

    def test_a_sample_limit_shows_unless_it_changed_nothing(self):
        found = scores(LM_EVAL_4)
        assert found["mmlu_law/acc"].setting["limit"] == "100"
        assert "limit" not in found["gsm8k/exact_match@strict-match"].setting

    def test_a_group_has_the_samples_of_its_tasks_and_appears_once(self):
        groups = [score for score in read(LM_EVAL_4).scores if score.metric == "mmlu/acc"]
        assert [score.n for score in groups] == [200]
        assert groups[0].setting["tasks"]

    def test_nan_is_kept_and_infinity_becomes_nan_and_is_said(self):
        found = read(LM_EVAL_4)
        values = {score.metric: score.value for score in found.scores}
        assert math.isnan(values["pile_10k/word_perplexity"])
        assert math.isnan(values["pile_10k/byte_perplexity"])
        assert [notice for notice in found.notices if "pile_10k/byte_perplexity is infinite" in notice]

    def test_the_date_is_read_as_utc(self):
        assert scores(LM_EVAL_4)["mmlu/acc"].measured_at == "2024-08-14T04:26:32Z"

    def test_texts_counts_and_blank_group_rows_are_no_metrics(self):
        names = set(scores(LM_EVAL_13))
        assert names == {"leaderboard_bbh/acc_norm", "leaderboard_bbh_snarks/acc_norm", "crows/likelihood_diff"}

    def test_model_arguments_as_an_object(self):
        assert read(LM_EVAL_13).claims == {
            "model": "acme/tiny-1b",
            "model revision": "main",
            "adapter": "out/sql-lora",
        }
        assert read(LM_EVAL_13).producer == "lm-eval 0.4.13"

    def test_the_file_s_own_direction_wins_over_the_name(self):
        changed = document(LM_EVAL_13)
        changed["higher_is_better"]["leaderboard_bbh_snarks"]["acc_norm"] = False
        changed["higher_is_better"]["leaderboard_bbh"]["acc_norm"] = None
        found = {score.metric: score.direction for score in read_document(changed).scores}
        assert found["leaderboard_bbh_snarks/acc_norm"] is Direction.LOWER
        assert found["leaderboard_bbh/acc_norm"] is None
        assert found["crows/likelihood_diff"] is Direction.LOWER

    def test_prompts_are_told_by_digest(self):
        setting = scores(LM_EVAL_13)["leaderboard_bbh_snarks/acc_norm"].setting
        assert setting["chat_template"] == "c0ffee001122"
        assert setting["system_prompt"] == "77aa00112233"
        assert setting["shots_as_turns"] == "yes"
        assert setting["task_hash"] == "9c7114fcc76f"
        assert setting["dataset_revision"] == "abc123"
        assert setting["dtype"] == "bfloat16"

    def test_groups_that_contain_each_other_end(self):
        looped = document(LM_EVAL_13)
        looped["group_subtasks"] = {"leaderboard": ["leaderboard_bbh"], "leaderboard_bbh": ["leaderboard", "crows"]}
        assert read_document(looped).scores

    def test_the_same_run_twice_may_be_compared_and_another_number_of_shots_may_not(self):
        other = document(LM_EVAL_4)
        other["n-shot"]["gsm8k"] = 0
        mine = scores(LM_EVAL_4)["gsm8k/exact_match@strict-match"]
        found = {score.metric: score for score in read_document(other).scores}[mine.metric]
        assert scores(LM_EVAL_4)[mine.metric].comparability == mine.comparability
        assert found.comparability != mine.comparability


class TestLighteval:
    def test_rows_of_the_first_leaderboard(self):
        score = scores("lighteval_harness.json")["arc:challenge/acc_norm"]
        assert (score.value, score.stderr, score.direction) == (0.546, 0.0145, Direction.HIGHER)
        assert score.setting == {
            "dtype": "bfloat16",
            "harness": "lighteval",
            "shots": "25",
            "suite": "harness",
            "task_hash": "045cbb916e5145c6",
            "task_version": "0",
        }

    def test_the_average_over_unlike_tasks_is_left_out_and_said(self):
        found = read("lighteval_0.5.json")
        assert not any(score.metric.startswith("all/") for score in found.scores)
        assert found.notices == ("the row 'all' averages unlike tasks and was left out",)

    def test_directions_and_samples_from_the_task_s_configuration(self):
        found = scores("lighteval_0.5.json")
        assert found["odd/surprise"].direction is Direction.LOWER
        assert found["gsm8k/em"].n == 50
        assert found["gsm8k/em"].setting["limit"] == "50"
        assert found["gsm8k/em"].setting["dataset"] == "gsm8k/main"

    def test_rows_without_a_suite_and_metrics_with_parameters(self):
        found = scores("lighteval_0.13.json")
        assert found["gsm8k/pass@k:k=1"].direction is Direction.HIGHER
        assert found["gsm8k/extractive_match"].n is None
        assert found["gsm8k/extractive_match"].setting["chat_template"] == "yes"
        assert found["math:_average/maj@n:n=4&..."].stderr == 0.1

    def test_what_it_claims_to_have_measured(self):
        assert read("lighteval_0.13.json").claims == {"model": "merged/sql-lora"}
        assert read("lighteval_harness.json").claims["model commit"].startswith("84430552")


class TestInspect:
    def test_the_scorer_and_an_unusual_reducer_are_part_of_the_name(self):
        found = scores("inspect_2.json")
        assert found["gsm8k/accuracy@match"].value == 0.61
        assert found["gsm8k/accuracy@match:pass_at_2"].value == 0.72

    def test_the_standard_error_belongs_to_the_mean(self):
        score = scores("inspect_2.json")["gsm8k/accuracy@match"]
        assert (score.stderr, score.n, score.direction) == (0.034, 200, Direction.HIGHER)

    def test_a_mean_of_something_has_no_known_direction(self):
        assert scores("inspect_2.json")["gsm8k/mean@length"].direction is None

    def test_how_fast_it_ran_is_no_part_of_the_setting(self):
        changed = document("inspect_2.json")
        changed["plan"]["config"]["max_connections"] = 99
        before, after = scores("inspect_2.json"), {s.metric: s for s in read_document(changed).scores}
        assert before["gsm8k/accuracy@match"].comparability == after["gsm8k/accuracy@match"].comparability
        changed["plan"]["config"]["temperature"] = 0.9
        after = {s.metric: s for s in read_document(changed).scores}
        assert before["gsm8k/accuracy@match"].comparability != after["gsm8k/accuracy@match"].comparability

    def test_a_scorer_of_a_package_keeps_its_samples(self):
        log = document("inspect_2.json")
        log["results"]["scores"][0]["name"] = "agents/match"
        points = ["C"] * 122 + ["I"] * 78
        log["samples"] = [{"id": i, "scores": {"agents/match": {"value": each}}} for i, each in enumerate(points)]
        [found] = read_document(log).outcomes
        assert (found.metric, sum(found.values)) == ("gsm8k/accuracy@agents/match", 122)

    def test_the_time_is_turned_into_utc_and_dropped_without_an_offset(self):
        assert scores("inspect_2.json")["gsm8k/accuracy@match"].measured_at == "2025-02-11T20:17:00Z"
        assert scores("inspect_1.json")["wiki/accuracy@model_graded_fact"].measured_at is None

    def test_a_nan_of_the_first_version_is_kept(self):
        assert math.isnan(scores("inspect_1.json")["wiki/accuracy@model_graded_fact"].value)

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"status": "cancelled"}, "status: expected success, found cancelled"),
            ({"invalidated": True}, "invalidated: expected a log that nobody declared invalid"),
            ({"version": 4}, "version: expected 1, 2, 3, found 4"),
            ({"results": None}, "at least one metric with a number, found none"),
        ],
    )
    def test_an_unfinished_invalid_unknown_or_empty_log_is_refused(self, change, text):
        assert text in str(refusal(json.dumps({**document("inspect_2.json"), **change}).encode()))

    def test_samples_that_were_not_completed_are_said(self):
        partial = document("inspect_2.json")
        partial["results"]["completed_samples"] = 398
        assert read_document(partial).notices == ("only 398 of 400 samples were completed",)

    def test_a_compressed_log_says_the_same(self):
        header = (FILES / "inspect_2.json").read_bytes()
        found = read_results(compressed(header), name="log.eval")
        assert [s.metric for s in found.scores] == [s.metric for s in read("inspect_2.json").scores]
        assert found.scores[0].source == "log.eval"


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (b"", "expected JSON"),
            (b"\xff\xfe{", "expected JSON"),
            (b"[1, 2]", "a JSON list"),
            (b"{}", "a JSON object with the keys none"),
            (b'{"loss": 1}', "`adapters score add`"),
            (b'{"results": {}, "config": {}}', "at least one metric with a number"),
            (b'{"results": [], "config": {}}', "results_*.json of lm-evaluation-harness"),
            (b'{"results": {"a": {"acc": 1}}, "versions": {}, "versions": {}}', "each key once"),
            (b'{"doc_id": 1}\n{"doc_id": 2}\n', "a JSON lines file"),
            (b'{"doc_id": 1, "doc_hash": ""}', "samples file"),
            (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
            (b"[" * 100_000, "nested too deeply"),
            (b'{"a":' * 100_000, "nested too deeply"),
            (b'{"results": {"t": {"acc,none": ' + b"9" * 5000 + b'}}, "config": {}}', "expected JSON"),
            (b"PK\x03\x04 and nothing else", "an undamaged archive"),
        ],
    )
    def test_what_is_no_results_file_is_refused_with_the_way_out(self, data, text):
        error = refusal(data)
        assert text in str(error)
        assert error.problems
        assert all(problem.fix for problem in error.problems)

    def test_a_file_over_the_limit_is_not_even_parsed(self):
        assert "at most 67,108,864 bytes" in str(refusal(b" " * (LARGEST_FILE + 1)))

    def test_keys_of_two_formats_together_are_ambiguous(self):
        both = document("lighteval_0.5.json") | {"config_general": {}, "eval": {}, "status": "success"}
        assert "the keys of lighteval and Inspect together" in str(refusal(json.dumps(both).encode()))

    def test_the_same_metric_twice_in_one_setting_is_refused(self):
        doubled = {"results": {"a": {"acc": 1, "acc,none": 0.5}}, "versions": {}}
        assert "a/acc: expected each metric once per setting" in str(refusal(json.dumps(doubled).encode()))

    def test_an_endless_name_is_refused(self):
        long = {"results": {f"{'a' * 190}": {f"{'b' * 190}": 1}}, "versions": {}}
        assert "a name of at most 256 characters" in str(refusal(json.dumps(long).encode()))

    def test_an_archive_without_a_header_is_refused(self):
        assert "header.json" in str(refusal(compressed(b"{}", entry="other.json")))

    def test_a_header_that_grows_past_the_limit_is_refused(self):
        assert "more when decompressed" in str(refusal(compressed(b" " * (LARGEST_FILE + 1))))

    def test_a_compression_nobody_reads_here_names_the_converter(self):
        data = bytearray(compressed((FILES / "inspect_2.json").read_bytes()))
        data[8:10] = (93).to_bytes(2, "little")
        central = data.index(b"PK\x01\x02")
        data[central + 10 : central + 12] = (93).to_bytes(2, "little")
        assert "inspect log convert" in str(refusal(bytes(data)))


STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=20),
    st.just("\ud800"),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.none(), max_size=3),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in inner for place in places(child, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], new)
    return copy


def scores_or_printable_refusal(data: bytes) -> tuple[Score, ...]:
    try:
        return read_results(data, name="results.json").scores
    except InvalidInput as error:
        refused = error
    assert refused.problems
    assert str(refused).replace("\n", "").isprintable()
    return ()


class TestLaws:
    @given(data=st.data())
    @settings(max_examples=300, deadline=None)
    def test_whatever_type_stands_anywhere_the_answer_is_scores_or_a_refusal(self, data):
        value = document(data.draw(st.sampled_from(NAMES)))
        for _ in range(data.draw(st.integers(1, 3))):
            value = replaced(value, data.draw(st.sampled_from(places(value))), data.draw(STRANGE))
        try:
            text = json.dumps(value)
        except ValueError:
            return
        for score in scores_or_printable_refusal(text.encode()):
            assert not math.isinf(score.value)
            assert score.stderr is None or score.stderr >= 0
            assert score.n is None or score.n > 0
            assert score.comparability

    @given(st.binary(max_size=200))
    @settings(max_examples=200, deadline=None)
    def test_any_bytes_are_scores_or_a_refusal(self, data):
        for candidate in (data, b"PK\x03\x04" + data, b"{" + data):
            with pytest.raises(InvalidInput):
                read_results(candidate, name="results.json")

    @given(data=st.data())
    @settings(max_examples=100, deadline=None)
    def test_a_damaged_compressed_log_is_scores_or_a_refusal(self, data):
        whole = bytearray(compressed((FILES / "inspect_2.json").read_bytes()))
        for _ in range(data.draw(st.integers(1, 4))):
            whole[data.draw(st.integers(4, len(whole) - 1))] = data.draw(st.integers(0, 255))
        scores_or_printable_refusal(bytes(whole))
