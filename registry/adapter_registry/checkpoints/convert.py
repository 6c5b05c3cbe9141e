"""Convert a pickled adapter to safetensors, without ever unpickling in this process."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from adapter_registry.checkpoints.adapter_files import CONFIG, PICKLED, WEIGHTS
from adapter_registry.checkpoints.json_strict import LFS_POINTER
from adapter_registry.domain.errors import Conflict, InvalidInput, Notice, StoreUnavailable

CHILD = Path(__file__).with_name("convert_child.py")
WALL_SECONDS = 600
MEMORY_BYTES = 24 << 30
LIMITS = (str(WALL_SECONDS), str(MEMORY_BYTES))
COPIED = (".json", ".md", ".txt", ".jinja", ".model")


def convert(folder: Path, out: Path) -> list[Notice]:
    """Write the adapter in `folder`, whose weights are pickled, to `out` as safetensors.

    Args:
        folder: holds adapter_config.json and adapter_model.bin.
        out: must not exist or be empty.

    Returns:
        What was left out.

    Raises:
        InvalidInput: nothing to convert, or weights-only loading refuses the pickle; nothing is left behind.
        Conflict: `out` is not empty.
    """
    source = folder / PICKLED
    _require(folder, source, out)
    aside = out.parent / f".{out.name}.{secrets.token_hex(4)}.partial"
    try:
        aside.mkdir(parents=True)
        _run(source, aside / WEIGHTS)
        left_out = _copy_others(folder, aside)
        aside.replace(out)
    except OSError as error:
        raise StoreUnavailable(f"{out} cannot be written ({error.strerror}); nothing was left behind.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return left_out


def _require(folder: Path, source: Path, out: Path) -> None:
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is no folder; name the folder that holds {PICKLED}.")
    if (folder / WEIGHTS).exists():
        raise InvalidInput(f"{folder} has {WEIGHTS} already: push it as it is.")
    if not source.is_file() or source.is_symlink():
        raise InvalidInput(f"{folder} has no {PICKLED}; there is nothing to convert.")
    if not (folder / CONFIG).is_file():
        raise InvalidInput(f"{folder} has no {CONFIG}, so it is no PEFT adapter.")
    with source.open("rb") as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            raise InvalidInput(
                f"{source} is a Git LFS pointer, not the weights: run `git lfs pull` where it was cloned."
            )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Conflict(f"{out} is not empty; nothing was written. Choose another folder.")
    if importlib.util.find_spec("torch") is None:
        raise InvalidInput("reading a pickle needs torch: pip install 'adapter-registry[jobs]', then convert again.")


def _run(source: Path, target: Path) -> None:
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter on our own file
            [sys.executable, "-I", "-B", str(CHILD), str(source.resolve()), str(target.resolve()), *LIMITS],
            capture_output=True,
            timeout=WALL_SECONDS,
            env={"PATH": os.defpath, "OMP_NUM_THREADS": "1"},
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InvalidInput(f"{source} took over {WALL_SECONDS} s to read; nothing was written.") from error
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise InvalidInput(
            f"{source} was refused by weights-only loading, which reads tensors and runs nothing: "
            f"{reason[-1][:300] if reason else f'it ended with {done.returncode}'}. Nothing was written. "
            "If you trust it, load it where it was trained and save it with safe_serialization=True."
        )


def _copy_others(folder: Path, out: Path) -> list[Notice]:
    notices = []
    for path in sorted(folder.iterdir()):
        if path.name == PICKLED:
            continue
        if path.is_file() and not path.is_symlink() and path.suffix in COPIED:
            shutil.copyfile(path, out / path.name)
        else:
            notices.append(Notice("left-out", path.name, "", "left out: not needed, or not safe to copy unread"))
    return notices
