"""Who may do what: verbs, roles as presets over verbs, grants on a scope, and tokens that only ever narrow.

A verb that moves a stage names it: `promote:prod`. A scope is `*`, `namespace/*` or `namespace/name`. What a scope does
not cover does not exist for whoever asks: "not found" and "not yours" are the same answer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.names import check_adapter_name, check_namespace

TOKEN_PREFIX = "adapters_"  # noqa: S105  what every token begins with, not a token
EVERYTHING = "*"

VERBS = (
    *("read", "push", "tag", "label", "score", "attest", "remove", "revoke", "base.add", "namespace.write"),
    *("promote", "rollback", "approve", "override", "reverify", "policy.write"),
    *("audit", "maintain", "access", "key.trust", "webhook", "job.run", "deploy"),
)
"""Every verb; promote, rollback, approve, override and reverify may name a stage, or a lane of one, after a colon."""
STAGED = ("promote", "rollback", "approve", "override", "reverify")

_WRITES = ("read", "push", "tag", "label", "score", "attest", "base.add", "job.run", "promote:dev", "rollback:dev")
ROLES: dict[str, tuple[str, ...]] = {
    "reader": ("read",),
    "writer": _WRITES,
    "promoter": ("read", "promote", "rollback", "reverify"),
    "approver": ("read", "approve"),
    "deployer": ("read", "deploy"),
    "maintainer": (
        *_WRITES,
        *("promote", "rollback", "approve", "reverify", "remove", "revoke", "namespace.write", "webhook", "deploy"),
    ),
    "admin": (EVERYTHING,),
}


@dataclass(frozen=True, slots=True)
class Grant:
    """Verbs on a scope.

    Attributes:
        scope: `*`, `namespace/*` or `namespace/name`.
        verbs: each covers itself; `promote` covers every `promote:<stage>`, and that one every lane of the stage,
            `promote:<stage>.<lane>`; `*` covers all.
    """

    scope: str
    verbs: tuple[str, ...]

    def covers(self, verb: str, adapter: str | None) -> bool:
        """Whether it allows `verb` on `namespace/name`, or on the registry as a whole (None)."""
        return self.reaches(adapter) and _covers(self, verb)

    def reaches(self, adapter: str | None) -> bool:
        """Whether the scope covers an adapter; the registry as a whole is covered by `*` alone."""
        if self.scope == EVERYTHING:
            return True
        if adapter is None:
            return False
        return adapter == self.scope or (self.scope.endswith("/*") and adapter.startswith(self.scope[:-1]))


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever asks.

    Attributes:
        name: the person or service account; the Actor of what they do.
        grants: what they may do.
        limits: what their token narrows it to; None for no narrowing.
        token: id of the token used; None inside the process.
        machine: a service account, which may not approve.
        exchanged: their token was exchanged for one of an OpenID provider; it manages no access, so that
            nothing of it outlives it.
    """

    name: str
    grants: tuple[Grant, ...]
    limits: tuple[Grant, ...] | None = None
    token: str | None = None
    machine: bool = False
    exchanged: bool = False

    def may(self, verb: str, adapter: str | None = None) -> bool:
        """Whether they may do `verb` to `namespace/name`, or to the registry as a whole."""
        if (self.machine and verb.partition(":")[0] == "approve") or (self.exchanged and verb == "access"):
            return False
        return _covered(self.grants, verb, adapter) and (self.limits is None or _covered(self.limits, verb, adapter))

    def may_somewhere(self, verb: str) -> bool:
        """Whether there is any adapter or namespace that they may do `verb` to."""
        scopes = {g.scope for g in (*self.grants, *(self.limits or ()))}
        return any(self.may(verb, None if scope == EVERYTHING else scope.replace("*", "a")) for scope in scopes)

    def may_throughout(self, verb: str, pattern: str) -> bool:
        """Whether they may do `verb` to everything that a pattern means: `namespace/name` with `*` in it, or `*`."""
        namespace, _, name = pattern.partition("/")
        scope = EVERYTHING if "*" in namespace else f"{namespace}/*" if "*" in name else pattern
        held = (self.grants,) if self.limits is None else (self.grants, self.limits)
        return all(any(_narrower(scope, g.scope) == scope and _covers(g, verb) for g in grants) for grants in held)

    def sees(self, adapter: str) -> bool:
        """Whether an adapter exists for them."""
        return self.may("read", adapter)

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes they may read in; `('*',)` for everything."""
        readable = {g.scope for g in self.grants if g.covers("read", _example(g.scope))}
        if self.limits is not None:
            limited = {g.scope for g in self.limits if g.covers("read", _example(g.scope))}
            readable = {narrow for a in readable for b in limited if (narrow := _narrower(a, b))}
        return (EVERYTHING,) if EVERYTHING in readable else tuple(sorted(readable))


SYSTEM = Principal("system", (Grant(EVERYTHING, (EVERYTHING,)),))


def within(wanted: Iterable[Grant], limits: Iterable[Grant]) -> bool:
    """Whether every grant of `wanted` lies inside one of `limits`: what a limited token may pass on."""
    bounds = tuple(limits)
    return all(
        any(_narrower(grant.scope, bound.scope) == grant.scope and _verbs_within(grant, bound) for bound in bounds)
        for grant in wanted
    )


def _verbs_within(grant: Grant, bound: Grant) -> bool:
    return all(_covers(bound, verb) for verb in grant.verbs)


def _covers(grant: Grant, verb: str) -> bool:
    return any(held in (EVERYTHING, *_wider(verb)) for held in grant.verbs)


def _wider(verb: str) -> tuple[str, ...]:
    """What covers a verb, itself first: `promote:prod.canary`, `promote:prod`, `promote`."""
    name, colon, place = verb.partition(":")
    return (verb, f"{name}:{place.partition('.')[0]}", name) if colon else (verb,)


def _covered(grants: Iterable[Grant], verb: str, adapter: str | None) -> bool:
    return any(grant.covers(verb, adapter) for grant in grants)


def _example(scope: str) -> str | None:
    return None if scope == EVERYTHING else scope.replace("/*", "/a")


def _narrower(one: str, other: str) -> str | None:
    """The scope that both cover; None when they have nothing in common."""
    for narrow, wide in ((one, other), (other, one)):
        if wide in (EVERYTHING, narrow) or (wide.endswith("/*") and narrow.startswith(wide[:-1])):
            return narrow
    return None


def grant_of(scope: str, verbs: Iterable[str]) -> Grant:
    """A Grant of roles or verbs on a scope.

    Raises:
        InvalidInput: an unknown verb or role.
        InvalidReference: a scope that is no name.
    """
    found: list[str] = []
    for verb in verbs:
        found += ROLES.get(verb, (check_verb(verb),) if verb not in ROLES else ())
    if not found:
        raise InvalidInput(f"a grant needs a role ({', '.join(ROLES)}) or verbs ({', '.join(VERBS)}).")
    return Grant(check_scope(scope), tuple(dict.fromkeys(found)))


def check_verb(text: str) -> str:
    """A known verb, as given; raises InvalidInput otherwise."""
    verb, colon, stage = text.partition(":")
    if text != EVERYTHING and (verb not in VERBS or (colon and (verb not in STAGED or not stage))):
        roles, verbs = ", ".join(ROLES), ", ".join(VERBS)
        raise InvalidInput(
            f"{text[:60]!r} is neither a role ({roles}) nor a verb ({verbs}; promote:prod names a stage)."
        )
    return text


def check_scope(text: str) -> str:
    """A valid scope, as given; raises InvalidReference otherwise."""
    if text == EVERYTHING:
        return text
    namespace, _, name = text.partition("/")
    check_namespace(namespace)
    if not name:
        return f"{namespace}/*"
    if name != EVERYTHING:
        check_adapter_name(name)
    return text


def token_hash(secret: str) -> str:
    """What is stored of a token: its SHA-256. Tokens hold 256 random bits, so no slow hash is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def looks_like_token(text: str) -> bool:
    """Whether text has the form of a token; for finding them where none should be."""
    return re.fullmatch(rf"{TOKEN_PREFIX}[A-Za-z0-9_-]{{43}}", text) is not None
