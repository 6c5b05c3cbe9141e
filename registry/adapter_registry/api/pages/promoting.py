"""Promoting a version: what every rule says of it, and the button that does it."""

from __future__ import annotations

from collections.abc import Mapping

from adapter_registry.api.pages.page import Answer, Ask, Moved, Page, Shown, of_adapter
from adapter_registry.domain.errors import Conflict, InvalidInput
from adapter_registry.domain.promotions.override import Asked, may_pass
from adapter_registry.domain.promotions.promotion import Result, refusal
from adapter_registry.services import promote
from adapter_registry.services.judgement import Judged

OVER = "over."
"""What stands before the name of a rule that is to be passed over."""


def asked(ask: Ask) -> Answer:
    """What a promotion would say now, without doing it."""
    stage = ask.places["stage"]
    judged = ask.call(promote.explain, reference=ask.reference, stage=stage, hotfix="hotfix" in ask.query)
    return Shown("promote.html", _values(ask, judged))


def done(ask: Ask) -> Answer:
    """Promote it, if every rule still says so; the refusal is the command line's."""
    stage = ask.places["stage"]
    try:
        judged = ask.call(
            promote.promote,
            reference=ask.reference,
            stage=stage,
            reason=ask.form.get("reason", "").strip(),
            hotfix="hotfix" in ask.form,
            override=_override(ask.form),
            seen=ask.form.get("seen") or None,
        )
    except (Conflict, InvalidInput) as refused:
        before = ask.call(promote.explain, reference=ask.reference, stage=stage)
        values = {**_values(ask, before), "error": refused}
        return Shown("promote.html", values, status=200 if ask.partial else refused.status)
    if judged.decision.outcome is Result.WAITING and judged.request.id:
        name = judged.request.name
        return Moved(f"/ui/requests/{name}", f"{name} asks for {judged.version.reference} in {stage}.")
    error = refusal(judged.decision, reference=judged.version.reference, stage=stage)
    if error is not None:
        return Shown("promote.html", {**_values(ask, judged), "error": error}, status=error.status)
    said = f"{judged.version.reference} is in {stage} now."
    return Moved(
        of_adapter(ask.adapter), said if judged.promotion else f"{judged.version.reference} was in {stage} already."
    )


def _override(form: Mapping[str, str]) -> Asked | None:
    """The rules that were chosen to be passed over, where that button was pressed."""
    if form.get("do") != "override":
        return None
    rules = tuple(name.removeprefix(OVER) for name in form if name.startswith(OVER))
    return Asked(rules, form.get("ticket", "").strip())


def _values(ask: Ask, judged: Judged) -> dict[str, object]:
    return {
        "judged": judged,
        "stage": judged.stage,
        "adapter": ask.adapter,
        "partial": ask.partial,
        "error": None,
        "reason": ask.form.get("reason", ""),
        "allowed": ask.may(f"promote:{judged.stage}", ask.adapter),
        "over": _passable(ask, judged),
        "hotfixes": judged.in_force.policy.process.hotfixes,
    }


def _passable(ask: Ask, judged: Judged) -> tuple[str, ...]:
    """Rules in the way that whoever asks could pass over, as the policy lets them."""
    by = judged.in_force.policy.process.overriding
    if by is None or judged.already or ask.who.machine or not ask.may(f"override:{judged.stage}", ask.adapter):
        return ()
    rules = dict.fromkeys(each.rule for each in judged.decision.blockers)
    return tuple(rule for rule in rules if may_pass(rule, by))


PAGES = (Page("/adapters/{adapter_namespace}/{adapter_name}/versions/{number}/promote/{stage}", asked, done),)
