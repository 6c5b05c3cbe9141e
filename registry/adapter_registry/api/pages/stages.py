"""The stages there are: what a version passes through on its way. Declaring one, and taking one away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapter_registry.api.pages.confirming import Question, confirming
from adapter_registry.api.pages.members import words
from adapter_registry.api.pages.page import Answer, Ask, Moved, Page, Shown
from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.names import STAGE_NAMES
from adapter_registry.domain.people.access import EVERYTHING
from adapter_registry.domain.policies.process import Mode, Sources
from adapter_registry.domain.promotions.stage import Stage
from adapter_registry.services import stages

ADDRESS = "/ui/stages"


def listing(ask: Ask) -> Answer:
    """Every stage, lowest first, and a form for another."""
    return Shown("stages.html", _values(ask, None))


def added(ask: Ask) -> Answer:
    """Add one."""
    return _declared(ask, ask.form.get("name", "").strip(), new=True)


def one(ask: Ask) -> Answer:
    """One stage as a form."""
    ladder = ask.call(stages.stages)
    return Shown("stages.html", _values(ask, ladder.get(ladder.whole(ask.places["stage"]))))


def changed(ask: Ask) -> Answer:
    """Declare it anew, as the form says."""
    return _declared(ask, ask.places["stage"], new=False)


def _declared(ask: Ask, name: str, *, new: bool) -> Answer:
    try:
        before = None if new else ask.call(stages.stages).get(name)
        ask.call(stages.declare, stage=name, declared=_stage(name, ask.form, before), new=new)
    except RegistryError as error:
        shown = _values(ask, None if new else ask.call(stages.stages).get(name))
        return Shown("stages.html", {**shown, "error": error, "given": ask.form}, status=error.status)
    return Moved(ADDRESS, f"{name} is {'a stage' if new else 'declared anew'}.")


def _stage(name: str, form: Mapping[str, str], before: Stage | None) -> Stage:
    """What the form says a stage is; without stages to come from, it stays above those it was above."""
    sources = Sources(words(form, "below"), Mode.ONE_OF if form.get("mode") else Mode.ALL, words(form, "hotfix"))
    return Stage(
        name,
        before.after if before and not sources.stages else (),
        sources if sources.stages or sources.hotfix else None,
        form.get("like", ""),
        words(form, "lanes"),
        form.get("scope", "").strip() or EVERYTHING,
    )


def _values(ask: Ask, stage: Stage | None) -> dict[str, Any]:
    return {
        "ladder": ask.call(stages.stages),
        "stage": stage,
        "given": _given(stage) if stage else {},
        "likes": STAGE_NAMES,
        "may": ask.may("policy.write"),
        "error": None,
    }


def _given(stage: Stage) -> dict[str, str]:
    sources = stage.sources or Sources(())
    return {
        "below": " ".join(sources.stages),
        "mode": "one-of" if sources.mode is Mode.ONE_OF else "",
        "hotfix": " ".join(sources.hotfix),
        "like": stage.like,
        "lanes": " ".join(stage.lanes),
        "scope": stage.scope,
    }


def _question(ask: Ask) -> Question:
    ladder = ask.call(stages.stages)
    stage = ladder.get(ladder.whole(ask.places["stage"]))
    return Question(
        f"Remove stage {stage.name}",
        (("Stage", ", ".join(stage.places)), ("Adapters", stage.scope)),
        (
            "Nothing can be promoted into it any more. It is refused while an adapter is in it or another stage comes "
            "from it; its policy and what is recorded of it stay.",
        ),
        f"Remove {stage.name}",
        ADDRESS,
    )


def _removed(ask: Ask) -> Moved:
    ask.call(stages.remove, stage=ask.places["stage"])
    return Moved(ADDRESS, f"{ask.places['stage']} is a stage no more.")


PAGES = (
    Page("/stages", listing, added),
    Page("/stages/{stage}", one, changed),
    Page("/stages/{stage}/remove", *confirming(_question, _removed)),
)
