"""Filters of lists, as people type them: `rank <= 16 and score.gsm8k > 0.5`, `stage = prod and not method = IA3`.

    filter     = every {"or" every}
    every      = one {"and" one}
    one        = "not" one | "(" filter ")" | "exists" field | test
    test       = field operator value | field ["not"] "in" "(" value {"," value} ")" | flag
    operator   = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~"
    field      = one of FIELDS; label.<key> and score.<metric> may quote what follows the dot

`~` is "contains, in any case". A value is a bare word or stands in quotes; words of the grammar stand in any case.

A comparison with something missing (a method without a rank, a metric never measured or measured as NaN, a label not
set) is unknown, as NULL is in SQL: neither it nor its negation is a match. Ask for absence by name: `not exists
label.team`. Fields with several values (stage, tag, target, method, dtype) are never missing: `=` asks whether one of
the values is that, `!=` whether none is, so `stage != prod` keeps versions that are in no stage at all.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.errors import InvalidInput, InvalidReference
from adapter_registry.domain.evidence.score import RecordedScore
from adapter_registry.domain.names import check_label
from adapter_registry.domain.views.selection_tree import (
    BARE,
    FIELDS,
    FLAG,
    KEYED,
    KEYWORDS,
    And,
    Compare,
    Exists,
    Field,
    Filter,
    Not,
    OneOf,
    Or,
    Value,
    agrees,
)

__all__ = [
    "DEEPEST",
    "FIELDS",
    "KEYED",
    "LONGEST",
    "And",
    "Compare",
    "Exists",
    "Field",
    "Filter",
    "Not",
    "OneOf",
    "Or",
    "Subject",
    "Value",
    "holds",
    "parse",
    "subject_of",
]

LONGEST = 2_000
"""Characters of a filter."""
DEEPEST = 20
"""Parentheses and `not`s around one test."""

Subject: TypeAlias = Mapping[str, Any]
"""Field -> value: None or absent when missing; a frozenset where a version has several; for KEYED fields a mapping.

Times are ISO 8601 in UTC, sizes bytes, digests `sha256:` and hex, semantic versions text, all as Version has them.
"""

_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<sign><=|>=|!=|==|[=<>~(),])"""
    rf"|(?P<word>{BARE.pattern})|(?P<end>\Z))",
    re.DOTALL,
)


def parse(text: str) -> Filter:
    """The Filter written in `text`; `str` of it parses to the same Filter again (where it is not LONGEST by then).

    Raises:
        InvalidInput: not of the grammar, longer than LONGEST, deeper than DEEPEST, an unknown field, or a value or an
            operator that the field's kind does not have; says where, what was expected and what was found.
    """
    if len(text) > LONGEST:
        raise InvalidInput(f"the filter has {len(text):,} characters; {LONGEST:,} is the most that is read.")
    return _Parser(text).whole()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int

    def __str__(self) -> str:
        shown = self.text if len(self.text) <= 40 else f"{self.text[:39]}…"
        return "the end" if self.kind == "end" else repr(shown) if self.kind == "quoted" else f"`{shown}`"


def _refuse(at: int, expected: str, found: object, hint: str = "") -> NoReturn:
    raise InvalidInput(f"the filter, at character {at + 1}: expected {expected}, found {found}.{hint and ' '}{hint}")


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while not found or found[-1].kind != "end":
        match = _TOKEN.match(text, at)
        if match is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            if text[at] in "\"'":
                _refuse(at, "a closing quotation mark", "none")
            _refuse(at, "a field, an operator or a value", f"{text[at]!r}", "Text with such a character is quoted.")
        kind = str(match.lastgroup)
        content = match[kind]
        if kind == "quoted":
            content = re.sub(r"\\(.)", r"\1", content[1:-1], flags=re.DOTALL)
        found.append(_Token(kind, content, match.start(kind), match.end()))
        at = match.end()
    return found


class _Parser:
    """Recursive descent over the tokens; one method per rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _advance(self) -> _Token:
        token = self._next
        self._at += token.kind != "end"
        return token

    def _take(self, *wanted: str) -> bool:
        """Whether the next token is one of `wanted`, signs or keywords; it is consumed then."""
        token = self._next
        if token.kind in ("sign", "word") and token.text.lower() in wanted:
            self._at += 1
            return True
        return False

    def _require(self, expected: str, *wanted: str) -> None:
        if not self._take(*wanted):
            _refuse(self._next.start, expected, self._next)

    def whole(self) -> Filter:
        found = self._filter(0)
        if self._next.kind != "end":
            _refuse(self._next.start, "`and`, `or` or the end", self._next, "Text of several words is quoted.")
        return found

    def _filter(self, depth: int) -> Filter:
        parts = [self._every(depth)]
        while self._take("or"):
            parts.append(self._every(depth))
        return Or(tuple(parts)) if len(parts) > 1 else parts[0]

    def _every(self, depth: int) -> Filter:
        parts = [self._one(depth)]
        while self._take("and"):
            parts.append(self._one(depth))
        return And(tuple(parts)) if len(parts) > 1 else parts[0]

    def _one(self, depth: int) -> Filter:
        if depth > DEEPEST:
            _refuse(self._next.start, f"at most {DEEPEST} parentheses and `not`s around a test", "more")
        if self._take("not"):
            return Not(self._one(depth + 1))
        if self._take("("):
            inner = self._filter(depth + 1)
            self._require("`and`, `or` or `)`", ")")
            return inner
        if self._take("exists"):
            return Exists(self._field())
        return self._test()

    def _test(self) -> Filter:
        field = self._field()
        sign, kind = self._next, field.kind
        if kind is FLAG and (sign.kind != "sign" or sign.text in "(),"):
            return Compare(field, "=", True)
        negated = self._take("not")
        if negated or self._take("in"):
            if negated:
                self._require("`in` after `not`", "in")
            self._check_operator(field, sign, "in")
            return Not(self._one_of(field)) if negated else self._one_of(field)
        if sign.kind != "sign" or sign.text in "(),":
            _refuse(sign.start, f"an operator ({', '.join(kind.operators)}) after {field}", sign)
        self._advance()
        written = "=" if sign.text == "==" else sign.text
        self._check_operator(field, sign, written)
        return Compare(field, written, self._value(field, checked=written != "~"))

    def _check_operator(self, field: Field, sign: _Token, written: str) -> None:
        if written not in field.kind.operators:
            _refuse(sign.start, f"one of {', '.join(field.kind.operators)}, which {field} can be asked with", sign)

    def _one_of(self, field: Field) -> OneOf:
        self._require("`(` and a list of values", "(")
        values = [self._value(field)]
        while self._take(","):
            values.append(self._value(field))
        self._require("`,` or `)`", ")")
        return OneOf(field, tuple(values))

    def _value(self, field: Field, *, checked: bool = True) -> Value:
        token, kind = self._advance(), field.kind
        if token.kind not in ("word", "quoted") or (token.kind == "word" and token.text.lower() in KEYWORDS):
            hint = "Text that is a word of the grammar is quoted." if token.kind == "word" else ""
            _refuse(token.start, kind.expected, token, hint)
        if token.kind == "quoted" and not kind.quotable:
            _refuse(token.start, kind.expected, f"the text {token}", f"{field} is compared without quotation marks.")
        if not checked:
            return token.text
        try:
            return kind.read(token.text)
        except ValueError as error:
            _refuse(token.start, kind.expected, token, str(error))

    def _field(self) -> Field:
        token = self._advance()
        if token.kind != "word" or token.text.lower() in KEYWORDS:
            _refuse(token.start, "a field, as in rank <= 16", token, f"The fields are {_listed()}.")
        name, dot, key = token.text.partition(".")
        if name not in KEYED:
            if token.text not in FIELDS:
                near = difflib.get_close_matches(token.text.lower(), FIELDS, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                _refuse(token.start, "a field", token, f"The fields are {_listed()}.{hint}")
            return Field(token.text)
        if dot and not key and self._next.kind == "quoted" and self._next.start == token.end:
            key = self._advance().text
        if not key:
            _refuse(token.start, f"{name}.<{KEYED[name]}>", token)
        if name == "label":
            _check_key(token, key)
        return Field(name, key)


def _check_key(token: _Token, key: str) -> None:
    try:
        check_label(key, "-")
    except InvalidReference as error:
        _refuse(token.start, "label.<key>", repr(key[:80]), error.text)


def _listed() -> str:
    return ", ".join(f"{name}.<{KEYED[name]}>" if name in KEYED else name for name in FIELDS)


def holds(filter: Filter, subject: Subject) -> bool:
    """Whether `subject` is a match: unknown is not (see the module's text)."""
    return _truth(filter, subject) is True


def _truth(filter: Filter, subject: Subject) -> bool | None:
    """Kleene's three values; None is unknown."""
    match filter:
        case And(parts):
            each = {_truth(part, subject) for part in parts}
            return False if False in each else None if None in each else True
        case Or(parts):
            each = {_truth(part, subject) for part in parts}
            return True if True in each else None if None in each else False
        case Not(part):
            inner = _truth(part, subject)
            return None if inner is None else not inner
        case Exists(field):
            value = _value_of(field, subject)
            return bool(value) if isinstance(value, frozenset) else value is not None
        case OneOf(field, values):
            return _any(field, subject, "=", values)
        case Compare(field, "!=", literal):
            equal = _any(field, subject, "=", (literal,))
            return None if equal is None else not equal
        case Compare(field, sign, literal):
            return _any(field, subject, sign, (literal,))


def _any(field: Field, subject: Subject, sign: str, literals: tuple[Value, ...]) -> bool | None:
    """Whether any of the field's values is `sign` to any literal; None when the value is missing or NaN."""
    found = _value_of(field, subject)
    if found is None or (isinstance(found, float) and math.isnan(found)):
        return None
    values = found if isinstance(found, frozenset) else (found,)
    return any(agrees(field.kind, sign, literal, value) for value in values for literal in literals)


def _value_of(field: Field, subject: Subject) -> Any:
    value = subject.get(field.name)
    return (value or {}).get(field.key) if field.key else value


def subject_of(version: Version, scores: Iterable[RecordedScore]) -> Subject:
    """What filters ask of `version`.

    Args:
        version: as the catalog has it, tags, stages and labels included.
        scores: in the order they were recorded; the last of a metric counts, as it does for gates. Those of other
            subjects are left out.
    """
    description = version.description
    namespace, name = version.adapter.split("/")
    return {
        "namespace": namespace,
        "name": name,
        "adapter": version.adapter,
        "number": version.number,
        "semver": version.semver,
        "method": frozenset({description.peft_type, description.method, *description.variant}),
        "rank": description.rank,
        "base": version.base,
        "base.name": version.base_name or None,
        "dtype": frozenset({description.dtype, *description.dtype.split("+")}),
        "size": version.size,
        "pushed_at": version.created_at,
        "pushed_by": version.created_by,
        "stage": frozenset(version.stages),
        "tag": frozenset(version.tags),
        "label": version.labels,
        "score": {
            each.score.metric: each.score.value
            for each in scores
            if each.subject == version.digest and each.invalid is None
        },
        "parameters": description.parameters,
        "task_type": description.task_type,
        "target": frozenset({*description.target_modules, *description.matched}),
        "nonzero": description.nonzero,
    }


def _counts(each: RecordedScore, version: Version) -> bool:
    return each.subject == version.digest and each.invalid is None
