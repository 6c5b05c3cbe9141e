"""A picture of a difference: one SVG file that needs nothing else, legible on light and on dark paper."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from adapter_registry.domain.diff import ModuleDiff, Spectrum, State, VersionDiff, percent
from adapter_registry.domain.figures import shown

WIDTH, MARGIN, LABELS = 960, 24, 150
"""Of the picture; around it; of the names of the rows. Pixels."""
ROW, PANEL, ACROSS = 24, 150, 4
"""Height of a row of cells; of a panel of spectra; how many panels lie side by side."""
STEPS = 4
"""Of the legend, beside the strongest colour."""
DECADES = (1.0, 6.0)
"""The fewest and most powers of ten below the largest change that the colours tell apart."""
FAINTEST = 0.06

_STYLE = """
svg { background: #ffffff; font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
text { fill: #1c2733; font-size: 12px; } .small { font-size: 10px; fill: #5b6b7b; }
.title { font-size: 16px; font-weight: 600; }
.cell { fill: #0b57a4; } .paper { fill: #eef1f4; } .mark { font-size: 11px; text-anchor: middle; }
.first { stroke: #7a8896; } .second { stroke: #0b57a4; } .difference { stroke: #c2410c; }
.line { fill: none; stroke-width: 1.6; }
.second { stroke-dasharray: 5 3; } .axis { stroke: #c3ccd5; stroke-width: 1; fill: none; }
@media (prefers-color-scheme: dark) {
  svg { background: #12171d; } text { fill: #e3e9ef; } .small { fill: #9aa9b8; }
  .cell { fill: #66b3ff; } .paper { fill: #1f2730; }
  .first { stroke: #8b99a7; } .second { stroke: #66b3ff; } .difference { stroke: #ff9a5c; } .axis { stroke: #3b4754; }
}
"""
_MARKS = {State.ADDED: "+", State.REMOVED: "−", State.UNKNOWN: "?"}


def picture(found: VersionDiff) -> str:
    """A heat map of the relative change by layer and kind of module, and the spectra of each kind, as SVG."""
    map_top = 84.0
    rows = list(dict.fromkeys(module.kind for module in found.modules))
    spectra_top = map_top + ROW * len(rows) + 108
    panels = list(_panels(found, rows))
    height = spectra_top + math.ceil(len(panels) / ACROSS) * (PANEL + 34) + MARGIN
    body = [
        *_heading(found),
        *_heat_map(found, rows, map_top),
        *_legend(found, map_top + ROW * len(rows) + 44),
        *_spectra(panels, spectra_top),
    ]
    title = f"What changed from {found.first.name} to {found.second.name}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img"><title>{escape(title)}</title><desc>{escape(found.summary)}</desc>'
        f"<style>{_STYLE}</style>{''.join(body)}</svg>\n"
    )


def _text(x: float, y: float, text: str, *, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{escape(text)}</text>'


def _heading(found: VersionDiff) -> Iterator[str]:
    yield _text(MARGIN, 32, f"{found.first.name}  →  {found.second.name}", kind="title")
    yield _text(MARGIN, 54, found.summary)


def _heat_map(found: VersionDiff, rows: Sequence[str], top: float) -> Iterator[str]:
    columns = sorted({module.layer for module in found.modules}, key=lambda n: (n is None, n or 0))
    if not columns:
        yield _text(MARGIN, top + 12, "no module of either has a delta that factors tell", kind="small")
        return
    width = min(44.0, (WIDTH - 2 * MARGIN - LABELS) / len(columns))
    cells: dict[tuple[str, int | None], list[ModuleDiff]] = {}
    for module in found.modules:
        cells.setdefault((module.kind, module.layer), []).append(module)
    scale = _scale(found.modules)
    for y, kind in enumerate(rows):
        yield _text(MARGIN + LABELS - 8, top + y * ROW + 16, kind, anchor="end")
        for x, layer in enumerate(columns):
            here = cells.get((kind, layer), [])
            for i, module in enumerate(here):
                part = width / len(here)
                yield _cell(module, scale, MARGIN + LABELS + x * width + i * part, top + y * ROW, part)
    bottom = top + len(rows) * ROW
    step = max(1, math.ceil(22 / width))
    for x, layer in enumerate(columns):
        if x % step == 0 or layer is None:
            label = "–" if layer is None else str(layer)
            yield _text(MARGIN + LABELS + (x + 0.5) * width, bottom + 14, label, kind="small", anchor="middle")
    yield _text(MARGIN + LABELS - 8, bottom + 14, "layer", kind="small", anchor="end")


def _cell(module: ModuleDiff, scale: tuple[float, float], x: float, y: float, width: float) -> str:
    told = f"{module.name}: {_change(module)}"
    gap = 1 if width > 4 else 0
    box = f'x="{x:.2f}" y="{y + 1:.1f}" width="{width - gap:.2f}" height="{ROW - 2}"'
    mark = _MARKS.get(module.state, "")
    parts = [f'<rect class="paper" {box}/>']
    if not mark and module.relative:
        strength = _strength(module.relative, scale)
        parts.append(f'<rect class="cell" fill-opacity="{strength:.3f}" {box}/>')
    if mark and width > 6:
        parts.append(f'<text class="mark" x="{x + width / 2:.1f}" y="{y + 16:.1f}">{mark}</text>')
    return f"<g data-module={quoteattr(module.name)}><title>{escape(told)}</title>{''.join(parts)}</g>"


def _change(module: ModuleDiff) -> str:
    if module.state in (State.ADDED, State.REMOVED):
        return str(module.state)
    if module.relative is None:
        return module.note or "not comparable"
    return f"{percent(module.relative)}, |delta| {shown(module.norms[0])} → {shown(module.norms[1])}"


def _scale(modules: Sequence[ModuleDiff]) -> tuple[float, float]:
    """The largest relative change, and how many powers of ten below it the colours reach; (0, 1) without any."""
    kept = [module.relative for module in modules if module.relative and module.state not in _MARKS]
    if not kept:
        return 0.0, 1.0
    return max(kept), min(DECADES[1], max(DECADES[0], math.log10(max(kept) / min(kept))))


def _strength(relative: float, scale: tuple[float, float]) -> float:
    strongest, decades = scale
    return FAINTEST + (1 - FAINTEST) * max(0.0, 1 - math.log10(strongest / relative) / decades)


def _legend(found: VersionDiff, top: float) -> Iterator[str]:
    scale = strongest, decades = _scale(found.modules)
    x = MARGIN + LABELS
    if strongest:
        yield _text(x - 8, top + 11, "relative change", kind="small", anchor="end")
        for i in range(STEPS + 1):
            relative = strongest / 10 ** (decades * (STEPS - i) / STEPS)
            box = f'x="{x}" y="{top}" width="18" height="14"'
            strength = _strength(relative, scale)
            yield f'<rect class="paper" {box}/><rect class="cell" fill-opacity="{strength:.3f}" {box}/>'
            yield _text(x + 23, top + 11, percent(float(f"{relative:.2g}")), kind="small")
            x += 92
    states = {module.state for module in found.modules}
    told = ", ".join(f"{mark} {state}" for state, mark in _MARKS.items() if state in states)
    yield _text(x, top + 11, told, kind="small")


_Panel = tuple[str, dict[str, list[float]]]


def _panels(found: VersionDiff, kinds: Sequence[str]) -> Iterator[_Panel]:
    """For each kind, the root mean square over its modules of each singular value."""
    for kind in kinds:
        modules = [module for module in found.modules if module.kind == kind]
        lines = {
            "first": _mean([module.first for module in modules]),
            "second": _mean([module.second for module in modules]),
            "difference": _mean([module.difference for module in modules]),
        }
        if any(lines.values()):
            yield kind, lines


def _mean(spectra: Sequence[Spectrum | None]) -> list[float]:
    there = [spectrum.values for spectrum in spectra if spectrum is not None]
    longest = max((len(values) for values in there), default=0)
    squares = ([values[i] ** 2 for values in there if i < len(values)] for i in range(longest))
    return [math.sqrt(sum(column) / len(column)) for column in squares]


def _spectra(panels: Sequence[_Panel], top: float) -> Iterator[str]:
    if not panels:
        return
    yield _text(MARGIN, top - 12, "Singular values by kind of module (root mean square over layers, log scale)")
    keys = (("first", "first"), ("second", "second"), ("difference", "difference"))
    for i, (kind, label) in enumerate(keys):
        x = WIDTH - MARGIN - 270 + i * 92
        yield f'<path class="line {kind}" d="M{x} {top - 16}h18"/>{_text(x + 23, top - 12, label, kind="small")}'
    largest = max(line[0] for _, lines in panels for line in lines.values() if line)
    least = min((v for _, lines in panels for line in lines.values() for v in line if v > 0), default=largest or 1.0)
    low, high = math.log10(max(least, largest * 1e-8 or 1e-8)), math.log10(largest or 1.0)
    width = (WIDTH - 2 * MARGIN) / ACROSS
    for i, (kind, lines) in enumerate(panels):
        left, y = MARGIN + (i % ACROSS) * width, top + (i // ACROSS) * (PANEL + 34)
        yield from _panel(kind, lines, (left + 34, y + 16, width - 48, PANEL - 16), (low, max(high, low + 0.1)))


def _panel(
    kind: str, lines: dict[str, list[float]], box: tuple[float, float, float, float], span: tuple[float, float]
) -> Iterator[str]:
    x, y, width, height = box
    low, high = span
    yield _text(x, y - 4, kind)
    yield f'<path class="axis" d="M{x:.1f} {y:.1f}v{height:.1f}h{width:.1f}"/>'
    yield _text(x - 4, y + 9, shown(10**high, digits=2), kind="small", anchor="end")
    yield _text(x - 4, y + height, shown(10**low, digits=2), kind="small", anchor="end")
    longest = max(len(line) for line in lines.values())
    yield _text(x + width, y + height + 12, f"{longest}", kind="small", anchor="end")
    for name, line in lines.items():
        points = [(i, math.log10(value)) for i, value in enumerate(line) if value > 0 and math.log10(value) >= low]
        if points:
            path = " ".join(
                f"{x + width * (i + 0.5) / longest:.1f},{y + height * (high - value) / (high - low):.1f}"
                for i, value in points
            )
            yield f'<polyline class="line {name}" points="{path}"/>'
