"""Where a question to the registry is carried out: in a thread, or, if it waits for nobody, where it is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool

from adapter_registry.domain import reference
from adapter_registry.domain.errors import InvalidReference
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.reference import Kind

P = ParamSpec("P")
T = TypeVar("T")


def is_plain(selector: str) -> bool:
    """Whether a selector names one thing, so that it is looked up; a range is held against every version."""
    try:
        return reference.parse(f"a/b@{selector}" if selector else "a/b").kind is not Kind.RANGE
    except InvalidReference:
        return False


async def asked(backend: Backend, question: Callable[P, T], /, *args: P.args, **given: P.kwargs) -> T:
    """What a small read answers.

    SQLite's readers wait for no writer, and a fraction of a millisecond is less than handing the question to a thread
    and back costs; anything over a network may take its time and gets a thread.
    """
    if backend.at_hand:
        return question(*args, **given)
    return await run_in_threadpool(question, *args, **given)


async def in_thread(_backend: Backend, question: Callable[P, T], /, *args: P.args, **given: P.kwargs) -> T:
    """What anything else answers."""
    return await run_in_threadpool(question, *args, **given)
