"""GGUF, which llama.cpp reads: made by llama.cpp's own converter, where that is installed."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import Digest, of_bytes
from adapter_registry.domain.errors import InvalidInput, Unsupported
from adapter_registry.domain.lock import Lock
from adapter_registry.domain.manifest import manifest
from adapter_registry.local.pulled import Pulled, check_whole
from adapter_registry.serving.digest_folders import Exported

FILE = "adapter.gguf"
CONVERTER = "convert_lora_to_gguf.py"
SECONDS = 3600.0
_MAGIC = b"GGUF"


def converted(pulled: Pulled, scratch: Path, *, base: str, converter: str | None) -> Exported:
    """A pulled version as one GGUF file, written to `scratch`; its digest is that of the file and the lock.

    Args:
        pulled: what to convert; what the format cannot say is to be refused before (`admission`).
        scratch: an empty folder.
        base: folder of the base; its config is read, not its weights.
        converter: command line of the converter (ADAPTERS_GGUF_CONVERTER); None looks on the PATH.

    Raises:
        InvalidInput: `base` is no folder of a checkpoint.
        Unsupported: no converter is installed, or it refused the version.
    """
    check_whole(pulled.version)
    folder, out = Path(base).expanduser(), scratch / FILE
    if not (folder / "config.json").is_file():
        raise InvalidInput(
            f"llama.cpp's converter reads the config.json of the base: name a checkpoint folder, which {base} is not."
        )
    command = [*_command(converter), "--base", str(folder), "--outfile", str(out), str(pulled.folder)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS)  # noqa: S603  the operator's own
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unsupported(f"{shlex.join(command[:2])} cannot be run: {error}.") from error
    if ran.returncode or not _is_gguf(out):
        said = ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"]
        raise Unsupported(f"llama.cpp's converter makes no GGUF of {pulled.version.reference}: {said[-1][:500]}")
    with out.open("rb") as stream:
        file = File(FILE, out.stat().st_size, Digest(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"))
    version = pulled.version
    digest = of_bytes(manifest((file,), lock=Lock(version.base), lineage=version.lineage))
    return Exported(version, digest, (file,), {})


def _command(converter: str | None) -> list[str]:
    """The command line of the converter, beginning with an interpreter."""
    words = shlex.split(converter or shutil.which(CONVERTER) or "")
    if not words or (not shutil.which(words[0]) and not Path(words[0]).is_file()):
        where = f"{words[0]} is not there" if words else "none was found"
        raise Unsupported(
            f"llama.cpp reads GGUF, which its own converter makes, and {where}. Get llama.cpp's sources, install "
            f"requirements/requirements-convert_lora_to_gguf.txt of them, and set ADAPTERS_GGUF_CONVERTER to "
            f"`/path/to/python /path/to/llama.cpp/{CONVERTER}`."
        )
    return [sys.executable, *words] if words[0].endswith(".py") else words


def _is_gguf(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC
