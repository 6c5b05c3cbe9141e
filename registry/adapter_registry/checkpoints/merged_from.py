"""What a merged checkpoint was made of, as a file beside its weights tells: believed for people, never trusted."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LINEAGE = "merged_from.json"
FORMAT = "adapters.merged/1"
LARGEST = 1 << 20
MOST_INPUTS = 1_000
LONGEST = 300


@dataclass(frozen=True, slots=True)
class Input:
    """An adapter that went in: its reference, the digest of its Version (empty where it is none), its weight."""

    name: str
    digest: str
    weight: float


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a checkpoint was made of.

    Attributes:
        base: digest of the Base.
        base_name: its repository, if known.
        adapters: what was merged into it.
        accumulate: how it was summed.
        dtype: type asked for; empty where each tensor kept its own.
        onto: `dequantized` where the base is quantised and these are the floats it stands for.
    """

    base: str
    base_name: str
    adapters: tuple[Input, ...]
    accumulate: str
    dtype: str
    onto: str = ""

    @property
    def told(self) -> str:
        """In one line, for people."""
        parts = []
        for each in self.adapters:
            digest = f" ({each.digest[:19]})" if each.digest else ""
            weight = "" if each.weight == 1 else f" x {each.weight:g}"
            parts.append(f"{each.name}{digest}{weight}")
        name = " ".join(filter(None, (self.onto, self.base_name, self.base[:19])))
        return f"{' + '.join(parts)} merged into {name}"

    def encoded(self) -> bytes:
        """As the file holds it; the same lineage is the same bytes."""
        return (json.dumps({"format": FORMAT} | asdict(self), indent=2, sort_keys=True) + "\n").encode()


def read_lineage(folder: Path) -> Lineage | None:
    """The lineage that a folder tells; None where there is none, or none that can be read."""
    path = folder / LINEAGE
    if not path.is_file() or path.stat().st_size > LARGEST:
        return None
    try:
        document = json.loads(path.read_bytes())
        inputs = document["adapters"][:MOST_INPUTS]
        adapters = tuple(Input(_text(a["name"]), _text(a["digest"]), float(a["weight"])) for a in inputs)
        texts = (_text(document[name]) for name in ("base", "base_name", "accumulate", "dtype"))
        base, base_name, accumulate, dtype = texts
        onto = _text(document.get("onto", ""))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Lineage(base, base_name, adapters, accumulate, dtype, onto)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST or not value.isprintable():
        raise ValueError("no short printable text")
    return value
