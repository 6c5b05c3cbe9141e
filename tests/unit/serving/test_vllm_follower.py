"""The follower: a move is loaded in place, what is refused leaves what serves, a silent registry disturbs nothing."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.errors import InvalidReference, ServerUnreachable, StoreUnavailable, UntrustedPointer
from adapter_registry.domain.promotions.stage import Stage
from adapter_registry.serving import pointing
from adapter_registry.serving.placing import Placing, Refused
from adapter_registry.serving.running_base import BaseUnknown, RunningBase
from adapter_registry.serving.spelling import plain
from adapter_registry.serving.vllm import names, resolver
from adapter_registry.serving.vllm.follower import ROUTE, Follower, Misplaced, load_in_place
from adapter_registry.serving.vllm.following import Following
from adapter_registry.settings import read_settings
from tests.acceptance.test_life import retrained
from tests.adapter_builders import llama
from tests.unit.serving import vllm_stand_in


class Fragile(Registry):
    """A registry that can be made to go down."""

    down = False

    def pointer(self, *arguments, **options):
        if self.down:
            raise ServerUnreachable("the server does not answer.")
        return super().pointer(*arguments, **options)


def unreachable(_text):
    raise ServerUnreachable("the server does not answer.")


@pytest.fixture(scope="module")
def stocked(tmp_path_factory, llama_folder, lora_folder):
    """Two versions of one adapter, and one that is locked to another base."""
    home = tmp_path_factory.mktemp("following")
    settings = read_settings({"ADAPTERS_HOME": str(home / "home"), "ADAPTERS_CACHE": str(home / "cache")})
    there = Fragile(settings)
    there.add_base("llama", llama_folder)
    there.add_base("other", llama(home / "other", seed=7))
    there.push(lora_folder, base="llama", name="team/sql")
    there.push(retrained(lora_folder, home / "again", 1.5), base="llama", name="team/sql")
    there.push(lora_folder, base="other", name="team/sql")
    return there


@pytest.fixture
def registry(stocked):
    """The same with an adapter of the test's own in dev: v1."""
    stocked.down = False
    stocked.promote("team/sql@v1", "dev")
    return stocked


class Server:
    """What loads, as vLLM would: remembers folders, and refuses on demand."""

    def __init__(self):
        self.loaded, self.asked, self.refuses, self.passing = [], 0, "", False

    def load(self, name, folder):
        self.asked += 1
        if self.refuses:
            raise Refused(self.refuses, passing=self.passing)
        self.loaded.append((name, folder))


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def followed(registry, llama_folder, server):
    """`sql` at team/sql@dev, on the Llama; with a clock that is set by hand."""
    clock = [0.0]
    [follow] = names.follows(["sql=team/sql@dev"], namespace="default")
    placing = Placing(registry, lambda: RunningBase(llama_folder, registry))
    made = Following(
        follow, registry, placing, lambda *given: server.load(*given), clock=lambda: clock[0], wait_seconds=0
    )
    return SimpleNamespace(step=made.step, status=made.status, clock=clock)


class TestFollowing:
    def test_what_the_stage_points_to_is_served_with_its_digest_and_base(self, followed, registry, server):
        assert followed.step() == 0
        version = registry.resolve("team/sql@v1")
        [(name, folder)] = server.loaded
        assert (name, folder.name) == ("sql", version.digest.replace(":", "-"))
        status = followed.status()
        assert (status["version"], status["digest"]) == ("team/sql@v1", version.digest)
        assert (status["base"], status["refused"]) == (version.base, "")

    def test_a_promotion_and_a_rollback_are_loaded_and_nothing_is_loaded_twice(self, followed, registry, server):
        followed.step()
        followed.step()
        registry.promote("team/sql@v2", "dev")
        followed.step()
        registry.rollback("team/sql", "dev")
        followed.step()
        versions = [registry.resolve(f"team/sql@{each}").digest for each in ("v1", "v2", "v1")]
        assert [folder.name for _, folder in server.loaded] == [each.replace(":", "-") for each in versions]

    def test_what_is_being_brought_is_told_until_it_serves_or_is_refused(self, followed, registry, server, monkeypatch):
        seen, load = [], server.load
        monkeypatch.setattr(server, "load", lambda *given: seen.append(followed.status()["bringing"]) or load(*given))
        assert followed.status()["bringing"] == ""
        followed.step()
        server.refuses = "no"
        registry.promote("team/sql@v2", "dev")
        followed.step()
        assert seen == [f"team/sql@{registry.resolve(f'team/sql@{each}').digest}" for each in ("v1", "v2")]
        assert followed.status()["bringing"] == ""

    def test_a_version_for_another_base_leaves_what_serves(self, followed, registry, server):
        followed.step()
        registry.promote("team/sql@v3", "dev")
        followed.step()
        status = followed.status()
        assert (len(server.loaded), status["version"]) == (1, "team/sql@v1")
        assert "is not for the base model that runs here" in status["refused"]

    def test_what_vllm_refuses_leaves_what_serves_and_is_tried_again_rarely(self, followed, registry, server):
        followed.step()
        registry.promote("team/sql@v2", "dev")
        server.refuses = "vLLM refused it: rank 32 is greater than max_lora_rank 16"
        followed.step()
        assert followed.status()["version"] == "team/sql@v1"
        assert "max_lora_rank" in followed.status()["refused"]
        server.refuses = ""
        followed.clock[0] = pointing.AGAIN_SECONDS - 1
        followed.step()
        assert len(server.loaded) == 1
        followed.clock[0] = pointing.AGAIN_SECONDS
        followed.step()
        assert (len(server.loaded), followed.status()["refused"]) == (2, "")

    def test_what_may_work_a_moment_later_is_tried_again_soon_and_then_as_often_as_a_silent_registry(
        self, followed, registry, server
    ):
        registry.promote("team/sql@v2", "dev")
        server.refuses, server.passing = "the adapter registry does not answer", True
        tries = []
        for second in range(100):
            followed.clock[0] = float(second)
            before = server.asked
            followed.step()
            tries += [second] * (server.asked - before)
        assert tries == [0, 1, 3, 7, 15, 31, 61, 91]

    def test_a_refused_version_that_the_stage_leaves_is_forgotten(self, followed, registry, server):
        followed.step()
        registry.promote("team/sql@v3", "dev")
        followed.step()
        registry.rollback("team/sql", "dev")
        followed.step()
        assert (followed.status()["refused"], len(server.loaded)) == ("", 1)

    def test_a_registry_that_is_down_is_asked_ever_more_rarely_and_nothing_is_unloaded(
        self, followed, registry, server
    ):
        followed.step()
        registry.down = True
        waits = [followed.step() for _ in range(12)]
        assert waits[0] < 1.3 < waits[3] < max(waits) <= pointing.LONGEST_SECONDS * 1.2
        assert (len(server.loaded), followed.status()["version"]) == (1, "team/sql@v1")
        assert "server-unreachable" in followed.status()["refused"]
        registry.down = False
        assert followed.step() == 0
        assert followed.status()["refused"] == ""

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (ServerUnreachable("x"), "the registry does not answer (server-unreachable)"),
            (UntrustedPointer("x"), "the registry gave an answer that cannot be trusted (untrusted-pointer)"),
            (InvalidReference("x"), "the registry knows no such stage or version (invalid-reference)"),
        ],
    )
    def test_an_answer_that_is_none_is_told_as_what_it_is(self, followed, registry, monkeypatch, error, told):
        def pointer(*_, **__):
            raise error

        monkeypatch.setattr(registry, "pointer", pointer)
        followed.step()
        assert followed.status()["refused"] == told

    def test_a_home_that_cannot_be_written_is_told_as_this_servers(self, followed, registry, monkeypatch):
        def pointer(*_, **__):
            raise StoreUnavailable("x") from OSError("read-only")

        monkeypatch.setattr(registry, "pointer", pointer)
        followed.step()
        assert followed.status()["refused"] == "this server's ADAPTERS_HOME cannot be written (store-unavailable)"

    def test_a_stage_that_points_to_nothing_is_told(self, registry, llama_folder, server, caplog):
        [follow] = names.follows(["team/sql@staging"], namespace="default")
        placing = Placing(registry, lambda: RunningBase(llama_folder, registry))
        made = Following(follow, registry, placing, server.load, wait_seconds=0)
        assert [made.step() for _ in range(3)] == [pointing.NOTHING_SECONDS] * 3
        assert made.status()["refused"] == "it points to nothing"
        assert caplog.text.count("team/sql@staging points to nothing that this server's token may read") == 1

    def test_a_stage_that_was_declared_is_found_out_and_then_followed_by_its_pointer(
        self, registry, llama_folder, server
    ):
        registry.declare_stage(Stage("tryout", like="dev", lanes=("canary",)))
        registry.promote("team/sql@v1", "tryout.canary")
        [follow] = names.follows(["team/sql@tryout.canary"], namespace="default")
        placing = Placing(registry, lambda: RunningBase(llama_folder, registry))
        made = Following(follow, registry, placing, server.load, wait_seconds=0)
        made.step()
        registry.promote("team/sql@v2", "tryout.canary")
        assert made.step() == 0
        status = made.status()
        assert (status["version"], status["move"]) == ("team/sql@v2", 2)

    def test_tags_are_followed_by_asking_now_and_then(self, registry, llama_folder, server):
        registry.tag("team/sql@v1", "best")
        [follow] = names.follows(["team/sql@best"], namespace="default")
        placing = Placing(registry, lambda: RunningBase(llama_folder, registry))
        made = Following(follow, registry, placing, server.load, wait_seconds=0)
        assert made.step() == pointing.POLL_SECONDS
        registry.tag("team/sql@v2", "best")
        made.step()
        assert made.status()["version"] == "team/sql@v2"


class TestLost:
    """A name that somebody unloads by vLLM's routes, or loads another adapter under."""

    @pytest.fixture
    def served(self):
        return {}

    @pytest.fixture
    def following(self, registry, llama_folder, server, served):
        def made(*, adopted=False):
            [follow] = names.follows(["sql=team/sql@dev"], namespace="default")
            placing = Placing(registry, lambda: RunningBase(llama_folder, registry))

            def load(name, folder):
                server.load(name, folder)
                served[name] = str(folder)

            follow = replace(follow, adopted=adopted)
            return Following(follow, registry, placing, load, serving=served.get, clock=lambda: 0.0, wait_seconds=0)

        return made

    @pytest.mark.parametrize("instead", [None, "/somewhere/else"])
    def test_a_followed_name_comes_back_and_until_then_is_told_as_lost(self, following, served, instead):
        made = following()
        made.step()
        folder = served.pop("sql")
        if instead:
            served["sql"] = instead
        status = made.status()
        assert (status["version"], status["digest"]) == (None, None)
        assert status["refused"] == "it was unloaded, or another adapter was loaded under its name"
        made.step()
        assert served == {"sql": folder}
        assert (made.status()["version"], made.status()["refused"]) == ("team/sql@v1", "")

    @pytest.mark.parametrize("instead", [None, "/somewhere/else"])
    def test_it_is_mended_before_the_next_answer_of_the_registry(self, following, served, server, instead):
        made = following()
        assert not made.lost()
        made.mend()
        assert served == {}
        made.step()
        made.mend()
        assert (made.lost(), len(server.loaded)) == (False, 1)
        folder = served.pop("sql")
        if instead:
            served["sql"] = instead
        assert made.lost()
        made.mend()
        assert served == {"sql": folder}
        assert (made.lost(), made.status()["version"], made.status()["refused"]) == (False, "team/sql@v1", "")

    def test_what_is_not_taken_again_is_not_offered_each_second(self, following, served, server):
        made = following()
        made.step()
        served.clear()
        server.refuses = "no"
        for _ in range(3):
            made.mend()
        assert server.asked == 2
        assert (made.status()["version"], made.status()["refused"]) == (None, "no")

    def test_it_comes_back_from_this_machines_disk_where_the_registry_does_not_answer(
        self, following, served, registry, monkeypatch
    ):
        made = following()
        made.step()
        folder = served.pop("sql")
        monkeypatch.setattr(registry, "resolve", unreachable)
        made.mend()
        assert (served, made.status()["version"]) == ({"sql": folder}, "team/sql@v1")

    def test_a_folder_that_was_damaged_meanwhile_does_not(self, following, served, registry, monkeypatch):
        made = following()
        made.step()
        file = Path(served.pop("sql")) / "adapter_config.json"
        kept = file.read_bytes()
        file.chmod(0o644)
        file.write_bytes(b"{}")
        monkeypatch.setattr(registry, "resolve", unreachable)
        made.mend()
        file.write_bytes(kept)
        assert (served, made.status()["refused"]) == ({}, "the adapter registry does not answer")

    def test_mending_asks_for_the_digest_that_was_served(self, following, served, registry, monkeypatch):
        made = following()
        made.step()
        served.clear()
        asked, resolve = [], registry.resolve
        monkeypatch.setattr(registry, "resolve", lambda text: asked.append(text) or resolve(text))
        made.mend()
        digest = made.status()["digest"]
        assert set(asked) == {f"team/sql@{digest}"}

    def test_what_was_refused_is_told_and_waited_for_as_before_once_the_name_is_back(
        self, following, served, server, registry
    ):
        made = following()
        made.step()
        registry.promote("team/sql@v3", "dev")
        made.step()
        refused = made.status()["refused"]
        served.clear()
        made.mend()
        made.step()
        assert (made.status()["version"], made.status()["refused"]) == ("team/sql@v1", refused)
        assert server.asked == 2

    def test_a_version_that_was_revoked_does_not_come_back(self, following, served, registry, lora_folder, tmp_path):
        pushed = registry.push(retrained(lora_folder, tmp_path / "more", 2.5), base="llama", name="team/sql")
        registry.promote(pushed.version.reference, "dev")
        made = following()
        made.step()
        served.clear()
        registry.promote("team/sql@v1", "dev")
        registry.revoke(pushed.version.reference, because="of the test")
        made.mend()
        assert served == {}
        assert made.status()["refused"] == "it is not there any more, or was revoked"

    def test_a_name_that_a_request_brought_stays_away_until_another_does(self, following, server, served, registry):
        served["sql"] = "what the resolver brought"
        made = following(adopted=True)
        made.step()
        folder = served.pop("sql")
        registry.promote("team/sql@v2", "dev")
        made.step()
        assert (len(server.loaded), made.status()["version"], made.status()["refused"]) == (1, None, "it was unloaded")
        served["sql"] = folder
        made.step()
        assert (len(server.loaded), made.status()["version"]) == (2, "team/sql@v2")


class TestLoadInPlace:
    @pytest.fixture(autouse=True)
    def stand_in(self, monkeypatch):
        vllm_stand_in.install(monkeypatch)

    @pytest.mark.parametrize("sticky", [True, False], ids=["0.32", "0.33"])
    def test_the_flag_that_makes_vllm_read_again_and_again_is_taken_back(self, sticky):
        models = vllm_stand_in.ServingModels(sticky=sticky)
        asyncio.run(load_in_place(models, "sql", Path("/store/sha256-1")))
        asyncio.run(load_in_place(models, "sql", Path("/store/sha256-2")))
        kept = models.lora_requests["sql"]
        assert (plain(kept.lora_path), kept.load_inplace, kept.lora_int_id) == ("/store/sha256-2", False, 1)

    def test_what_serves_from_that_folder_is_left_alone(self):
        models = vllm_stand_in.ServingModels()
        for _ in range(2):
            asyncio.run(load_in_place(models, "sql", Path("/store/sha256-1")))
        assert list(map(plain, models.engine_client.loaded)) == ["/store/sha256-1"]

    def test_a_version_that_comes_back_is_written_another_way(self, tmp_path):
        """VLLM's prefix cache is by name and path, and holds what the other one made under the old path."""
        folders = [tmp_path / each for each in ("sha256-1", "sha256-2", "sha256-1")]
        folders[0].mkdir()
        folders[1].mkdir()
        models = vllm_stand_in.ServingModels()
        for each in folders:
            asyncio.run(load_in_place(models, "sql", each))
        loaded = models.engine_client.loaded
        assert len(set(loaded)) == 3
        assert [Path(each).resolve() for each in loaded] == folders

    @pytest.mark.parametrize(("config", "stacked"), [({"target_parameters": ["experts.up_proj"]}, True), ({}, False)])
    def test_vllm_is_told_of_an_adapter_of_stacks_of_experts(self, tmp_path, config, stacked):
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        models = vllm_stand_in.ServingModels()
        asyncio.run(load_in_place(models, "sql", tmp_path))
        assert models.lora_requests["sql"].is_3d_lora_weight is stacked

    def test_a_refusal_keeps_the_one_before_and_gives_the_reason(self):
        models = vllm_stand_in.ServingModels()
        asyncio.run(load_in_place(models, "sql", Path("/store/sha256-1")))
        models.engine_client.refuses = "rank 32 is greater than max_lora_rank 16"
        with pytest.raises(Refused, match="max_lora_rank 16"):
            asyncio.run(load_in_place(models, "sql", Path("/store/sha256-2")))
        assert plain(models.lora_requests["sql"].lora_path) == "/store/sha256-1"


class App:
    """What FastAPI's application is asked for."""

    def __init__(self):
        self.routes = {}

    def add_api_route(self, path, endpoint, *, methods):
        self.routes[path] = (endpoint, methods)


class TestFollower:
    @pytest.fixture
    def set_up(self, monkeypatch, tmp_path):
        for name, value in {"HOME": tmp_path, "URL": "http://127.0.0.1:9", "TOKEN": "x", "FOLLOW": ""}.items():
            monkeypatch.setenv(f"ADAPTERS_{name}", str(value))
        vllm_stand_in.install(monkeypatch)

    @staticmethod
    def started(config, *, models=None, count=1):
        """A follower after both of vLLM's calls, and what its route says."""

        async def both():
            made, app = Follower(), App()
            made.attach_router(app)
            state = SimpleNamespace(openai_serving_models=models or vllm_stand_in.ServingModels())
            engine = SimpleNamespace(vllm_config=config)
            await made.init_state(engine, state, SimpleNamespace(api_server_count=count))
            await asyncio.sleep(0.05)
            return await app.routes[ROUTE][0]()

        return asyncio.run(both())

    def test_it_says_what_it_needs_as_vllm_asks(self, set_up):
        made, app = Follower(), App()
        made.attach_router(app)
        assert made.name == "adapters_follower"
        assert {"generate", "embed", "classify"} < set(made.required_tasks)
        assert "render" not in made.required_tasks
        assert [(path, methods) for path, (_, methods) in app.routes.items()] == [("/v1/adapters", ["GET"])]

    @pytest.mark.parametrize(
        ("config", "count", "told"),
        [
            (vllm_stand_in.config(Path("m")), 2, "2 API server processes"),
            (vllm_stand_in.config(Path("m"), processes=4), 1, "4 API server processes"),
            (vllm_stand_in.config(Path("m"), lora=False), 1, "--enable-lora"),
        ],
    )
    def test_a_server_that_could_follow_nothing_does_not_start(self, set_up, config, count, told):
        with pytest.raises(Misplaced, match=told):
            self.started(config, count=count)

    @pytest.mark.parametrize(
        ("variable", "value", "told"),
        [("ADAPTERS_FOLLOW", "../x=a@prod", "ADAPTERS_FOLLOW"), ("ADAPTERS_URL", "", "ADAPTERS_URL")],
    )
    def test_settings_that_are_wrong_are_told_at_the_start(self, set_up, monkeypatch, variable, value, told):
        monkeypatch.setenv(variable, value)
        with pytest.raises(Misplaced, match=told):
            self.started(vllm_stand_in.config(Path("m")))

    def test_a_name_that_the_base_has_is_told_at_the_start(self, set_up, monkeypatch):
        monkeypatch.setenv("ADAPTERS_FOLLOW", "sql=team/sql@prod,base=team/sql@prod")
        with pytest.raises(Misplaced, match="serves its base as 'base', which ADAPTERS_FOLLOW lists too"):
            self.started(vllm_stand_in.config(Path("m")))

    def test_a_base_that_is_not_found_is_told_at_the_start_and_the_base_is_served(self, set_up, caplog):
        self.started(vllm_stand_in.config(Path("/no/such/folder")))
        assert "name their folder in ADAPTERS_SERVING_BASE" in caplog.text

    def test_the_resolver_is_told_which_base_was_loaded(self, set_up, monkeypatch):
        resolvers = vllm_stand_in.install(monkeypatch)
        resolver.register()
        config = vllm_stand_in.config(Path("org/model"))
        config.model_config.revision = "a" * 40
        asked = []
        monkeypatch.setattr(
            "adapter_registry.serving.vllm.follower.folder_of",
            lambda model, **more: asked.append((model, more)) or Path("/no/such/folder"),
        )
        self.started(config)
        with suppress(BaseUnknown):
            resolvers.get_resolver(resolver.NAME).placings.of("org/model").ready()
        assert asked == [("org/model", {"revision": "a" * 40, "cache": None})] * 2

    def test_one_name_that_is_long_in_being_mended_keeps_no_other_from_it(self, set_up):
        held, mended = threading.Event(), threading.Event()
        each = {
            "slow": SimpleNamespace(lost=lambda: True, mend=lambda: held.wait(30)),
            "wrong": SimpleNamespace(lost=lambda: True, mend=lambda: 1 / 0),
            "sql": SimpleNamespace(lost=lambda: not mended.is_set(), mend=mended.set),
        }

        async def look():
            made = Follower()
            made._followed = each
            for _ in range(3):
                made._look(read_settings({}), vllm_stand_in.ServingModels(), None)
                await asyncio.sleep(0.05)
            return set(made._mending)

        try:
            assert asyncio.run(look()) == {"slow", "wrong"}
            assert mended.is_set()
        finally:
            held.set()

    def test_an_unknown_release_is_left_alone_and_the_route_says_so(self, set_up, monkeypatch, caplog):
        vllm_stand_in.install(monkeypatch, version="0.40.0")
        monkeypatch.setenv("ADAPTERS_FOLLOW", "team/sql@prod")
        said = self.started(vllm_stand_in.config(Path("m")), count=9)
        assert (said["adapters"], "0.40.0 was not tested" in said["off"]) == ([], True)
        assert "nothing is followed" in caplog.text

    def test_stages_that_the_resolver_brought_are_followed_from_then_on(self, set_up, monkeypatch, tmp_path):
        monkeypatch.setenv("ADAPTERS_CACHE", str(tmp_path / "cache"))
        models, begun = vllm_stand_in.ServingModels(), threading.Event()
        monkeypatch.setattr(Following, "run", lambda _: begun.set())
        places = {"sql@prod": "cache/versions/sha256-1", "sql@v1": "cache/versions/sha256-1", "sql@dev": "elsewhere"}
        for name, path in places.items():
            models.lora_requests[name] = vllm_stand_in.LoRARequest(name, 1, str(tmp_path / path))
        said = self.started(vllm_stand_in.config(Path("m")), models=models)
        assert [each["follows"] for each in said["adapters"]] == ["default/sql@prod"]
        assert begun.is_set()

    def test_more_names_than_are_followed_are_told_once(self, set_up, monkeypatch, tmp_path, caplog):
        monkeypatch.setenv("ADAPTERS_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("adapter_registry.serving.vllm.follower.MOST", 0)
        models, made = vllm_stand_in.ServingModels(), Follower()
        for name in ("sql@prod", "chat@prod"):
            models.lora_requests[name] = vllm_stand_in.LoRARequest(name, 1, str(tmp_path / "cache/versions/sha256-1"))
        for _ in range(2):
            made._look(read_settings(), models, None)
        assert caplog.text.count("sql@prod and what is asked for from now on stays as it is: 0 names are followed") == 1
        assert "chat@prod" not in caplog.text

    def test_a_move_reaches_the_server_through_its_own_loop(self, registry, llama_folder, monkeypatch):
        vllm_stand_in.install(monkeypatch)
        models = vllm_stand_in.ServingModels(sticky=True)
        settings = replace(registry.settings, url="http://127.0.0.1:9")
        monkeypatch.setattr("adapter_registry.serving.vllm.follower.Registry", lambda _: registry)

        async def serve():
            engine, follower = SimpleNamespace(vllm_config=vllm_stand_in.config(llama_folder)), Follower()
            placing = follower._placing(settings, engine)
            made = follower._maker(settings, placing, models, asyncio.get_running_loop())
            [follow] = names.follows(["sql=team/sql@dev"], namespace="default")
            following = made(follow)
            await asyncio.to_thread(following.step)
            return following.status()

        with suppress(TimeoutError):
            status = asyncio.run(asyncio.wait_for(serve(), 60))
        assert status["version"] == "team/sql@v1"
        assert models.lora_requests["sql"].load_inplace is False
