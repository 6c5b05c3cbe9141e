"""How a metric went over the versions of an adapter."""

from __future__ import annotations

from adapter_registry.api.pages.page import Answer, Ask, Data, Page, Shown
from adapter_registry.services import course


def trends(ask: Ask) -> Answer:
    """The chart, by version or by time, and its values as a table."""
    found = ask.call(course.course, adapter=ask.adapter, metric=ask.query.get("metric", ""))
    by = "time" if ask.query.get("by") == "time" else "version"
    return Shown("course.html", {"adapter": ask.adapter, "found": found, "by": by})


def data(ask: Ask) -> Answer:
    """The course for the script that draws it."""
    return Data(ask.call(course.course, adapter=ask.adapter, metric=ask.query.get("metric", "")))


_PLACE = "/adapters/{adapter_namespace}/{adapter_name}/trends"
PAGES = (Page(_PLACE, trends), Page(f"{_PLACE}/data", data))
