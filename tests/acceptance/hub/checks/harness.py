"""Counting what holds, for scripts that run under an interpreter with one version of the client and nothing of ours."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from huggingface_hub import HfApi, __version__

GIVEN = json.loads(sys.argv[1])
"""What the test prepared: repo, commits, adapter, other, invalid, new (prefix of fresh repositories), tokens, url."""
REPO, ADAPTER, OTHER, INVALID = GIVEN["repo"], Path(GIVEN["adapter"]), Path(GIVEN["other"]), Path(GIVEN["invalid"])
V1, V2 = GIVEN["commits"]
VERSION = tuple(int(part) for part in __version__.split(".")[:2])
api = HfApi()
_held, _failed = [], []


def check(name, holds):
    """Note whether something holds."""
    (_held if holds else _failed).append(name)


def same(name, found, expected):
    """Note whether two values are equal."""
    check(name if found == expected else f"{name}: {found!r}, not {expected!r}", found == expected)


def works(name, attempt):
    """Note whether a call raises nothing; its result."""
    try:
        result = attempt()
    except Exception as error:  # noqa: BLE001  whatever it is is the finding
        _failed.append(f"{name}: {type(error).__name__}: {error}")
        return None
    _held.append(name)
    return result


def refused(name, kind, attempt, *, status=None, text="", never=()):
    """Note whether a call raises exactly this kind of error, with this status and text."""
    try:
        result = attempt()
    except Exception as error:  # noqa: BLE001  whatever it is is the finding
        found = getattr(getattr(error, "response", None), "status_code", None)
        right = isinstance(error, kind) and not isinstance(error, never) and text.lower() in str(error).lower()
        right = right and (status is None or found == status)
        (_held if right else _failed).append(name if right else f"{name}: {type(error).__name__} {found}: {error}")
    else:
        _failed.append(f"{name}: nothing was raised: {result!r}"[:300])


def hashes(folder):
    """name -> sha256 of the files of a folder."""
    paths = (p for p in Path(folder).rglob("*") if p.is_file() and ".cache" not in p.parts)
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def fresh():
    """A folder that nothing was put in yet."""
    return tempfile.mkdtemp()


def copied(source, **changes):
    """A copy of a folder with files added or replaced."""
    folder = Path(fresh()) / "copy"
    shutil.copytree(source, folder)
    for name, content in changes.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def new(name):
    """The id of a repository of this run."""
    return f"{GIVEN['new']}-{name}"


def pushed(name, folder=ADAPTER):
    """A fresh repository with an adapter in it; (id, commit)."""
    repo = new(name)
    api.create_repo(repo)
    return repo, api.upload_folder(repo_id=repo, folder_path=folder, commit_message="first").oid


@contextlib.contextmanager
def setting(**values):
    """Run with other environment variables."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def python(code, **environment):
    """What a fresh process of the same interpreter prints: settings are read on import."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=120,
    )
    return done.stdout.strip() or done.stderr[-400:]


def done():
    """Say how it went, for the test to read."""
    print(json.dumps({"version": __version__, "held": _held, "failed": _failed}))
