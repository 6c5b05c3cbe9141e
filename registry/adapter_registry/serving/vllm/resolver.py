"""vLLM's resolver plugin: `model="sql-lora@prod"` is found in the registry when it is first asked for.

vLLM asks under a lock for each name, in the process that serves requests, and keeps what it got until the name is
unloaded: what a stage points to later is the follower's business.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from adapter_registry.client import Registry
from adapter_registry.domain.errors import RegistryError
from adapter_registry.serving.placing import Missing, Placing, Refused
from adapter_registry.serving.running_base import RunningBase, folder_of
from adapter_registry.serving.stacked import is_stacked
from adapter_registry.serving.vllm import names, releases
from adapter_registry.settings import Settings, read_settings

NAME = "adapter-registry"
AT_ONCE = 4
"""How many names are looked up at a time; others wait."""
LONGEST_SECONDS = 120
"""How long a request waits; what it waits for goes on and is there for the next one."""
REMEMBERED = 1_000
MISSING_SECONDS, REFUSED_SECONDS, PASSING_SECONDS = 10.0, 30.0, 2.0
"""How long an answer that is none is given again without asking, by its kind."""

T = TypeVar("T")
logger = releases.logger


class Resolving:
    """What the plugin does with a name."""

    def __init__(
        self, settings: Settings, place: Callable[[str], Placing], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings, self._place, self._clock = settings, place, clock
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._answers: dict[str, tuple[float, Exception]] = {}

    async def folder(self, base_model_name: str, name: str) -> Path | None:
        """The folder of the adapter that a name means; None for a name that is none of ours.

        Raises:
            Refused: with a text that anybody may read.
        """
        reference = names.asked(name, namespace=self._settings.namespace)
        if reference is None or not names.allowed(reference.adapter, self._settings.serving.adapters):
            return None
        try:
            self._raise_remembered(name)
            async with self._turns:
                self._raise_remembered(name)
                return await self._placed(base_model_name, str(reference), name)
        except Missing:
            return None

    async def _placed(self, base_model_name: str, reference: str, name: str) -> Path:
        try:
            work = apart(lambda: self._place(base_model_name).place(reference))
            return (await asyncio.wait_for(work, LONGEST_SECONDS)).folder
        except TimeoutError as error:
            raise Refused(f"{name} is being brought; ask again", passing=True) from error
        except (Missing, Refused) as error:
            self._remember(name, error)
            raise

    def _raise_remembered(self, name: str) -> None:
        until, error = self._answers.get(name, (0.0, None))
        if error is not None and self._clock() < until:
            raise type(error)(*error.args) from error

    def _remember(self, name: str, error: Missing | Refused) -> None:
        seconds = MISSING_SECONDS
        if isinstance(error, Refused):
            seconds = PASSING_SECONDS if error.passing else REFUSED_SECONDS
        self._answers.pop(name, None)
        while len(self._answers) >= REMEMBERED:
            self._answers.pop(next(iter(self._answers)))
        self._answers[name] = (self._clock() + seconds, error)


async def apart(call: Callable[[], T]) -> T:
    """What a blocking call returns, made in a thread that keeps neither the loop nor the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def run() -> None:
        result: Any = None
        failed: BaseException | None = None
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001  whatever it is, it is raised where it is awaited
            failed = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, result, failed)

    threading.Thread(target=run, name="adapters-resolver", daemon=True).start()
    return await future


def placings(settings: Settings) -> Callable[[str], Placing]:
    """A Placing for each base that is asked about."""
    registry, kept = Registry(settings), dict[str, Placing]()

    def running(model: str) -> RunningBase:
        folder = settings.serving.base or folder_of(model)
        return RunningBase(folder, registry, check=settings.serving.check)

    def of(model: str) -> Placing:
        return kept.setdefault(model, Placing(registry, lambda: running(model)))

    return of


def register() -> None:
    """VLLM's entry point, called in each of its processes, perhaps again: makes the plugin known where it is set up."""
    why = releases.untested(releases.running())
    try:
        settings = read_settings()
    except RegistryError as error:
        logger.error("adapters: the resolver stays off: %s", error.text)
        return
    if not settings.url:
        logger.debug("adapters: the resolver stays off: ADAPTERS_URL is not set.")
        return
    if why:
        logger.warning("adapters: the resolver stays off: %s.", why)
        return
    from vllm.lora.request import LoRARequest  # noqa: PLC0415  there only where vLLM runs
    from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry  # noqa: PLC0415

    if NAME in LoRAResolverRegistry.get_supported_resolvers():
        return
    resolving = Resolving(settings, placings(settings))

    class AdapterResolver(LoRAResolver):  # type: ignore[misc]
        async def resolve_lora(self, base_model_name: str, lora_name: str) -> Any:
            folder = await resolving.folder(base_model_name, lora_name)
            if folder is None:
                return None
            stacked = await apart(lambda: is_stacked(folder))
            # vLLM overwrites the number.
            return LoRARequest(lora_name=lora_name, lora_int_id=1, lora_path=str(folder), is_3d_lora_weight=stacked)

    LoRAResolverRegistry.register_resolver(NAME, AdapterResolver())
