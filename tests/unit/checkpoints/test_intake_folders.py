"""A folder with what adapters never hold is refused without opening anything odd; everyday leftovers are left out."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from adapter_registry.checkpoints.adapter_files import read_folder
from adapter_registry.checkpoints.intake import examine_folder
from adapter_registry.domain.errors import PushRefused
from tests.adapter_builders import CONFIG, WEIGHTS, changed_config, copied
from tests.unit.checkpoints.refusals import expect


def names(*, add=(), remove=()):
    def change(folder):
        for name, data in add:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        for name in remove:
            (folder / name).unlink()

    return change


FOLDERS = {
    "no-config": (names(remove=[CONFIG]), "no-config", CONFIG),
    "no-weights": (names(remove=[WEIGHTS]), "no-weights", WEIGHTS),
    "pickled": (names(add=[("adapter_model.bin", b"PK")], remove=[WEIGHTS]), "pickled-weights", "adapters convert"),
    "other-pickle": (names(add=[("extra.pkl", b"\x80\x04")]), "pickled-file", "extra.pkl"),
    "program": (names(add=[("modeling.py", b"import os")]), "code-file", "modeling.py"),
    "native": (names(add=[("kernel.so", b"\x7fELF")]), "code-file", "kernel.so"),
    "disguised-program": (names(add=[("notes.txt", b"\x7fELF\x02\x01")]), "disguised-file", "a native program"),
    "disguised-pickle": (names(add=[("vocab.json", b"\x80\x04\x95\x00")]), "disguised-file", "a pickle"),
    "disguised-zip": (names(add=[("README.md", b"PK\x03\x04")]), "disguised-file", "zip"),
    "unknown": (names(add=[("weights.xyz", b"1")]), "unknown-file-type", "weights.xyz"),
    "case": (names(add=[("Notes.md", b"1"), ("notes.md", b"2")]), "names-differ-in-case", "notes.md"),
    "control": (names(add=[("a\x01.md", b"1")]), "bad-file-name", "control"),
    "direction": (names(add=[("a\u202egnp.md", b"1")]), "bad-file-name", "control or direction"),
    "backslash": (names(add=[("a\\b.md", b"1")]), "bad-file-name", ""),
    "trailing-dot": (names(add=[("a.md.", b"1")]), "bad-file-name", ""),
    "reserved": (names(add=[("con.md", b"1")]), "bad-file-name", ""),
    "long-name": (names(add=[("a" * 210 + ".md", b"1")]), "bad-file-name", "at most 200"),
    "pickle-as-image": (names(add=[("plot.png", b"\x80\x04.")]), "disguised-file", "a pickle"),
    "program-as-image": (names(add=[("plot.png", b"\x7fELF")]), "disguised-file", "a native program"),
    "archive": (names(add=[("notes.txt", b"\x1f\x8b\x08")]), "disguised-file", "a gzip archive"),
    "array": (names(add=[("x.json", b"\x93NUMPY")]), "disguised-file", "a numpy array"),
    "page": (names(add=[("x.html", b"<p>")]), "code-file", "html"),
    "notebook": (names(add=[("x.ipynb", b"{}")]), "code-file", "ipynb"),
    "pickle-inside": (names(add=[("sub/x.pt", b"PK")]), "pickled-file", "sub/x.pt"),
    "secrets": (names(add=[(".env", b"TOKEN=1")]), "unknown-file-type", ".env"),
    "git-inside": (names(add=[("sub/.GIT", b"x")]), "bad-file-name", "no file may have"),
    "trailing-space": (names(add=[("a .md ", b"1")]), "bad-file-name", ""),
    "colon": (names(add=[("a:b.md", b"1")]), "bad-file-name", ""),
    "decomposed": (names(add=[("e\u0301.md", b"1")]), "bad-file-name", "decomposed"),
    "tagged-front-matter": (
        names(add=[("README.md", b"---\nx: !!python/object/apply:os.system [id]\n---\n")]),
        "refused-value",
        "front matter",
    ),
    "endless-front-matter": (names(add=[("README.md", b"---\n" + b"a: b\n" * 20_000)]), "file-too-large", "65,536"),
    "deep": (names(add=[("/".join("abcdefghijklmnopqrst") + "/x.md", b"1")]), "path-too-deep", "16"),
    "large-readme": (names(add=[("README.md", b"x" * 5_000_001)]), "file-too-large", "5,000,000"),
    "broken-beside": (names(add=[("extra.safetensors", b"nonsense nonsense")]), "invalid-safetensors", "extra"),
    "nested": (
        lambda f: [(f / "en").mkdir(), (f / CONFIG).rename(f / "en" / CONFIG)],
        "no-config",
        "a folder of its own",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_with_what_adapters_never_hold_is_refused(name, tmp_path, lora_folder, llama_base):
    change, code, fragment = FOLDERS[name]
    folder = copied(lora_folder, tmp_path / "a")
    change(folder)
    expect(folder, llama_base, code, fragment)


def link(folder):
    (folder / "link.json").symlink_to("/etc/passwd")


def inner_link(folder):
    (folder / WEIGHTS).rename(folder / "real.safetensors")
    (folder / WEIGHTS).symlink_to("real.safetensors")


def pipe(folder):
    os.mkfifo(folder / "pipe.json")


def listener(folder):
    here = Path.cwd()
    os.chdir(folder)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.json")
    os.chdir(here)


@pytest.mark.parametrize("make", [link, inner_link, pipe, listener], ids=lambda make: make.__name__)
def test_anything_but_a_regular_file_is_refused_without_opening_it(make, tmp_path, lora_folder, llama_base):
    folder = copied(lora_folder, tmp_path / "a")
    make(folder)
    expect(folder, llama_base, "not-a-regular-file", "expected a regular file")


def test_too_many_files_are_refused(tmp_path, lora_folder, llama_base):
    folder = copied(lora_folder, tmp_path / "a")
    for i in range(2_001):
        (folder / f"{i}.txt").write_text("")
    expect(folder, llama_base, "too-many-files", "2,000")


def test_problems_of_files_and_of_contents_are_told_together(tmp_path, lora_folder, llama_base):
    folder = copied(lora_folder, tmp_path / "a")
    changed_config(folder, r=8)
    (folder / "run.py").write_text("1")
    link(folder)
    files, examination = examine_folder(folder, llama_base)
    codes = {problem.code for problem in examination.problems}
    assert codes == {"rank-mismatch", "code-file", "not-a-regular-file"}
    assert {file.path for file in files} == {"README.md", CONFIG, WEIGHTS, "run.py"}


def test_what_a_training_run_leaves_behind_is_left_out_with_a_notice(tmp_path, lora_folder):
    folder = copied(lora_folder, tmp_path / "a")
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "trainer_state.json"):
        (folder / name).write_bytes(b"PK\x03\x04")
    for name in ("checkpoint-500", "runs", ".git", "__pycache__"):
        (folder / name).mkdir()
        (folder / name / "x.bin").write_bytes(b"x")
    files, notices = read_folder(folder)
    assert {file.path for file in files} == {"README.md", CONFIG, WEIGHTS}
    assert len(notices) == 9


def test_a_snapshot_of_the_hub_cache_is_read_through_its_links(tmp_path, lora_folder):
    repository = tmp_path / "models--team--a"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for i, path in enumerate(sorted(lora_folder.iterdir())):
        (repository / "blobs" / str(i)).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(f"../../blobs/{i}")
    files, _ = read_folder(snapshot)
    assert {file.path for file in files} == {"README.md", CONFIG, WEIGHTS}
    (snapshot / "evil.json").symlink_to("/etc/passwd")
    with pytest.raises(PushRefused, match="symbolic link"):
        read_folder(snapshot)
