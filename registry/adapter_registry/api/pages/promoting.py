"""Promoting a version: what every rule says of it, and the button that does it."""

from __future__ import annotations

from adapter_registry.api.pages.page import Answer, Ask, Moved, Page, Shown, of_adapter
from adapter_registry.domain.promotion import refusal
from adapter_registry.services import promote
from adapter_registry.services.judgement import Judged


def asked(ask: Ask) -> Answer:
    """What a promotion would say now, without doing it."""
    stage = ask.places["stage"]
    judged = ask.call(promote.explain, reference=ask.reference, stage=stage, hotfix="hotfix" in ask.query)
    return Shown("promote.html", _values(ask, judged))


def done(ask: Ask) -> Answer:
    """Promote it, if every rule still says so; the refusal is the command line's."""
    stage = ask.places["stage"]
    hotfix = "hotfix" in ask.form
    judged = ask.call(
        promote.promote, reference=ask.reference, stage=stage, reason=ask.form.get("reason", "").strip(), hotfix=hotfix
    )
    error = refusal(judged.decision, reference=judged.version.reference, stage=stage)
    if error is not None:
        return Shown("promote.html", {**_values(ask, judged), "error": error}, status=error.status)
    said = f"{judged.version.reference} is in {stage} now."
    return Moved(
        of_adapter(ask.adapter), said if judged.promotion else f"{judged.version.reference} was in {stage} already."
    )


def _values(ask: Ask, judged: Judged) -> dict[str, object]:
    return {
        "judged": judged,
        "stage": judged.stage,
        "adapter": ask.adapter,
        "partial": ask.partial,
        "error": None,
        "reason": ask.form.get("reason", ""),
        "allowed": ask.may(f"promote:{judged.stage}", ask.adapter),
        "hotfixes": judged.in_force.policy.process.hotfixes,
    }


PAGES = (Page("/adapters/{adapter_namespace}/{adapter_name}/versions/{number}/promote/{stage}", asked, done),)
