"""The native API as one table: what can be asked, where, and which verb it takes; for the server and for its client.

A path holds `{adapter}`, which is `{namespace}/{name}` in an address, or `{reference}`, which is
`{namespace}/{name}/versions/{selector}`. Arguments that are not in the path travel in the query of a GET or DELETE and
in the JSON body of everything else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints
from urllib.parse import quote, urlencode

import msgspec

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.people.access import Principal
from adapter_registry.domain.reference import parse, split_adapter
from adapter_registry.domain.untrusted import has_nul
from adapter_registry.services import (
    access,
    base,
    beside,
    closeup,
    collect,
    course,
    deployment,
    draft,
    inbox,
    kinship,
    mark,
    overview,
    pointer,
    promote,
    push,
    record,
    request,
    reverify,
    scan,
    score,
    servable,
    show,
    signing,
    stages,
    standstill,
    stored_base,
    submit,
    suites,
    trial,
    trust,
    upload,
    usage,
    views,
    webhook,
)

Function = Callable[..., Any]

LOCAL = "progress"
"""The one argument that stays where it is: a callback."""
ANYONE = ""
"""No verb: whoever has a good token. What the answer holds still depends on who asks."""
ADAPTER = ("adapter_namespace", "adapter_name")
REFERENCE = (*ADAPTER, "selector")
_PLACE = re.compile(r"\{(\w+)(?::path)?\}")


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be asked.

    Attributes:
        name: `push.commit`.
        method: of HTTP.
        path: below /api/v1.
        call: the service function.
        verb: what it takes; `{stage}` stands for that argument; empty for whoever is signed in.
        anywhere: whether holding the verb on any scope is enough, because what is asked for belongs to no adapter.
        repeatable: whether asking twice is the same as asking once, so that no answer is kept for a key.
        small: whether it reads a few rows, however much is stored.
        secret: whether question or answer holds a secret: neither is ever kept, so an idempotency key does nothing.
    """

    name: str
    method: str
    path: str
    call: Function
    verb: str
    anywhere: bool = False
    secret: bool = False
    repeatable: bool = False
    small: bool = False

    @property
    def writes(self) -> bool:
        """Whether it changes something."""
        return self.method not in ("GET", "HEAD")

    @property
    def once(self) -> bool:
        """Whether an idempotency key keeps it from happening twice."""
        return self.writes and not self.secret and not self.repeatable

    @property
    def route(self) -> str:
        """The path with the parts of an adapter and of a reference spelled out."""
        adapter = "{adapter_namespace}/{adapter_name}"
        return self.path.replace("{adapter}", adapter).replace("{reference}", f"{adapter}/versions/{{selector}}")

    def needs(self, given: Mapping[str, Any]) -> tuple[str, str | None]:
        """(verb, `namespace/name` or None for the registry as a whole) that these arguments take.

        Raises:
            InvalidReference: the adapter or reference is not one.
        """
        verb = self.verb.format(stage=given["stage"]) if "{stage}" in self.verb else self.verb
        if given.get("adapter"):
            return verb, "/".join(split_adapter(given["adapter"]))
        if given.get("reference") and self.path != "/bases/find":
            return verb, parse(given["reference"]).adapter
        if given.get("namespace"):
            return verb, f"{given['namespace']}/*"
        return verb, None

    def allows(self, who: Principal, given: Mapping[str, Any]) -> bool:
        """Whether `who` may ask this."""
        verb, adapter = self.needs(given)
        if verb == ANYONE:
            return True
        return who.may_somewhere(verb) if self.anywhere else who.may(verb, adapter)


def _table(*operations: Operation) -> dict[str, Operation]:
    return {operation.name: operation for operation in operations}


_REQUEST = "/adapters/{adapter}/stages/{stage}/requests/{request}"
OPERATIONS: dict[str, Operation] = _table(
    Operation("base.known", "GET", "/bases", base.known, ANYONE),
    Operation("base.register", "POST", "/bases", base.register, "base.add", anywhere=True),
    Operation("base.find", "GET", "/bases/find", base.find, ANYONE),
    Operation("base.recognise", "POST", "/bases/recognise", base.recognise, ANYONE),
    Operation("base.declare-equivalent", "POST", "/bases/equivalences", base.declare_equivalent, "base.add"),
    Operation("stored-base.stored", "GET", "/bases/stored", stored_base.stored, ANYONE),
    Operation("stored-base.store", "POST", "/bases/stored", stored_base.store, "push", anywhere=True),
    Operation("stored-base.unstore", "DELETE", "/bases/stored", stored_base.unstore, "remove", anywhere=True),
    Operation("show.base-scores", "GET", "/bases/scores", show.base_scores, ANYONE),
    Operation("score.add-to-base", "POST", "/bases/scores", score.add_to_base, "score", anywhere=True),
    Operation(
        "score.invalidate-of-base",
        "POST",
        "/bases/scores/invalidation",
        score.invalidate_of_base,
        "score",
        anywhere=True,
    ),
    Operation("show.adapters", "GET", "/adapters", show.adapters, ANYONE),
    Operation("overview.overview", "GET", "/adapters/{adapter}/overview", overview.overview, "read"),
    Operation("overview.stages", "GET", "/adapters/{adapter}/stages", overview.stages, "read"),
    Operation("overview.versions", "GET", "/adapters/{adapter}/versions-table", overview.versions, "read"),
    Operation("course.course", "GET", "/adapters/{adapter}/course", course.course, "read"),
    Operation("beside.compare", "POST", "/compare", beside.compare, ANYONE, repeatable=True),
    Operation("beside.samples", "POST", "/compare/samples", beside.samples, ANYONE, repeatable=True),
    Operation("closeup.closeup", "GET", "/adapters/{reference}/closeup", closeup.closeup, "read"),
    Operation("closeup.tensors", "GET", "/adapters/{reference}/tensors", closeup.tensors, "read"),
    Operation("kinship.kinship", "GET", "/adapters/{reference}/kinship", kinship.kinship, "read"),
    Operation("job.about", "GET", "/adapters/{reference}/jobs", submit.about, "read"),
    Operation("show.versions", "GET", "/adapters/{adapter}/versions", show.versions, "read"),
    Operation("push.missing", "POST", "/adapters/{adapter}/missing", push.missing, "push", repeatable=True),
    Operation("upload.begin", "POST", "/adapters/{adapter}/uploads", upload.begin, "push", repeatable=True),
    Operation("upload.unknown", "POST", "/adapters/{adapter}/uploads/unknown", upload.unknown, "push", repeatable=True),
    Operation("upload.finish", "POST", "/adapters/{adapter}/uploads/sent", upload.finish, "push", repeatable=True),
    Operation("push.commit", "POST", "/adapters/{adapter}/versions", push.commit, "push"),
    Operation("show.resolve", "GET", "/adapters/{reference}", show.resolve, "read", small=True),
    Operation("mark.remove", "DELETE", "/adapters/{reference}", mark.remove, "remove"),
    Operation("mark.revoke", "POST", "/adapters/{reference}/revocation", mark.revoke, "revoke"),
    Operation("show.derived", "GET", "/adapters/{reference}/derived", show.derived, "read"),
    Operation("show.scores", "GET", "/adapters/{reference}/scores", show.scores, "read"),
    Operation("deployment.report", "POST", "/adapters/{reference}/deployments", deployment.report, "deploy"),
    Operation("deployment.deployments", "GET", "/adapters/{adapter}/deployments", deployment.deployments, "read"),
    Operation("servable.servable", "GET", "/adapters/{reference}/servable", servable.servable, "read"),
    Operation("score.add", "POST", "/adapters/{reference}/scores", score.add, "score"),
    Operation("score.invalidate", "POST", "/adapters/{reference}/scores/invalidation", score.invalidate, "score"),
    Operation("signing.signatures", "GET", "/adapters/{reference}/signatures", signing.signatures, "read"),
    Operation("signing.sign", "POST", "/adapters/{reference}/signatures", signing.sign, "attest"),
    Operation("scan.scans", "GET", "/adapters/{reference}/scans", scan.scans, "read"),
    Operation("scan.scan", "POST", "/adapters/{reference}/scans", scan.scan, "attest"),
    Operation("scan.report", "POST", "/adapters/{reference}/scans/reports", scan.report, "attest"),
    Operation("suites.suites", "GET", "/suites", suites.suites, ANYONE),
    Operation("suites.suite", "GET", "/suites/{name}", suites.suite, ANYONE),
    Operation("suites.set-suite", "POST", "/suites", suites.set_suite, "policy.write"),
    Operation("mark.tag", "POST", "/adapters/{reference}/tags", mark.tag, "tag"),
    Operation("mark.untag", "DELETE", "/adapters/{adapter}/tags/{name}", mark.untag, "tag"),
    Operation("mark.label", "PATCH", "/adapters/{reference}/labels", mark.label, "label"),
    Operation("promote.explain", "GET", "/adapters/{reference}/stages/{stage}", promote.explain, "read"),
    Operation("promote.promote", "POST", "/adapters/{reference}/stages/{stage}", promote.promote, "promote:{stage}"),
    Operation(
        "promote.rollback", "POST", "/adapters/{adapter}/stages/{stage}/rollback", promote.rollback, "rollback:{stage}"
    ),
    Operation("pointer.pointer", "GET", "/adapters/{adapter}/stages/{stage}/pointer", pointer.pointer, "read"),
    Operation("pointer.key", "GET", "/pointer-key", pointer.key, ANYONE),
    Operation("promote.history", "GET", "/adapters/{adapter}/history", promote.history, "read"),
    Operation("stages.stages", "GET", "/stages", stages.stages, ANYONE),
    Operation("stages.declare", "PUT", "/stages/{stage}", stages.declare, "policy.write"),
    Operation("stages.remove", "DELETE", "/stages/{stage}", stages.remove, "policy.write"),
    Operation("promote.policy", "GET", "/stages/{stage}/policy", promote.policy, ANYONE),
    Operation("record.revisions", "GET", "/stages/{stage}/policy/revisions", record.revisions, ANYONE),
    Operation("trial.replay", "POST", "/stages/{stage}/policy/trial", trial.replay, "policy.write", repeatable=True),
    Operation(
        "promote.lint-policy",
        "POST",
        "/stages/{stage}/policy/lint",
        promote.lint_policy,
        "policy.write",
        repeatable=True,
    ),
    Operation("inbox.inbox", "GET", "/inbox", inbox.inbox, ANYONE),
    Operation("record.moves", "GET", "/moves", record.moves, ANYONE),
    Operation("request.requests", "GET", "/requests", request.requests, ANYONE),
    Operation("request.show", "GET", "/requests/{request}", request.show, ANYONE),
    Operation("request.approve", "POST", f"{_REQUEST}/approval", request.approve, "approve:{stage}"),
    Operation("request.decline", "POST", f"{_REQUEST}/decline", request.decline, "approve:{stage}"),
    Operation("request.cancel", "DELETE", _REQUEST, request.cancel, "promote:{stage}"),
    Operation("standstill.hold", "GET", "/adapters/{adapter}/stages/{stage}/hold", standstill.hold, "read"),
    Operation(
        "standstill.lift", "DELETE", "/adapters/{adapter}/stages/{stage}/hold", standstill.lift, "promote:{stage}"
    ),
    Operation("standstill.freezes", "GET", "/freezes", standstill.freezes, ANYONE),
    Operation("standstill.freeze", "POST", "/freezes", standstill.freeze, "policy.write"),
    Operation("standstill.thaw", "DELETE", "/freezes/{freeze}", standstill.thaw, "policy.write"),
    Operation("standstill.groups", "GET", "/groups", standstill.groups, "access"),
    Operation("standstill.set-member", "PUT", "/groups/{group}/members/{account}", standstill.set_member, "access"),
    Operation(
        "reverify.reverify",
        "POST",
        "/adapters/{adapter}/stages/{stage}/verification",
        reverify.reverify,
        "reverify:{stage}",
    ),
    Operation("reverify.upcoming", "GET", "/verifications", reverify.upcoming, ANYONE),
    Operation("promote.set-policy", "PUT", "/stages/{stage}/policy", promote.set_policy, "policy.write"),
    Operation("draft.default-base", "GET", "/namespaces/{namespace}/default-base", draft.default_base, "read"),
    Operation(
        "draft.set-default-base",
        "PUT",
        "/namespaces/{namespace}/default-base",
        draft.set_default_base,
        "namespace.write",
    ),
    Operation("webhook.register", "POST", "/webhooks", webhook.register, "webhook", anywhere=True, secret=True),
    Operation("webhook.webhooks", "GET", "/webhooks", webhook.webhooks, "webhook", anywhere=True),
    Operation("webhook.show", "GET", "/webhooks/{webhook}", webhook.show, "webhook", anywhere=True),
    Operation("webhook.change", "PATCH", "/webhooks/{webhook}", webhook.change, "webhook", anywhere=True),
    Operation("webhook.remove", "DELETE", "/webhooks/{webhook}", webhook.remove, "webhook", anywhere=True),
    Operation(
        "webhook.rotate", "POST", "/webhooks/{webhook}/secret", webhook.rotate, "webhook", anywhere=True, secret=True
    ),
    Operation(
        "webhook.deliveries", "GET", "/webhooks/{webhook}/deliveries", webhook.deliveries, "webhook", anywhere=True
    ),
    Operation(
        "webhook.message",
        "GET",
        "/webhooks/{webhook}/deliveries/{delivery}",
        webhook.message,
        "webhook",
        anywhere=True,
    ),
    Operation("webhook.replay", "POST", "/webhooks/{webhook}/replay", webhook.replay, "webhook", anywhere=True),
    Operation("job.submit", "POST", "/jobs", submit.submit, submit.VERB, anywhere=True),
    Operation("job.check", "POST", "/jobs/check", submit.check, submit.VERB, anywhere=True, repeatable=True),
    Operation("job.jobs", "GET", "/jobs", submit.jobs, submit.VERB, anywhere=True),
    Operation("job.show", "GET", "/jobs/{job}", submit.show, submit.VERB, anywhere=True),
    Operation("job.log", "GET", "/jobs/{job}/log", submit.log, submit.VERB, anywhere=True),
    Operation("job.cancel", "POST", "/jobs/{job}/cancellation", submit.cancel, submit.VERB, anywhere=True),
    Operation("job.retry", "POST", "/jobs/{job}/retry", submit.retry, submit.VERB, anywhere=True),
    Operation("record.log", "POST", "/events/search", record.log, "audit", repeatable=True),
    Operation("record.chain", "GET", "/events/chain", record.chain, "audit"),
    Operation("show.events", "GET", "/events", show.events, "audit"),
    Operation("usage.usage", "GET", "/store/usage", usage.usage, ANYONE),
    Operation("usage.plan", "GET", "/store/plan", usage.plan, "maintain"),
    Operation("collect.check", "POST", "/store/check", collect.check, "maintain"),
    Operation("collect.collect", "POST", "/store/collect", collect.collect, "maintain"),
    Operation("views.views", "GET", "/views/{of}", views.views, ANYONE),
    Operation("views.save", "PUT", "/views/{of}", views.save, ANYONE),
    Operation("views.rename", "POST", "/views/{of}/name", views.rename, ANYONE),
    Operation("views.remove", "DELETE", "/views/{of}", views.remove, ANYONE),
    Operation("access.who", "GET", "/whoami", access.who, ANYONE, small=True),
    Operation("access.may", "GET", "/can", access.may, ANYONE),
    Operation("access.accounts", "GET", "/accounts", access.accounts, "access"),
    Operation("access.create-account", "POST", "/accounts", access.create_account, "access", secret=True),
    Operation("access.account", "GET", "/accounts/{account}", access.account, "access"),
    Operation("access.grant", "POST", "/accounts/{account}/grants", access.grant, "access"),
    Operation("access.disable", "POST", "/accounts/{account}/disabled", access.disable, "access"),
    Operation("access.set-password", "PUT", "/accounts/{account}/password", access.set_password, ANYONE, secret=True),
    Operation("access.tokens", "GET", "/tokens", access.tokens, ANYONE),
    Operation("access.create-token", "POST", "/tokens", access.create_token, ANYONE, secret=True),
    Operation("access.token", "GET", "/tokens/{token}", access.token, ANYONE),
    Operation("access.revoke-token", "DELETE", "/tokens/{token}", access.revoke_token, ANYONE),
    Operation("key.keys", "GET", "/keys", signing.keys, ANYONE),
    Operation("key.trust", "POST", "/keys", signing.trust, signing.VERB, anywhere=True),
    Operation("key.revoke", "POST", "/keys/{key}/revocation", signing.revoke, signing.VERB, anywhere=True),
    Operation("trust.trusts", "GET", "/trusts", trust.trusts, "access"),
    Operation("trust.add", "POST", "/trusts", trust.add, "access"),
    Operation("trust.remove", "DELETE", "/trusts/{trust}", trust.remove, "access"),
)
ATTEMPTS: Mapping[str, str] = {
    "mark.remove": "remove",
    "mark.revoke": "revoke",
    "mark.tag": "tag.set",
    "mark.untag": "tag.remove",
    "score.add": "score.add",
    "score.invalidate": "score.invalidate",
    "signing.sign": "sign",
    "scan.scan": "scan",
    "scan.report": "scan",
    "key.trust": "key.trust",
    "key.revoke": "key.revoke",
    "suites.set-suite": "suite.set",
    "promote.promote": "promote",
    "promote.rollback": "rollback",
    "promote.set-policy": "policy.set",
    "request.approve": "request.approve",
    "request.decline": "request.decline",
    "request.cancel": "request.cancel",
    "standstill.lift": "hold.lift",
    "standstill.freeze": "freeze.add",
    "standstill.thaw": "freeze.remove",
    "standstill.set-member": "group.set",
    "access.grant": "account.grant",
}
"""Operation -> the event that its refusal for want of rights is: what moves stages, or decides who may."""
BY_FUNCTION: Mapping[Function, Operation] = {operation.call: operation for operation in OPERATIONS.values()}


def to_wire(value: Any) -> bytes:
    """JSON of a domain value; NaN, which JSON lacks, as the text `nan`."""
    return msgspec.json.encode(_without_nan(msgspec.to_builtins(value)))


@cache
def kinds_of(operation: Operation) -> dict[str, Any]:
    """Argument -> type, and `return`, without what stays inside the process."""
    return {name: kind for name, kind in get_type_hints(operation.call).items() if name not in ("backend", LOCAL)}


def arguments_from_wire(
    operation: Operation, path: Mapping[str, str], query: Mapping[str, str], data: bytes
) -> dict[str, Any]:
    """The keyword arguments in a request, each of the type its operation declares.

    Raises:
        InvalidInput: not an object, an argument the operation does not have or lacks, or of another type.
    """
    kinds = kinds_of(operation)
    try:
        body = msgspec.json.decode(data, type=dict[str, Any]) if data else {}
        given = {**body, **query, **_from_path(path)}
        unknown = sorted(given.keys() - kinds.keys() | given.keys() & {"return"})
        if unknown:
            raise InvalidInput(f"{operation.name} has no argument {unknown[0][:60]!r}.")
        if has_nul(given):
            raise InvalidInput(f"{operation.name}: an argument holds a NUL character, which nothing here may have.")
        return {name: msgspec.convert(value, type=kinds[name], strict=False) for name, value in given.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{operation.name}: {error}.") from error


def _from_path(path: Mapping[str, str]) -> dict[str, str]:
    found = {name: value for name, value in path.items() if name not in REFERENCE}
    if ADAPTER[0] in path:
        adapter = "/".join(path[part] for part in ADAPTER)
        selector = path.get("selector")
        found["reference" if selector else "adapter"] = f"{adapter}@{selector}" if selector else adapter
    return found


def address(operation: Operation, given: Mapping[str, Any]) -> tuple[str, bytes | None]:
    """(path with query, JSON body) that asks `operation` with these arguments."""
    left = {name: value for name, value in given.items() if name != LOCAL}
    parts = dict(left)
    if "{adapter}" in operation.path:
        parts.update(zip(ADAPTER, left.pop("adapter").split("/"), strict=True))
    if "{reference}" in operation.path:
        adapter, _, selector = left.pop("reference").partition("@")
        parts.update(zip(REFERENCE, (*adapter.split("/"), selector), strict=True))
    names = _PLACE.findall(operation.route)
    path = "/api/v1" + _PLACE.sub(lambda found: quote(str(parts[found[1]]), safe=""), operation.route)
    rest = {name: value for name, value in left.items() if name not in names}
    if operation.method in ("GET", "DELETE"):
        query = urlencode({name: msgspec.to_builtins(value) for name, value in rest.items() if value is not None})
        return (f"{path}?{query}" if query else path), None
    return path, to_wire(rest)


def result_from_wire(operation: Operation, data: bytes) -> Any:
    """What an operation answered, of the type it declares."""
    return msgspec.convert(msgspec.json.decode(data), type=kinds_of(operation)["return"], strict=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return value
