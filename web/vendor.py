"""Fetch the third-party scripts of the web pages: `make vendor`. They are committed; a test holds them to the manifest.

Each is one minified file of an npm package at an exact version, with its licence. `--tests` marks what only tests load.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHIPPED, TESTED = HERE / "static" / "vendor", HERE.parent / "tests" / "pages" / "vendor"


@dataclass(frozen=True)
class Script:
    """One file of one package."""

    package: str
    version: str
    licence: str
    member: str
    folder: Path = SHIPPED

    @property
    def name(self) -> str:
        return Path(self.member).name


SCRIPTS = (
    Script("htmx.org", "4.0.1", "0BSD", "package/dist/htmx.min.js"),
    Script("echarts", "6.1.0", "Apache-2.0", "package/dist/echarts.common.min.js"),
    Script("cytoscape", "3.34.4", "MIT", "package/dist/cytoscape.min.js"),
    Script("dagre", "0.8.5", "MIT", "package/dist/dagre.min.js"),
    Script("cytoscape-dagre", "4.0.1", "MIT", "package/dist/cytoscape-dagre.min.js"),
    Script("axe-core", "4.14.1", "MPL-2.0", "package/axe.min.js", TESTED),
)


def fetch(script: Script, folder: Path) -> dict[str, str]:
    """Put one script and its licence in place; its line of the manifest."""
    packed = subprocess.run(
        ["npm", "pack", "--silent", f"{script.package}@{script.version}"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    script.folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / packed.stdout.split()[-1]) as package:
        data = _member(package, script.member)
        (script.folder / script.name).write_bytes(data)
        (script.folder / f"{script.package}.LICENSE").write_bytes(_member(package, "package/LICENSE"))
    line = {"file": script.name, "package": script.package, "version": script.version, "licence": script.licence}
    return {**line, "sha256": hashlib.sha256(data).hexdigest()}


def _member(package: tarfile.TarFile, name: str) -> bytes:
    stream = package.extractfile(name)
    if stream is None:
        raise SystemExit(f"{package.name} has no file {name}")
    return stream.read()


def main() -> None:
    """Fetch all, and write the two manifests."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [(script.folder, fetch(script, Path(folder))) for script in SCRIPTS]
    for place in (SHIPPED, TESTED):
        mine = [line for where, line in lines if where == place]
        (place / "manifest.json").write_text(json.dumps(mine, indent=2) + "\n")


if __name__ == "__main__":
    main()
