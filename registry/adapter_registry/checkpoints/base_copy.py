"""Which files of a checkpoint's folder are stored with its weights: everything that is safe to load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adapter_registry.checkpoints.adapter_files import FolderFile, refused, survey
from adapter_registry.checkpoints.base_folder import open_checkpoint
from adapter_registry.checkpoints.file_rules import file_problems
from adapter_registry.domain.errors import Notice


@dataclass(frozen=True, slots=True)
class Copy:
    """What a folder holds for storing.

    Attributes:
        files: sorted by path.
        notices: what was left out, and why.
        repository: the Hub repository that the folder is of; None where that is not known.
        commit: its 40-hex commit; None where that is not known.
    """

    files: tuple[FolderFile, ...]
    notices: tuple[Notice, ...]
    repository: str | None
    commit: str | None


def read_copy(path: Path) -> Copy:
    """The files of the checkpoint in a folder, a Hub cache folder or beside one safetensors file.

    Pickles, programs and weights that are no part of the checkpoint are left out.

    Raises:
        InvalidInput: no sound checkpoint.
        PushRefused: links, devices, names that differ only in case; all at once.
    """
    opened = open_checkpoint(path)
    weights = {file.name for file, _ in opened.files}
    found = survey(opened.files[0][0].parent)
    kept: list[FolderFile] = []
    notices = list(found.notices)
    for file in found.files:
        problem = next(file_problems([file]), None)
        if problem is not None:
            notices.append(Notice("left-out", file.path, "", f"left out: {problem.code.replace('-', ' ')}"))
        elif file.path.endswith(".safetensors") and "/" not in file.path and file.path not in weights:
            notices.append(Notice("weights-left-out", file.path, "", "left out: no part of the checkpoint"))
        else:
            kept.append(file)
    problems = [*found.problems, *file_problems(kept)]
    if problems:
        raise refused(problems)
    origin = opened.checkpoint.origin
    return Copy(tuple(kept), tuple(notices), origin.repository, origin.commit)
