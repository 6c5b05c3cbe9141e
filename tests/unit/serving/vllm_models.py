"""The classes of vLLM's models, read in a wheel without running it: what they inherit and say of themselves."""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

MODELS = "vllm/model_executor/models"
PACKAGE = MODELS.replace("/", ".")
DRAFTS = "_SPECULATIVE_DECODING_MODELS"
"""Models that guess for another one, and are no base of anything."""

Lineage = list[tuple[str, ast.ClassDef | None]]
"""(module, class) of a class and all it inherits, nearest first; no class for each that is not found."""
MAKERS = {"init_vllm_registered_model", "initialize_model"}
"""What makes the language model of a model that sees; of the class that its config says, where none is named."""
TEXT_NAME = "model.layers.0.self_attn.q_proj"
"""A module as an adapter names it that was trained on the language model alone."""
BY_ANOTHER = {"init_llm"}
"""Methods that classes have whose language model another class makes, by the version that the config says."""


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
        return [node for _, node in self._lineage(module, name)]

    def adapted_embeddings(self, module: str, name: str) -> set[str] | None:
        """Which input embeddings and output heads a class adapts, with the language model in it.

        None where another class, or the base's config, decides what the language model is.
        """
        lineage = self._lineage(module, name)
        found = self._own_embeddings(lineage)
        inner = next(filter(None, (list(self._language_models(place, node)) for place, node in lineage)), [])
        return None if None in inner else found.union(*(self._own_embeddings(each) for each in inner if each))

    def says_yes(self, module: str, name: str, what: str) -> bool:
        """Whether the nearest class that says anything of `what`, or names a class that does, says True."""
        return self._told(self._lineage(module, name), what) is True

    def leaves_text_names(self, module: str, name: str) -> bool:
        """Whether modules that are named as those of the language model alone are not found where it has that model."""
        nodes = [node for node in self.ancestry(module, name) if node]
        mapper = next(filter(None, (said(node, "hf_to_vllm_mapper") for node in nodes)), None)
        given = {each.arg: each.value for each in mapper.keywords} if isinstance(mapper, ast.Call) else {}
        text = TEXT_NAME
        for before, after in _literal(given.get("orig_to_new_substr")).items():
            text = text.replace(before, after or "")
        for before, after in _literal(given.get("orig_to_new_prefix")).items():
            if text.startswith(before):
                text = f"{after or ''}{text.removeprefix(before)}"
        calls = (each for node in nodes for each in ast.walk(node) if isinstance(each, ast.Call))
        places = (each.value for call in calls for each in call.keywords if each.arg == "language_model")
        place = next((each.value for each in places if isinstance(each, ast.Constant)), None)
        return place is not None and not text.startswith(str(place))

    def _own_embeddings(self, lineage: Lineage) -> set[str]:
        return set(self._told(lineage, "embedding_modules") or ())

    def _told(self, lineage: Lineage, what: str) -> Any:
        """What the nearest class says that says anything; None for nothing."""
        for place, node in lineage:
            value = said(node, what) if node else None
            if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):
                return self._told(self._lineage(place, value.value.id), what)
            if value is not None:
                return ast.literal_eval(value)
        return None

    def _language_models(self, place: str, node: ast.ClassDef | None) -> Iterator[Lineage | None]:
        """The lineage of each class of language models that a class makes; None for one that is not told."""
        for call in ast.walk(node) if node else ():
            if isinstance(call, ast.FunctionDef) and call.name in BY_ANOTHER:
                yield None
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                continue
            if call.func.id in MAKERS:
                listed = next((each.value for each in call.keywords if each.arg == "architectures"), None)
                literal = [ast.literal_eval(each) for each in listed.elts] if isinstance(listed, ast.List) else [None]
                yield from (self._lineage(*self.architectures()[each]) if each else None for each in literal)
            elif call.func.id.endswith("ForCausalLM"):
                yield self._lineage(place, call.func.id)

    def _lineage(self, module: str, name: str) -> Lineage:
        found = self._find(module, name)
        if found is None:
            return [("", None)]
        place, node = found
        bases = [each.value if isinstance(each, ast.Subscript) else each for each in node.bases]
        named = [each.id for each in bases if isinstance(each, ast.Name) and each.id != "Protocol"]
        return [found, *(above for each in named for above in self._lineage(place, each))]

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

    def text(self, module: str) -> str:
        """The source of a module."""
        return self._archive.read(f"{module.replace('.', '/')}.py").decode()

    def _read(self, module: str) -> ast.Module:
        path = module.replace(".", "/")
        name = f"{path}/__init__.py" if self._is_package(module) else f"{path}.py"
        return ast.parse(self._archive.read(name)) if name in self._there else ast.Module([], [])


def said(node: ast.ClassDef, name: str) -> ast.expr | None:
    """What a class says of itself under a name; None where it says nothing."""
    for each in node.body:
        target = each.targets[0] if isinstance(each, ast.Assign) else getattr(each, "target", None)
        if isinstance(target, ast.Name) and target.id == name:
            return each.value
    return None


def _literal(value: ast.expr | None) -> dict[str, str | None]:
    """A mapping that is written out; an empty one for any other."""
    return ast.literal_eval(value) if isinstance(value, ast.Dict) else {}
