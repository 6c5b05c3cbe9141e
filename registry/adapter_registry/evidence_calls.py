"""The client's calls about evidence: scores of bases, suites, and what a changed policy would have said."""

from __future__ import annotations

from adapter_registry.asking import Asking
from adapter_registry.domain.outcomes import Outcomes
from adapter_registry.domain.policy import Policy
from adapter_registry.domain.policy_lint import Advice, lint
from adapter_registry.domain.score import RecordedScore, Score
from adapter_registry.domain.suite import Suite
from adapter_registry.services import score, suites
from adapter_registry.services import trial as trials
from adapter_registry.services.trial import Replayed


class EvidenceCalls(Asking):
    """Evidence, of the embedded registry or a server."""

    def add_base_scores(
        self,
        base: str,
        scores: tuple[Score, ...],
        *,
        claimed: str = "",
        outcomes: tuple[Outcomes, ...] = (),
        suite: str = "",
    ) -> tuple[RecordedScore, ...]:
        """Bind scores to a Base, so that a first version can be compared with it."""
        return self._ask(score.add_to_base, base=base, scores=scores, claimed=claimed, outcomes=outcomes, suite=suite)

    def invalidate_base_scores(
        self, base: str, *, because: str, ids: tuple[int, ...] = (), metric: str = "", source: str = ""
    ) -> tuple[RecordedScore, ...]:
        """Declare that scores of a Base count no more; they are kept and marked."""
        return self._ask(score.invalidate_of_base, base=base, because=because, ids=ids, metric=metric, source=source)

    def suites(self) -> tuple[Suite, ...]:
        """Every version of every suite, by name and version."""
        return self._ask(suites.suites)

    def suite(self, name: str) -> Suite:
        """A suite by `core@3`, or the newest version of `core`."""
        return self._ask(suites.suite, name=name)

    def set_suite(self, suite: Suite) -> Suite:
        """Store the next version of a suite."""
        return self._ask(suites.set_suite, suite=suite)

    def lint_policy(self, policy: Policy) -> tuple[Advice, ...]:
        """What in a policy nothing can satisfy, and what is likely a mistake."""
        return lint(policy, self.suites())

    def try_policy(self, stage: str, policy: Policy, *, last: int = 20) -> tuple[Replayed, ...]:
        """What a policy would have said of the last promotions into a stage; nothing is changed."""
        return self._ask(trials.replay, stage=stage, policy=policy, last=last)
