"""Who may do what: every route of the native API times every kind of caller, against a table under review."""

from __future__ import annotations

import http.client
import json

import pytest

from adapter_registry.api.authentication import PUBLIC
from adapter_registry.domain.audit.event import Outcome
from adapter_registry.domain.people.access import Grant
from adapter_registry.operations import OPERATIONS
from adapter_registry.services.access import STRANGER
from tests.acceptance.hub.conftest import HubServer, hub  # noqa: F401  a fixture

CALLERS = ("nobody", "expired", "reader", "writer", "elsewhere", "approver", "admin")

# operation -> who gets past the question of rights (everybody else: 401 without a good token, else 403 or 404).
SIGNED_IN = {"reader", "writer", "elsewhere", "approver", "admin"}
READERS = {"reader", "writer", "approver", "admin"}
WRITERS = {"writer", "admin"}
MATRIX = {
    "base.known": SIGNED_IN,
    "base.register": {"writer", "elsewhere", "admin"},
    "base.find": SIGNED_IN,
    "base.recognise": SIGNED_IN,
    "base.declare-equivalent": {"admin"},
    "stored-base.stored": SIGNED_IN,
    "stored-base.store": {"writer", "elsewhere", "admin"},
    "stored-base.unstore": {"elsewhere", "admin"},
    "show.base-scores": SIGNED_IN,
    "score.add-to-base": {"writer", "elsewhere", "admin"},
    "score.invalidate-of-base": {"writer", "elsewhere", "admin"},
    "show.adapters": SIGNED_IN,
    "overview.overview": READERS,
    "overview.stages": READERS,
    "overview.versions": READERS,
    "course.course": READERS,
    "beside.compare": SIGNED_IN,
    "beside.samples": SIGNED_IN,
    "closeup.closeup": READERS,
    "closeup.tensors": READERS,
    "kinship.kinship": READERS,
    "job.about": READERS,
    "show.versions": READERS,
    "push.missing": WRITERS,
    "upload.begin": WRITERS,
    "upload.finish": WRITERS,
    "upload.unknown": WRITERS,
    "push.commit": WRITERS,
    "show.resolve": READERS,
    "mark.remove": {"admin"},
    "prune.prune": {"admin"},
    "mark.revoke": {"admin"},
    "show.derived": READERS,
    "show.scores": READERS,
    "deployment.report": {"admin"},
    "deployment.deployments": READERS,
    "servable.servable": READERS,
    "score.add": WRITERS,
    "score.invalidate": WRITERS,
    "signing.signatures": READERS,
    "signing.sign": WRITERS,
    "scan.scans": READERS,
    "scan.scan": WRITERS,
    "scan.report": WRITERS,
    "suites.suites": SIGNED_IN,
    "suites.suite": SIGNED_IN,
    "suites.set-suite": {"admin"},
    "mark.tag": WRITERS,
    "mark.untag": WRITERS,
    "mark.label": WRITERS,
    "promote.explain": READERS,
    "promote.promote": {"admin"},
    "promote.rollback": {"admin"},
    "inbox.inbox": SIGNED_IN,
    "record.moves": SIGNED_IN,
    "record.revisions": SIGNED_IN,
    "record.log": {"admin"},
    "record.chain": {"admin"},
    "pointer.pointer": READERS,
    "pointer.key": SIGNED_IN,
    "promote.history": READERS,
    "stages.stages": SIGNED_IN,
    "stages.declare": {"admin"},
    "stages.remove": {"admin"},
    "reverify.reverify": {"admin"},
    "reverify.upcoming": SIGNED_IN,
    "promote.policy": SIGNED_IN,
    "promote.set-policy": {"admin"},
    "trial.replay": {"admin"},
    "promote.lint-policy": {"admin"},
    "request.requests": SIGNED_IN,
    "request.show": SIGNED_IN,
    "request.approve": {"approver", "admin"},
    "request.decline": {"approver", "admin"},
    "request.cancel": {"admin"},
    "standstill.hold": READERS,
    "standstill.lift": {"admin"},
    "standstill.freezes": SIGNED_IN,
    "standstill.freeze": {"admin"},
    "standstill.thaw": {"admin"},
    "standstill.groups": {"admin"},
    "standstill.set-member": {"admin"},
    "draft.default-base": READERS,
    "draft.set-default-base": {"admin"},
    "webhook.register": {"elsewhere", "admin"},
    "webhook.webhooks": {"elsewhere", "admin"},
    "webhook.show": {"elsewhere", "admin"},
    "webhook.change": {"elsewhere", "admin"},
    "webhook.remove": {"elsewhere", "admin"},
    "webhook.rotate": {"elsewhere", "admin"},
    "webhook.deliveries": {"elsewhere", "admin"},
    "webhook.message": {"elsewhere", "admin"},
    "webhook.replay": {"elsewhere", "admin"},
    "job.submit": {"writer", "elsewhere", "admin"},
    "job.check": {"writer", "elsewhere", "admin"},
    "job.jobs": {"writer", "elsewhere", "admin"},
    "job.show": {"writer", "elsewhere", "admin"},
    "job.log": {"writer", "elsewhere", "admin"},
    "job.cancel": {"writer", "elsewhere", "admin"},
    "job.retry": {"writer", "elsewhere", "admin"},
    "show.events": {"admin"},
    "usage.usage": SIGNED_IN,
    "usage.plan": {"admin"},
    "collect.check": {"admin"},
    "collect.collect": {"admin"},
    "views.views": SIGNED_IN,
    "views.save": SIGNED_IN,
    "views.rename": SIGNED_IN,
    "views.remove": SIGNED_IN,
    "access.who": SIGNED_IN,
    "access.may": SIGNED_IN,
    "access.accounts": {"admin"},
    "access.create-account": {"admin"},
    "access.account": {"admin"},
    "access.grant": {"admin"},
    "access.disable": {"admin"},
    "access.set-password": SIGNED_IN,
    "access.tokens": SIGNED_IN,
    "access.create-token": SIGNED_IN,
    "access.token": SIGNED_IN,
    "access.revoke-token": SIGNED_IN,
    "key.keys": SIGNED_IN,
    "key.trust": {"admin"},
    "key.revoke": {"admin"},
    "trust.trusts": {"admin"},
    "trust.add": {"admin"},
    "trust.remove": {"admin"},
}
PLACES = {
    "adapter_namespace": "team",
    "adapter_name": "sql-lora",
    "selector": "v1",
    "stage": "prod",
    "name": "nothing",
    "namespace": "team",
    "account": "nobody-at-all",
    "token": "000000000000",
    "webhook": "000000000000",
    "delivery": "msg_000000000000_1",
    "trust": "000000000000",
    "job": "000000000000",
    "request": "P-1",
    "freeze": "999",
    "group": "leads",
    "key": "ci",
    "of": "adapters",
}


@pytest.fixture(scope="module")
def callers(hub: HubServer) -> dict[str, str]:  # noqa: F811  the fixture
    registry = hub.registry
    registry.create_account("late")
    expired = registry.create_token(account="late", expires_in_seconds=1).secret
    import time

    time.sleep(1.2)
    return {
        "nobody": "",
        "expired": expired,
        "reader": hub.token_of("m-reader", ("team/*", "reader")),
        "writer": hub.token_of("m-writer", ("team/*", "writer")),
        "elsewhere": hub.token_of("m-elsewhere", ("other/*", "maintainer")),
        "approver": hub.token_of("m-approver", ("team/*", "approver")),
        "admin": hub.token,
    }


def ask(hub, method, path, token, body=None):  # noqa: F811
    connection = http.client.HTTPConnection(hub.url.removeprefix("http://"), timeout=20)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, data


def test_the_table_has_every_operation():
    assert MATRIX.keys() == OPERATIONS.keys()


def test_the_public_routes_are_these_and_no_others():
    assert [path for _, path in PUBLIC] == [
        r"/health",
        r"/ready",
        r"/api/v1/openapi\.json",
        r"/api/v1/sign-in",
        r"/api/v1/sign-in/(browser|code)",
        r"/auth/[A-Za-z0-9_-]+",
        r"/",
        r"/ui/sign-in",
        r"/ui/sign-in/provider",
        r"/ui/static/.*",
        r"/api/v1/tokens/exchange",
        r"/api/agent-harnesses",
        r"/api/telemetry/.*",
        r"/api/validate-yaml",
        r"/v1/telemetry",
        r"/api/v1/uploads/[^/]+",
        r"/xet/.*",
    ]


@pytest.mark.parametrize("name", sorted(MATRIX))
@pytest.mark.parametrize("caller", CALLERS)
def test_each_route_lets_in_whom_the_table_says(hub, callers, name, caller):  # noqa: F811
    operation = OPERATIONS[name]
    path = "/api/v1" + operation.route.format(**PLACES)
    # A body that no operation accepts: rights are asked before anything is done.
    body = None if operation.method in ("GET", "DELETE") else json.dumps({})
    status, data = ask(hub, operation.method, path, callers[caller], body)
    if caller in ("nobody", "expired"):
        assert status == 401
    elif caller in MATRIX[name]:
        assert status not in (401, 403), data
        assert "there is no adapter" not in data.decode()
    else:
        assert status in (403, 404)
        if caller == "elsewhere" and "adapter" in operation.path and "{" in operation.path:
            assert status == 404
    assert status < 500


def test_another_namespaces_adapter_looks_like_none_at_all(hub, callers):  # noqa: F811
    for path in ("versions", "versions/v1", "history", "versions/v1/scores", "versions/v1/files/README.md"):
        mine = ask(hub, "GET", f"/api/v1/adapters/team/sql-lora/{path}", callers["elsewhere"])
        none = ask(hub, "GET", f"/api/v1/adapters/team/sql-larb/{path}", callers["elsewhere"])
        assert mine[0] == none[0] == 404
        assert mine[1].replace(b"sql-lora", b"") == none[1].replace(b"sql-larb", b"")


def test_bytes_of_another_namespace_cannot_be_claimed_by_their_digest(hub, callers):  # noqa: F811
    version = hub.registry.resolve("team/sql-lora@v1")
    files = [{"path": f.path, "size": f.size, "digest": f.digest} for f in version.files]
    status, data = ask(
        hub, "POST", "/api/v1/adapters/other/x/missing", callers["elsewhere"], json.dumps({"files": files})
    )
    assert status == 201
    assert sorted(json.loads(data)) == sorted({f.digest for f in version.files})
    body = json.dumps({"base": "org/llama", "files": files})
    assert ask(hub, "POST", "/api/v1/adapters/other/x/versions", callers["elsewhere"], body)[0] == 409


def test_a_token_can_be_narrowed_and_never_widened(hub, callers):  # noqa: F811
    body = json.dumps({"limits": [{"scope": "team/sql-lora", "verbs": ["reader"]}]})
    status, data = ask(hub, "POST", "/api/v1/tokens", callers["writer"], body)
    assert status == 201
    narrow = json.loads(data)["secret"]
    assert ask(hub, "GET", "/api/v1/adapters/team/sql-lora/versions", narrow)[0] == 200
    assert ask(hub, "POST", "/api/v1/adapters/team/sql-lora/missing", narrow, '{"files": []}')[0] == 403
    for limits in (None, [{"scope": "team/*", "verbs": ["reader"]}], [{"scope": "team/sql-lora", "verbs": ["push"]}]):
        assert ask(hub, "POST", "/api/v1/tokens", narrow, json.dumps({"limits": limits}))[0] == 403
    identity = json.loads(data)["token"]["id"]
    assert ask(hub, "DELETE", f"/api/v1/tokens/{identity}", callers["reader"])[0] == 404
    assert ask(hub, "DELETE", f"/api/v1/tokens/{identity}", callers["writer"])[0] == 200
    assert ask(hub, "GET", "/api/v1/adapters/team/sql-lora/versions", narrow)[0] == 401


def test_denials_are_on_the_record_and_fill_it_for_nobody(hub, callers):  # noqa: F811
    token = hub.token_of("m-nosy", ("team/*", "reader"))
    for number in range(60):
        path = f"/api/v1/adapters/team/sql-lora/versions/v{number % 30 + 1}/stages/prod"
        assert ask(hub, "POST", path, token, "{}")[0] == 403
    assert ask(hub, "POST", "/api/v1/adapters/other/x/versions/v1/stages/prod", token, "{}")[0] == 404
    mine = [event.entry for event in hub.registry.events() if event.entry.actor == "m-nosy"]
    assert {(entry.action, entry.outcome) for entry in mine} == {("promote", "refused")}
    assert mine[0].subject == "team/sql-lora@v1"
    assert "takes the verb 'promote:prod'" in mine[0].detail["because"]
    assert 20 <= len(mine) <= 22  # one more for each minute that this took


def test_what_a_limited_token_makes_does_not_outlive_it(hub, callers):  # noqa: F811
    limits = [{"scope": "team/sql-lora", "verbs": ["reader"]}]
    body = {"limits": limits, "expires_in_seconds": 3600}
    made = json.loads(ask(hub, "POST", "/api/v1/tokens", callers["writer"], json.dumps(body))[1])
    for seconds in (None, 86_400, 7200, 60):
        body = {"limits": limits, "expires_in_seconds": seconds}
        child = json.loads(ask(hub, "POST", "/api/v1/tokens", made["secret"], json.dumps(body))[1])
        assert child["token"]["expires_at"] <= made["token"]["expires_at"]


def test_signing_in_takes_the_password(hub):  # noqa: F811
    hub.registry.create_account("paula", password="correct horse battery")
    good = json.dumps({"name": "paula", "password": "correct horse battery"})
    status, data = ask(hub, "POST", "/api/v1/sign-in", "", good)
    assert status == 201
    assert json.loads(ask(hub, "GET", "/api/v1/whoami", json.loads(data)["secret"])[1])["name"] == "paula"
    wrong = [json.dumps({"name": name, "password": "wrong wrong"}) for name in ("paula", "nobody")]
    answers = [ask(hub, "POST", "/api/v1/sign-in", "", body) for body in wrong]
    assert answers[0] == answers[1]
    assert answers[0][0] == 401
    refused = [each.entry for each in hub.registry.events() if each.entry.actor == STRANGER]
    assert [(each.action, each.subject, each.outcome) for each in refused[-2:]] == [
        ("account.sign-in", "paula", Outcome.REFUSED),
        ("account.sign-in", "*", Outcome.REFUSED),
    ]


def test_a_narrowed_token_cannot_set_the_password_that_would_undo_its_limits(hub):  # noqa: F811
    registry = hub.registry
    registry.create_account("nora")
    registry.grant("nora", "team/*", ("maintainer",))
    body = json.dumps({"password": "a long enough one"})
    limits = (Grant("team/sql-lora", ("reader",)),)
    for token, expected in (
        (registry.create_token(account="nora", limits=limits).secret, 403),
        (registry.create_token(account="nora").secret, 200),
    ):
        assert ask(hub, "PUT", "/api/v1/accounts/nora/password", token, body)[0] == expected


def test_no_token_is_stored_or_logged(hub, callers):  # noqa: F811
    # Our client sends an idempotency key with its writes; the answers that are kept must hold no token either.
    secrets = [hub.token, *(token for token in callers.values() if token)]
    for path in hub.cli.home.rglob("*"):
        if path.is_file():
            stored = path.read_bytes()
            assert not [token for token in secrets if token.encode() in stored], path


def test_requests_are_counted_by_route_and_have_an_id(hub, callers):  # noqa: F811
    assert ask(hub, "GET", "/metrics", "")[0] == 401
    ask(hub, "GET", "/api/v1/adapters/team/sql-lora/versions", callers["reader"])
    ask(hub, "GET", "/api/models/team/sql-lora/revision/prod", callers["reader"])
    text = ask(hub, "GET", "/metrics", callers["reader"])[1].decode()
    assert 'route="/api/v1/adapters/{adapter_namespace}/{adapter_name}/versions",status="200"' in text
    assert 'route="hub:revision",status="200"' in text
    assert "sql-lora" not in text
