"""The document of `adapters deploy`: the replicas that serve the same adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from adapter_registry.domain.document_file import Part, parsed, problem, refused, told
from adapter_registry.serving.fingerprint import PROMPT, TOLERANCE
from adapter_registry.serving.sync_file import Folder, address


class Fleet(Part):
    """Servers of one stack with one base, which read one folder."""

    stack: Literal["vllm", "sglang"]
    root: Folder
    base: str = Field(min_length=1)
    replicas: list[Annotated[str, AfterValidator(address)]] = Field(min_length=1)
    seen_as: str | None = Field(default=None, min_length=1)
    key_file: Folder | None = None
    prompt: str = Field(default=PROMPT, min_length=1)
    tolerance: float = Field(default=TOLERANCE, gt=0, le=1)

    def path_of(self, folder: Path) -> str:
        """Where the servers see a folder of the root."""
        seen = (self.seen_as or str(self.root.absolute())).rstrip("/")
        return f"{seen}/{folder.relative_to(self.root).as_posix()}"


def read_fleet(text: str, name: str) -> Fleet:
    """The fleet that a document describes.

    Raises:
        InvalidInput: with everything that is wrong with it.
    """
    found = parsed(text, name)
    if not isinstance(found, dict):
        raise refused(name, [problem(name, "", "a mapping", type(found).__name__)], "fleet")
    try:
        return Fleet.model_validate(found)
    except ValidationError as invalid:
        problems = [told(name, each, parts=(Fleet,), not_yet=frozenset()) for each in invalid.errors()]
        raise refused(name, problems, "fleet") from invalid
