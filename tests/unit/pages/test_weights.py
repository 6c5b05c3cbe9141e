"""What a diff job found, as a heat map and as charts."""

from __future__ import annotations

from adapter_registry.api.pages.weights import SHADES, weights


def module(name: str, layer: int | None, kind: str, *norms: float, **more) -> dict:
    return {"name": name, "layer": layer, "kind": kind, "norms": list(norms), "state": "changed", **more}


def found(*modules: dict) -> dict:
    return {"summary": "changed", "verdict": "changed", "relative": 0.5, "modules": list(modules), "notes": ["a note"]}


class TestHeatMap:
    def test_a_square_is_the_change_as_a_share_of_the_first_and_the_largest_is_the_darkest(self):
        made = weights(found(module("a", 0, "q", 2, 2, 1), module("b", 1, "q", 2, 2, 0), module("c", 1, "v", 4, 4, 1)))
        assert made.kinds == ("q", "v")
        (first, (q, v)), (second, squares) = made.squares
        assert (first, q.text, q.shade, v) == ("0", "50 %", SHADES, None)
        assert (second, [each.text for each in squares]) == ("1", ["0 %", "25 %"])
        assert [each.shade for each in squares] == [0, 5]

    def test_layers_are_in_order_and_what_is_in_none_comes_last(self):
        made = weights(found(*(module(str(n), n, "q", 1, 1, 1) for n in (10, 2, None))))
        assert [layer for layer, _ in made.squares] == ["2", "10", "–"]

    def test_matrices_of_one_kind_and_layer_are_one_square(self):
        made = weights(found(module("e[0]", 0, "up", 3, 3, 0), module("e[1]", 0, "up", 4, 4, 5)))
        [(_, [square])] = made.squares
        assert (square.text, square.name) == ("100 %", "e[1]")

    def test_what_the_first_side_lacks_is_told_in_a_word(self):
        [(_, [square])] = weights(found({**module("a", 0, "q", 0, 2, 2), "state": "added"})).squares
        assert (square.text, square.shade) == ("added", SHADES)


class TestCharts:
    def test_spectra_are_of_the_module_that_changed_most_unless_another_is_named(self):
        spectrum = {"values": [2.0, 1.0]}
        small = module("a", 0, "q", 1, 1, 0.1, first=spectrum)
        large = module("b", 0, "v", 1, 1, 0.9, first=spectrum, second={"values": [3.0]})
        assert weights(found(small, large)).module == "b"
        made = weights(found(small, large), module="a")
        assert made.spectra["series"] == [{"name": "first", "values": [2.0, 1.0]}]
        assert made.spectra["x"] == ["1", "2"]

    def test_overlap_is_a_line_for_each_kind_and_side_with_gaps(self):
        sides = {"left": {"overlap": 0.9}, "right": {"overlap": 0.2}}
        made = weights(found(module("a", 0, "q", 1, 1, 1, **sides), module("b", 1, "v", 1, 1, 1, **sides)))
        assert {each["name"]: each["values"] for each in made.overlap["series"]} == {
            "q writes": [0.9, None],
            "q reads": [0.2, None],
            "v writes": [None, 0.9],
            "v reads": [None, 0.2],
        }

    def test_an_answer_without_modules_has_nothing_to_draw(self):
        made = weights({"summary": "identical", "verdict": "identical", "relative": None})
        assert (made.squares, made.spectra, made.relative) == ((), {}, "–")
