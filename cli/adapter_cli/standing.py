"""What a recorded score counts for, in words."""

from __future__ import annotations

from adapter_registry.domain.evidence.score import RecordedScore


def evidence(each: RecordedScore) -> str:
    """`claimed, core@3, per sample`; what was declared invalid says why instead."""
    if each.invalid is not None:
        return f"INVALID: {each.invalid.because}"
    facts = ["verified" if each.verified else "claimed", each.score.suite, "per sample" if each.score.outcomes else ""]
    return ", ".join(filter(None, facts))
