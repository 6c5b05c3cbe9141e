"""How stages moved: of one adapter or of all, as of any day; going back, and lifting what a rollback left."""

from __future__ import annotations

from collections.abc import Mapping

from adapter_registry.api.pages.page import LINES, Answer, Ask, Moved, Page, Shown, of_adapter
from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.promotions.promotion import rollback_target
from adapter_registry.domain.views.overview import Standing
from adapter_registry.domain.views.record import MovePage
from adapter_registry.services import overview, promote, record, reverify, rollback, stages, standstill

MOST_TARGETS = 12


def across(ask: Ask) -> Answer:
    """Moves of every adapter that whoever asks sees."""
    values = {"adapter": "", "standings": (), "pointing": {}, "at_page": "/ui/timeline"}
    return _shown(ask, values, adapter="", places=ask.call(stages.stages).places)


def of_one(ask: Ask) -> Answer:
    """Moves of one adapter, and where its stages pointed at the moment that was asked about."""
    standings, at, error = ask.call(overview.stages, adapter=ask.adapter), _at(ask), None
    pointing: dict[str, int] = {}
    if at:
        try:
            pointing = ask.call(promote.history, adapter=ask.adapter, at=at).pointing
        except RegistryError as refused:
            error = refused
    rights = {each.stage: _rights(ask, each) for each in standings}
    here = of_adapter(ask.adapter, "timeline")
    values = {"adapter": ask.adapter, "standings": standings, "pointing": pointing, "rights": rights, "at_page": here}
    return _shown(ask, values, adapter=ask.adapter, places=tuple(each.stage for each in standings), error=error)


def _shown(
    ask: Ask, values: Mapping[str, object], *, adapter: str, places: tuple[str, ...], error: RegistryError | None = None
) -> Answer:
    stage, found = ask.query.get("stage", ""), MovePage((), None)
    try:
        found = ask.call(
            record.moves,
            adapter=adapter or None,
            stage=stage or None,
            at=_at(ask) or None,
            before=ask.before(),
            limit=LINES,
        )
    except RegistryError as refused:
        error = refused
    more = {"found": found, "stage": stage, "at": _at(ask), "places": places, "error": error}
    shown = {**values, **more, "first": ask.before() is None}
    return Shown("timeline.html", shown, status=error.status if error else 200)


def _at(ask: Ask) -> str:
    return ask.query.get("at", "").strip()


def _rights(ask: Ask, standing: Standing) -> dict[str, bool]:
    may_go_back = standing.move is not None and ask.may(f"rollback:{standing.stage}", ask.adapter)
    may_lift = standing.hold is not None and ask.may(f"promote:{standing.stage}", ask.adapter) and not ask.who.machine
    may_verify = standing.move is not None and ask.may(f"reverify:{standing.stage}", ask.adapter)
    return {"rollback": may_go_back, "lift": may_lift, "reverify": may_verify}


def going_back(ask: Ask) -> Answer:
    """Where a stage can go back to, and why it should."""
    return Shown("rollback.html", _targets(ask))


def gone_back(ask: Ask) -> Answer:
    """Move it back; the refusal is the command line's, in the dialog."""
    stage, to = ask.places["stage"], ask.form.get("to", "")
    reference = f"{ask.adapter}@v{to}" if to else None
    try:
        move = ask.call(
            rollback.rollback,
            adapter=ask.adapter,
            stage=stage,
            to=reference,
            reason=ask.form.get("reason", "").strip(),
            seen=ask.seen(),
        )
    except RegistryError as error:
        values = {**_targets(ask), "error": error}
        return Shown("rollback.html", values, status=200 if ask.partial else error.status)
    return Moved(of_adapter(ask.adapter, "timeline"), f"{stage} went back to v{move.number}.")


def _targets(ask: Ask) -> dict[str, object]:
    stage = ask.places["stage"]
    moves = ask.call(promote.history, adapter=ask.adapter, stage=stage).moves
    default, error = None, None
    try:
        default = rollback_target(moves).number
    except RegistryError as refused:
        error = refused
    newest = {move.number: move for move in reversed(moves)}
    targets = [move for move in newest.values() if move.number != moves[0].number][::-1] if moves else []
    shown = sorted(targets, key=lambda move: move.sequence, reverse=True)[:MOST_TARGETS]
    return {
        "adapter": ask.adapter,
        "stage": stage,
        "current": moves[0] if moves else None,
        "targets": shown,
        "chosen": ask.form.get("to") or str(default or ""),
        "reason": ask.form.get("reason", ""),
        "required": ask.call(promote.policy, stage=stage.partition(".")[0]).policy.process.rollbacks.reason_required,
        "allowed": ask.may(f"rollback:{stage}", ask.adapter),
        "error": error,
        "partial": ask.partial,
        "back": of_adapter(ask.adapter, "timeline"),
        "address": of_adapter(ask.adapter, "stages", stage, "rollback"),
    }


def holding(ask: Ask) -> Answer:
    """What holds a stage."""
    return _held(ask)


def _held(ask: Ask, error: RegistryError | None = None) -> Answer:
    stage = ask.places["stage"]
    values = {
        "adapter": ask.adapter,
        "stage": stage,
        "hold": ask.call(standstill.hold, adapter=ask.adapter, stage=stage),
        "allowed": ask.may(f"promote:{stage}", ask.adapter) and not ask.who.machine,
        "error": error,
        "partial": ask.partial,
        "back": of_adapter(ask.adapter, "timeline"),
        "address": of_adapter(ask.adapter, "stages", stage, "hold"),
    }
    return Shown("hold.html", values, status=error.status if error and not ask.partial else 200)


def lifted(ask: Ask) -> Answer:
    """Lift it, as a person."""
    stage = ask.places["stage"]
    try:
        ask.call(standstill.lift, adapter=ask.adapter, stage=stage, seen=ask.form.get("seen") or None)
    except RegistryError as error:
        return _held(ask, error)
    return Moved(of_adapter(ask.adapter, "timeline"), f"Nothing holds {stage} any more.")


def verifying(ask: Ask) -> Answer:
    """What is in a stage, and when it has to be verified again."""
    return Shown("reverify.html", _verification(ask))


def verified(ask: Ask) -> Answer:
    """Ask its gates anew; what they say is shown in the dialog."""
    try:
        found, error = ask.call(reverify.reverify, adapter=ask.adapter, stage=ask.places["stage"]), None
    except RegistryError as refused:
        found, error = None, refused
    values = {**_verification(ask), "found": found, "error": error}
    return Shown("reverify.html", values, status=error.status if error and not ask.partial else 200)


def _verification(ask: Ask) -> dict[str, object]:
    stage = ask.places["stage"]
    moves = ask.call(promote.history, adapter=ask.adapter, stage=stage).moves
    due = ask.call(reverify.upcoming, adapter=ask.adapter)
    return {
        "adapter": ask.adapter,
        "stage": stage,
        "number": moves[0].number if moves else None,
        "due": next((each for each in due if each.stage == stage), None),
        "allowed": ask.may(f"reverify:{stage}", ask.adapter),
        "found": None,
        "error": None,
        "partial": ask.partial,
        "back": of_adapter(ask.adapter, "timeline"),
        "address": of_adapter(ask.adapter, "stages", stage, "verify"),
    }


_STAGE = "/adapters/{adapter_namespace}/{adapter_name}/stages/{stage}"
PAGES = (
    Page("/timeline", across),
    Page("/adapters/{adapter_namespace}/{adapter_name}/timeline", of_one),
    Page(f"{_STAGE}/rollback", going_back, gone_back),
    Page(f"{_STAGE}/hold", holding, lifted),
    Page(f"{_STAGE}/verify", verifying, verified),
)
