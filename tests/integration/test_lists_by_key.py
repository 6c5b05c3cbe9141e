"""Lists of suites, trusts, bases and filtered adapters come a page at a time, whole and in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from adapter_registry import app
from adapter_registry.client import Registry
from adapter_registry.domain.errors import InvalidInput, InvalidReference
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.evidence.suite import Suite, SuiteMetric
from adapter_registry.domain.people.account import AccountKind
from adapter_registry.domain.ports import Backend
from adapter_registry.services import base, show, suites, trust, usage
from adapter_registry.settings import read_settings
from tests.integration.test_kill import variant

NUMBER = 7


@pytest.fixture(scope="module")
def backend(tmp_path_factory, llama_folder, lora_folder) -> Backend:
    """Seven of everything."""
    folder = tmp_path_factory.mktemp("lists")
    settings = read_settings({"ADAPTERS_HOME": str(folder / "home"), "ADAPTERS_CACHE": str(folder / "cache")})
    registry = Registry(settings)
    registry.create_account("ci", kind=AccountKind.SERVICE)
    for number in range(NUMBER):
        registry.add_base(f"org/Llama-{number}", llama_folder)
        registry.set_suite(Suite(f"suite-{number // 2}", (SuiteMetric(f"x/{number}"),)))
        registry.add_trust("ci", issuer="https://issuer.test", audience="us", claims={"sub": f"x:{number}"})
        name = f"team/a{number}"
        registry.push(variant(lora_folder, folder / name, number), base="org/Llama-0", name=name)
        registry.add_scores(f"{name}@v1", (Score("x/acc", number / 10, Direction.HIGHER, n=100),))
    return app.embedded(settings)


def paged(question: Callable[..., Any], backend: Backend, **given: Any) -> list[Any]:
    """Everything, two at a time."""
    found, after = [], ""
    while True:
        page = question(backend, after=after, limit=2, **given)
        assert len(page.items) <= 2
        found += page.items
        if page.next is None:
            return found
        after = page.next


@pytest.mark.parametrize("question", [base.known, suites.suites, trust.trusts, usage.usage])
def test_the_pages_are_the_list(backend, question):
    whole = question(backend)
    assert len(whole.items) == NUMBER
    assert whole.next is None
    assert paged(question, backend) == list(whole.items)


@pytest.mark.parametrize("question", [base.known, suites.suites, trust.trusts, usage.usage])
def test_a_place_that_is_none_is_refused(backend, question):
    for place in ("x y z w", " ", "9" * 400, "²", "@", "x@y@z"):
        with pytest.raises((InvalidInput, InvalidReference)):
            question(backend, after=place)


def test_bases_are_searched_in_any_case(backend):
    assert [each.name for each in paged(base.known, backend, search="llama-3")] == ["org/Llama-3"]
    assert base.known(backend, search="_").items == ()


class TestFilters:
    @pytest.fixture(autouse=True)
    def shortly(self, monkeypatch):
        monkeypatch.setattr(show, "LONGEST_SEARCH", 3)
        monkeypatch.setattr(show, "BATCH", 2)

    def test_a_search_that_finds_little_goes_on_on_the_next_page(self, backend):
        first = show.adapters(backend, where="score.'x/acc'>0.55", limit=2)
        assert first.items == ()
        assert first.next is not None
        found = paged(show.adapters, backend, where="score.'x/acc'>0.55")
        assert [line.adapter for line in found] == ["team/a6"]

    def test_every_match_is_on_one_page(self, backend):
        found = [line.adapter for line in paged(show.adapters, backend, where="score.'x/acc'>=0.2 and rank>0")]
        assert found == [f"team/a{number}" for number in range(2, NUMBER)]
