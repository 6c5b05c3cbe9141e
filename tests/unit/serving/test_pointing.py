"""What references mean, followed: a move wakes at once, silence is waited out."""

from __future__ import annotations

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.errors import ServerUnreachable
from adapter_registry.domain.reference import parse
from adapter_registry.serving.pointing import LONGEST_SECONDS, Moves, Patience, silence
from tests.unit.serving.builders import registry_of


@pytest.fixture(scope="module")
def registry(tmp_path_factory, llama_folder, lora_folder):
    home = tmp_path_factory.mktemp("pointing")
    environment = {"ADAPTERS_HOME": str(home / "home"), "ADAPTERS_CACHE": str(home / "cache")}
    there = registry_of(environment, home / "made", llama_folder, lora_folder)
    there.promote("team/sql@v1", "dev")
    return there


class Silent:
    """A registry that answers nothing at first."""

    def __init__(self, registry: Registry) -> None:
        self._registry, self.asked = registry, 0

    def pointer(self, *place, **options):
        self.asked += 1
        if self.asked == 1:
            raise ServerUnreachable("nothing there")
        return self._registry.pointer(*place, **options)


class TestMoves:
    def test_who_waits_is_woken_once_it_is_known_what_is_meant_and_at_each_move(self, registry):
        moves = Moves([parse("team/sql@dev")], registry)
        assert moves.wait(60)
        registry.promote("team/sql@v2", "dev")
        assert moves.wait(60)

    def test_who_waits_is_woken_when_the_registry_is_back(self, registry):
        silent = Silent(registry)
        assert Moves([parse("team/sql@dev")], silent).wait(60)
        assert silent.asked > 1

    def test_nothing_wakes_whoever_follows_nothing(self, registry):
        assert not Moves([], registry).wait(0.01)


def test_a_refused_version_is_tried_ever_more_rarely_and_another_at_once():
    now = [0.0]
    patience = Patience(lambda: now[0])
    patience.refused("a")
    assert (patience.waits("a"), patience.waits("b")) == (True, False)
    now[0] = 30.0
    assert not patience.waits("a")
    patience.refused("a")
    now[0] = 89.0
    assert patience.waits("a")


def test_a_registry_that_is_silent_for_long_is_asked_every_half_minute():
    assert 0.8 <= silence(0) <= 1.2
    assert silence(1_000) <= LONGEST_SECONDS * 1.2
