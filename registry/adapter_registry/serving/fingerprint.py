"""What a model answers to one fixed prompt, greedily: tells another adapter, scale or base apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

PROMPT = "The three primary colours are"
TOKENS = 8
"""Few, so that rounding, which differs with the batch and the kernel, seldom gets to choose another token."""
TOLERANCE = 0.05
"""How far the logarithm of a token's probability may be off."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Tokens as the model chose them, and the natural logarithm of each one's probability."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]


def rounded(tokens: list[int], logprobs: list[float]) -> Fingerprint:
    """A Fingerprint of what a server answered, to four decimals.

    Raises:
        ValueError: no tokens, not a number for each of them, or one that is not finite.
    """
    found = tuple(round(float(each), 4) for each in logprobs)
    if not tokens or len(tokens) != len(found) or not all(math.isfinite(each) for each in found):
        raise ValueError(found)
    return Fingerprint(tuple(tokens), found)


def difference(expected: Fingerprint, found: Fingerprint, *, tolerance: float = TOLERANCE) -> str:
    """Where two differ, as a sentence's end; empty where they are of the same model."""
    if expected.tokens != found.tokens:
        return f"it answers the tokens {list(found.tokens)}, expected {list(expected.tokens)}"
    off = [abs(a - b) for a, b in zip(expected.logprobs, found.logprobs, strict=True)]
    if off and max(off) > tolerance:
        at = off.index(max(off))
        return f"token {at + 1} has the logarithm {found.logprobs[at]}, expected {expected.logprobs[at]} ± {tolerance}"
    return ""
