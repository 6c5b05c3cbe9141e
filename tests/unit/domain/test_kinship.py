"""What a revoked version taints."""

from __future__ import annotations

from adapter_registry.domain.kinship import Kin, Node, tainted

PARENTS = {"d": {"c"}, "c": {"a", "b"}, "b": {"x"}}


def told(parents, revoked, names="abcd") -> dict[str, tuple[str, ...]]:
    nodes = [Node(name, Kin.VERSION, name) for name in names]
    return {node.id: node.tainted for node in tainted(nodes, parents, revoked)}


def test_everything_made_from_a_revoked_version_is_tainted_at_any_distance():
    assert told(PARENTS, {"a"}) == {"a": (), "b": (), "c": ("a",), "d": ("a",)}


def test_an_ancestor_beyond_the_graph_taints_as_well():
    assert told(PARENTS, {"x", "a"})["d"] == ("a", "x")


def test_lineages_that_bite_their_own_tail_end():
    assert told({"a": {"b"}, "b": {"a"}}, {"b"}, "ab") == {"a": ("b",), "b": ("b",)}
