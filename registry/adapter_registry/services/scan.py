"""Scans of versions: by the registry's own scanner, or as others report them."""

from __future__ import annotations

from adapter_registry.checkpoints.scanner import RELEASE
from adapter_registry.checkpoints.scanner import scanned as looked_through
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import Notice
from adapter_registry.domain.integrity.scan import OWN, Report, Scan, check_report
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.reference import parse
from adapter_registry.services.push import StoredFile
from adapter_registry.services.recorded import of_version, recorded
from adapter_registry.services.references import version_of


def scan(backend: Backend, *, reference: str) -> Scan:
    """Have the registry's own scanner look through every file of a Version, and record what it says.

    Raises:
        NotFound: no such version, or the store lost bytes of it.
    """
    with backend.catalog.reading() as tx:
        version = version_of(tx, parse(reference, namespace=backend.namespace))
    found = looked_through([StoredFile(file, backend.blobs) for file in version.files])
    return _record(backend, version, OWN, RELEASE, found, None)


def report(backend: Backend, *, reference: str, report: Report) -> Scan:
    """Record what somebody else's scanner says of a Version.

    Raises:
        InvalidInput: not a report of a scanner that finished, or one of the registry's own.
        NotFound: no such version.
    """
    parsed = parse(reference, namespace=backend.namespace)
    with recorded(backend, "scan", of_version(parsed)):
        with backend.catalog.reading() as tx:
            version = version_of(tx, parsed)
        check_report(report, {file.path: file.digest for file in version.files})
        return _record(backend, version, report.scanner, report.release, report.found, report.digest)


def scans(backend: Backend, *, reference: str) -> tuple[Scan, ...]:
    """Every scan of a Version, in the order they were recorded."""
    with backend.catalog.reading() as tx:
        return scanned(tx, version_of(tx, parse(reference, namespace=backend.namespace)))


def scanned(tx: Transaction, version: Version, *, at: str = "") -> tuple[Scan, ...]:
    """The scans of a Version, or those there were `at` a moment in the past."""
    found = tx.integrity.scans(version.adapter, version.digest)
    return tuple(each for each in found if not at or each.at <= at)


def _record(
    backend: Backend, version: Version, scanner: str, release: str, found: tuple[Notice, ...], digest: Digest | None
) -> Scan:
    at = backend.clock()
    made = Scan(version.adapter, version.digest, scanner, release, found, backend.actor, at, digest)
    detail = {"digest": version.digest, "scanner": scanner, "release": release, "found": len(found), "report": digest}
    with backend.catalog.writing() as tx:
        tx.integrity.add_scan(made)
        tx.events.append(Entry("scan", version.reference, Outcome.DONE, backend.actor, at, detail))
    return made
