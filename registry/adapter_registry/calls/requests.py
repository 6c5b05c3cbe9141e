"""The client's calls about stages: which there are, what waits to enter them, and what keeps them still."""

from __future__ import annotations

from adapter_registry.calls.asking import Asking, every
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.people.account import Group
from adapter_registry.domain.policies.lint import Advice
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.promotions.passage import Hold, Window
from adapter_registry.domain.promotions.request import Request
from adapter_registry.domain.promotions.stage import Ladder, Stage
from adapter_registry.domain.promotions.verification import Due
from adapter_registry.domain.views.record import (
    Chain,
    LogPage,
    MovePage,
    RequestLine,
    RequestPage,
    Revision,
    Sought,
    Whose,
)
from adapter_registry.services import inbox, promote, record, request, reverify, stages, standstill
from adapter_registry.services.judgement import Judged
from adapter_registry.services.reverify import Reverified


class RequestCalls(Asking):
    """Stages, requests, holds, freeze windows and groups, of the embedded registry or a server."""

    def requests(self, adapter: str | None = None, *, still_open: bool = True) -> tuple[Request, ...]:
        """The newest requests, newest first: the open ones, or all."""
        return self._ask(request.requests, adapter=adapter, still_open=still_open)

    def request(self, name: str, *, after: int | None = None, wait_seconds: float = 0.0) -> Request:
        """A request by `P-214` as it is now, or as soon as it changed beyond `after`."""
        return self._ask(request.show, request=name, after=after, wait_seconds=wait_seconds)

    def approve(self, asked: Request, *, seen: Digest | None = None, comment: str = "") -> Judged:
        """Approve a request as it stands; with `seen`, only if it is still what the caller looked at."""
        return self._ask(
            request.approve, adapter=asked.adapter, stage=asked.stage, request=asked.name, seen=seen, comment=comment
        )

    def decline(self, asked: Request, *, reason: str) -> Request:
        """Decline a request."""
        return self._ask(request.decline, adapter=asked.adapter, stage=asked.stage, request=asked.name, reason=reason)

    def cancel(self, asked: Request) -> Request:
        """Take a request back."""
        return self._ask(request.cancel, adapter=asked.adapter, stage=asked.stage, request=asked.name)

    def inbox(
        self, whose: Whose = Whose.WAITING, *, still_open: bool = True, adapter: str | None = None
    ) -> tuple[RequestLine, ...]:
        """Requests that wait for whoever asks, that are theirs, or all, newest first, with approvals gone stale."""

        def page(before: int | None) -> RequestPage:
            return self._ask(inbox.inbox, whose=whose, still_open=still_open, adapter=adapter, before=before)

        return tuple(every(page, None))

    def moves(
        self,
        adapter: str | None = None,
        stage: str | None = None,
        *,
        at: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> MovePage:
        """Moves of stages, newest first, a page at a time; with `at`, as of then."""
        return self._ask(record.moves, adapter=adapter, stage=stage, at=at, before=before, limit=limit)

    def revisions(self, stage: str) -> tuple[Revision, ...]:
        """Every revision of a stage's policy, newest first."""
        return self._ask(record.revisions, stage=stage)

    def log(self, sought: Sought, *, adapter: str | None = None, before: int | None = None, limit: int = 50) -> LogPage:
        """The audit log, newest first, a page at a time."""
        return self._ask(record.log, adapter=adapter, sought=sought, before=before, limit=limit)

    def chain(self) -> Chain:
        """Follow the registry's own audit log from its first event."""
        return self._ask(record.chain)

    def lint_approvals(self, policy: Policy) -> tuple[Advice, ...]:
        """What of a policy's approvals nobody could give, as accounts and groups are now."""
        return self._ask(promote.lint_policy, stage=policy.stage, policy=policy)

    def ladder(self) -> Ladder:
        """The stages there are, lowest first."""
        return self._ask(stages.stages)

    def declare_stage(self, declared: Stage, *, new: bool = False) -> Ladder:
        """Add a stage, or, unless it has to be `new`, declare one anew; all stages afterwards."""
        return self._ask(stages.declare, stage=declared.name, declared=declared, new=new)

    def remove_stage(self, stage: str) -> Ladder:
        """Take a stage away that nothing is in; all stages afterwards."""
        return self._ask(stages.remove, stage=stage)

    def reverify(self, adapter: str, stage: str) -> Reverified:
        """Ask the gates of a stage about the version that is in it; where all pass, it counts as verified from now."""
        return self._ask(reverify.reverify, adapter=adapter, stage=stage)

    def due(self, adapter: str | None = None) -> tuple[Due, ...]:
        """What has to be verified again soon, or should have been: of one adapter, or of all."""
        return self._ask(reverify.upcoming, adapter=adapter)

    def hold(self, adapter: str, stage: str) -> Hold | None:
        """The hold that a rollback set on a stage."""
        return self._ask(standstill.hold, adapter=adapter, stage=stage)

    def lift_hold(self, adapter: str, stage: str, *, seen: str | None = None) -> Hold:
        """Lift a hold; `seen` is `Hold.at` of the one that is meant."""
        return self._ask(standstill.lift, adapter=adapter, stage=stage, seen=seen)

    def freezes(self) -> tuple[Window, ...]:
        """Every freeze window."""
        return self._ask(standstill.freezes)

    def freeze(
        self,
        begins: str,
        ends: str,
        *,
        reason: str,
        zone: str = "UTC",
        scope: str = "*",
        stage: str | None = None,
    ) -> Window:
        """Declare a time in which stages stand still."""
        return self._ask(
            standstill.freeze, begins=begins, ends=ends, reason=reason, zone=zone, scope=scope, stage=stage
        )

    def thaw(self, freeze: int) -> None:
        """Remove a freeze window."""
        self._ask(standstill.thaw, freeze=freeze)

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Group -> its members."""
        found = every(lambda after: self._ask(standstill.groups, after=after), "")
        return {each.name: each.members for each in found}

    def set_member(self, group: str, account: str, *, member: bool = True) -> Group:
        """Put an account into a group, or take it out; the group afterwards."""
        return self._ask(standstill.set_member, group=group, account=account, member=member)
