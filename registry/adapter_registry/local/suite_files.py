"""Suites and tasks in files on this machine: what is measured with which bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.evidence.harness_task import HarnessTask, read_task
from adapter_registry.domain.evidence.suite import KIND, TASK_FILE, Suite, named
from adapter_registry.domain.evidence.suite_file import Written, read_written
from adapter_registry.local.folders import file_digest

YAML = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class SuiteFiles:
    """A suite that is here.

    Attributes:
        suite: without a version yet; its files by digest.
        paths: where those files are, by the same names.
    """

    suite: Suite
    paths: dict[str, Path]


def suite_in(path: Path) -> SuiteFiles:
    """The suite that a file or a folder holds.

    A document (kind: EvalSuite) may name tasks of lm-evaluation-harness beside it, and measures all that they do unless
    it lists metrics. The file of a task is a suite of that task, called as it is; a folder is one of the tasks in it,
    called as the folder is.

    Raises:
        InvalidInput: there is nothing there, it cannot be read, or it is none of these.
    """
    if path.is_dir():
        found = sorted(each for each in path.iterdir() if each.suffix in YAML and not each.name.startswith("."))
        if not found:
            raise InvalidInput(f"{path} has no file of a task: *.yaml, with its data beside it.")
        return _of_tasks(Suite(named(path.resolve().name), ()), [(each, _task(each)) for each in found])
    written = read_written(_text(path), name=path.name)
    if written.task is not None:
        return _of_tasks(written.suite, [(path, written.task)])
    if not written.tasks:
        return SuiteFiles(written.suite, {})
    if written.suite.files:
        raise InvalidInput(f"{path} says both tasks and files: tasks are beside it, files are in the registry already.")
    places = [path.parent / each for each in written.tasks]
    return _of_tasks(written.suite, [(each, _task(each)) for each in places])


def files_of_tasks(paths: Sequence[Path]) -> dict[str, Path]:
    """The files of tasks by their names in a recipe: each task's YAML, and the data beside it.

    Raises:
        InvalidInput: a file that cannot be read, a task that jobs do not run, or two of one name.
    """
    return _files([(path, read_task(_text(path), name=path.name)) for path in paths])


def _of_tasks(suite: Suite, tasks: Sequence[tuple[Path, HarnessTask]]) -> SuiteFiles:
    paths = _files(tasks)
    metrics = suite.metrics or tuple(metric for _, task in tasks for metric in task.metrics)
    digests = {name: file_digest(path) for name, path in paths.items()}
    return SuiteFiles(replace(suite, metrics=metrics, files=digests), paths)


def _files(tasks: Sequence[tuple[Path, HarnessTask]]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path, task in tasks:
        if task.name + TASK_FILE in found:
            raise InvalidInput(f"{path} and {found[task.name + TASK_FILE]} are both of a task {task.name}.")
        found[task.name + TASK_FILE] = path
        for name in task.files:
            data = path.parent / name
            if not data.is_file():
                raise InvalidInput(f"{path}: its data {data} is no file.")
            found[f"{task.name}/data/{name}"] = data
    return found


def _task(path: Path) -> HarnessTask:
    written: Written = read_written(_text(path), name=str(path))
    if written.task is None:
        raise InvalidInput(f"{path} is a suite (kind: {KIND}), where a task is looked for; name that file alone.")
    return written.task


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text (byte {error.start}).") from error
