"""The document of `adapters deploy`: the replicas that serve the same adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from adapter_registry.domain.document_file import Part
from adapter_registry.serving.document import read
from adapter_registry.serving.fingerprint import PEFT_TOLERANCE, PROMPT, TOLERANCE
from adapter_registry.serving.spelling import plain
from adapter_registry.serving.sync_file import Folder, Served, address


class Fleet(Part):
    """Servers of one stack with one base, which read one folder."""

    stack: Literal["vllm", "sglang", "llama.cpp"]
    root: Folder
    base: str = Field(min_length=1)
    replicas: list[Annotated[str, AfterValidator(address)]] = Field(min_length=1)
    name: str = Field(default="", max_length=90)
    serve: Served = Field(default={})
    seen_as: str | None = Field(default=None, min_length=1)
    key_file: Folder | None = None
    admin_key_file: Folder | None = None
    prompt: str = Field(default=PROMPT, min_length=1)
    answers: Literal["first", "peft"] = "first"
    tolerance: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Fleet:
        if len(set(self.replicas)) < len(self.replicas):
            twice = max(self.replicas, key=self.replicas.count)
            raise PydanticCustomError("replicas", "each replica once", {"found": f"{twice} twice"})
        if self.serve and not self.name:
            wanted = "`name` with `serve`: what the registry calls the fleet in its record"
            raise PydanticCustomError("name", wanted, {"found": "none"})
        if self.stack == "llama.cpp" and len(self.serve) > 1:
            wanted = "one name in `serve`: llama.cpp adds an adapter to every request"
            raise PydanticCustomError("serve", wanted, {"found": ", ".join(self.serve)})
        if self.answers == "peft" and not Path(self.base).expanduser().is_dir():
            wanted = "a checkpoint folder with `answers: peft`, which computes them from it"
            raise PydanticCustomError("base", wanted, {"found": self.base[:80]})
        return self

    @property
    def tolerated(self) -> float:
        """How far the logarithm of a token's probability may be off."""
        return self.tolerance or {"first": TOLERANCE, "peft": PEFT_TOLERANCE}[self.answers]

    def path_of(self, staged: Path) -> str:
        """Where the servers see what lies below the root."""
        seen = (self.seen_as or str(self.root.absolute())).rstrip("/")
        return plain(f"{seen}/{staged.relative_to(self.root).as_posix()}")


def read_fleet(text: str, name: str) -> Fleet:
    """The fleet that a document describes.

    Raises:
        InvalidServing: with everything that is wrong with it.
    """
    return read(text, name, Fleet, what="fleet", parts=(Fleet,))
