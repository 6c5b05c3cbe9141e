"""The document of `adapters sync`: which folders hold which references, laid out for which stack."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from adapter_registry.domain.document_file import Part, parsed, problem, refused, told
from adapter_registry.domain.errors import InvalidInput, InvalidReference
from adapter_registry.domain.process_file import seconds
from adapter_registry.domain.reference import parse

_ALIAS = re.compile(r"(?!.*--)[A-Za-z0-9][A-Za-z0-9_-]{0,89}")


def _alias(text: str) -> str:
    if _ALIAS.fullmatch(text) is None:
        raise PydanticCustomError("alias", "a name of letters, digits, _ and single -, which every stack accepts")
    return text


def _reference(text: str) -> str:
    try:
        found = parse(text, namespace="default")
    except InvalidReference as invalid:
        raise PydanticCustomError("reference", "a reference: team/sql-lora@prod") from invalid
    if found.kind is None:
        raise PydanticCustomError("reference", "a reference that says which version: team/sql-lora@prod")
    return text


def address(text: str) -> str:
    """The address of a server, without a last slash; raises PydanticCustomError for anything else."""
    if re.fullmatch(r"https?://[^/\s?#@]+(/[^\s?#]*)?", text) is None:
        raise PydanticCustomError("url", "the address of a server: http://host:8000")
    return text.rstrip("/")


def _path(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str) and value else value


Folder = Annotated[Path, BeforeValidator(_path)]


class Target(Part):
    """A folder that serving stacks read."""

    root: Folder
    layout: Literal["vllm", "nim", "ray", "tgi"]
    base: str = Field(min_length=1)
    serve: dict[Annotated[str, AfterValidator(_alias)], Annotated[str, AfterValidator(_reference)]] = Field(
        min_length=1
    )
    model: str | None = Field(default=None, min_length=1)
    seen_as: str | None = Field(default=None, min_length=1)
    servers: list[Annotated[str, AfterValidator(address)]] = Field(default=[])
    key_file: Folder | None = None
    remove_after: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Target:
        if self.layout == "vllm" and self.model is None:
            raise PydanticCustomError("model", "with `model`: vLLM's resolver wants the text of its --model, exactly")
        if self.remove_after is not None:
            seconds(self.remove_after)
            if not self.servers:
                raise PydanticCustomError("servers", "`remove_after` with `servers`: they say what is still in use")
        return self

    @property
    def grace_seconds(self) -> int | None:
        """How long a folder stays once it is not wanted; None: for ever."""
        return None if self.remove_after is None else seconds(self.remove_after)


class _Document(Part):
    targets: list[Target] = Field(min_length=1)


def read_targets(text: str, name: str) -> tuple[Target, ...]:
    """The targets that a document lists.

    Raises:
        InvalidInput: with everything that is wrong with it.
    """
    found = parsed(text, name)
    if not isinstance(found, dict):
        raise refused(name, [problem(name, "", "a mapping with targets", type(found).__name__)], "list of targets")
    return _checked(found, name)


def target_of(values: dict[str, object]) -> Target:
    """The one target that options describe; raises InvalidInput as a document does."""
    given = {key: value for key, value in values.items() if value not in (None, [], ())}
    return _checked({"targets": [given]}, "the options")[0]


def _checked(found: dict[str, object], name: str) -> tuple[Target, ...]:
    try:
        document = _Document.model_validate(found)
    except ValidationError as invalid:
        parts = (_Document, Target)
        problems = [told(name, each, parts=parts, not_yet=frozenset()) for each in invalid.errors()]
        raise refused(name, problems, "list of targets") from invalid
    roots = [str(target.root.absolute()) for target in document.targets]
    if len(set(roots)) < len(roots):
        twice = max(roots, key=roots.count)
        raise InvalidInput(f"{name}: {twice} is the root of two targets; each needs a folder of its own.")
    return tuple(document.targets)
