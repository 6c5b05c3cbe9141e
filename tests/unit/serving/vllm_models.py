"""The classes of vLLM's models, read in a wheel without running it: what they inherit and say of themselves."""

from __future__ import annotations

import ast
import zipfile
from functools import cache
from pathlib import Path

MODELS = "vllm/model_executor/models"
PACKAGE = MODELS.replace("/", ".")
DRAFTS = "_SPECULATIVE_DECODING_MODELS"
"""Models that guess for another one, and are no base of anything."""


class Models:
    """What a wheel's registry names."""

    def __init__(self, wheel: Path) -> None:
        self._archive = zipfile.ZipFile(wheel)
        self._there = set(self._archive.namelist())
        self._tree = cache(self._read)

    def architectures(self) -> dict[str, tuple[str, str]]:
        """Architecture -> (module, class); not those of `vllm.models`, whose classes are another on each device."""
        found: dict[str, tuple[str, str]] = {}
        for node in self._tree(f"{PACKAGE}.registry").body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            value = getattr(node, "value", None)
            if not isinstance(target, ast.Name) or not target.id.endswith("_MODELS") or not isinstance(value, ast.Dict):
                continue
            named = {ast.literal_eval(key): entry for key, entry in zip(value.keys, value.values, strict=True) if key}
            if target.id != DRAFTS:
                found |= {
                    name: ast.literal_eval(entry) for name, entry in named.items() if isinstance(entry, ast.Tuple)
                }
        return {name: (f"{PACKAGE}.{module}", kind) for name, (module, kind) in found.items() if "." not in module}

    def ancestry(self, module: str, name: str) -> list[ast.ClassDef | None]:
        """A class and all it inherits, nearest first; None for each that is not found."""
        found = self._find(module, name)
        if found is None:
            return [None]
        place, node = found
        bases = [each.value if isinstance(each, ast.Subscript) else each for each in node.bases]
        named = [each.id for each in bases if isinstance(each, ast.Name) and each.id != "Protocol"]
        return [node, *(above for each in named for above in self.ancestry(place, each))]

    def _find(self, module: str, name: str) -> tuple[str, ast.ClassDef] | None:
        for node in ast.walk(self._tree(module)):
            if isinstance(node, ast.ClassDef) and node.name == name:
                return module, node
            if isinstance(node, ast.ImportFrom):
                for each in node.names:
                    if (each.asname or each.name) == name:
                        return self._find(self._source(module, node), each.name)
        return None

    def _source(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        above = module.split(".")[: None if self._is_package(module) else -1]
        above = above[: len(above) - node.level + 1]
        return ".".join([*above, *filter(None, [node.module])])

    def _is_package(self, module: str) -> bool:
        return f"{module.replace('.', '/')}/__init__.py" in self._there

    def _read(self, module: str) -> ast.Module:
        path = module.replace(".", "/")
        name = f"{path}/__init__.py" if self._is_package(module) else f"{path}.py"
        return ast.parse(self._archive.read(name)) if name in self._there else ast.Module([], [])
