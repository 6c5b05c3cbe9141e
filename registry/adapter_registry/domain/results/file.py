"""ResultsFile: what an evaluation harness's results file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from adapter_registry.domain.evidence.outcomes import Outcomes
from adapter_registry.domain.evidence.score import Score


@dataclass(frozen=True, slots=True)
class ResultsFile:
    """Scores, and what the file claims about itself.

    Attributes:
        scores: in the file's order.
        claims: what the file says it measured (`model`, `adapter`, `model commit`, ...); shown, never trusted.
        producer: tool and version that wrote it, `lm-eval 0.4.13`.
        notices: what was left out or changed, one sentence each.
        groups: group -> its tasks, whose samples are its samples.
        outcomes: what each sample scored, where the file itself says so.
        problems: (where, expected, found) of what makes the file unusable; `read_results` raises them.
    """

    scores: tuple[Score, ...]
    claims: Mapping[str, str] = field(default_factory=dict)
    producer: str = ""
    notices: tuple[str, ...] = ()
    problems: tuple[tuple[str, str, str], ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    outcomes: tuple[Outcomes, ...] = ()

    @property
    def claimed(self) -> str:
        """The claims as one line: `model gpt2, adapter runs/sql-lora`."""
        return ", ".join(f"{what} {value}" for what, value in self.claims.items())
