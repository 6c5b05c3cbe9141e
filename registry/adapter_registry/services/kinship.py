"""Kinship of a version: followed a few steps up and down, a batch of rows for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.reference import parse
from adapter_registry.domain.views.kinship import Edge, Kin, Kinship, Node, absent, node_of
from adapter_registry.services.references import version_of

MOST_STEPS = 6
MOST_VERSIONS = 150
"""Versions in a graph at most: beyond, nobody can read it."""


def kinship(backend: Backend, *, reference: str, steps: int = 2) -> Kinship:
    """What a Version was made from and what was made from it, a few steps far, with bases and stages.

    What whoever asks may not read is left out below it; above it, where the lineage names it anyway, nothing but its
    name is said.

    Args:
        backend: the registry.
        reference: the version in the middle.
        steps: how far to follow, at most 6.
    """
    far = min(max(steps, 1), MOST_STEPS)
    with backend.catalog.reading() as tx:
        middle = version_of(tx, parse(reference, namespace=backend.namespace))
        graph = _Graph(backend, tx, {middle.reference: middle}, {middle.reference: 0})
        graph.rise([middle], 0, far)
        graph.sink([middle], far)
        nodes = graph.marked()
    return Kinship(middle.reference, tuple(nodes), tuple(graph.edges()), far, graph.whole)


@dataclass
class _Graph:
    """The versions found so far, and how many steps away each is."""

    backend: Backend
    tx: Transaction
    versions: dict[str, Version]
    steps: dict[str, int]
    missing: dict[str, Node] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    whole: bool = True

    def rise(self, level: list[Version], start: int, far: int) -> None:
        """Follow parents of versions that are `start` steps away."""
        for step in range(start + 1, far + 1):
            level = self._add(self._parents(level, step), step)

    def sink(self, level: list[Version], far: int) -> None:
        """Follow children, and their other parents with them."""
        for step in range(1, far + 2):
            digests = [version.digest for version in level]
            found = self.tx.versions.made_from(digests, limit=MOST_VERSIONS + 1) if digests else ()
            here = {version.reference for version in level}
            mine = [each for each in found if self._sees(each) and _parents_of(each) & here]
            if step > far:
                self.cut |= {name for each in mine if each.reference not in self.versions for name in _parents_of(each)}
                return
            self.whole = self.whole and len(found) <= MOST_VERSIONS
            level = self._add(mine, step)
            self.rise(level, min(step, far - 1), far)

    def _sees(self, version: Version) -> bool:
        return self.backend.asks.sees(version.adapter)

    def _add(self, found: Iterable[Version], step: int) -> list[Version]:
        fresh = []
        for version in found:
            if version.reference in self.versions:
                continue
            if len(self.versions) >= MOST_VERSIONS:
                self.whole = False
                break
            self.versions[version.reference] = version
            self.steps[version.reference] = step
            fresh.append(version)
        return fresh

    def _parents(self, level: list[Version], step: int) -> list[Version]:
        """The parents that are there to be read; what is not is noted as missing."""
        named = {parent.reference: parent for each in level if each.lineage for parent in each.lineage.parents}
        found = {each.reference: each for each in _with_digests(self.tx, [each.digest for each in named.values()])}
        there = []
        for name, parent in named.items():
            if not self.backend.asks.sees(parent.adapter):
                self.missing[name] = absent(parent, kind=Kin.HIDDEN, steps=step)
            elif name in found:
                there.append(found[name])
            else:
                self.missing[name] = absent(parent, kind=Kin.GONE, steps=step)
        return there

    def marked(self) -> list[Node]:
        """Every node, with what taints it."""
        nodes = [node_of(each, steps=self.steps[name]) for name, each in self.versions.items()]
        there = self.versions.keys() | self.missing.keys()
        beyond = {name for name, each in self.versions.items() if not _parents_of(each) <= there} | self.cut
        found = [replace(node, more=node.id in beyond) for node in (*nodes, *self.missing.values())]
        bases = {each.base: each.base_name for each in self.versions.values() if not _parents_of(each)}
        found += [Node(digest, Kin.BASE, name, digest=digest) for digest, name in bases.items()]
        staged = [(each, stage) for each in self.versions.values() for stage in each.stages]
        return found + [Node(f"{each.adapter}:{stage}", Kin.STAGE, stage, each.adapter) for each, stage in staged]

    def edges(self) -> Iterable[Edge]:
        """Between the nodes: base to what was trained on it, parent to child, version to stage."""
        there = self.versions.keys() | self.missing.keys()
        for version in self.versions.values():
            if version.lineage and version.lineage.parents:
                for parent in version.lineage.parents:
                    if parent.reference in there:
                        yield Edge(parent.reference, version.reference, parent.weight, version.lineage.method)
            else:
                yield Edge(version.base, version.reference, method=version.lineage.kind if version.lineage else "")
            for stage in version.stages:
                yield Edge(version.reference, f"{version.adapter}:{stage}")


def _parents_of(version: Version) -> frozenset[str]:
    return frozenset(parent.reference for parent in version.lineage.parents) if version.lineage else frozenset()


def _with_digests(tx: Transaction, digests: Sequence[Digest]) -> tuple[Version, ...]:
    return tx.versions.with_digests(list(dict.fromkeys(digests))) if digests else ()
