"""Numbers as findings and tables show them: short, and never short enough to contradict what was decided."""

from __future__ import annotations

MOST_DIGITS = 17
"""Significant digits that tell any two doubles apart."""


def shown(value: float, *, digits: int = 4) -> str:
    """`value` with `digits` significant digits; large numbers in full, with thousands separated."""
    if 10**digits <= abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def signed(value: float, *, digits: int = 3) -> str:
    """`value` with its sign, zero included."""
    return ("" if value < 0 else "+") + shown(value or 0.0, digits=digits)


def apart(value: float, bound: float) -> tuple[str, str]:
    """Both numbers, with as many digits as it takes to tell unequal ones apart."""
    value, bound = value or 0.0, bound or 0.0  # zero has two signs, and they are equal
    for digits in range(4, MOST_DIGITS):
        texts = f"{value:.{digits}g}", f"{bound:.{digits}g}"
        if texts[0] != texts[1] or value == bound:
            return (shown(value), shown(bound)) if digits == 4 and shown(value) != shown(bound) else texts
    return f"{value:.{MOST_DIGITS}g}", f"{bound:.{MOST_DIGITS}g}"


def count(number: int, noun: str) -> str:
    """`1 sample`, `1,319 samples`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
