"""A suite from a file: registered by its bytes, kept with them, and measured by whoever names it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from adapter_cli.main import adapters
from adapter_registry.client import Registry
from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.errors import InvalidInput, NotFound, RegistryError, Unsupported
from adapter_registry.domain.evidence.suite import Suite, SuiteMetric
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs import evaluate_tasks
from adapter_registry.local.suite_files import suite_in
from adapter_registry.settings import read_settings
from tests.integration.test_evaluate import ADAPTER, folders, registry  # noqa: F401  fixtures
from tests.integration.test_evaluate_tasks import TASK
from tests.server_process import serving

DOCUMENT = "apiVersion: adapters/v1\nkind: EvalSuite\nname: core\n"


def lines(count: int) -> str:
    rows = [{"question": f"w{n}", "choices": [f"w{n + 1}", f"w{n + 2}"], "label": 0} for n in range(count)]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def words(tmp_path) -> Path:
    """A folder with one task of lm-evaluation-harness, and its data."""
    folder = tmp_path / "Some Words"
    folder.mkdir()
    (folder / "words.jsonl").write_text(lines(24))
    (folder / "words.yaml").write_text(yaml.safe_dump(TASK))
    return folder


@pytest.fixture
def cli(registry, monkeypatch, tmp_path):  # noqa: F811  the fixture
    """The command, on the registry with sql-lora@v1, in an empty folder; the harness counts as installed."""
    monkeypatch.setenv("ADAPTERS_HOME", str(registry.settings.home))
    monkeypatch.setattr(evaluate_tasks, "_missing", list)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: object, code: int = 0) -> str:
        found, said = invoked(*arguments)
        assert found == code, said
        return said

    return run


def invoked(*arguments: object) -> tuple[int, str]:
    """(exit code, all that is said) of the command."""
    ran = CliRunner().invoke(adapters, [str(each) for each in arguments])
    if isinstance(ran.exception, RegistryError):
        return ran.exception.exit_code, ran.exception.text
    return ran.exit_code, ran.output


class TestRead:
    def test_the_file_of_a_task_is_a_suite_of_all_that_it_measures(self, words):
        found = suite_in(words / "words.yaml")
        said = {"shots": "0", "task_version": "2"}
        assert found.suite.name == "words"
        assert found.suite.metrics == (SuiteMetric("words/acc", said), SuiteMetric("words/acc_norm", said))
        assert found.paths.keys() == found.suite.files.keys() == {"words/task.yaml", "words/data/words.jsonl"}
        assert found.suite.files["words/data/words.jsonl"] == of_bytes((words / "words.jsonl").read_bytes())

    def test_each_filter_of_a_task_has_scores_of_its_own(self, words):
        steps = [{"name": name, "filter": [{"function": "lowercase"}]} for name in ("strict", "loose")]
        (words / "words.yaml").write_text(yaml.safe_dump({**TASK, "filter_list": steps, "num_fewshot": 5}))
        found = suite_in(words / "words.yaml").suite.metrics
        assert [each.metric for each in found[:2]] == ["words/acc@strict", "words/acc@loose"]
        assert found[0].setting["shots"] == "5"

    def test_a_folder_is_a_suite_of_its_tasks_called_as_it_is(self, words):
        (words / "numbers.yml").write_text(yaml.safe_dump({**TASK, "task": "numbers"}))
        found = suite_in(words).suite
        assert (found.name, found.tasks, len(found.metrics)) == ("some-words", ("numbers", "words"), 4)

    def test_a_document_names_tasks_beside_it_and_may_list_fewer_metrics(self, words):
        (words / "core.yaml").write_text(DOCUMENT + "tasks: [words.yaml]\n")
        assert len(suite_in(words / "core.yaml").suite.metrics) == 2
        (words / "core.yaml").write_text(DOCUMENT + "tasks: [words.yaml]\nmetrics: [{metric: words/acc}]\n")
        assert suite_in(words / "core.yaml").suite.metrics == (SuiteMetric("words/acc"),)

    @pytest.mark.parametrize(
        ("name", "text", "told"),
        [
            ("a.yaml", "a: [", "a.yaml is not a suite"),
            ("a.yaml", "[1]", "expected a suite .kind: EvalSuite"),
            ("a.yaml", "x: 1", "or a task of lm-evaluation-harness"),
            ("a.yaml", "group: g\ntask: [a, b]", "found a group of several"),
            ("a.yaml", "task: t\ndataset_path: hails/mmlu_no_train\ninclude: _default", "A job reaches no hub"),
            ("a.yaml", DOCUMENT, "at least one metric, or tasks"),
            ("a.yaml", DOCUMENT + "tasks: [../words.yaml]", "tasks"),
            ("a.yaml", DOCUMENT + "tasks: [none.yaml]", "none.yaml cannot be read"),
            ("a.yaml", DOCUMENT + "tasks: [a.yaml]", "a suite .kind: EvalSuite., where a task is looked for"),
            (
                "a.yaml",
                DOCUMENT + f"tasks: [words.yaml]\nfiles: {{a/task.yaml: 'sha256:{'0' * 64}'}}",
                "both tasks and",
            ),
            ("a.toml", "name = 1 = 2", "expected TOML"),
            ("none.yaml", None, "cannot be read"),
        ],
    )
    def test_what_is_no_suite_is_refused_with_the_reason(self, words, name, text, told):
        if text is not None:
            (words / name).write_text(text)
        with pytest.raises(InvalidInput, match=told):
            suite_in(words / name)

    def test_an_empty_folder_and_bytes_that_are_no_text_are_refused(self, tmp_path):
        with pytest.raises(InvalidInput, match="has no file of a task"):
            suite_in(tmp_path)
        (tmp_path / "a.yaml").write_bytes(b"\xff\xfe")
        with pytest.raises(InvalidInput, match="is not UTF-8 text"):
            suite_in(tmp_path / "a.yaml")


class TestStored:
    def test_the_same_bytes_are_the_same_version_and_changed_ones_the_next(self, registry, words):  # noqa: F811
        def kept() -> str:
            return registry.keep_suite(suite_in(words), adapter=ADAPTER).reference

        assert [kept(), kept()] == ["some-words@1", "some-words@1"]
        (words / "words.jsonl").write_text(lines(25))
        assert [kept(), kept()] == ["some-words@2", "some-words@2"]
        first, second = registry.suites()
        assert first.files["words/task.yaml"] == second.files["words/task.yaml"]

    def test_files_that_were_not_sent_are_refused_and_those_of_an_earlier_version_need_not_be(self, registry, words):  # noqa: F811
        found = suite_in(words).suite
        with pytest.raises(NotFound, match=r"words/data/words\.jsonl: no bytes .* were sent for default/other"):
            registry.set_suite(found, adapter="other")
        registry.keep_suite(suite_in(words), adapter=ADAPTER)
        fewer = replace(found, metrics=found.metrics[:1])
        assert registry.set_suite(fewer).reference == "some-words@2"

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"files": {"words/../x": of_bytes(b"")}}, "a suite's files are NAME/task.yaml"),
            ({"files": {"words/data/x": of_bytes(b"")}}, "a suite's files are NAME/task.yaml"),
            ({"metrics": (SuiteMetric("numbers/acc"),)}, "the tasks numbers are not among them"),
        ],
    )
    def test_files_that_are_of_no_task_of_it_are_refused(self, registry, words, changes, told):  # noqa: F811
        with pytest.raises(InvalidInput, match=told):
            registry.set_suite(replace(suite_in(words).suite, **changes), adapter=ADAPTER)

    def test_its_files_are_no_garbage_and_damage_to_them_is_noticed(self, registry, words):  # noqa: F811
        stored = registry.keep_suite(suite_in(words), adapter=ADAPTER)
        assert registry.collect(grace_seconds=0.0).blobs == 0
        [path] = registry.settings.home.glob(f"blobs/**/{stored.files['words/task.yaml'].removeprefix('sha256:')}")
        path.chmod(0o600)
        path.write_bytes(b"")
        [damage] = registry.verify_store().damage
        assert damage.affected == ("suite some-words@1",)

    def test_a_submission_is_of_exactly_its_files(self, registry, words):  # noqa: F811
        stored = registry.keep_suite(suite_in(words), adapter="elsewhere/a")
        given = Recipe("evaluate", (Ingredient(f"{ADAPTER}@v1"),), into=ADAPTER, files=stored.files)
        job = registry.submit(replace(given, options={"suite": "some-words"}))
        assert job.recipe.options["suite"] == "some-words@1"
        with pytest.raises(InvalidInput, match="asks for 0 shots, not 3"):
            registry.submit(replace(given, options={"suite": "some-words", "shots": 3}))
        (words / "words.jsonl").write_text(lines(25))
        other = registry.keep_suite(suite_in(words), adapter=ADAPTER)
        with pytest.raises(InvalidInput, match=r"measured with its own files, and words/data/words\.jsonl is another"):
            registry.submit(replace(given, options={"suite": "some-words@1"}, files=other.files))


class TestCommand:
    def test_a_file_a_task_and_a_folder_are_stored_and_a_name_is_found(self, cli, words):
        assert "words@1: 2 metrics of words" in cli("score", "suite", "set", words / "words.yaml")
        assert cli("score", "suite", "set", words, "-q").strip() == "some-words@1"
        shown = cli("score", "suite", "show", "words")
        (words / "again.yaml").write_text(shown.partition("\n")[2])
        assert cli("score", "suite", "set", words / "again.yaml", "-q").strip() == "words@1"

    @pytest.mark.parametrize(
        ("given", "code", "told"),
        [
            ("none.yaml", 1, "there is no file none.yaml, and no suite of that name"),
            ("./none", 1, "there is no file ./none."),
            ("core", 1, "there is no file core, and no suite of that name; `adapters score suite ls`"),
            ("core@2", 1, "there is no suite core@2"),
            ("words@1", 2, "words@1 says what is measured, and not with which tasks: name them with --tasks FILE"),
            ("words", 2, "words is both a stored suite and a file here: write words@1 for the suite, ./words for the"),
            ("./words", 2, "expected a suite"),
        ],
    )
    def test_what_is_not_there_or_there_twice_is_told(self, cli, registry, given, code, told):  # noqa: F811
        registry.set_suite(Suite("words", (SuiteMetric("words/acc"),)))
        Path("words").write_text("nothing")
        assert told in cli("eval", "run", "sql-lora@v1", "--suite", given, code=code)

    def test_tasks_beside_a_suite_that_has_its_own_are_refused(self, cli, words):
        cli("score", "suite", "set", words)
        refused = cli("eval", "run", "sql-lora@v1", "--suite", "some-words", "--tasks", words / "words.yaml", code=2)
        assert "--tasks: some-words says itself" in refused
        assert "say what is measured: --suite FILE" in cli("eval", "run", "sql-lora@v1", code=2)

    def test_without_the_harness_nothing_is_stored(self, cli, registry, words, monkeypatch):  # noqa: F811
        monkeypatch.setattr(evaluate_tasks, "_missing", lambda: ["lm_eval"])
        assert "pip install 'adapter-registry[eval]'" in cli("eval", "run", "sql-lora@v1", "--suite", words, code=1)
        assert registry.suites() == ()


@pytest.mark.skipif(
    not evaluate_tasks.is_installed(), reason="LM-EVAL IS NOT INSTALLED: no task was run (extra `eval`)"
)
def test_a_file_is_measured_and_measured_again_by_the_name_of_its_suite(cli, registry, words):  # noqa: F811
    said = cli("eval", "run", "sql-lora@v1", "--suite", words)
    assert "stored some-words@1: 2 metrics of words" in said
    assert "recorded 2 scores" in said
    assert "some-words@1, as it is stored" in cli("eval", "run", "sql-lora@v1", "--suite", words)
    cli("eval", "run", "sql-lora@v1", "--suite", "some-words")
    assert [each.score.suite for each in registry.scores(f"{ADAPTER}@v1")] == ["some-words@1"] * 2
    (words / "words.jsonl").write_text(lines(25))
    assert "what some-words@1 measured is stale now" in cli("eval", "run", "sql-lora@v1", "--suite", words)
    assert "some-words@1" in cli("eval", "run", "sql-lora@v1", "--suite", "some-words@1", "--limit", "3")


@pytest.fixture(scope="module")
def place(tmp_path_factory, folders):  # noqa: F811  the fixture
    """A server with sql-lora, an administrator's registry, and that of who may score and no more."""
    folder = tmp_path_factory.mktemp("suite-server")
    settings = {"ADAPTERS_HOME": str(folder / "home"), "ADAPTERS_CACHE": str(folder / "cache")}
    settings |= {"HF_HUB_OFFLINE": "1", "ADAPTERS_BASE_SOURCES": str(folders), "ADAPTERS_JOB_WORKER": "0"}
    with serving(folder, settings) as server:
        remote = {**settings, "ADAPTERS_HOME": str(folder / "client"), "ADAPTERS_URL": f"http://{server.host}"}
        admin = Registry(read_settings({**remote, "ADAPTERS_TOKEN": server.token}))
        admin.add_base("tiny", folders / "base")
        admin.push(folders / "lora", base="tiny", name="sql-lora")
        admin.create_account("eve")
        admin.grant("eve", "default/*", ("writer",))
        secret = admin.create_token(account="eve").secret
        yield (
            admin,
            Registry(read_settings({**remote, "ADAPTERS_TOKEN": secret})),
            {**remote, "ADAPTERS_TOKEN": secret},
        )


class TestServer:
    def test_who_may_score_measures_by_what_an_administrator_stored(self, place, words, monkeypatch, tmp_path):
        admin, eve, environment = place
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        asked = ["eval", "run", "sql-lora@v1", "--suite", "Some Words/", "--submit"]
        code, refused = invoked(*asked)
        assert code == 1
        assert "no version of a suite some-words, and you may not store one: eve may not do this" in refused
        assert "Have somebody run `adapters score suite set`" in refused
        assert admin.keep_suite(suite_in(words), adapter="other/a").reference == "some-words@1"
        code, done = invoked(*asked)
        assert code == 0, done
        assert "some-words@1, as it is stored" in done
        invoked("eval", "run", "sql-lora@v1", "--suite", "some-words", "--submit")
        recipes = [job.recipe for job in eve.jobs()]
        assert [each.files for each in recipes] == [admin.suite("some-words").files] * 2

    def test_a_server_gives_the_files_of_a_suite_to_its_workers_alone(self, place, tmp_path):
        admin, _, _ = place
        with pytest.raises(Unsupported, match="have one do it"):
            admin.bring_file(of_bytes(b"x"), tmp_path / "x")
