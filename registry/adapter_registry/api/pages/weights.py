"""What a diff job found of two versions' weights, as tables and charts show it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapter_registry.domain.figures import shown

SHADES = 9
"""Steps of colour of the heat map, 0 for no change."""
MOST_ANGLES = 128


@dataclass(frozen=True, slots=True)
class Square:
    """A cell of the heat map: how much a module changed, in words and as a shade; `name` is the module's."""

    name: str
    text: str
    shade: int
    state: str


@dataclass(frozen=True, slots=True)
class Weights:
    """See the module.

    Attributes:
        summary: the verdict in a sentence.
        verdict: `identical`, `same-delta`, `changed`, `unknown`.
        relative: how much changed over all modules, `12 %`.
        kinds: columns of the heat map.
        squares: (layer, one square a column or None) of it.
        overlap: a chart of how far the spaces that the two write and read agree, by layer.
        spectra: a chart of the singular values of one module.
        module: that module.
        modules: all that have spectra, the most changed first.
        notes: what was not compared.
    """

    summary: str
    verdict: str
    relative: str
    kinds: tuple[str, ...]
    squares: tuple[tuple[str, tuple[Square | None, ...]], ...]
    overlap: dict[str, Any]
    spectra: dict[str, Any]
    module: str
    modules: tuple[str, ...]
    notes: tuple[str, ...]


def weights(diff: Mapping[str, Any], *, module: str = "") -> Weights:
    """Of a `VersionDiff` as the record of a job holds it.

    Args:
        diff: JSON types.
        module: whose spectra are shown; default: the module that changed most.
    """
    found: Sequence[Mapping[str, Any]] = diff.get("modules") or ()
    ranked = sorted(found, key=lambda each: -_finite(each["norms"][2]))
    with_spectra = [each for each in ranked if each.get("first") or each.get("second")]
    chosen = next((each for each in with_spectra if each["name"] == module), with_spectra[0] if with_spectra else None)
    kinds = tuple(dict.fromkeys(each["kind"] for each in found))
    relative = diff.get("relative")
    return Weights(
        summary=diff.get("summary", ""),
        verdict=diff.get("verdict", "unknown"),
        relative=_percent(relative),
        kinds=kinds,
        squares=_squares(found, kinds),
        overlap=_overlap(found),
        spectra=_spectra(chosen) if chosen else {},
        module=chosen["name"] if chosen else "",
        modules=tuple(each["name"] for each in with_spectra),
        notes=tuple(diff.get("notes") or ()),
    )


def _finite(number: float | None) -> float:
    return number if isinstance(number, int | float) and math.isfinite(number) else 0.0


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{shown(100 * share, digits=3)} %"


def _squares(
    found: Sequence[Mapping[str, Any]], kinds: Sequence[str]
) -> tuple[tuple[str, tuple[Square | None, ...]], ...]:
    """Layers in order, what lies in none last; several matrices of one kind and layer are one square."""
    cells: dict[tuple[int | None, str], list[Mapping[str, Any]]] = {}
    for each in found:
        cells.setdefault((each["layer"], each["kind"]), []).append(each)
    changes = {place: _change(members) for place, members in cells.items()}
    largest = max((change for change in changes.values() if change is not None), default=0.0)
    layers = sorted({layer for layer, _ in cells}, key=lambda layer: (layer is None, layer or 0))
    return tuple(
        (
            "–" if layer is None else str(layer),
            tuple(
                _square(cells[(layer, kind)], changes[(layer, kind)], largest) if (layer, kind) in cells else None
                for kind in kinds
            ),
        )
        for layer in layers
    )


def _change(members: Sequence[Mapping[str, Any]]) -> float | None:
    """|difference| / |first| of matrices together; None where the first is absent."""
    first, difference = (math.sqrt(sum(_finite(each["norms"][i]) ** 2 for each in members)) for i in (0, 2))
    return difference / first if first else None


def _square(members: Sequence[Mapping[str, Any]], change: float | None, largest: float) -> Square:
    worst = max(members, key=lambda each: _finite(each["norms"][2]))
    if change is None:
        return Square(worst["name"], worst["state"], SHADES, worst["state"])
    shade = math.ceil(SHADES * change / largest) if largest and change else 0
    return Square(worst["name"], _percent(change), min(shade, SHADES), worst["state"])


def _overlap(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A line for each kind and side: the mean of cos² of the principal angles, by layer."""
    with_angles = [each for each in found if each.get("left") and each.get("right") and each["layer"] is not None]
    layers = sorted({each["layer"] for each in with_angles})
    lines: dict[str, dict[int, float]] = {}
    for each in with_angles:
        for side, word in (("left", "writes"), ("right", "reads")):
            lines.setdefault(f"{each['kind']} {word}", {})[each["layer"]] = _finite(each[side]["overlap"])
    series = [{"name": name, "values": [line.get(layer) for layer in layers]} for name, line in lines.items()]
    return {"x": [str(layer) for layer in layers], "series": series, "xName": "layer", "min": 0, "max": 1}


def _spectra(module: Mapping[str, Any]) -> dict[str, Any]:
    """The singular values of both deltas and of their difference."""
    sides = [(side, (module.get(side) or {}).get("values") or ()) for side in ("first", "second", "difference")]
    series = [{"name": side, "values": [_finite(value) for value in values]} for side, values in sides if values]
    longest = max((len(each["values"]) for each in series), default=0)
    return {"x": [str(i + 1) for i in range(longest)], "series": series, "xName": "singular value"}
