"""vLLM's endpoint plugin: names that follow their stage, loaded in place; a status route, and no other.

Versions are loaded by the server object itself, in its own process: no route that loads adapters has to be open.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adapter_registry.client import Registry
from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.reference import Kind
from adapter_registry.serving.placing import Placing, Refused
from adapter_registry.serving.pointing import impatient
from adapter_registry.serving.running_base import RunningBase, folder_of
from adapter_registry.serving.spelling import anew, plain
from adapter_registry.serving.stacked import is_stacked
from adapter_registry.serving.vllm import names, releases
from adapter_registry.serving.vllm.following import Following
from adapter_registry.serving.vllm.names import Misplaced
from adapter_registry.serving.vllm.resolver import apart, registered
from adapter_registry.settings import Settings, read_settings

ROUTE = "/v1/adapters"
"""Below /v1, where vLLM asks for its API key."""
LOAD_SECONDS = 300
LOOK_SECONDS = 1.0
"""How often it is seen what others had vLLM load and unload."""
MOST = 256
"""Names that are followed at a time: each has a thread that mostly waits."""
logger = releases.logger
_LOADS = itertools.count(1)
"""How often this process had something loaded."""


class Follower:
    """What vLLM makes of the entry point, and calls: `attach_router` first, `init_state` once the engine is there."""

    name = "adapters_follower"
    required_tasks = (
        *("generate", "transcription", "realtime"),
        *("embed", "classify", "token_embed", "token_classify", "embed&token_classify"),
    )
    """All that requests name a model for; not `render`, which has no engine."""

    def __init__(self) -> None:
        self._off = releases.untested(releases.running())
        self._followed: dict[str, Following] = {}
        self._background: asyncio.Task[None] | None = None
        self._mending: dict[str, asyncio.Task[None]] = {}
        self._full = False
        releases.heard()

    def attach_router(self, app: Any) -> None:
        """Add the status route."""
        app.add_api_route(ROUTE, self.status, methods=["GET"])

    async def status(self) -> dict[str, Any]:
        """Each followed name with what serves under it; `off` says why nothing is followed."""
        return {"off": self._off, "adapters": [each.status() for each in self._followed.values()]}

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Begin to follow.

        Raises:
            Misplaced: several API server processes, no `--enable-lora`, settings that cannot be read, or a name that
                vLLM serves its base by.
        """
        if self._off:
            logger.warning("adapters: nothing is followed: %s.", self._off)
            return
        settings, wanted = names.wanted(read_settings)
        _require_one_process(engine_client, args)
        models = state.openai_serving_models
        _require_names(models, wanted)
        placing = self._placing(settings, engine_client)
        try:
            await apart(placing.ready)
        except RegistryError as error:
            logger.error("adapters: nothing is loaded: %s", error.text)
        following = self._maker(settings, placing, models, asyncio.get_running_loop())
        for each in wanted:
            self._start(following(each))
        self._background = asyncio.create_task(self._looking(settings, models, following))

    def _placing(self, settings: Settings, engine_client: Any) -> Placing:
        """For the base that vLLM has loaded; the resolver, which is told less of it, uses it too."""
        registry = Registry(impatient(settings))
        config = engine_client.vllm_config
        model, cache = config.model_config, config.load_config.download_dir

        def running() -> RunningBase:
            folder = settings.serving.base or folder_of(model.model, revision=model.revision, cache=cache)
            return RunningBase(folder, registry, check=settings.serving.check, loaded=True)

        placing = Placing(registry, running)
        resolving = registered()
        if resolving is not None:
            resolving.know(model.model, placing)
        return placing

    def _maker(
        self, settings: Settings, placing: Placing, models: Any, loop: asyncio.AbstractEventLoop
    ) -> Callable[[names.Follow], Following]:
        registry = Registry(impatient(settings))

        def load(name: str, folder: Path) -> None:
            given = asyncio.run_coroutine_threadsafe(load_in_place(models, name, folder), loop)
            try:
                given.result(LOAD_SECONDS)
            except TimeoutError as error:
                given.cancel()
                raise Refused(f"vLLM did not load it within {LOAD_SECONDS} seconds") from error

        def serving(name: str) -> str | None:
            request = models.lora_requests.get(name)
            return None if request is None else plain(request.lora_path)

        return lambda follow: Following(follow, registry, placing, load, serving=serving)

    def _start(self, following: Following) -> None:
        line = following.status()
        self._followed[line["name"]] = following
        threading.Thread(target=following.run, name=f"adapters-{line['name']}", daemon=True).start()

    async def _looking(self, settings: Settings, models: Any, following: Callable[[names.Follow], Following]) -> None:
        """Follow what the resolver brought because somebody asked for it, where it moves; mend what is lost."""
        while True:
            try:
                self._look(settings, models, following)
            except Exception:
                logger.exception("adapters: what vLLM has loaded was not looked at")
            await asyncio.sleep(LOOK_SECONDS)

    def _look(self, settings: Settings, models: Any, following: Callable[[names.Follow], Following]) -> None:
        for name, request in list(models.lora_requests.items()):
            wanted = None if name in self._followed else names.asked(name, namespace=settings.namespace)
            ours = Path(request.lora_path).is_relative_to(settings.cache)
            if wanted is None or wanted.kind is not Kind.NAME or not ours:
                continue
            if len(self._followed) < MOST:
                self._start(following(names.Follow(name, wanted, adopted=True)))
            elif not self._full:
                self._full = True
                logger.warning(
                    "adapters: %s and what is asked for from now on stays as it is: %d names are followed.", name, MOST
                )
        self._mending = {name: task for name, task in self._mending.items() if not task.done()}
        for name, each in self._followed.items():
            if name not in self._mending and each.lost():
                self._mending[name] = asyncio.create_task(self._mended(name, each))

    async def _mended(self, name: str, following: Following) -> None:
        """Mend one name; what that waits for keeps no other from being mended."""
        try:
            await apart(following.mend)
        except Exception:
            logger.exception("adapters: %s was unloaded and is not loaded again", name)


def _require_names(models: Any, wanted: Sequence[names.Follow]) -> None:
    taken = [each.name for each in wanted if models.is_base_model(each.name)]
    if taken:
        raise Misplaced(
            f"adapters: vLLM serves its base as {taken[0]!r}, which ADAPTERS_FOLLOW lists too: requests for it would "
            "be answered without the adapter. Give one of them another name (--served-model-name, ADAPTERS_FOLLOW)."
        )


def _require_one_process(engine_client: Any, args: Any) -> None:
    count = getattr(args, "api_server_count", None) or 1
    config = engine_client.vllm_config
    count = max(count, getattr(config.parallel_config, "_api_process_count", 1))
    if count > 1:
        raise Misplaced(
            f"adapters: vLLM was started with {count} API server processes, which number adapters each for itself and "
            "share one engine. Start it with --api-server-count 1, or leave adapters_follower out of VLLM_PLUGINS."
        )
    if config.lora_config is None:
        raise Misplaced("adapters: vLLM was started without --enable-lora, so that nothing can be followed.")


async def load_in_place(models: Any, name: str, folder: Path) -> None:
    """Serve a name from a folder, from the next request on; what served before goes on when vLLM refuses.

    A folder that serves already is left alone: it is named by its digest, so that nothing in it is new.

    Raises:
        Refused: with vLLM's reason.
    """
    from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest  # noqa: PLC0415  there only in vLLM

    serving = models.lora_requests.get(name)
    if serving is not None and plain(serving.lora_path) == str(folder):
        return
    path = anew(str(folder), next(_LOADS))
    stacked = await apart(lambda: is_stacked(folder))
    request = LoadLoRAAdapterRequest(lora_name=name, lora_path=path, load_inplace=True, is_3d_lora_weight=stacked)
    answer = await models.load_lora_adapter(request)
    if not isinstance(answer, str):
        raise Refused(f"vLLM refused it: {str(answer.error.message)[:200]}")
    # Up to 0.32 the flag stays on what requests use, and the folder is read again with each of them.
    models.lora_requests[name].load_inplace = False
