"""From values to HTML: templates with everything escaped, and the few words that they are spoken in."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from adapter_registry.api.pages import page
from adapter_registry.api.pages.card import rendered
from adapter_registry.domain.digest import hex_of, short
from adapter_registry.domain.people.access import EVERYTHING, ROLES, Grant
from adapter_registry.domain.promotions.finding import Finding, Outcome
from adapter_registry.domain.views.overview import Against
from adapter_registry.settings import web_folder

_STEPS = ((31_557_600, "y"), (2_629_800, "mo"), (604_800, "w"), (86_400, "d"), (3_600, "h"), (60, "min"))
_LONG_AGO = 30 * 86_400
_COMMAND = re.compile("`([^`\n]+)`")
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_URGENCY = {
    **dict.fromkeys((Outcome.FAIL, Outcome.ERROR), 0),
    **dict.fromkeys((Outcome.INCONCLUSIVE, Outcome.INCOMPARABLE), 1),
    **dict.fromkeys((Outcome.PENDING,), 2),
    **dict.fromkeys((Outcome.OVERRIDDEN, Outcome.WAIVED, Outcome.PASS), 3),
}


@cache
def environment() -> Environment:
    """Jinja's environment: autoescape for everything, and a name that is not there is a defect."""
    made = Environment(
        loader=FileSystemLoader(web_folder() / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"ago": ago, "bytes": size, "moment": moment, "short": short, "hex": hex_of, "figure": figure}
    made.filters |= {"leaning": leaning, "places": places, "rough": rough, "signed": signed}
    made.filters |= {"json": as_json, "commands": commands, "granted": granted, "urgent_first": urgent_first}
    made.filters |= {"card": lambda text: Markup(rendered(text)), "points": points}  # noqa: S704
    made.filters["whisker"] = whisker
    made.globals |= {"of_adapter": page.of_adapter, "of_version": page.of_version, "with_query": page.with_query}
    made.globals["static"] = asset
    return made


def render(template: str, values: Mapping[str, Any]) -> str:
    """A template with its values."""
    return environment().get_template(template).render(values)


@cache
def asset(name: str) -> str:
    """The address of a file of web/static, which changes with its bytes: browsers may keep it for ever."""
    digest = hashlib.sha256((web_folder() / "static" / name).read_bytes()).hexdigest()
    return f"/ui/static/{name}?{digest[:12]}"


def ago(at: str, now: str) -> str:
    """How long before `now` a moment was: `3 h ago`, after a month its day, `1 Sep 2025`; one to come: `in 3 h`."""
    seconds = (_parsed(now) - _parsed(at)).total_seconds()
    if seconds > _LONG_AGO:
        return f"{_parsed(at).day} {_parsed(at):%b %Y}"
    told = next((f"{abs(seconds) // step:.0f} {unit}" for step, unit in _STEPS if abs(seconds) >= step), "")
    if not told:
        return "just now"
    return f"{told} ago" if seconds > 0 else f"in {told}"


def moment(at: str) -> str:
    """A moment in full, to the second: `2026-03-01 14:30:05 UTC`."""
    return _parsed(at).strftime("%Y-%m-%d %H:%M:%S UTC")


def _parsed(at: str) -> datetime:
    found = datetime.fromisoformat(at)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def as_json(value: object, indent: int | None = None) -> str:
    """As JSON text; what JSON has no word for as text."""
    return json.dumps(value, indent=indent, ensure_ascii=False, default=str)


def size(count: float) -> str:
    """Bytes for people: `16.4 MB`, in steps of a thousand."""
    number, unit = float(count), 0
    while number >= 999.5 and unit < len(_UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.0f} {_UNITS[unit]}" if unit == 0 or number >= 99.95 else f"{number:.1f} {_UNITS[unit]}"


def figure(value: float | None, places: int | None = None) -> str:
    """A measured value, in four digits; with so many decimals where it stands in a column of others."""
    if value is None:
        return "–"
    return f"{value:.4g}" if places is None or "e" in f"{value:.4g}" else f"{value:.{places}f}"


def places(values: Iterable[float]) -> int:
    """The decimals that a column of these takes, so that their points stand below each other."""
    texts = (f"{value:.4g}" for value in values if math.isfinite(value))
    return max((len(text.partition(".")[2]) for text in texts if "e" not in text), default=0)


def signed(value: float) -> str:
    """A difference with its sign, in three digits."""
    return f"{value:+.3g}".replace("-", "−")


def rough(value: float) -> str:
    """The width of an interval, in two digits."""
    return f"{value:.2g}"


def leaning(beside: Against) -> str:
    """Whether a difference is `good` or `bad`; `quiet` while its interval holds both."""
    difference, width = beside.difference or 0.0, beside.half_width or 0.0
    return "good" if difference > width else "bad" if difference < -width else "quiet"


def granted(grant: Grant) -> str:
    """What a grant allows, roles by their names: `maintainer, audit on team/*`."""
    if EVERYTHING in grant.verbs:
        named: list[str] = ["everything"]
    else:
        left, named = set(grant.verbs), []
        for role, verbs in sorted(ROLES.items(), key=lambda each: -len(each[1])):
            if left >= set(verbs) and EVERYTHING not in verbs:
                named.append(role)
                left -= set(verbs)
        named += [verb for verb in grant.verbs if verb in left]
    return f"{', '.join(named)} on {'everything' if grant.scope == EVERYTHING else grant.scope}"


def urgent_first(findings: Iterable[Finding]) -> list[Finding]:
    """What stands in the way before what passes; within each, as the policy has them."""
    return sorted(findings, key=lambda each: 3 if each.shadow else _URGENCY[each.outcome])


def whisker(found: Finding, width: int = 240) -> dict[str, float] | None:
    """Where a comparison's `low`, `mean`, `high`, no difference (`zero`) and what it has to reach (`bar`) lie.

    Across a drawing `width` units wide; `asked` is the bar itself. None for a finding without an interval.
    """
    if found.interval is None or found.difference is None or found.margin is None:
        return None
    asked = -found.margin if "non-inferior" in found.rule else found.margin
    values = {"low": found.interval[0], "mean": found.difference, "high": found.interval[1], "zero": 0.0, "bar": asked}
    least, most = min(values.values()), max(values.values())
    scale = (width - 16) / ((most - least) or 1.0)
    return {name: round(8 + (value - least) * scale, 1) for name, value in values.items()} | {"asked": asked}


def commands(text: str) -> Markup:
    """A text of this program's with what stands between backticks as code; everything is escaped first."""
    return Markup(_COMMAND.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704


def points(values: list[float], width: int = 84, height: int = 22, margin: int = 3) -> str:
    """Where the corners of a small line chart lie, as SVG's `points`."""
    low, high = min(values), max(values)
    span, across = (high - low) or 1.0, max(len(values) - 1, 1)
    places = (
        (margin + i * (width - 2 * margin) / across, height - margin - (value - low) / span * (height - 2 * margin))
        for i, value in enumerate(values)
    )
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
