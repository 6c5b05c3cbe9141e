"""What a model answers to one fixed prompt, greedily: tells another adapter, scale or base apart."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

PROMPT = "The three primary colours are"
TOKENS = 8
"""Few, so that rounding, which differs with the batch and the kernel, seldom gets to choose another token."""
TOLERANCE = 0.05
"""How far the logarithm of a token's probability may be off, between servers of one stack."""
PEFT_TOLERANCE = 0.25
"""The same between a server and PEFT: other kernels, often in half precision, or a quantised base."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a model said, one token after the other.

    Attributes:
        tokens: as the model chose them.
        logprobs: the natural logarithm of each one's probability.
        seconds: the token that came second each time, with its logarithm; empty where that is not known.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    seconds: tuple[tuple[int, float], ...] = ()


def rounded(tokens: list[int], logprobs: list[float], seconds: Iterable[tuple[int, float]] = ()) -> Fingerprint:
    """A Fingerprint of what a server answered, to four decimals.

    Raises:
        ValueError: no tokens, not a number for each of them, or one that is not finite.
    """
    found = tuple(round(float(each), 4) for each in logprobs)
    if not tokens or len(tokens) != len(found) or not all(math.isfinite(each) for each in found):
        raise ValueError(found)
    return Fingerprint(tuple(tokens), found, tuple((token, round(value, 4)) for token, value in seconds))


def difference(expected: Fingerprint, found: Fingerprint, *, tolerance: float = TOLERANCE) -> str:
    """Where two differ, as a sentence's end; empty where they are of the same model.

    Where the second token was within the tolerance of the first, either is right; what follows it is not compared.
    """
    expected, found = _until_close(expected, found, tolerance)
    if expected.tokens != found.tokens:
        return f"it answers the tokens {list(found.tokens)}, expected {list(expected.tokens)}"
    off = [abs(a - b) for a, b in zip(expected.logprobs, found.logprobs, strict=True)]
    if off and max(off) > tolerance:
        at = off.index(max(off))
        return f"token {at + 1} has the logarithm {found.logprobs[at]}, expected {expected.logprobs[at]} ± {tolerance}"
    return ""


def _until_close(expected: Fingerprint, found: Fingerprint, tolerance: float) -> tuple[Fingerprint, Fingerprint]:
    """Both up to the first token that differs, with that one as expected where it came a close second."""
    pairs = zip(expected.tokens, found.tokens, strict=False)
    at = next((place for place, (one, other) in enumerate(pairs) if one != other), None)
    if at is None or at >= len(expected.seconds):
        return expected, found
    token, logprob = expected.seconds[at]
    if found.tokens[at] != token or expected.logprobs[at] - logprob > tolerance:
        return expected, found
    wanted = Fingerprint((*expected.tokens[:at], token), (*expected.logprobs[:at], logprob))
    return wanted, Fingerprint(found.tokens[: at + 1], found.logprobs[: at + 1])
