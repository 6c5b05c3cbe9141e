"""Stages: in an order without cycles, lowest first; a Version enters one by Promotion and by nothing else.

A stage may have lanes, so that a canary needs no stage of its own. A *place* is where a pointer stands: a stage (its
main lane), `prod`, or a lane of one, `prod.canary`. Everything that is said of a stage's pointer holds for each place.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from adapter_registry.domain.errors import Conflict, InvalidInput, InvalidReference, NotFound
from adapter_registry.domain.names import STAGE_NAMES, check_stage_name
from adapter_registry.domain.people.access import EVERYTHING, Grant, check_scope
from adapter_registry.domain.policies.process import Sources

MOST_STAGES, MOST_LANES = 32, 16
MAIN_LANE = "main"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage, as it was declared.

    Attributes:
        name: `qa`.
        after: stages right below it that it does not ask for, as of `staging` and `prod` until declared otherwise.
        sources: stages right below it that a version has to come from, as the presets of its policy ask; None asks
            nothing.
        like: which of STAGE_NAMES it resembles: the presets ask of it what they ask of that one.
        lanes: beside the main one.
        scope: the adapters that have it: `*`, `namespace/*` or `namespace/name`.
    """

    name: str
    after: tuple[str, ...] = ()
    sources: Sources | None = None
    like: str = "staging"
    lanes: tuple[str, ...] = ()
    scope: str = EVERYTHING

    @property
    def below(self) -> tuple[str, ...]:
        """The stages right below it."""
        return tuple(dict.fromkeys((*self.after, *(self.sources.stages if self.sources else ()))))

    @property
    def places(self) -> tuple[str, ...]:
        """Itself and its lanes."""
        return (self.name, *(f"{self.name}.{lane}" for lane in self.lanes))

    def has(self, adapter: str) -> bool:
        """Whether an adapter has this stage."""
        return Grant(self.scope, ()).reaches(adapter)


def of_place(place: str) -> str:
    """The stage that a place belongs to: `prod` of `prod.canary`."""
    return place.partition(".")[0]


def place_of(stage: str, lane: str | None) -> str:
    """The place that a lane of a stage is; the main lane is the stage itself."""
    return stage if lane in (None, "", MAIN_LANE) else f"{stage}.{lane}"


DEFAULTS = (
    Stage("dev", like="dev"),
    Stage("staging", after=("dev",), like="staging"),
    Stage("prod", after=("staging",), like="prod"),
)


@dataclass(frozen=True, slots=True)
class Ladder:
    """Every stage of a registry, lowest first: none stands before one that is below it."""

    stages: tuple[Stage, ...] = DEFAULTS

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(stage.name for stage in self.stages)

    def get(self, name: str) -> Stage:
        """The stage of a name or place; raises InvalidReference, with the nearest, where there is none."""
        stage = of_place(name)
        found = next((each for each in self.stages if each.name == stage), None)
        if found is None:
            raise InvalidReference(self._unknown(name))
        return found

    def check(self, place: str, adapter: str | None = None) -> str:
        """A place, as given.

        Raises:
            InvalidReference: no such stage or lane, or the adapter does not have it; the text lists those there are.
        """
        stage = self.get(place)
        if place not in stage.places:
            lanes = ", ".join((MAIN_LANE, *stage.lanes))
            raise InvalidReference(
                f"{place[:80]!r} is no lane of {stage.name}: it has {lanes}; the main one is written {stage.name}. "
                f"`adapters stage set {stage.name} --lane NAME` declares lanes."
            )
        if adapter is not None and not stage.has(adapter):
            others = ", ".join(each.name for each in self.stages if each.has(adapter)) or "none"
            raise InvalidReference(
                f"{stage.name} is a stage of {stage.scope} only; the stages of {adapter} are {others}."
            )
        return place

    def whole(self, name: str) -> str:
        """A stage, as given; raises InvalidReference for a lane of one too."""
        if (stage := self.get(name).name) != name:
            raise InvalidReference(f"{name[:80]!r} is a lane; what is asked of it is asked of {stage}, so write that.")
        return name

    @property
    def places(self) -> tuple[str, ...]:
        """Every stage, each before its lanes."""
        return tuple(place for stage in self.stages for place in stage.places)

    def of(self, adapter: str) -> tuple[str, ...]:
        """The places that an adapter has."""
        return tuple(place for stage in self.stages if stage.has(adapter) for place in stage.places)

    def top(self, adapter: str) -> str:
        """The highest stage of an adapter: the last that is like `prod`, else the last."""
        known = [stage for stage in self.stages if stage.has(adapter)] or list(self.stages)
        return ([stage.name for stage in known if stage.like == STAGE_NAMES[-1]] or [known[-1].name])[-1]

    def has(self, place: str) -> bool:
        """Whether a name is a stage, or a lane of one."""
        return any(place in stage.places for stage in self.stages)

    def below(self, name: str) -> tuple[str, ...]:
        """Every stage under one, lowest first."""
        return tuple(each for each in self.names if each in _under(self.stages, self.get(name)))

    def declared(self, stage: Stage) -> Ladder:
        """With a stage added, or in place of the one of its name.

        Raises:
            InvalidReference: a name or scope that breaks a rule, or that names no stage.
            InvalidInput: it would stand under itself, or a hotfix would come from a stage that is not below it.
        """
        stage = _checked(stage)
        others = tuple(stage if each.name == stage.name else each for each in self.stages)
        changed = Ladder(others if stage.name in self.names else (*others, stage))
        if len(changed.stages) > MOST_STAGES:
            raise InvalidInput(f"a registry has at most {MOST_STAGES} stages; nothing was changed.")
        for name in (*stage.below, *(stage.sources.hotfix if stage.sources else ())):
            changed.get(check_stage_name(name))
        under = _under(changed.stages, stage)
        if stage.name in under:
            way = " -> ".join(_cycle(changed, stage))
            raise InvalidInput(f"{stage.name} would be below itself: {way}; nothing was changed.")
        if wrong := [each for each in (stage.sources.hotfix if stage.sources else ()) if each not in under]:
            raise InvalidInput(f"a hotfix into {stage.name} cannot come from {wrong[0]}, which is not below it.")
        return Ladder(_sorted(changed.stages))

    def without(self, name: str) -> Ladder:
        """With a stage taken away.

        Raises:
            NotFound: there is none of that name.
            Conflict: another stage is right above it, or it is the last.
        """
        if name not in self.names:
            raise NotFound(self._unknown(name))
        above = [each.name for each in self.stages if name in _named(each)]
        if above:
            verb = "comes" if len(above) == 1 else "come"
            raise Conflict(
                f"{' and '.join(above)} {verb} from {name}; it was not removed. Declare another way first: "
                f"adapters stage set {above[0]} --from STAGE"
            )
        if len(self.stages) == 1:
            raise Conflict(f"{name} is the last stage; it was not removed.")
        return replace(self, stages=tuple(each for each in self.stages if each.name != name))

    def _unknown(self, text: str) -> str:
        names, lower = self.names, text.lower()
        near = difflib.get_close_matches(lower, names, n=1) or [each for each in names if lower.startswith(each)]
        hint = f" Did you mean {near[0]}?" if near else ""
        return f"{text[:80]!r} is not a stage; the stages are {', '.join(names)}, lowest first.{hint}"


def _checked(stage: Stage) -> Stage:
    check_stage_name(stage.name)
    for lane in stage.lanes:
        check_stage_name(lane, "a lane")
    if len(stage.lanes) > MOST_LANES or len(set(stage.lanes)) < len(stage.lanes):
        raise InvalidInput(f"{stage.name}: lanes differ in name, and there are at most {MOST_LANES}.")
    if stage.like not in STAGE_NAMES:
        raise InvalidInput(f"a stage is like one of {', '.join(STAGE_NAMES)}, not like {stage.like[:80]!r}.")
    if stage.sources and not stage.sources.stages:
        raise InvalidInput(f"{stage.name}: a hotfix path stands beside the ordinary one: name a stage with --from.")
    return replace(stage, scope=check_scope(stage.scope))


def _named(stage: Stage) -> tuple[str, ...]:
    return (*stage.below, *(stage.sources.hotfix if stage.sources else ()))


def _under(stages: Iterable[Stage], stage: Stage) -> set[str]:
    """The names of all that is below; with its own name when there is a cycle."""
    known, found, waiting = {each.name: each for each in stages}, set[str](), list(stage.below)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += known[name].below if name in known else ()
    return found


def _cycle(ladder: Ladder, stage: Stage) -> list[str]:
    """The way from a stage down to itself."""
    way = [stage.name]
    while len(way) < 2 or way[-1] != stage.name:
        below = [ladder.get(name) for name in ladder.get(way[-1]).below]
        way.append(next(each.name for each in below if each == stage or stage.name in _under(ladder.stages, each)))
    return way


def _sorted(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Lowest first, and else in the order given; there is no cycle."""
    left, done = list(stages), list[Stage]()
    while left:
        free = next(each for each in left if not set(each.below) & {other.name for other in left})
        left.remove(free)
        done.append(free)
    return tuple(done)
