"""Policies: what each stage asks, since when, and a new revision that is checked and tried before it is set."""

from __future__ import annotations

from difflib import unified_diff

from adapter_registry.api.pages.confirming import Question, confirming
from adapter_registry.api.pages.page import Answer, Ask, Moved, Page, Shown
from adapter_registry.calls.asking import every
from adapter_registry.domain.errors import Conflict, NotFound, RegistryError
from adapter_registry.domain.policies.file import read_policy, to_yaml
from adapter_registry.domain.policies.lint import Advice, lint
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.policies.words import in_words
from adapter_registry.domain.promotions.promotion import Result
from adapter_registry.domain.views.record import Revision
from adapter_registry.services import promote, record, stages, standstill, suites, trial
from adapter_registry.services.judgement import PolicyInForce

TRIED = 20
HERE = "/ui/policies"


def listing(ask: Ask) -> Answer:
    """Every stage in order, with what its policy asks."""
    found = [
        {"stage": stage, "rules": in_words(policy.policy), "in_force": policy}
        for stage in ask.call(stages.stages).stages
        for policy in [ask.call(promote.policy, stage=stage.name)]
    ]
    return Shown("policies.html", {"found": found})


def show(ask: Ask) -> Answer:
    """One stage's policy in words and as a document, its revisions, and what changed with the one that is shown."""
    return Shown("policy.html", _values(ask))


def sent(ask: Ask) -> Answer:
    """Check, try or set the document that was typed; what is wrong with it stands above it."""
    text, what, stage = ask.form.get("document", ""), ask.form.get("do", ""), ask.places["stage"]
    values: dict[str, object] = {"document": text, "editing": True}
    if (seen := ask.seen()) is not None:
        values["written_from"] = seen
    status = 200
    try:
        policy = read_policy(text, name="the document")
        values["advice"] = _advice(ask, policy)
        if what == "try":
            tried = ask.call(trial.replay, stage=stage, policy=policy, last=TRIED)
            stopped = sum(each.outcome not in (None, Result.PROMOTE) for each in tried)
            values |= {"tried": tried, "stopped": stopped}
        elif what == "set":
            in_force = ask.call(promote.set_policy, stage=stage, policy=policy, seen=seen)
            return Moved(f"{HERE}/{stage}", f"{stage} judges by revision {in_force.revision} now.")
        else:
            values["changes"] = _changes(to_yaml(ask.call(promote.policy, stage=stage).policy), to_yaml(policy))
    except Conflict as error:  # whoever sends it again has seen what is in force now
        values |= {"error": error, "written_from": ask.call(promote.policy, stage=stage).revision}
        status = error.status
    except RegistryError as error:
        values["error"], status = error, error.status
    return Shown("policy.html", {**_values(ask), **values}, status=status)


def freezes(ask: Ask) -> Answer:
    """Every freeze window, and a form for another."""
    return Shown("freezes.html", _freezes(ask))


def froze(ask: Ask) -> Answer:
    """Add a freeze window."""
    form = ask.form
    try:
        given = {name: form.get(name, "").strip() for name in ("begins", "ends", "reason")}
        zone, scope = form.get("zone", "").strip() or "UTC", form.get("scope", "").strip() or "*"
        window = ask.call(standstill.freeze, **given, zone=zone, scope=scope, stage=form.get("stage") or None)
    except RegistryError as error:
        return Shown("freezes.html", {**_freezes(ask), "error": error}, status=error.status)
    return Moved("/ui/freezes", f"Freeze window {window.id} is set.")


def _thawing(ask: Ask) -> Question:
    window = next((each for each in ask.call(standstill.freezes) if each.id == ask.number("freeze")), None)
    if window is None:
        raise NotFound("there is no such freeze window.")
    return Question(
        f"Remove freeze window {window.id}",
        (
            ("When", f"{window.begins} to {window.ends} {window.zone}"),
            ("Covers", f"{window.stage or 'every stage'} of {window.scope}"),
            ("Why", window.reason),
        ),
        ("Promotions that wait for its end are applied as soon as nothing else holds them.",),
        f"Remove window {window.id}",
        "/ui/freezes",
    )


def _thawed(ask: Ask) -> Moved:
    ask.call(standstill.thaw, freeze=ask.number("freeze"))
    return Moved("/ui/freezes", f"Freeze window {ask.number('freeze')} is removed.")


def _freezes(ask: Ask) -> dict[str, object]:
    return {
        "windows": ask.call(standstill.freezes),
        "places": ask.call(stages.stages).places,
        "may": ask.may("policy.write"),
        "form": ask.form,
        "error": None,
    }


def _values(ask: Ask) -> dict[str, object]:
    stage = ask.places["stage"]
    in_force: PolicyInForce = ask.call(promote.policy, stage=stage)
    revisions = ask.call(record.revisions, stage=stage)
    shown = _chosen(ask, in_force, revisions)
    before = next((each for each in revisions if each.revision < shown.revision), None)
    return {
        "stage": stage,
        "in_force": in_force,
        "revisions": revisions,
        "shown": shown,
        "rules": in_words(shown.policy),
        "text": to_yaml(shown.policy),
        "before": before,
        "difference": _changes(to_yaml(before.policy), to_yaml(shown.policy)) if before else (),
        "may": ask.may("policy.write"),
        "advice": _advice(ask, in_force.policy),
        "document": to_yaml(in_force.policy),
        "written_from": in_force.revision,
        **{"editing": "edit" in ask.query, "error": None, "tried": None, "changes": None, "stopped": 0},
    }


def _chosen(ask: Ask, in_force: PolicyInForce, revisions: tuple[Revision, ...]) -> Revision | PolicyInForce:
    asked = ask.before("revision")
    if asked is None or asked == in_force.revision:
        return in_force
    found = next((each for each in revisions if each.revision == asked), None)
    if found is None:
        raise NotFound(f"the policy of {in_force.policy.stage} has no revision {asked}.")
    return found


def _advice(ask: Ask, policy: Policy) -> tuple[Advice, ...]:
    """What nothing can satisfy, or is likely not meant; of approvals only for those who may write policies."""
    found = lint(policy, tuple(every(lambda after: ask.call(suites.suites, after=after), "")))
    if not ask.may("policy.write"):
        return found
    return (*found, *ask.call(promote.lint_policy, stage=policy.stage, policy=policy))


def _changes(before: str, after: str) -> tuple[str, ...]:
    return tuple(unified_diff(before.splitlines(), after.splitlines(), n=2, lineterm=""))[2:]


PAGES = (
    Page("/policies", listing),
    Page("/policies/{stage}", show, sent),
    Page("/freezes", freezes, froze),
    Page("/freezes/{freeze}/remove", *confirming(_thawing, _thawed)),
)
