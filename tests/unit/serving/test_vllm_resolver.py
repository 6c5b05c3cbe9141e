"""The resolver: strict names, one look at a time for each, short answers, and never in the way of vLLM's loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from types import SimpleNamespace

import pytest

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.serving.placing import Missing, Refused
from adapter_registry.serving.vllm import names, releases, resolver
from adapter_registry.settings import read_settings
from tests.unit.serving import vllm_stand_in

HOSTILE = [
    *("../x@prod", "team/../x@prod", "/etc/passwd", "/etc/passwd@prod", "team//sql@prod", "a/b/c@prod"),
    *("sql@../prod", "sql@/prod", "sql@pr od", "sql@prod\n", "sql@", "@prod", "sql", "", "team/sql"),
    *("sql@prod@v1", "sql@%2e%2e", "sql\\x@prod", "sql@prod\0", ".sql@prod", "sql@" + "a" * 200, "x" * 200 + "@prod"),
    *("~/sql@prod", "sql@sha256:../x", "file:///x@prod", "sql;x@prod", "sql@..", "sql@v1/../v2"),
]


class TestNames:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_what_is_no_reference_is_none_of_ours(self, text):
        assert names.asked(text, namespace="default") is None

    @pytest.mark.parametrize(
        ("text", "meant"),
        [
            ("sql@prod", "default/sql@prod"),
            ("team/sql@v3", "team/sql@v3"),
            ("team/sql@1.2.0", "team/sql@1.2.0"),
            ("team/sql@^1.2", "team/sql@^1.2"),
            ("team/sql@sha256:" + "a" * 64, "team/sql@sha256:" + "a" * 64),
        ],
    )
    def test_a_reference_is_what_people_write(self, text, meant):
        assert str(names.asked(text, namespace="default")) == meant

    def test_patterns_say_which_adapters_may_be_asked_for(self):
        assert names.allowed("team/sql", ())
        assert names.allowed("team/sql", ("chat/*", "team/*"))
        assert not names.allowed("other/sql", ("team/*",))

    def test_followed_names_are_aliases_or_the_references_themselves(self):
        found = names.follows(["sql=team/sql@prod", "team/chat@dev"], namespace="default")
        assert [(each.name, str(each.reference)) for each in found] == [
            ("sql", "team/sql@prod"),
            ("team/chat@dev", "team/chat@dev"),
        ]

    def test_a_name_that_no_adapter_is_served_by_is_told_apart_from_a_reference_that_is_none(self):
        with pytest.raises(InvalidInput, match="'chat/sql' is no name to serve an adapter by"):
            names.follows(["chat/sql=team/sql@prod"], namespace="default")
        with pytest.raises(InvalidInput, match="'sql=team/sql' is not NAME=NAMESPACE/ADAPTER@STAGE"):
            names.follows(["sql=team/sql"], namespace="default")

    @pytest.mark.parametrize(
        "texts", [["sql"], ["../x=team/sql@prod"], ["a b=team/sql@prod"], ["=team/sql@prod"], ["x=a@prod", "x=b@prod"]]
    )
    def test_a_name_that_is_none_is_refused(self, texts):
        with pytest.raises(InvalidInput, match="ADAPTERS_FOLLOW"):
            names.follows(texts, namespace="default")


class TestReleases:
    @pytest.mark.parametrize("version", ["0.32.0", "0.33.1", "0.33.0+cpu", "0.32.1.post1"])
    def test_these_were_tested(self, version):
        assert releases.untested(version) == ""

    @pytest.mark.parametrize("version", ["0.31.9", "0.34.0", "0.33", "0.330.1", "1.0.0", "0.33.0rc1", "dev"])
    def test_all_others_are_left_alone_by_name(self, version):
        assert version in releases.untested(version)


class Place:
    """Answers as a Placing, and counts."""

    def __init__(self, answer, folder="/store/sha256-1"):
        self.answer, self.folder, self.asked = answer, folder, []

    def place(self, reference):
        self.asked.append(reference)
        if isinstance(self.answer, Exception):
            raise self.answer
        if callable(self.answer):
            self.answer()
        return SimpleNamespace(folder=self.folder)


def resolving(place, clock=lambda: 0.0, **environment):
    return resolver.Resolving(read_settings(environment), lambda _: place, clock)


class TestResolving:
    def test_the_reference_is_placed_for_the_model_that_runs(self):
        place = Place(None)
        asked = []
        made = resolver.Resolving(read_settings({}), lambda model: asked.append(model) or place)
        assert asyncio.run(made.folder("./model", "sql@prod")) == "/store/sha256-1"
        assert (asked, place.asked) == (["./model"], ["default/sql@prod"])

    @pytest.mark.parametrize("text", HOSTILE)
    def test_a_hostile_name_asks_nobody(self, text):
        place = Place(None)
        assert asyncio.run(resolving(place).folder("./model", text)) is None
        assert place.asked == []

    def test_an_adapter_that_is_not_to_be_served_looks_like_none(self):
        place = Place(None)
        made = resolving(place, ADAPTERS_SERVING_ADAPTERS="team/*")
        assert asyncio.run(made.folder("./model", "other/sql@prod")) is None
        assert place.asked == []

    @pytest.mark.parametrize(
        ("answer", "name", "seconds"),
        [
            (Missing("x"), "sql@v1", resolver.MISSING_SECONDS),
            (Refused("x"), "sql@v1", resolver.REFUSED_SECONDS),
            (Refused("x", passing=True), "sql@v1", resolver.PASSING_SECONDS),
            (Missing("x"), "sql@prod", resolver.MOVING_SECONDS),
            (Refused("x"), "sql@^1", resolver.MOVING_SECONDS),
            (Refused("x", passing=True), "sql@prod", resolver.PASSING_SECONDS),
        ],
    )
    def test_an_answer_that_is_none_is_remembered_for_a_while(self, answer, name, seconds):
        place, now = Place(answer), [0.0]
        made = resolving(place, lambda: now[0])

        def ask():
            try:
                return asyncio.run(made.folder("./model", name))
            except Refused as refused:
                return str(refused)

        first = ask()
        now[0] = seconds - 0.1
        assert ask() == first
        assert len(place.asked) == 1
        now[0] = seconds
        ask()
        assert len(place.asked) == 2

    def test_names_that_are_made_up_take_no_more_than_their_share_of_memory(self):
        made = resolving(Place(Missing("x")))

        async def many():
            for number in range(resolver.REMEMBERED + 5):
                await made.folder("./model", f"a{number}@prod")

        asyncio.run(many())
        assert len(made._answers) == resolver.REMEMBERED

    def test_the_loop_goes_on_while_an_adapter_is_brought(self):
        done = threading.Event()
        place = Place(lambda: done.wait(30))

        async def both():
            asked = asyncio.create_task(resolving(place).folder("./model", "sql@prod"))
            for _ in range(50):
                await asyncio.sleep(0.001)
            waiting = not asked.done()
            done.set()
            return waiting, await asked

        assert asyncio.run(both()) == (True, "/store/sha256-1")

    def test_only_so_many_names_are_looked_up_at_a_time(self):
        together, most, lock, go = [0], [0], threading.Lock(), threading.Event()

        def hold():
            with lock:
                together[0] += 1
                most[0] = max(most[0], together[0])
                if together[0] == resolver.AT_ONCE:
                    go.set()
            go.wait(30)
            with lock:
                together[0] -= 1

        made = resolving(Place(hold))

        async def many():
            return await asyncio.gather(*(made.folder("./model", f"a{number}@v1") for number in range(12)))

        assert len(asyncio.run(many())) == 12
        assert most[0] == resolver.AT_ONCE

    def test_a_request_does_not_wait_for_ever(self, monkeypatch):
        monkeypatch.setattr(resolver, "LONGEST_SECONDS", 0.05)
        done = threading.Event()
        with pytest.raises(Refused, match="ask again"):
            asyncio.run(resolving(Place(lambda: done.wait(30))).folder("./model", "sql@prod"))
        done.set()

    def test_waiting_for_a_turn_counts(self, monkeypatch):
        monkeypatch.setattr(resolver, "LONGEST_SECONDS", 0.05)
        done = threading.Event()
        made = resolving(Place(lambda: done.wait(30)))

        async def many():
            asked = (made.folder("./model", f"a{number}@v1") for number in range(resolver.AT_ONCE + 2))
            return await asyncio.gather(*asked, return_exceptions=True)

        begun = time.monotonic()
        told = asyncio.run(many())
        done.set()
        assert [str(each) for each in told] == [f"a{n}@v1 is being brought; ask again" for n in range(len(told))]
        assert time.monotonic() - begun < 1

    def test_who_asks_again_waits_for_what_is_under_way(self, monkeypatch):
        monkeypatch.setattr(resolver, "LONGEST_SECONDS", 0.05)
        done = threading.Event()
        place = Place(lambda: done.wait(30))
        made = resolving(place)

        async def thrice():
            for _ in range(2):
                with pytest.raises(Refused, match="ask again"):
                    await made.folder("./model", "sql@prod")
            monkeypatch.setattr(resolver, "LONGEST_SECONDS", 30)
            asyncio.get_running_loop().call_later(0.05, done.set)
            return await made.folder("./model", "sql@prod")

        assert asyncio.run(thrice()) == "/store/sha256-1"
        assert place.asked == ["default/sql@prod"]

    def test_a_remembered_refusal_is_passing_where_it_was(self):
        made = resolving(Place(Refused("x", passing=True)))

        async def twice():
            return await asyncio.gather(*(made.folder("./model", "sql@prod") for _ in range(2)), return_exceptions=True)

        assert [each.passing for each in asyncio.run(twice())] == [True, True]


class TestPlacings:
    def test_what_the_follower_knows_of_the_base_is_what_the_resolver_goes_by(self, tmp_path):
        known, placing = resolver.Placings(read_settings({"ADAPTERS_HOME": str(tmp_path)})), Place(None)
        known.know("org/model", placing)
        assert known.of("org/model") is placing
        assert known.of("org/other") is known.of("org/other") is not placing


class TestRegister:
    @pytest.fixture
    def set_up(self, monkeypatch, tmp_path):
        monkeypatch.setenv("ADAPTERS_HOME", str(tmp_path))
        monkeypatch.setenv("ADAPTERS_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("ADAPTERS_TOKEN", "x")

    def test_it_is_registered_once_however_often_it_is_loaded(self, set_up, monkeypatch):
        registry = vllm_stand_in.install(monkeypatch)
        resolver.register()
        first = registry.get_resolver(resolver.NAME)
        resolver.register()
        assert registry.get_resolver(resolver.NAME) is first
        assert isinstance(first, vllm_stand_in.LoRAResolver)

    def test_what_it_finds_is_a_request_that_vllm_numbers(self, set_up, monkeypatch, tmp_path):
        registry = vllm_stand_in.install(monkeypatch)
        monkeypatch.setattr(resolver.Placings, "of", lambda *_: Place(None, tmp_path / "sha256-1"))
        resolver.register()
        models = vllm_stand_in.ServingModels(resolvers=[registry.get_resolver(resolver.NAME)])
        found = asyncio.run(models.resolve_lora("sql@prod"))
        assert (found.lora_name, found.lora_path) == ("sql@prod", str(tmp_path / "sha256-1"))
        assert not found.is_3d_lora_weight
        assert asyncio.run(models.resolve_lora("../sql@prod")).error.code == 404

    def test_a_request_for_an_adapter_of_stacks_of_experts_says_so(self, set_up, monkeypatch, tmp_path):
        registry = vllm_stand_in.install(monkeypatch)
        (tmp_path / "adapter_config.json").write_text('{"target_parameters": ["mlp.experts.up_proj"]}')
        monkeypatch.setattr(resolver.Placings, "of", lambda *_: Place(None, tmp_path))
        resolver.register()
        found = asyncio.run(registry.get_resolver(resolver.NAME).resolve_lora("./model", "sql@prod"))
        assert found.is_3d_lora_weight

    @pytest.mark.parametrize(
        ("answer", "status", "told"),
        [
            (
                Refused("it is not for the base model that runs here"),
                400,
                "it is not for the base model that runs here",
            ),
            (Refused("the registry does not answer", passing=True), 503, "the registry does not answer"),
            (KeyError("/secret/path"), 500, "sql@prod could not be loaded"),
        ],
    )
    def test_vllm_is_given_the_status_of_a_refusal_and_a_text_for_anybody(
        self, set_up, monkeypatch, answer, status, told
    ):
        registry = vllm_stand_in.install(monkeypatch)
        monkeypatch.setattr(resolver.Placings, "of", lambda *_: Place(answer))
        resolver.register()
        made = registry.get_resolver(resolver.NAME)
        with pytest.raises(vllm_stand_in.GracefulHTTPError) as given:
            asyncio.run(made.resolve_lora("./model", "sql@prod"))
        assert (given.value.http_status, str(given.value)) == (status, told)

    def test_a_plugin_that_was_asked_for_says_that_it_lacks_a_server(self, set_up, monkeypatch, caplog):
        monkeypatch.setenv("ADAPTERS_URL", "")
        vllm_stand_in.install(monkeypatch, plugins=["adapters_resolver"])
        resolver.register()
        assert "ADAPTERS_URL is not set" in caplog.text

    @pytest.mark.parametrize(
        ("variable", "value", "told"),
        [("ADAPTERS_FOLLOW", "sql=team/sql", "ADAPTERS_FOLLOW"), ("ADAPTERS_URL", "", "set ADAPTERS_URL")],
    )
    def test_what_will_stop_the_follower_is_told_before_the_model_is_loaded(
        self, set_up, monkeypatch, variable, value, told
    ):
        monkeypatch.setenv(variable, value)
        vllm_stand_in.install(monkeypatch, plugins=["adapters_resolver", "adapters_follower"])
        with pytest.raises(names.Misplaced, match=told):
            resolver.register()
        vllm_stand_in.install(monkeypatch, plugins=["adapters_resolver"])
        resolver.register()

    def test_what_is_logged_comes_out_where_vllms_own_lines_do_which_it_sets_up_after_its_plugins(
        self, set_up, monkeypatch
    ):
        registry = vllm_stand_in.install(monkeypatch)
        theirs, ours = logging.getLogger("vllm"), logging.getLogger("adapter_registry")
        heard, said = logging.Handler(), []
        heard.emit = lambda record: said.append((record.levelname, record.getMessage()))
        for name, value in {"handlers": [], "propagate": True, "level": logging.NOTSET}.items():
            monkeypatch.setattr(ours, name, value)
        monkeypatch.setattr(resolver.Placings, "of", lambda *_: Place(Missing("x")))
        resolver.register()
        monkeypatch.setattr(theirs, "handlers", [heard])
        monkeypatch.setattr(theirs, "level", logging.INFO)
        for _ in range(2):
            assert asyncio.run(registry.get_resolver(resolver.NAME).resolve_lora("./model", "sql@prod")) is None
        resolver.logger.info("adapters: sql is team/sql@v1 now.")
        resolver.logger.debug("more")
        assert said == [("INFO", "adapters: sql is team/sql@v1 now.")]

    def test_an_unknown_release_is_left_alone_and_told(self, set_up, monkeypatch, caplog):
        registry = vllm_stand_in.install(monkeypatch, version="0.99.0")
        resolver.register()
        assert list(registry.get_supported_resolvers()) == []
        assert "vLLM 0.99.0 was not tested" in caplog.text

    def test_without_a_server_it_stays_silent(self, monkeypatch, tmp_path, caplog):
        monkeypatch.setenv("ADAPTERS_HOME", str(tmp_path))
        monkeypatch.setenv("ADAPTERS_URL", "")
        registry = vllm_stand_in.install(monkeypatch)
        with caplog.at_level(logging.INFO):
            resolver.register()
        assert (list(registry.get_supported_resolvers()), caplog.text) == ([], "")

    def test_settings_that_are_wrong_do_not_stop_vllm(self, set_up, monkeypatch, caplog):
        monkeypatch.setenv("ADAPTERS_SERVING_CHECK", "none")
        registry = vllm_stand_in.install(monkeypatch)
        resolver.register()
        assert list(registry.get_supported_resolvers()) == []
        assert "ADAPTERS_SERVING_CHECK" in caplog.text
