"""Signatures and scans on real databases: what policies ask of files, and what became of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import create_engine, text

from adapter_registry.domain.audit.event import Outcome
from adapter_registry.domain.audit.file import events_of, exported
from adapter_registry.domain.audit.replay import replayed
from adapter_registry.domain.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    Notice,
    PromotionWaiting,
    SignatureRefused,
)
from adapter_registry.domain.integrity.scan import Report
from adapter_registry.domain.integrity.signing import Envelope, Sealed, envelope_of, new_private, public_of, sealed
from adapter_registry.domain.policies.policy import Integrity, Policy, Scanners, Signers
from adapter_registry.domain.policies.process import Approvals, Process
from adapter_registry.domain.promotions.promotion import Result
from adapter_registry.domain.promotions.request import State
from adapter_registry.local.verifying import verify_folder
from tests.integration.test_race import store  # noqa: F401  a fixture
from tests.integration.test_requests import ready  # noqa: F401  a fixture

pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
CI, ANN = new_private(), new_private()
SIGNED = Policy("prod", integrity=Integrity(signature=Signers()))
SCANNED = Policy("prod", integrity=Integrity(scan=Scanners()))


@pytest.fixture
def me(ready):  # noqa: F811  the fixture
    """A registry whose prod asks for a signature, and which trusts the key of CI."""
    registry = ready.registry("ann")
    registry.set_policy("prod", SIGNED)
    registry.trust_key("ci", public_of(CI))
    return registry


def finding(me, version="a@v1", rule="integrity signature"):
    [found] = [each for each in me.explain(version, "prod").decision.findings if each.rule == rule]
    return found


class TestSignatures:
    def test_a_version_waits_until_a_trusted_key_signed_it(self, me):
        waiting = me.attempt("a@v1", "prod")
        assert waiting.decision.outcome is Result.WAITING
        [blocker] = waiting.decision.blockers
        assert blocker.reason == "0 of 1 signature by keys that are trusted for it"
        assert blocker.fix.startswith("adapters sign default/a@v1 --key FILE")
        version = me.resolve("a@v1")
        made = me.sign(version, CI)
        assert me.sign(version, CI) == made
        assert me.signatures(version) == me.verify(version) == me.verify(version, public_of(CI)) == (made,)
        assert me.attempt("a@v1", "prod").decision.promotes
        assert finding(me).reason.startswith("signed by ci (")

    def test_a_signature_over_another_version_is_refused_with_both_digests(self, me):
        first, second = me.resolve("a@v1"), me.resolve("a@v2")
        with pytest.raises(SignatureRefused) as refused:
            me.attach(first, sealed(second, CI))
        assert first.digest in refused.value.text
        assert second.digest in refused.value.text
        event = me.events("a@v1")[-1].entry
        assert (event.action, event.outcome) == ("sign", Outcome.REFUSED)
        assert me.signatures(first) == ()

    def test_a_signature_under_another_name_is_refused(self, me):
        version = me.resolve("a@v1")
        with pytest.raises(SignatureRefused, match="is about default/b, and this is default/a"):
            me.attach(version, sealed(replace(version, adapter="default/b"), CI))

    def test_a_key_that_nobody_trusts_cannot_sign(self, me):
        with pytest.raises(SignatureRefused, match=r"nobody trusts the key .* adapters key add NAME"):
            me.sign(me.resolve("a@v1"), ANN)

    def test_a_signature_that_names_another_key_than_made_it_is_refused(self, me):
        version = me.resolve("a@v1")
        honest, other = sealed(version, CI), sealed(version, ANN)
        forged = replace(other, signatures=(Sealed(honest.signatures[0].keyid, other.signatures[0].sig),))
        with pytest.raises(SignatureRefused, match=r"is none of the key ci"):
            me.attach(version, forged)

    @pytest.mark.parametrize(
        "envelope",
        [
            Envelope("e30=", "application/vnd.in-toto+json", (Sealed("", ""),)),
            Envelope("!", "application/vnd.in-toto+json", (Sealed("", ""),)),
            Envelope("e30=", "text/plain", (Sealed("", ""),)),
            Envelope("e30=", "application/vnd.in-toto+json", ()),
        ],
    )
    def test_what_is_no_envelope_of_a_statement_is_refused(self, me, envelope):
        with pytest.raises(InvalidInput):
            me.attach(me.resolve("a@v1"), envelope)

    def test_keys_can_be_asked_for_by_name_and_number(self, me):
        me.trust_key("ann", public_of(ANN))
        asked = Signers(("ann", "release"), 1)
        me.set_policy("prod", Policy("prod", integrity=Integrity(signature=asked)))
        version = me.resolve("a@v1")
        me.sign(version, CI)
        waits = finding(me)
        assert waits.outcome == "pending"
        assert "ci" in waits.reason
        assert "is not one of them" in waits.reason
        me.sign(version, ANN)
        assert finding(me).passes
        me.set_policy("prod", Policy("prod", integrity=Integrity(signature=Signers(count=3))))
        assert "2 of 3 signatures by keys" in finding(me).reason

    def test_a_revoked_key_takes_every_signature_with_it_also_between_approval_and_apply(self, me, ready):  # noqa: F811
        me.set_policy("prod", replace(SIGNED, process=Process(approvals=Approvals(2))))
        version = me.resolve("a@v1")
        me.sign(version, CI)
        request = ready.registry("rob").attempt("a@v1", "prod").request
        assert ready.registry("bob").approve(request).request.state is State.WAITING
        me.revoke_key("ci", because="the runner was broken into")
        failed = finding(me)
        assert failed.outcome == "fail"
        assert "was revoked on" in failed.reason
        assert "by ann: the runner was broken into" in failed.reason
        assert me.request(request.name).state is State.REFUSED
        with pytest.raises(SignatureRefused, match="was revoked"):
            me.verify(version)
        with pytest.raises(SignatureRefused, match="was revoked"):
            me.sign(me.resolve("a@v2"), CI)

    def test_an_approval_is_stale_once_another_key_has_to_stand_in(self, me, ready):  # noqa: F811
        me.set_policy("prod", replace(SIGNED, process=Process(approvals=Approvals(2))))
        me.trust_key("ann", public_of(ANN))
        version = me.resolve("a@v1")
        for private in (CI, ANN):
            me.sign(version, private)
        request = ready.registry("rob").attempt("a@v1", "prod").request
        ready.registry("bob").approve(request)
        me.revoke_key("ci", because="rotated")
        last = ready.registry("cat").approve(me.request(request.name))
        assert last.promotion is None
        assert any("bob's does not count, stale: evidence changed" in str(each) for each in last.decision.findings)

    def test_verifying_again_notices_a_key_that_was_revoked_since(self, me):
        me.sign(me.resolve("a@v1"), CI)
        me.promote("a@v1", "prod")
        assert me.reverify("default/a", "prod").decision.promotes
        me.revoke_key("ci", because="lost")
        assert me.reverify("default/a", "prod").decision.outcome is Result.REFUSED

    def test_a_key_that_expired_signs_nothing_more_and_what_it_signed_counts_on(self, me):
        version = me.resolve("a@v1")
        me.trust_key("short", public_of(ANN), expires_in_seconds=60)
        me.sign(version, ANN)
        later = replace(me._opened, clock=lambda: "2999-01-01T00:00:00.000000Z")
        me._opened = later
        assert me.verify(version)
        with pytest.raises(SignatureRefused, match=r"the key short .* expired"):
            me.sign(me.resolve("a@v2"), ANN)

    def test_a_key_counts_for_its_scopes_only(self, me):
        me.trust_key("team", public_of(ANN), scopes=("team/*",))
        with pytest.raises(SignatureRefused, match=r"counts for team/\* only"):
            me.sign(me.resolve("a@v1"), ANN)

    def test_neither_a_name_nor_a_key_is_trusted_twice_nor_again(self, me):
        for name, private in (("ci", ANN), ("other", CI)):
            with pytest.raises(Conflict, match="is there already"):
                me.trust_key(name, public_of(private))
        me.revoke_key("ci", because="lost")
        with pytest.raises(Conflict, match="never trusted again"):
            me.trust_key("ci2", public_of(CI))
        with pytest.raises(NotFound):
            me.revoke_key("ci", because="again")

    def test_keys_signatures_follow_from_the_log_and_a_key_slipped_into_the_database_is_noticed(self, me, ready):  # noqa: F811
        me.trust_key("ann", public_of(ANN), scopes=("default/*",), expires_in_seconds=3600)
        for number in (1, 2):
            me.sign(me.resolve(f"a@v{number}"), ANN)
        me.revoke_key("ci", because="lost")
        log = replayed(events_of(exported(me.events())))
        assert tuple(log.keys.values()) == me.signing_keys()
        there = [each.signature for number in (1, 2) for each in me.signatures(me.resolve(f"a@v{number}"))]
        assert log.signatures == set(there)
        ready.verify()
        engine = create_engine(f"sqlite:///{ready.home / 'registry.db'}")
        with engine.begin() as connection:
            connection.execute(text("UPDATE signing_keys SET document = replace(document, 'default/*', '*')"))
        engine.dispose()
        [damage] = me.verify_store().damage
        assert (damage.what, damage.affected) == ("key", ("key ann",))

    def test_a_signature_that_was_written_into_the_database_does_not_count(self, me, ready):  # noqa: F811
        me.sign(me.resolve("a@v1"), CI)
        engine = create_engine(f"sqlite:///{ready.home / 'registry.db'}")
        with engine.begin() as connection:
            connection.execute(text("UPDATE signatures SET sig = replace(sig, substr(sig, 1, 4), 'AAAA')"))
        engine.dispose()
        assert "somebody changed the database" in finding(me).reason

    def test_who_has_a_pulled_folder_and_the_envelope_needs_no_registry(self, me, tmp_path):
        version = me.resolve("a@v1")
        me.sign(version, CI)
        folder = me.pull("a@v1", tmp_path / "out").folder
        envelope = envelope_of(version, me.verify(version))
        assert verify_folder(folder, envelope, public_of(CI)).version == version.digest
        with pytest.raises(SignatureRefused, match="no signature in the envelope is of the key"):
            verify_folder(folder, envelope, public_of(ANN))
        (folder / "extra.py").write_text("")
        (folder / "adapter_config.json").write_text("{}")
        with pytest.raises(SignatureRefused, match=r"adapter_config.json is sha256:.*; extra.py was not signed"):
            verify_folder(folder, envelope, public_of(CI))


class TestScans:
    def test_a_version_waits_for_the_scan_that_a_policy_asks_for(self, me):
        me.set_policy("prod", SCANNED)
        waits = finding(me, rule="integrity scan")
        assert (waits.outcome, waits.fix) == ("pending", "adapters scan default/a@v1")
        assert me.scan(me.resolve("a@v1")).found == ()
        assert finding(me, rule="integrity scan").reason.startswith("clean: adapters 1, ")
        assert me.attempt("a@v1", "prod").decision.promotes

    def test_what_any_scanner_found_last_fails(self, me):
        me.set_policy("prod", SCANNED)
        version = me.resolve("a@v1")
        me.scan(version)
        report = Report("clamav", "1.4", (Notice("Eicar", "README.md", "", "test signature"),), {}, version.digest)
        me.report_scan(version, report)
        failed = finding(me, rule="integrity scan")
        assert failed.outcome == "fail"
        assert failed.reason.startswith("clamav 1.4, ")
        assert failed.reason.endswith("found: README.md: test signature")
        me.report_scan(version, replace(report, found=()))
        assert finding(me, rule="integrity scan").passes
        assert len(me.scans(version)) == 3

    def test_a_scan_can_be_too_old(self, me):
        me.set_policy("prod", Policy("prod", integrity=Integrity(scan=Scanners(("adapters", "clamav"), 86_400))))
        version = me.resolve("a@v1")
        me.scan(version)
        me._opened = replace(me._opened, clock=lambda: "2999-01-01T00:00:00.000000Z")
        assert "more than 1d ago; clamav never scanned it" in finding(me, rule="integrity scan").reason

    def test_going_back_asks_for_a_clean_scan_however_old(self, me):
        me.set_policy("prod", Policy("prod", integrity=Integrity(scan=Scanners(max_age=86_400))))
        for number in (1, 2):
            me.scan(me.resolve(f"a@v{number}"))
            me.promote(f"a@v{number}", "prod")
        me._opened = replace(me._opened, clock=lambda: "2999-01-01T00:00:00.000000Z")
        assert finding(me, rule="integrity scan").outcome == "pending"
        assert me.rollback("a", "prod", reason="slow").number == 1
        me.set_policy("prod", SIGNED)
        with pytest.raises(PromotionWaiting, match="integrity signature"):
            me.rollback("a", "prod", to="a@v2", reason="slower")

    def test_a_report_of_other_bytes_or_of_the_registry_s_own_scanner_is_refused(self, me):
        version = me.resolve("a@v1")
        other = Report("clamav", "1.4", (), {"adapter_config.json": version.digest}, version.digest)
        with pytest.raises(InvalidInput, match=f"{version.digest}, and the version has sha256:"):
            me.report_scan(version, other)
        with pytest.raises(InvalidInput, match="none of them is in the version"):
            me.report_scan(version, replace(other, files={"elsewhere.json": version.digest}))
        with pytest.raises(InvalidInput, match="the registry's own scanner"):
            me.report_scan(version, replace(other, scanner="adapters", files={}))
        assert me.scans(version) == ()

    def test_whoever_brought_a_report_cannot_approve(self, me, ready):  # noqa: F811
        me.set_policy("prod", Policy("prod", process=Process(approvals=Approvals(1))))
        version = me.resolve("a@v1")
        ready.registry("bob").report_scan(version, Report("clamav", "1.4", (), {}, version.digest))
        request = ready.registry("rob").attempt("a@v1", "prod").request
        with pytest.raises(Forbidden, match="they recorded its evidence"):
            ready.registry("bob").approve(request)
