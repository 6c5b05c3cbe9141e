"""The Python client: what the command line and programs speak to.

    from adapter_registry.client import connect

    registry = connect()
    registry.push("./lora-adapter", base="mistral-7b@26bca36b", name="sql-lora")
    registry.pull("sql-lora@prod", "./out", base="mistral-7b@26bca36b")

A call names a service function. It is carried out on the embedded registry in this process, or, with ADAPTERS_URL
set, by the server there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapter_registry.calls.accounts import AccountCalls
from adapter_registry.calls.asking import every
from adapter_registry.calls.bases import BaseCalls
from adapter_registry.calls.evidence import EvidenceCalls
from adapter_registry.calls.jobs import JobCalls
from adapter_registry.calls.pointers import PointerCalls
from adapter_registry.calls.requests import RequestCalls
from adapter_registry.calls.stores import StoreCalls
from adapter_registry.calls.versions import VersionCalls
from adapter_registry.checkpoints.intake import Examination, examine_folder, refuse
from adapter_registry.domain import reference
from adapter_registry.domain.adapter import File, Version
from adapter_registry.domain.audit.event import Event
from adapter_registry.domain.base import RegisteredBase
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import InvalidReference, Notice
from adapter_registry.domain.evidence.outcomes import Outcomes
from adapter_registry.domain.evidence.score import RecordedScore, Score
from adapter_registry.domain.lineage import Lineage
from adapter_registry.domain.lock import Verdict
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.promotions.override import Asked as Overriding
from adapter_registry.domain.promotions.promotion import Promotion, refusal
from adapter_registry.domain.servable import Report
from adapter_registry.domain.versioning import Bump
from adapter_registry.domain.views.listing import AdapterLine, AdapterPage
from adapter_registry.local.folders import hashing, name_of
from adapter_registry.local.in_use import InUse
from adapter_registry.local.pulled import Pulled, place, require
from adapter_registry.services import mark, rollback, score, servable, show
from adapter_registry.services import promote as promotion
from adapter_registry.services import pull as pulling
from adapter_registry.services import push as pushing
from adapter_registry.services.base import KnownBase, Registered, Registration
from adapter_registry.services.collect import GRACE_SECONDS, Collected, StoreReport
from adapter_registry.services.judgement import Judged, PolicyInForce
from adapter_registry.services.promote import History
from adapter_registry.services.push import Pushed
from adapter_registry.services.stored_base import Storing
from adapter_registry.services.trial import Replayed
from adapter_registry.settings import Settings, read_settings
from adapter_registry.transport.keeping import Brings, Keeper

Progress = Callable[[int], None]


def connect(settings: Settings | None = None) -> Registry:
    """The registry that the environment names; on first use it is made."""
    return Registry(settings or read_settings())


@dataclass(frozen=True, slots=True)
class Checked:
    """What `check` found: the Base it was held against, and the Examination."""

    base: RegisteredBase
    examination: Examination


class Registry(AccountCalls, BaseCalls, EvidenceCalls, JobCalls, PointerCalls, RequestCalls, StoreCalls, VersionCalls):
    """All that can be asked of a registry. Every method raises RegistryError subclasses and nothing else on purpose."""

    def __init__(self, settings: Settings, backend: Backend | None = None) -> None:
        super().__init__(settings, backend)
        self.in_use = InUse(settings.context, settings.adapter)

    def adapter(self, text: str | None) -> str:
        """`namespace/name` of what people write; the adapter in use when they write nothing.

        Raises:
            InvalidReference: not a name, or nothing is in use.
        """
        if text:
            return "/".join(reference.split_adapter(text, namespace=self._settings.namespace))
        chosen = self.in_use.here()
        if chosen is None:
            raise InvalidReference("which adapter? Name one, or choose one for this folder with `adapters use NAME`.")
        return chosen

    def reference(self, text: str) -> str:
        """The full reference of what people write: `v3` becomes `namespace/name@v3` of the adapter in use."""
        in_use = self.in_use.here()
        return str(reference.parse(text, namespace=self._settings.namespace, in_use=in_use))

    def check(self, folder: str | Path, *, base: str) -> Checked:
        """What a push of `folder` onto `base` would say, without storing anything."""
        known = self.base(base)
        _, examination = examine_folder(Path(folder), known.base)
        return Checked(known.registered, examination)

    def push(  # noqa: PLR0913  every option of a push
        self,
        folder: str | Path,
        *,
        base: str,
        name: str | None = None,
        version: str | None = None,
        bump: Bump | None = None,
        labels: Mapping[str, str] | None = None,
        message: str = "",
        lineage: Lineage | None = None,
        progress: Progress | None = None,
    ) -> Pushed:
        """Store the adapter in `folder` as a Version, locked to `base`; the same bytes again are the same Version.

        Args:
            folder: what PEFT's `save_pretrained` wrote.
            base: name, `name@prefix`, digest, or a folder with a registered checkpoint.
            name: `[namespace/]name`; default: where this folder was pushed before, else the folder's name.
            version: an exact semantic version for it.
            bump: `major`, `minor` or `patch` instead of the rule's choice.
            labels: facts to attach.
            message: what changed, for people.
            lineage: what it was made of, where it was made and not trained.
            progress: called with the bytes of each file as it is stored.

        Raises:
            PushRefused: with every reason at once; nothing was stored.
        """
        path = Path(folder)
        adapter = self.adapter(name or self.in_use.pushed_from(path) or name_of(path))
        with self._bringing(adapter, progress) as bringing, hashing(path) as digests:
            bringing.send_ahead(tuple(digests.running))
            known = self.base(base)
            sources, examination = examine_folder(path, known.base, seen=digests.weights)
            refuse(examination)
            bringing.allow()
            travelled = bringing.send(sources, digests)
            files = digests(sources)
        pushed = self._ask(
            pushing.commit,
            adapter=adapter,
            base=f"{known.registered.name}@{known.base.digest}",
            files=files,
            message=message,
            labels=dict(labels or {}),
            semver=version,
            bump=bump,
            lineage=lineage,
        )
        self.in_use.choose(adapter, pushed=path)
        left_out = tuple(each for each in examination.notices if each not in pushed.notices)
        return Pushed(pushed.version, pushed.created, pushed.because, (*travelled, *left_out, *pushed.notices))

    def _bringing(self, adapter: str, progress: Progress | None) -> Brings:
        """What brings files to where this registry keeps them."""
        if self._settings.url:
            from adapter_registry.transport.sending import Sender  # noqa: PLC0415  not needed by the embedded registry

            return Sender(self._remote(), adapter, progress or _silent)
        return Keeper(self._ask, adapter, progress or _silent)

    def adapters(
        self,
        *,
        stage: str | None = None,
        base: str | None = None,
        search: str | None = None,
        where: str | None = None,
    ) -> tuple[AdapterLine, ...]:
        """One line per adapter, by name; `where` is a filter of its newest version: `rank<=16 and score.acc>0.5`."""

        def page(after: str) -> AdapterPage:
            return self._ask(show.adapters, stage=stage, base=base, search=search, where=where, after=after)

        return tuple(every(page, ""))

    def versions(self, adapter: str | None = None, *, where: str | None = None) -> tuple[Version, ...]:
        """The versions of an adapter, newest first."""
        name = self.adapter(adapter)
        return tuple(every(lambda before: self._ask(show.versions, adapter=name, where=where, before=before), None))

    def resolve(self, text: str) -> Version:
        """The Version a reference selects now; what a server's stage points to is believed only when signed."""
        return self._resolved(reference.parse(self.reference(text)))

    def served(self, text: str) -> Version:
        """As `resolve`; raises Revoked when that Version was withdrawn."""
        return pulling.served(self.resolve(text))

    def derived(self, text: str) -> tuple[Version, ...]:
        """What was made of a Version, directly or not."""
        return self._ask(show.derived, reference=self.reference(text))

    def scores(self, text: str) -> tuple[RecordedScore, ...]:
        """The scores of a Version."""
        return self._ask(show.scores, reference=self.reference(text))

    def servable(self, text: str, stacks: str = "") -> tuple[Report, ...]:
        """What serving stacks do with a Version: `vllm:0.33,sglang`, or every one that rules are known for."""
        return self._ask(servable.servable, reference=self.reference(text), stacks=stacks)

    def base_scores(self, base: str) -> tuple[RecordedScore, ...]:
        """The scores of a Base."""
        return self._ask(show.base_scores, base=base)

    def events(self, text: str | None = None) -> tuple[Event, ...]:
        """The audit log, of an adapter or version when one is named."""
        about = self.reference(text) if text else None
        return tuple(every(lambda after: self._ask(show.events, reference=about, after=after), 0))

    def tag(self, text: str, name: str) -> tuple[Version, Version | None]:
        """Point a tag at a version; (that version, where it pointed before)."""
        return self._ask(mark.tag, reference=self.reference(text), name=name)

    def untag(self, adapter: str | None, name: str, *, seen: int | None = None) -> None:
        """Remove a tag; `seen` is the number of the version that it is known to point at."""
        self._ask(mark.untag, adapter=self.adapter(adapter), name=name, seen=seen)

    def label(self, text: str, labels: dict[str, str | None]) -> Version:
        """Set labels; None removes one."""
        return self._ask(mark.label, reference=self.reference(text), labels=labels)

    def remove(self, text: str) -> Version:
        """Remove one exact version."""
        return self._ask(mark.remove, reference=self.reference(text))

    def revoke(self, text: str, *, because: str) -> Version:
        """Withdraw one exact version for good."""
        return self._ask(mark.revoke, reference=self.reference(text), because=because)

    def add_scores(
        self,
        text: str,
        scores: tuple[Score, ...],
        *,
        claimed: str = "",
        outcomes: tuple[Outcomes, ...] = (),
        suite: str = "",
    ) -> tuple[RecordedScore, ...]:
        """Bind scores to a Version; `outcomes` say what each sample scored, `suite` what they were measured by."""
        reference = self.reference(text)
        return self._ask(score.add, reference=reference, scores=scores, claimed=claimed, outcomes=outcomes, suite=suite)

    def invalidate_scores(
        self, text: str, *, because: str, ids: tuple[int, ...] = (), metric: str = "", source: str = ""
    ) -> tuple[RecordedScore, ...]:
        """Declare that scores of a Version count no more; they are kept and marked."""
        reference = self.reference(text)
        return self._ask(score.invalidate, reference=reference, because=because, ids=ids, metric=metric, source=source)

    def explain(self, text: str, stage: str, *, hotfix: bool = False, override: Sequence[str] = ()) -> Judged:
        """What a promotion would say, without moving anything; `override` names rules to pass over."""
        return self._ask(
            promotion.explain,
            reference=self.reference(text),
            stage=stage,
            hotfix=hotfix,
            override="\n".join(override),
        )

    def attempt(
        self,
        text: str,
        stage: str,
        *,
        reason: str = "",
        hotfix: bool = False,
        override: Overriding | None = None,
        seen: Digest | None = None,
    ) -> Judged:
        """Judge the stage's gates and move it; the answer says whether it moved, with every blocker if not.

        `seen` is `Judged.seen` of what was looked at: what is otherwise by now is a Conflict.
        """
        return self._ask(
            promotion.promote,
            reference=self.reference(text),
            stage=stage,
            reason=reason,
            hotfix=hotfix,
            override=override,
            seen=seen,
        )

    def promote(self, text: str, stage: str, *, reason: str = "") -> Judged:
        """Move a stage to a Version.

        Raises:
            PromotionRefused, PromotionWaiting, PromotionUndecided: with every blocker at once; nothing moved.
        """
        judged = self.attempt(text, stage, reason=reason)
        refused = refusal(judged.decision, reference=judged.version.reference, stage=stage)
        if refused is not None:
            raise refused
        return judged

    def rollback(
        self, adapter: str | None, stage: str, *, to: str | None = None, reason: str = "", seen: int | None = None
    ) -> Promotion:
        """Move a stage back to an earlier incumbent; `seen` is the sequence of the move it is known to stand by."""
        where = {"adapter": self.adapter(adapter), "stage": stage}
        return self._ask(rollback.rollback, **where, to=to, reason=reason, seen=seen)

    def history(self, adapter: str | None, stage: str | None = None, *, at: str | None = None) -> History:
        """Which version each stage pointed to and when, newest first; with `at`, what was true then."""
        return self._ask(promotion.history, adapter=self.adapter(adapter), stage=stage, at=at)

    def pull(
        self,
        text: str,
        out: str | Path | None = None,
        *,
        base: str | None = None,
        spot: bool = False,
        force: bool = False,
    ) -> Pulled:
        """Write the files of a Version into `out`, every digest verified, complete or not at all.

        Args:
            text: a reference.
            out: folder to make; default: a read-only folder named by digest in the cache.
            base: what it will be loaded onto, a registered base or a checkpoint folder.
            spot: look at a few slices of each tensor of a checkpoint folder instead of all of it: told apart is any
                checkpoint that differs everywhere (another training); a change in a few bytes may go unseen.
            force: replace an earlier pull in `out`.

        Raises:
            IncompatibleBase: `base` is not what the adapter is locked to; nothing was written.
            DigestMismatch: the store's bytes are damaged; nothing was written.
        """
        version = self.served(text)
        verdict = self.verdict(version, base, spot=spot) if base else None
        if verdict is not None and base is not None:
            require(verdict, version, base)
        folder = Path(out) if out else self._settings.cache / "versions" / version.digest.replace(":", "-")
        exact = f"{version.adapter}@{version.digest}"

        def read(file: File) -> pulling.Stream:
            return self._ask(pulling.open_file, reference=exact, path=file.path)

        return place(version, folder, verdict=verdict, read=read, force=force, keep=out is None)

    def verdict(self, version: Version, base: str, *, spot: bool = False) -> Verdict:
        """How a registered base or a checkpoint folder fits the Lock of a Version."""
        return self.base_verdict(version.base, base, spot=spot)


def _silent(_bytes: int) -> None:
    return


__all__ = [
    "GRACE_SECONDS",
    "Checked",
    "Collected",
    "History",
    "Judged",
    "KnownBase",
    "Notice",
    "Overriding",
    "PolicyInForce",
    "Pulled",
    "Pushed",
    "Registered",
    "Registration",
    "Registry",
    "Replayed",
    "StoreReport",
    "Storing",
    "connect",
]
