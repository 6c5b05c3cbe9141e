"""Lineage is part of a version's identity, where there is one."""

from __future__ import annotations

import json

import pytest

from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import Digest, of_bytes
from adapter_registry.domain.errors import InvalidInput, InvalidReference
from adapter_registry.domain.lineage import Lineage, ModuleFit, Parent, check_lineage, total_error
from adapter_registry.domain.lock import Lock
from adapter_registry.domain.manifest import manifest

BASE = Digest("sha256:" + "b" * 64)
FILES = [File("adapter_model.safetensors", 3, of_bytes(b"abc"))]


def lineage(**changes):
    made = {
        "kind": "compose",
        "method": "ties",
        "dialect": "peft",
        "parents": (Parent("team/a", 1, Digest("sha256:" + "a" * 64), 0.7),),
        "options": {"density": "0.2"},
        "seed": 0,
        "libraries": {"numpy": "2"},
        "device": "cpu",
        "error": 0.1,
        "modules": (ModuleFit("m", 4, 2.0, 0.1),),
    }
    return Lineage(**{**made, **changes})


class TestManifest:
    def test_without_a_lineage_its_bytes_are_what_they_were(self):
        written = manifest(FILES, lock=Lock(BASE))
        assert json.loads(written).keys() == {"format", "files", "lock"}
        assert of_bytes(written) == "sha256:0eeae9cacaa41e6da651aba90a9b2e15cb3f2307d1792cf3958a2f5e9b0cb1e2"

    def test_another_lineage_is_another_version(self):
        digests = {
            of_bytes(manifest(FILES, lock=Lock(BASE), lineage=each))
            for each in (None, lineage(), lineage(seed=1), lineage(parents=()))
        }
        assert len(digests) == 4


class TestLineage:
    def test_its_recipe_is_one_line(self):
        assert lineage().recipe == "ties:peft of team/a@v1 x 0.7  (density=0.2)"

    def test_the_error_of_the_whole_weighs_modules_by_their_norms(self):
        fits = (ModuleFit("a", 1, 3.0, 0.1), ModuleFit("b", 1, 4.0, 0.2), ModuleFit("c", 1, 0.0, 0.0))
        assert total_error(fits) == pytest.approx((0.3**2 + 0.8**2) ** 0.5 / 5)
        assert total_error(()) == 0

    @pytest.mark.parametrize(
        "changes",
        [
            {"error": float("nan")},
            {"modules": (ModuleFit("m", 1, float("inf"), 0.0),)},
            {"modules": (ModuleFit("m" * 501, 1, 1.0, 0.0),)},
            {"options": {"x": "y" * 501}},
            {"parents": (Parent("team/a", 1, BASE, 0.0),) * 1001},
        ],
    )
    def test_what_is_out_of_bounds_is_refused(self, changes):
        with pytest.raises(InvalidInput):
            check_lineage(lineage(**changes))

    @pytest.mark.parametrize("parent", [Parent("a b", 1, BASE, 1.0), Parent("team/a", 1, Digest("sha256:no"), 1.0)])
    def test_a_parent_that_is_no_version_is_refused(self, parent):
        with pytest.raises(InvalidReference):
            check_lineage(lineage(parents=(parent,)))
