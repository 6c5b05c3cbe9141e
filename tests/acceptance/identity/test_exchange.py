"""A pipeline's own token, signed by a real provider, is exchanged for a short-lived token that only narrows."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from urllib.parse import urlencode

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from adapter_registry.domain.errors import Forbidden, InvalidInput, NotFound, Unauthorised
from adapter_registry.domain.people.access import Grant
from tests.acceptance.identity.conftest import known, make_ci
from tests.acceptance.test_life import retrained

AUDIENCE = "https://adapters.test"
CLAIMS = {"repository": "team/sql-lora", "ref": "refs/heads/main"}


@pytest.fixture
def trust(there):
    made = there.registry.add_trust(
        "ci",
        issuer=there.provider.issuer,
        audience=AUDIENCE,
        claims=CLAIMS,
        limits=(Grant("team/*", ("read", "push")),),
    )
    yield made
    if made in there.registry.trusts():
        there.registry.remove_trust(made.id)


def refused(answer, *said):
    status, document = answer
    assert (status, document["code"]) == (401, "identity-refused"), document
    for text in said:
        assert text in document["detail"]
    return document


class TestWhatIsGiven:
    def test_a_token_of_the_service_account_that_ends_and_says_where_it_came_from(self, there, trust):
        status, given = there.exchange(there.provider.token())
        assert status == 201
        assert given["access_token"].startswith("adapters_")
        assert (given["token_type"], given["expires_in"]) == ("Bearer", 900)
        assert there.registry_of(given["access_token"]).whoami().name == "ci"
        [listed] = [each for each in there.registry.tokens("ci") if each.id == given["token"]["id"]]
        assert listed.trust == trust.id
        assert "repo:team/sql-lora:ref:refs/heads/main" in listed.label
        assert listed.expires_at is not None

    def test_the_audit_log_says_who_got_it_and_for_which_claims(self, there, trust):
        identity = there.exchange(there.provider.token())[1]["token"]["id"]
        entry = there.registry.events()[-1].entry
        assert (entry.action, entry.subject, entry.actor) == ("token.exchange", "ci", "ci")
        assert entry.detail["token"] == identity
        assert entry.detail["claims"] == {name: repr(value) for name, value in CLAIMS.items()}

    def test_rfc_8693_by_form_answers_the_same(self, there, trust):
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "subject_token": there.provider.token(),
        }
        status, given = there.post("/api/v1/tokens/exchange", urlencode(form), form=True)
        assert status == 201
        assert given["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"

    def test_neither_token_is_stored_anywhere(self, there, trust):
        presented = there.provider.token()
        given = there.exchange(presented)[1]["access_token"]
        for path in there.server.cli.home.rglob("*"):
            if path.is_file():
                stored = path.read_bytes()
                assert presented.encode() not in stored
                assert given.encode() not in stored


class TestNarrowing:
    @pytest.fixture
    def pipeline(self, there, trust):
        return there.registry_of(there.exchange(there.provider.token(), trust.id)[1]["access_token"])

    def test_it_pushes_where_it_may_and_nowhere_else(self, there, pipeline, lora_folder, tmp_path):
        folder = retrained(lora_folder, tmp_path / "next", 3.0)
        assert pipeline.push(folder, base="org/llama", name="team/sql-lora").version.number > 1
        with pytest.raises((Forbidden, NotFound)):
            pipeline.push(folder, base="org/llama", name="other/sql-lora")

    def test_it_does_not_promote_though_its_account_may(self, there, pipeline):
        with pytest.raises(Forbidden):
            pipeline.attempt("team/sql-lora@v1", "dev")
        assert not pipeline.may("promote:dev", "team/sql-lora")
        assert pipeline.may("push", "team/sql-lora")

    def test_it_makes_no_token_however_narrow(self, there, pipeline):
        for limits in (None, (Grant("team/sql-lora", ("read",)),)):
            with pytest.raises(Forbidden, match="outlive"):
                pipeline.create_token(limits=limits, expires_in_seconds=60)

    def test_it_revokes_itself_and_no_other_token_of_its_account(self, there, pipeline):
        other = there.registry.create_token(account="ci").token
        with pytest.raises(NotFound):
            pipeline.revoke_token(other.id)
        pipeline.revoke_token(pipeline.whoami().token)
        with pytest.raises(Unauthorised):
            pipeline.whoami()

    def test_a_trust_can_be_for_one_stage(self, there):
        made = there.registry.add_trust(
            "ci",
            issuer=there.provider.issuer,
            audience=AUDIENCE,
            claims={"environment": "staging"},
            limits=(Grant("team/*", ("read", "promote:staging")),),
        )
        given = there.exchange(there.provider.token(environment="staging"), made.id)[1]
        pipeline = there.registry_of(given["access_token"])
        assert pipeline.may("promote:staging", "team/sql-lora")
        for verb in ("promote:prod", "promote:dev", "approve:staging", "push"):
            assert not pipeline.may(verb, "team/sql-lora")
        with pytest.raises(Forbidden):
            pipeline.attempt("team/sql-lora@v1", "prod")

    def test_limits_beyond_the_account_give_nothing_beyond_it(self, there):
        wide = there.registry.add_trust(
            "ci",
            issuer=there.provider.issuer,
            audience=AUDIENCE,
            claims={"repository": "wide/one"},
            limits=(Grant("*", ("admin",)),),
        )
        token = there.exchange(there.provider.token(repository="wide/one"), wide.id)[1]["access_token"]
        with pytest.raises(Forbidden):
            there.registry_of(token).accounts()
        with pytest.raises(Forbidden):
            there.registry_of(token).add_trust("ci", issuer="https://x.test", audience="x", claims={"sub": "x"})

    def test_an_unlimited_exchanged_token_cannot_make_tokens_either(self, there):
        free = there.registry.add_trust(
            "ci", issuer=there.provider.issuer, audience=AUDIENCE, claims={"repository": "free/one"}
        )
        token = there.exchange(there.provider.token(repository="free/one"), free.id)[1]["access_token"]
        with pytest.raises(Forbidden, match="outlive"):
            there.registry_of(token).create_token()


class TestClaims:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("aud", "https://other.test"),
            ("repository", "evil/sql-lora"),
            ("ref", "refs/heads/main-2"),
            ("ref", None),
        ],
    )
    def test_what_differs_is_told_to_who_names_the_trust(self, there, trust, name, value):
        answer = there.exchange(there.provider.token(**{name: value}), trust.id)
        expected = {"aud": AUDIENCE, **CLAIMS}[name]
        document = refused(answer, trust.id, expected)
        [problem] = document["problems"]
        assert (problem["code"], problem["field"], problem["expected"]) == ("claim-mismatch", name, repr(expected))
        assert problem["found"] == (repr(value) if value else "nothing")

    def test_who_names_no_trust_learns_nothing_of_what_they_ask_for(self, there, trust):
        document = refused(there.exchange(there.provider.token(repository="evil/one")), "evil/one", "--trust")
        assert "team/sql-lora'" not in document["detail"].replace("repo:team/sql-lora", "")
        assert trust.id not in document["detail"]
        assert document["problems"] == []

    def test_an_audience_among_several_and_a_pattern_fit(self, there):
        made = there.registry.add_trust(
            "ci", issuer=there.provider.issuer, audience="one", claims={"sub": "repo:team/*:ref:refs/tags/v*"}
        )
        tagged = {"aud": ["two", "one"], "sub": "repo:team/x:ref:refs/tags/v1"}
        assert there.exchange(there.provider.token(**tagged), made.id)[0] == 201
        branch = {**tagged, "sub": "repo:team/x:ref:refs/heads/v1"}
        refused(there.exchange(there.provider.token(**branch), made.id), "repo:team/*:ref:refs/tags/v*")

    def test_a_token_that_fits_two_trusts_names_one(self, there, trust):
        second = there.registry.add_trust("ci", issuer=there.provider.issuer, audience=AUDIENCE, claims=CLAIMS)
        token = there.provider.token()
        status, document = there.exchange(token)
        assert (status, document["code"]) == (409, "ambiguous")
        assert there.exchange(token, second.id)[1]["token"]["trust"] == second.id
        there.registry.remove_trust(second.id)

    def test_an_issuer_that_no_trust_names_is_answered_the_same_whatever_it_is(self, there, trust):
        answers = [
            there.exchange(there.provider.token(iss=issuer))
            for issuer in ("https://evil.test", "http://127.0.0.1:9", f"{there.provider.issuer}/", "", None)
        ]
        refused(answers[0], "no trust of this registry accepts")
        assert all(answer == answers[0] for answer in answers)


class TestSignatures:
    def test_an_expired_token_says_when_it_expired(self, there, trust):
        now = int(time.time())
        refused(there.exchange(there.provider.token(exp=now - 60, iat=now - 300, nbf=now - 300)), "expired at")

    def test_a_token_of_the_future_is_not_good_yet(self, there, trust):
        refused(there.exchange(there.provider.token(nbf=int(time.time()) + 600)), "is good from")

    @pytest.mark.parametrize("claim", ["exp", "iat", "sub", "aud"])
    def test_a_token_without_a_claim_that_all_have_is_refused(self, there, trust, claim):
        refused(there.exchange(there.provider.token(**{claim: None})), repr(claim))

    def test_another_key_under_the_providers_key_id_is_refused(self, there, trust, other_key):
        refused(there.exchange(there.provider.token(key=other_key)), "signature")

    def test_changed_claims_are_refused(self, there, trust):
        header, payload, signature = there.provider.token(repository="evil/one").split(".")
        said = json.loads(base64.urlsafe_b64decode(payload + "=="))
        changed = _coded(json.dumps({**said, **CLAIMS}).encode())
        refused(there.exchange(f"{header}.{changed}.{signature}"), "signature")

    def test_no_algorithm_is_no_signature(self, there, trust):
        said = jwt.decode(there.provider.token(), options={"verify_signature": False})
        for algorithm in ("none", "None", "nOnE"):
            forged = _unsigned({"alg": algorithm, "kid": there.provider.key_id}, said)
            refused(there.exchange(forged), "only RS256")

    def test_the_public_key_is_no_secret_to_sign_with(self, there, trust):
        import hashlib
        import hmac

        private = serialization.load_pem_private_key(there.provider.key.encode(), None)
        for form in (serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1):
            public = private.public_key().public_bytes(serialization.Encoding.PEM, form)
            said = jwt.decode(there.provider.token(), options={"verify_signature": False})
            text = _unsigned({"alg": "HS256", "kid": there.provider.key_id}, said).removesuffix(".")
            signature = (
                base64.urlsafe_b64encode(hmac.digest(public, text.encode(), hashlib.sha256)).rstrip(b"=").decode()
            )
            refused(there.exchange(f"{text}.{signature}"), "'HS256'", "only RS256")

    def test_a_key_in_the_tokens_own_header_is_not_believed(self, there, trust, other_key):
        from jwt.algorithms import RSAAlgorithm

        public = serialization.load_pem_private_key(other_key.encode(), None).public_key()
        own = {**RSAAlgorithm.to_jwk(public, as_dict=True), "kid": "mine"}
        forged = there.provider.token(key=other_key, headers={"kid": "mine", "jwk": own, "jku": "http://127.0.0.1:9/"})
        refused(there.exchange(forged), "'mine'", "none of those")

    @pytest.mark.parametrize("text", ["x", "a.b.c", "..", "e30.e30.", "é" * 10, "a" * 20_000, "[" * 9000])
    def test_what_is_no_token_is_refused(self, there, trust, text):
        refused(there.exchange(text))

    @pytest.mark.parametrize(
        "body", [{}, {"subject_token": ""}, {"subject_token": 1}, {"subject_token": "x", "scope": "y"}, [], "x"]
    )
    def test_a_request_that_is_none_is_told(self, there, body):
        status, document = there.post("/api/v1/tokens/exchange", body)
        assert (status, document["code"]) == (422, "invalid-input")

    def test_each_token_is_good_once(self, there, trust):
        token = there.provider.token()
        assert there.exchange(token)[0] == 201
        refused(there.exchange(token), "exchanged before")

    def test_a_token_that_was_refused_for_its_claims_may_come_again(self, there, trust):
        token = there.provider.token(repository="new/one")
        refused(there.exchange(token, trust.id))
        made = there.registry.add_trust(
            "ci", issuer=there.provider.issuer, audience=AUDIENCE, claims={"repository": "new/one"}
        )
        assert there.exchange(token, made.id)[0] == 201


class TestKeys:
    def test_a_rotated_key_is_learnt_and_the_old_one_forgotten(self, tmp_path):
        with known(tmp_path) as running:
            make_ci(running)
            running.registry.add_trust("ci", issuer=running.provider.issuer, audience=AUDIENCE, claims=CLAIMS)
            assert running.exchange(running.provider.token())[0] == 201
            old_key, old_id = running.provider.key, running.provider.key_id
            running.provider.rotate()
            assert running.exchange(running.provider.token())[0] == 201
            refused(running.exchange(running.provider.token(key=old_key, headers={"kid": old_id})), "none of those")

    def test_unknown_keys_make_the_server_ask_again_at_most_once_in_a_while(self, tmp_path, other_key):
        with known(tmp_path) as running:
            make_ci(running)
            running.registry.add_trust("ci", issuer=running.provider.issuer, audience=AUDIENCE, claims=CLAIMS)
            for number in range(6):
                refused(running.exchange(running.provider.token(key=other_key, headers={"kid": str(number)})))
            asked = (running.provider.folder / "log").read_text().count("/.well-known/openid-configuration ")
            assert asked == 2

    def test_a_provider_that_is_gone_is_told_and_is_no_refusal(self, tmp_path):
        with known(tmp_path) as running:
            make_ci(running)
            gone = "http://127.0.0.1:9/o"
            running.registry.add_trust("ci", issuer=gone, audience=AUDIENCE, claims=CLAIMS)
            status, document = running.exchange(running.provider.token(iss=gone))
            assert (status, document["code"]) == (503, "issuer-unavailable")

    def test_http_is_not_fetched_unless_it_is_allowed(self, tmp_path):
        with known(tmp_path, ADAPTERS_OIDC_LOOPBACK="") as running:
            make_ci(running)
            running.registry.add_trust("ci", issuer=running.provider.issuer, audience=AUDIENCE, claims=CLAIMS)
            status, document = running.exchange(running.provider.token())
            assert status == 503
            assert "ADAPTERS_OIDC_LOOPBACK" in document["detail"]


class TestTrusts:
    def test_a_trust_that_is_removed_ends_and_so_do_the_tokens_it_gave(self, there, trust):
        token = there.exchange(there.provider.token(), trust.id)[1]["access_token"]
        there.registry.remove_trust(trust.id)
        with pytest.raises(Unauthorised):
            there.registry_of(token).whoami()
        assert there.exchange(there.provider.token(), trust.id)[0] == 401
        with pytest.raises(NotFound):
            there.registry.remove_trust(trust.id)

    def test_a_service_account_that_is_shut_out_gets_none(self, there, trust):
        there.registry.disable("ci")
        refused(there.exchange(there.provider.token(), trust.id), "shut out")
        there.registry.disable("ci", disabled=False)

    @pytest.mark.parametrize(
        "change",
        [
            {"issuer": "http://issuer.test"},
            {"issuer": "ftp://issuer.test"},
            {"issuer": "https://user@issuer.test"},
            {"issuer": "https://issuer.test/?x=1"},
            {"issuer": "https://"},
            {"issuer": "https://issuer.test:99999"},
            {"claims": {}},
            {"claims": {"sub": "*"}},
            {"claims": {"repository": "*/sql-lora", "sub": "*x"}},
            {"claims": {"aud": "x"}},
            {"audience": ""},
            {"seconds": 3601},
            {"seconds": 5},
            {"limits": (Grant("team/*", ("no-such-verb",)),)},
        ],
        ids=str,
    )
    def test_what_would_trust_too_much_is_refused(self, there, change):
        good = {"issuer": there.provider.issuer, "audience": AUDIENCE, "claims": CLAIMS}
        before = there.registry.trusts()
        with pytest.raises(InvalidInput):
            there.registry.add_trust("ci", **{**good, **change})
        assert there.registry.trusts() == before

    def test_a_pipeline_is_no_person(self, there):
        with pytest.raises(InvalidInput, match="--service"):
            there.registry.add_trust("admin", issuer=there.provider.issuer, audience=AUDIENCE, claims=CLAIMS)

    def test_a_service_account_has_no_password(self, there):
        with pytest.raises(InvalidInput, match="service account"):
            there.registry.create_account("robot", kind="service", password="a long enough one")


class TestCommands:
    def ran(self, there, *arguments, stdin="", token=None, code=0):
        cli = there.server.cli
        environment = {
            **cli.environment,
            "ADAPTERS_HOME": str(there.server.folder / "client"),
            "ADAPTERS_URL": there.server.url,
        }
        if token:
            environment["ADAPTERS_TOKEN"] = token
        done = subprocess.run(
            [*cli.command, *arguments], input=stdin, capture_output=True, text=True, env=environment, check=False
        )
        assert "Traceback" not in done.stderr
        assert done.returncode == code, done.stderr
        return done

    def test_a_pipeline_lives_by_three_commands(self, there):
        asked = ["--issuer", there.provider.issuer, "--claim", "sub=repo:team/commands:*", "--audience", AUDIENCE]
        narrowed = ["--allow", "push", "--scope", "team/*", "--lifetime", "10m"]
        added = self.ran(there, "trust", "add", "ci", *asked, *narrowed, "-q", token=there.server.token)
        identity = added.stdout.strip()
        assert identity in self.ran(there, "trust", "ls", token=there.server.token).stdout
        presented = there.provider.token(sub="repo:team/commands:ref:refs/heads/x")
        done = self.ran(there, "token", "exchange", stdin=presented)
        assert "10 minutes" in done.stderr
        assert self.ran(there, "whoami", "-q", token=done.stdout.strip()).stdout.strip() == "ci"
        again = self.ran(there, "token", "exchange", "--trust", identity, stdin=presented, code=1)
        assert "exchanged before" in again.stderr
        self.ran(there, "trust", "rm", identity, token=there.server.token)
        self.ran(there, "whoami", token=done.stdout.strip(), code=1)

    def test_an_exchanged_token_can_be_kept_as_a_login(self, there, trust, tmp_path):
        cli = there.server.cli
        environment = {**cli.environment, "ADAPTERS_HOME": str(tmp_path / "client")}
        for arguments, stdin in (
            (["login", there.server.url, "--oidc-token-stdin", "--trust", trust.id], there.provider.token()),
            (["whoami"], ""),
            (["logout"], ""),
        ):
            done = subprocess.run(
                [*cli.command, *arguments], input=stdin, capture_output=True, text=True, env=environment, check=True
            )
            assert "revoked" not in done.stderr


@pytest.fixture(scope="module")
def other_key():
    from cryptography.hazmat.primitives.asymmetric import rsa

    kinds = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(*kinds).decode()


def _unsigned(header, claims):
    return ".".join(_coded(json.dumps(each).encode()) for each in (header, claims)) + "."


def _coded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
