"""vLLM's resolver plugin: `model="sql-lora@prod"` is found in the registry when it is first asked for.

vLLM asks under a lock for each name, in the process that serves requests, and keeps what it got until the name is
unloaded: what a stage points to later is the follower's business.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from adapter_registry.client import Registry
from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.reference import Kind, Reference
from adapter_registry.serving.placing import Missing, Placing, Refused
from adapter_registry.serving.pointing import impatient
from adapter_registry.serving.running_base import RunningBase, only_folder_of
from adapter_registry.serving.stacked import is_stacked
from adapter_registry.serving.vllm import names, releases
from adapter_registry.settings import Settings, read_settings

NAME, ENTRY, FOLLOWER = "adapter-registry", "adapters_resolver", "adapters_follower"
AT_ONCE = 4
"""How many names are looked up at a time; others wait."""
LONGEST_SECONDS = 120
"""How long a request waits; what it waits for goes on and is there for the next one."""
REMEMBERED = 1_000
MISSING_SECONDS, REFUSED_SECONDS, PASSING_SECONDS = 10.0, 30.0, 2.0
"""How long an answer that is none is given again without asking, by its kind."""
MOVING_SECONDS = 3.0
"""The longest for what may mean another version by then: a stage, a tag, a range."""

T = TypeVar("T")
logger = releases.logger


class Resolving:
    """What the plugin does with a name."""

    def __init__(
        self, settings: Settings, place: Callable[[str], Placing], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings, self._place, self._clock = settings, place, clock
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._answers: dict[str, tuple[float, Missing | Refused]] = {}
        self._under_way: dict[str, asyncio.Future[Path]] = {}

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
            async with asyncio.timeout(LONGEST_SECONDS):
                if name in self._under_way:
                    return await asyncio.shield(self._under_way[name])
                async with self._turns:
                    self._raise_remembered(name)
                    return await asyncio.shield(self._begun(base_model_name, reference, name))
        except TimeoutError as error:
            raise Refused(f"{name} is being brought; ask again", passing=True) from error
        except Missing:
            return None

    def _begun(self, base_model_name: str, reference: Reference, name: str) -> asyncio.Future[Path]:
        """Bring it, whoever still waits: who asks again meanwhile waits for the same."""
        bringing = asyncio.ensure_future(self._brought(base_model_name, reference, name))
        self._under_way[name] = bringing

        def done(ended: asyncio.Future[Path]) -> None:
            self._under_way.pop(name, None)
            if not ended.cancelled():
                ended.exception()  # remembered, and perhaps nobody waits any more

        bringing.add_done_callback(done)
        return bringing

    async def _brought(self, base_model_name: str, reference: Reference, name: str) -> Path:
        try:
            return (await apart(lambda: self._place(base_model_name).place(str(reference)))).folder
        except (Missing, Refused) as error:
            self._remember(name, error, moving=reference.kind in (Kind.NAME, Kind.RANGE))
            raise

    def _raise_remembered(self, name: str) -> None:
        until, error = self._answers.get(name, (0.0, None))
        if error is not None and self._clock() < until:
            raise Refused(str(error), passing=error.passing) if isinstance(error, Refused) else Missing(str(error))

    def _remember(self, name: str, error: Missing | Refused, *, moving: bool) -> None:
        seconds = MISSING_SECONDS
        if isinstance(error, Refused):
            seconds = PASSING_SECONDS if error.passing else REFUSED_SECONDS
        if moving:
            seconds = min(seconds, MOVING_SECONDS)
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


class Placings:
    """A Placing for each base that is asked about: the one that was made known, or one of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._kept = settings, dict[str, Placing]()
        self._registry = Registry(impatient(settings))

    def know(self, model: str, placing: Placing) -> None:
        """Take a Placing of somebody who knows which files the server loaded."""
        self._kept[model] = placing

    def of(self, model: str) -> Placing:
        """The Placing for a base as vLLM names it."""
        return self._kept.setdefault(model, Placing(self._registry, lambda: self._running(model)))

    def _running(self, model: str) -> RunningBase:
        serving = self._settings.serving
        folder = serving.base or only_folder_of(model)
        return RunningBase(folder, self._registry, check=serving.check, loaded=True)


def register() -> None:
    """VLLM's entry point, called in each of its processes, perhaps again: makes the plugin known where it is set up.

    Raises:
        Misplaced: the follower is to run and could not: it is asked only once the model was loaded.
    """
    why, named = releases.untested(releases.running()), releases.plugins() or ()
    if FOLLOWER in named and not why:
        names.wanted(read_settings)
    try:
        settings = read_settings()
    except RegistryError as error:
        logger.error("adapters: the resolver stays off: %s", error.text)
        return
    if not settings.url:
        # Without VLLM_PLUGINS it is loaded wherever it is installed.
        level = logging.WARNING if ENTRY in named else logging.DEBUG
        logger.log(level, "adapters: the resolver stays off: ADAPTERS_URL is not set.")
        return
    if why:
        logger.warning("adapters: the resolver stays off: %s.", why)
        return
    from vllm.exceptions import GracefulHTTPError  # noqa: PLC0415  there only where vLLM runs
    from vllm.lora.request import LoRARequest  # noqa: PLC0415
    from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry  # noqa: PLC0415

    if NAME in LoRAResolverRegistry.get_supported_resolvers():
        return
    known = Placings(settings)
    resolving = Resolving(settings, known.of)

    class AdapterResolver(LoRAResolver):  # type: ignore[misc]
        placings = known

        async def resolve_lora(self, base_model_name: str, lora_name: str) -> Any:
            releases.heard()  # vLLM sets its logger up after its plugins
            try:
                folder = await resolving.folder(base_model_name, lora_name)
                stacked = folder is not None and await apart(lambda: is_stacked(folder))
            except Refused as refused:
                # Anything else is answered with 500, and told with a stack trace.
                status = HTTPStatus.SERVICE_UNAVAILABLE if refused.passing else HTTPStatus.BAD_REQUEST
                raise GracefulHTTPError(str(refused), status) from None
            except Exception:
                logger.exception("adapters: %r", lora_name[:200])
                status = HTTPStatus.INTERNAL_SERVER_ERROR
                raise GracefulHTTPError(f"{lora_name} could not be loaded", status) from None
            if folder is None:
                return None
            # vLLM overwrites the number.
            return LoRARequest(lora_name=lora_name, lora_int_id=1, lora_path=str(folder), is_3d_lora_weight=stacked)

    LoRAResolverRegistry.register_resolver(NAME, AdapterResolver())


def registered() -> Placings | None:
    """Where the resolver of this process finds versions; None where it is off."""
    from vllm.lora.resolver import LoRAResolverRegistry  # noqa: PLC0415  there only where vLLM runs

    there = NAME in LoRAResolverRegistry.get_supported_resolvers()
    return LoRAResolverRegistry.get_resolver(NAME).placings if there else None
