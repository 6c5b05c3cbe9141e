"""The client's calls about evidence: signatures, scans, scores of bases, suites, and the policies that ask for it."""

from __future__ import annotations

from dataclasses import replace

from adapter_registry.calls.asking import Asking, every
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.errors import SignatureRefused
from adapter_registry.domain.evidence.outcomes import Outcomes
from adapter_registry.domain.evidence.score import RecordedScore, Score
from adapter_registry.domain.evidence.suite import Suite
from adapter_registry.domain.integrity.key import Key, Signed
from adapter_registry.domain.integrity.scan import Report, Scan
from adapter_registry.domain.integrity.signing import Envelope, key_id, sealed, standing, statement
from adapter_registry.domain.policies.lint import Advice, lint
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.local.pulled import check_whole
from adapter_registry.services import promote, scan, score, signing, suites
from adapter_registry.services import trial as trials
from adapter_registry.services.judgement import PolicyInForce
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

    def policy(self, stage: str) -> PolicyInForce:
        """The policy a stage judges by."""
        return self._ask(promote.policy, stage=stage)

    def set_policy(self, stage: str, policy: Policy, *, seen: int | None = None) -> PolicyInForce:
        """Give a stage a new revision of its policy; `seen` is the revision that it was written from."""
        return self._ask(promote.set_policy, stage=stage, policy=policy, seen=seen)

    def suites(self) -> tuple[Suite, ...]:
        """Every version of every suite, by name and version."""
        return tuple(every(lambda after: self._ask(suites.suites, after=after), ""))

    def suite(self, name: str) -> Suite:
        """A suite by `core@3`, or the newest version of `core`."""
        return self._ask(suites.suite, name=name)

    def set_suite(self, suite: Suite, *, adapter: str = "") -> Suite:
        """Store the next version of a suite; its files were sent for `adapter` before."""
        return self._ask(suites.set_suite, suite=suite, adapter=adapter)

    def lint_policy(self, policy: Policy) -> tuple[Advice, ...]:
        """What in a policy nothing can satisfy, and what is likely a mistake."""
        return lint(policy, self.suites())

    def try_policy(self, stage: str, policy: Policy, *, last: int = 20) -> tuple[Replayed, ...]:
        """What a policy would have said of the last promotions into a stage; nothing is changed."""
        return self._ask(trials.replay, stage=stage, policy=policy, last=last)

    def signing_keys(self) -> tuple[Key, ...]:
        """Keys whose signatures count or did, in the order they were added."""
        return self._ask(signing.keys)

    def trust_key(
        self, name: str, public: str, *, scopes: tuple[str, ...] = ("*",), expires_in_seconds: int | None = None
    ) -> Key:
        """Have the signatures of a public key in PEM count for versions in these scopes."""
        return self._ask(signing.trust, name=name, public=public, scopes=scopes, expires_in_seconds=expires_in_seconds)

    def revoke_key(self, name: str, *, because: str) -> Key:
        """Have nothing that a key ever signed count from now on."""
        return self._ask(signing.revoke, key=name, because=because)

    def sign(self, version: Version, private: str) -> Signed:
        """Sign exactly this Version with a private key in PEM, which stays here; its signature is attached."""
        check_whole(version)
        return self.attach(version, sealed(version, private))

    def attach(self, version: Version, envelope: Envelope) -> Signed:
        """Attach a signature that was made elsewhere."""
        return self._ask(signing.sign, reference=_exactly(version), envelope=envelope)

    def signatures(self, version: Version) -> tuple[Signed, ...]:
        """The signatures of a Version, each with why it does not count if it does not."""
        return self._ask(signing.signatures, reference=_exactly(version))

    def verify(self, version: Version, public: str | None = None) -> tuple[Signed, ...]:
        """The signatures of a Version that hold, verified here over what the Version says it is made of.

        Args:
            version: as it was resolved.
            public: the one public key, in PEM, that counts; None for every key that the registry trusts.

        Raises:
            SignatureRefused: none holds; the text says why not.
        """
        check_whole(version)
        content, wanted = statement(version), key_id(public) if public else None
        there = [each for each in self.signatures(version) if wanted in (None, each.key.id)]
        keys = [replace(each.key, public=public or each.key.public) for each in there]
        found = [standing(each.signature, key, content) for each, key in zip(there, keys, strict=True)]
        good = tuple(each for each in found if not each.unfit)
        if not good:
            none = f"it has none of the key {wanted}" if wanted else "it has none"
            raise SignatureRefused(
                f"no signature of {version.reference} holds: {'; '.join(each.unfit for each in found) or none}. "
                f"Sign it: adapters sign {version.reference} --key FILE"
            )
        return good

    def scan(self, version: Version) -> Scan:
        """Have the registry look through every file of a Version, and record what it finds."""
        return self._ask(scan.scan, reference=_exactly(version))

    def report_scan(self, version: Version, report: Report) -> Scan:
        """Record what another scanner says of a Version."""
        return self._ask(scan.report, reference=_exactly(version), report=report)

    def scans(self, version: Version) -> tuple[Scan, ...]:
        """Every scan of a Version, in the order they were recorded."""
        return self._ask(scan.scans, reference=_exactly(version))


def _exactly(version: Version) -> str:
    return f"{version.adapter}@{version.digest}"
