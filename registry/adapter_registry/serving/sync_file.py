"""The document of `adapters sync`: which folders hold which references, laid out for which stack."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from adapter_registry.domain.document_file import Part, problem, told
from adapter_registry.domain.errors import InvalidInput, InvalidReference
from adapter_registry.domain.policies.process_file import seconds
from adapter_registry.domain.reference import parse
from adapter_registry.serving.document import read, refused

_ALIAS = re.compile(r"(?!.*--)[A-Za-z0-9][A-Za-z0-9_-]{0,89}")


ALIAS = "a name of letters, digits, _ and single -, which every stack accepts"


def is_alias(text: str) -> bool:
    """Whether requests to any stack can name an adapter so."""
    return _ALIAS.fullmatch(text) is not None


def _alias(text: str) -> str:
    if not is_alias(text):
        raise PydanticCustomError("alias", ALIAS)
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
    if re.fullmatch(r"https?://[^/\s?#@]+(/[^\s?#]*)?", text) is None or not _reachable(text):
        raise PydanticCustomError("url", "the address of a server: http://host:8000")
    return text.rstrip("/")


def _reachable(text: str) -> bool:
    """Whether its host and port can be asked for at all."""
    try:
        url = urlsplit(text)
        return bool((url.hostname or "").encode("idna")) and url.port != 0
    except ValueError:  # UnicodeError is one
        return False


def _path(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str) and value else value


def _span(text: str) -> str:
    seconds(text)
    return text


Folder = Annotated[Path, BeforeValidator(_path)]


Served = dict[Annotated[str, AfterValidator(_alias)], Annotated[str, AfterValidator(_reference)]]


class Target(Part):
    """A folder that serving stacks read."""

    root: Folder
    layout: Literal["vllm", "nim", "ray", "tgi", "lorax", "llama.cpp"]
    base: str = Field(min_length=1)
    serve: Served = Field(min_length=1)
    model: str | None = Field(default=None, min_length=1)
    seen_as: str | None = Field(default=None, min_length=1)
    servers: list[Annotated[str, AfterValidator(address)]] = Field(default=[])
    key_file: Folder | None = None
    remove_after: Annotated[str, AfterValidator(_span)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Target:
        if self.layout == "vllm" and self.model is None:
            wanted = "`model` with the layout vllm, whose resolver compares it as text with the --model that vLLM runs"
            raise PydanticCustomError("model", wanted, {"found": "none"})
        if self.layout in ("lorax", "llama.cpp") and self.model is not None:
            wanted = "no `model` with a layout whose stack reads no name of a base"
            raise PydanticCustomError("model", wanted, {"found": f"{self.model!r} with {self.layout}"})
        if self.layout == "tgi" and (found := re.search(r"[,=@\s]", self.seen)):
            wanted = "`seen_as`, or a `root`, without `,`, `=`, `@` and spaces: TGI splits LORA_ADAPTERS there"
            raise PydanticCustomError("seen", wanted, {"found": f"{found[0]!r} in {self.seen!r}"})
        if self.remove_after is not None and not self.servers:
            wanted = "`servers` with `remove_after`: they say what is still in use"
            raise PydanticCustomError("servers", wanted, {"found": "none"})
        return self

    @property
    def seen(self) -> str:
        """The root's path as the servers see it."""
        return (self.seen_as or str(self.root.absolute())).rstrip("/")

    @property
    def grace_seconds(self) -> int | None:
        """How long a folder stays once it is not wanted; None: for ever."""
        return None if self.remove_after is None else seconds(self.remove_after)


_WHAT, _OPTIONS = "list of targets", "what the options say"


class _Document(Part):
    targets: list[Target] = Field(min_length=1)


def read_targets(text: str, name: str) -> tuple[Target, ...]:
    """The targets that a document lists.

    Raises:
        InvalidServing: with everything that is wrong with it.
    """
    targets = read(text, name, _Document, what=_WHAT, parts=(_Document, Target)).targets
    roots = [str(target.root.absolute()) for target in targets]
    if len(set(roots)) < len(roots):
        twice = max(roots, key=roots.count)
        raise refused(name, [problem(name, "targets", "a root of its own for each", f"{twice} twice")], _WHAT)
    return tuple(targets)


def target_of(values: dict[str, object]) -> Target:
    """The one target that options describe; raises InvalidInput with everything that is wrong with them."""
    given = {key: value for key, value in values.items() if value not in (None, [], ())}
    try:
        return Target.model_validate(given)
    except ValidationError as invalid:
        problems = [told("", each, parts=(Target,)) for each in invalid.errors()]
        raise InvalidInput(refused(_OPTIONS, problems, "target").text, problems=problems) from invalid
