"""The client's calls about versions: close up, beside each other, along a metric, among their kin, and served."""

from __future__ import annotations

from adapter_registry.calls.asking import Asking
from adapter_registry.domain.deployment import Deployment, Replica
from adapter_registry.domain.job import Job
from adapter_registry.domain.peft.fields import WEIGHTS
from adapter_registry.domain.views.beside import Beside, Samples
from adapter_registry.domain.views.course import Course
from adapter_registry.domain.views.kinship import Kinship
from adapter_registry.domain.views.retention import KEEP, Pruned
from adapter_registry.services import beside, closeup, course, deployment, kinship, prune, submit
from adapter_registry.services.closeup import Closeup, TensorPage


class VersionCalls(Asking):
    """Looks at versions, of the embedded registry or a server."""

    def closeup(self, reference: str) -> Closeup:
        """A version with what its lock and health say, its config, and where it stood."""
        return self._ask(closeup.closeup, reference=reference)

    def tensors(self, reference: str, path: str = WEIGHTS, *, after: int = 0, limit: int = 100) -> TensorPage:
        """A page of the tensors in one of its safetensors files."""
        return self._ask(closeup.tensors, reference=reference, path=path, after=after, limit=limit)

    def prune(self, adapter: str, *, older_than_seconds: float, keep: int = KEEP, dry_run: bool = False) -> Pruned:
        """Remove its versions that are older than so and needed by nothing; the newest `keep` stay."""
        age = older_than_seconds
        return self._ask(prune.prune, adapter=adapter, older_than_seconds=age, keep=keep, dry_run=dry_run)

    def compare(self, *references: str) -> Beside:
        """Two to six versions beside each other; scores are held to those of the first."""
        return self._ask(beside.compare, references=references)

    def samples(self, first: str, second: str, *, metric: str) -> Samples:
        """Two versions sample by sample, where what each sample scored was kept."""
        return self._ask(beside.samples, references=(first, second), metric=metric)

    def course(self, adapter: str, *, metric: str = "") -> Course:
        """How a metric went from version to version; by default the one recorded last."""
        return self._ask(course.course, adapter=adapter, metric=metric)

    def kinship(self, reference: str, *, steps: int = 2) -> Kinship:
        """What a version was made from and what was made from it."""
        return self._ask(kinship.kinship, reference=reference, steps=steps)

    def deployments(self, adapter: str) -> tuple[Deployment, ...]:
        """How far each fleet serves an adapter, as it was told last."""
        return self._ask(deployment.deployments, adapter=adapter)

    def report_deployment(
        self,
        reference: str,
        *,
        fleet: str,
        name: str,
        follows: str,
        replicas: tuple[Replica, ...] = (),
        because: str = "",
    ) -> None:
        """Keep what came of deploying a version to a fleet."""
        self._ask(
            deployment.report,
            reference=reference,
            fleet=fleet,
            name=name,
            follows=follows,
            replicas=replicas,
            because=because,
        )

    def jobs_about(self, reference: str, *, beside: str | None = None, limit: int = 20) -> tuple[Job, ...]:
        """Jobs that work on a version or made it, newest first."""
        return self._ask(submit.about, reference=reference, beside=beside, limit=limit)
