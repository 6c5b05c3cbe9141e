"""What filters are made of: the fields there are, how each kind of value is written and compared, and the tree."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from typing import Any, TypeAlias

import semver

from adapter_registry.domain.digest import hex_of

Value: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of a field are written and compared.

    Attributes:
        expected: what a value looks like, for refusals.
        operators: those that mean something for it.
        read: text -> value; ValueError, its text a hint for people or empty, for what is not of the kind.
        pair: (a subject's value, a filter's value) -> the two things that operators compare.
        quotable: whether a value may stand in quotation marks.
    """

    expected: str
    operators: tuple[str, ...]
    read: Callable[[str], Value]
    pair: Callable[[Any, Any], tuple[Any, Any]]
    quotable: bool = True


_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s?([kmgtp]i?)?(b?)", re.IGNORECASE | re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{7,64}")
_SECONDS = len("2026-01-01T00:00:00")


def _number(text: str) -> int | float:
    if not _NUMBER.fullmatch(text):
        raise ValueError
    found = int(text) if text.isdecimal() else float(text)
    if abs(found) > 1e300 or not isfinite(found):
        raise ValueError("No measurement is that large.")
    return found


def _size(text: str) -> int:
    """Bytes: `MB` is 10⁶, `MiB` is 2²⁰."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError
    unit = match[2].lower() if match[2] else ""
    step = 1024 if unit.endswith("i") else 1000
    return int(Decimal(match[1]) * step ** (" kmgtp".index(unit[0]) if unit else 0))


def _time(text: str) -> str:
    """A day as it is, a moment in UTC to the second: a prefix of what ISO 8601 says of any moment in it."""
    if not _TIME.fullmatch(text):
        raise ValueError
    try:
        moment = datetime.fromisoformat(text)
        if "T" not in text:
            return text
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("There is no such time.") from None
    return f"{moment.replace(tzinfo=None).isoformat()}Z"


def _semver(text: str) -> str:
    try:
        semver.Version.parse(text)
    except ValueError:
        raise ValueError from None
    return text


def _digest(text: str) -> str:
    if not _HEX.fullmatch(hex_of(text)):
        raise ValueError("base is the digest; a base's name is asked with base.name.")
    return hex_of(text)


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


def _as_is(value: Any, literal: Any) -> tuple[Any, Any]:
    return value, literal


def _any_case(value: str, literal: str) -> tuple[str, str]:
    return value.casefold(), literal.casefold()


def _to_its_precision(value: str, literal: str) -> tuple[str, str]:
    """Times compare as text as far as the filter says: a day with the day of a moment, a second with its second."""
    length = min(len(literal), _SECONDS)
    return value[:length], literal[:length]


def _by_prefix(value: str, literal: str) -> tuple[str, str]:
    return hex_of(value)[: len(literal)], literal


def _by_precedence(value: str, literal: str) -> tuple[semver.Version, semver.Version]:
    return semver.Version.parse(value), semver.Version.parse(literal)


_SAME = ("=", "!=", "in")
_WORDS = (*_SAME, "~")
_ORDERED = (*_SAME, "<", "<=", ">", ">=")

TEXT = Kind("text", _WORDS, str, _as_is)
WORD = Kind("a word", _WORDS, str, _any_case)
STAGE = Kind("a stage", _WORDS, str, _as_is)
NUMBER = Kind("a number, as in 16, 0.5 or 1e6", _ORDERED, _number, _as_is, quotable=False)
SIZE = Kind("a size, as in 100MB, 1.5GiB or bytes", _ORDERED, _size, _as_is)
TIME = Kind("a day or a time, as in 2026-01-01 or 2026-01-01T09:30Z", _ORDERED, _time, _to_its_precision)
SEMVER = Kind("a semantic version, as in 1.2.0", _ORDERED, _semver, _by_precedence)
DIGEST = Kind("7 to 64 lower-case hex digits of a digest", _SAME, _digest, _by_prefix)
FLAG = Kind("true or false", ("=", "!="), _flag, _as_is, quotable=False)

FIELDS: Mapping[str, Kind] = {
    "namespace": TEXT,
    "name": TEXT,
    "adapter": TEXT,
    "number": NUMBER,
    "semver": SEMVER,
    "method": WORD,
    "rank": NUMBER,
    "base": DIGEST,
    "base.name": TEXT,
    "dtype": WORD,
    "size": SIZE,
    "pushed_at": TIME,
    "pushed_by": TEXT,
    "stage": STAGE,
    "tag": TEXT,
    "label": TEXT,
    "score": NUMBER,
    "parameters": NUMBER,
    "task_type": WORD,
    "target": TEXT,
    "nonzero": FLAG,
}
"""What can be asked of a version. `label` and `score` are asked of by key: `label.team`, `score.gsm8k/exact_match`."""

KEYED: Mapping[str, str] = {"label": "key", "score": "metric"}
"""Fields that hold many values by name -> what that name is called."""

KEYWORDS = frozenset({"and", "or", "not", "in", "exists"})
BARE = re.compile(r"[\w./:@+%^*$-]+")
"""Text that needs no quotation marks, unless it is one of KEYWORDS."""


def agrees(kind: Kind, sign: str, literal: Value, value: Any) -> bool:
    """Whether `value` of a subject is `sign` (one of `= < <= > >= ~`) to `literal` of a filter."""
    if sign == "~":
        return str(literal).casefold() in str(value).casefold()
    return bool(_ORDER[sign](*kind.pair(value, literal)))


_ORDER: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Field:
    """What is asked about: a name of FIELDS, and the label's key or the metric where the name is one of KEYED."""

    name: str
    key: str = ""

    @property
    def kind(self) -> Kind:
        """How its values are written and compared."""
        return FIELDS[self.name]

    def __str__(self) -> str:
        if not self.key:
            return self.name
        return f"{self.name}.{self.key if BARE.fullmatch(self.key) else _quoted(self.key)}"


@dataclass(frozen=True, slots=True)
class Compare:
    """One field against one value, which is of the field's kind; `operator` is one of `= != < <= > >= ~`."""

    field: Field
    operator: str
    value: Value

    def __str__(self) -> str:
        return f"{self.field} {self.operator} {_written(self.value)}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """One field against several values, any of which will do."""

    field: Field
    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"{self.field} in {self.listed}"

    @property
    def listed(self) -> str:
        """The values as the grammar reads them."""
        return f"({', '.join(map(_written, self.values))})"


@dataclass(frozen=True, slots=True)
class Exists:
    """Whether a field has any value."""

    field: Field

    def __str__(self) -> str:
        return f"exists {self.field}"


@dataclass(frozen=True, slots=True)
class Not:
    """The contrary; of what is unknown, unknown."""

    part: Filter

    def __str__(self) -> str:
        if isinstance(self.part, OneOf):
            return f"{self.part.field} not in {self.part.listed}"
        return f"not {_within(self.part, And | Or)}"


@dataclass(frozen=True, slots=True)
class And:
    """Every one of two parts or more."""

    parts: tuple[Filter, ...]

    def __str__(self) -> str:
        return " and ".join(_within(part, And | Or) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """Any one of two parts or more."""

    parts: tuple[Filter, ...]

    def __str__(self) -> str:
        return " or ".join(_within(part, Or) for part in self.parts)


Filter: TypeAlias = Compare | OneOf | Exists | Not | And | Or


def asked_of(part: Filter, name: str) -> tuple[Value, ...]:
    """The values that a filter holds a field against, `~` left out."""
    if isinstance(part, And | Or):
        return tuple(value for each in part.parts for value in asked_of(each, name))
    if isinstance(part, Not):
        return asked_of(part.part, name)
    if part.field.name != name:
        return ()
    if isinstance(part, OneOf):
        return part.values
    return (part.value,) if isinstance(part, Compare) and part.operator != "~" else ()


def asks(part: Filter, name: str) -> bool:
    """Whether a filter looks at a field at all."""
    if isinstance(part, And | Or):
        return any(asks(each, name) for each in part.parts)
    return asks(part.part, name) if isinstance(part, Not) else part.field.name == name


def _within(part: Filter, looser: Any) -> str:
    return f"({part})" if isinstance(part, looser) else str(part)


def _written(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return repr(value)
    return value if BARE.fullmatch(value) and value.lower() not in KEYWORDS else _quoted(value)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
