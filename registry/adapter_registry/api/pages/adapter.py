"""The pages of one adapter: stages, card, how to get it, its versions; and which servers serve it."""

from __future__ import annotations

from adapter_registry.api.pages.page import LINES, Answer, Ask, Page, Shown, Unchanged
from adapter_registry.domain.digest import of_json
from adapter_registry.domain.views.overview import Standing
from adapter_registry.operation import to_wire
from adapter_registry.services import deployment, overview


def show(ask: Ask) -> Answer:
    """An adapter at a glance, and a page of its versions."""
    seen = ask.call(overview.overview, adapter=ask.adapter)
    table = ask.call(overview.versions, adapter=ask.adapter, before=ask.before(), limit=LINES)
    values = {
        "adapter": ask.adapter,
        "seen": seen,
        "table": table,
        "snippets": snippets(ask.adapter, seen.top or "main", at=ask.address, stage=seen.top is not None),
        "first": ask.before() is None,
        "markable": _markable(ask),
        **_strip(ask, seen.standings),
    }
    return Shown("adapter.html", values)


def _markable(ask: Ask) -> dict[str, bool]:
    """What whoever asks may say about its versions; empty for nothing."""
    may = {verb: ask.may(verb, ask.adapter) for verb in ("tag", "label", "revoke")}
    return may if any(may.values()) else {}


def strip(ask: Ask) -> Answer:
    """Where its stages stand, for the part of the page that looks after itself."""
    standings = ask.call(overview.stages, adapter=ask.adapter)
    values = {"adapter": ask.adapter, **_strip(ask, standings)}
    if values["mark"] == ask.query.get("seen"):
        return Unchanged()
    return Shown("parts/stage-strip.html", values)


def fleets(ask: Ask) -> Answer:
    """What servers were told to serve of an adapter, replica by replica, beside what they should serve now."""
    found = ask.call(deployment.deployments, adapter=ask.adapter)
    return Shown("fleets.html", {"adapter": ask.adapter, "found": found})


def _strip(ask: Ask, standings: tuple[Standing, ...]) -> dict[str, object]:
    mark = of_json(to_wire(standings).decode()).partition(":")[2][:16]
    promotable = [each.stage for each in standings if ask.may(f"promote:{each.stage}", ask.adapter)]
    revertible = {each.stage for each in standings if each.move and ask.may(f"rollback:{each.stage}", ask.adapter)}
    return {"standings": standings, "mark": mark, "promotable": promotable, "revertible": revertible}


def snippets(adapter: str, selector: str, *, at: str, stage: bool = False) -> tuple[tuple[str, str], ...]:
    """(tool, what to type) that get an adapter: what a stage points to, `v3`, or by `main` its newest version."""
    reference = adapter if selector == "main" else f"{adapter}@{selector}"
    folder = adapter.partition("/")[2]
    pull = f"adapters pull {reference} -o ./{folder}"
    channel = f"/~{selector}" if stage else ""
    serve = f"vllm serve BASE --enable-lora --lora-modules {folder}="
    pinned = f"export ADAPTERS_URL={at}\n{pull}\n{serve}./{folder}"
    return (
        ("CLI", f"export ADAPTERS_URL={at}\n{pull}"),
        (
            "Python",
            f'from adapter_registry.client import connect\n\npulled = connect().pull("{reference}", "./{folder}")',
        ),
        ("hf", f"export HF_ENDPOINT={at}\nhf download {adapter} --revision {selector} --local-dir ./{folder}"),
        ("vLLM", f"export HF_ENDPOINT={at}{channel}\n{serve}{adapter}" if channel or selector == "main" else pinned),
        (
            "PEFT",
            f'# HF_ENDPOINT={at}\nfrom peft import PeftModel\n\nmodel = PeftModel.from_pretrained(base, "{adapter}", '
            f'revision="{selector}")',
        ),
    )


PAGES = (
    Page("/adapters/{adapter_namespace}/{adapter_name}", show),
    Page("/adapters/{adapter_namespace}/{adapter_name}/stages", strip),
    Page("/adapters/{adapter_namespace}/{adapter_name}/fleets", fleets),
)
