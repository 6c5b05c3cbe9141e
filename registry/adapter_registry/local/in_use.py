"""Which adapter is in use in which folder, so that `adapters promote v3 prod` needs no name."""

from __future__ import annotations

import json
import os
from pathlib import Path


class InUse:
    """A small file: folder -> adapter, chosen by `use` or by the last push there.

    `ADAPTERS_ADAPTER` wins over it. A choice made in a folder holds in the folders below it.
    """

    def __init__(self, path: Path, fixed: str | None) -> None:
        self._path = path
        self._fixed = fixed

    def here(self) -> str | None:
        """`namespace/name` in use in the current folder; None when nothing was chosen."""
        if self._fixed:
            return self._fixed
        chosen = self._read("folders")
        here = Path.cwd()
        return next((chosen[str(folder)] for folder in (here, *here.parents) if str(folder) in chosen), None)

    def pushed_from(self, folder: Path) -> str | None:
        """The adapter that `folder` was last pushed to."""
        return self._read("pushed").get(str(folder.resolve()))

    def choose(self, adapter: str, *, pushed: Path | None = None) -> None:
        """Use `adapter` here from now on; remember that the folder `pushed` belongs to it."""
        folders = {**self._read("folders"), str(Path.cwd()): adapter}
        sources = self._read("pushed")
        if pushed is not None:
            sources[str(pushed.resolve())] = adapter
        aside = self._path.with_suffix(f".{os.getpid()}.tmp")
        aside.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps({"folders": folders, "pushed": sources}, indent=1, sort_keys=True))
        aside.replace(self._path)

    def _read(self, part: str) -> dict[str, str]:
        try:
            document = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        found = document.get(part) if isinstance(document, dict) else None
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
