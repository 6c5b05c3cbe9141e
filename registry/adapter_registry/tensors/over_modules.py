"""Work on many modules: on all cores, each with one thread of BLAS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Protocol, TypeVar

from adapter_registry.checkpoints.cores import cores

Told = Callable[[int, int, str], None]
"""(modules done, modules in all, name of the last one)."""


class Named(Protocol):
    """What has a name."""

    @property
    def name(self) -> str:
        """For people."""


Work = TypeVar("Work", bound=Named)
Result = TypeVar("Result")


def each_module(
    modules: Sequence[Work], do: Callable[[Work], Result], tell: Told | None = None
) -> Iterator[tuple[Work, Result]]:
    """Every module with what came of it, as each is done."""
    with one_blas_thread(), ThreadPoolExecutor(cores(), thread_name_prefix="modules") as pool:
        running = {pool.submit(do, module): module for module in modules}
        try:
            for done, future in enumerate(as_completed(running), start=1):
                if tell is not None:
                    tell(done, len(modules), running[future].name)
                yield running[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Small factorisations are slower, in CPU by far, when a library shares each out over threads."""
    try:
        from threadpoolctl import threadpool_limits  # noqa: PLC0415  of the `jobs` extra
    except ImportError:
        yield
        return
    with threadpool_limits(limits=1):
        yield
