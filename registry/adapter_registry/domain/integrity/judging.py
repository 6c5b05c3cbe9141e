"""Judging the files of a Version: their format, their signatures, and what scanners said of them."""

from __future__ import annotations

from collections.abc import Iterator

from adapter_registry.domain.digest import of_json
from adapter_registry.domain.errors import Notice
from adapter_registry.domain.figures import count
from adapter_registry.domain.integrity.key import Signed
from adapter_registry.domain.integrity.scan import OWN, Scan, newest
from adapter_registry.domain.policies.integrity import Integrity, Scanners, Signers
from adapter_registry.domain.policies.process import span
from adapter_registry.domain.promotions.finding import Finding, Outcome, Subject

PROGRAMS = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".npz", ".h5", ".keras", ".joblib", ".msgpack")
"""Endings of files of weights whose loaders run what is in them, or may."""


def judged(asked: Integrity, subject: Subject) -> Iterator[Finding]:
    """One finding per rule."""
    if asked.safetensors:
        yield _format(subject)
    if asked.signature is not None:
        yield _signature(asked.signature, subject)
    if asked.scan is not None:
        yield _scan(asked.scan, subject)


def swaying(asked: Integrity | None, subject: Subject) -> dict[str, object]:
    """What of signatures and scans can sway these rules, for the digest of what a decision rests on."""
    found: dict[str, object] = {}
    if asked and asked.signature:
        found["signatures"] = [[each.key.name, each.key.id, each.unfit] for each in subject.signatures]
    if asked and asked.scan:
        scans = sorted(newest(subject.scans).items())
        found["scans"] = [
            [name, of_json([str(finding) for finding in each.found]), each.is_old(asked.scan.max_age, subject.at)]
            for name, each in scans
        ]
    return found


def _format(subject: Subject) -> Finding:
    """Whether all weights are safetensors, whose values the intake read when they were pushed."""
    rule, weights = "integrity format", [path for path in subject.files if path.endswith(".safetensors")]
    if others := [path for path in subject.files if path.lower().endswith(PROGRAMS)]:
        text = f"{', '.join(others[:3])} is no safetensors file"
        return Finding(rule, Outcome.FAIL, text, "adapters convert FOLDER, and push the result")
    if not weights:
        return Finding(rule, Outcome.FAIL, "it has no safetensors file", "push a folder that PEFT saved as safetensors")
    return Finding(rule, Outcome.PASS, f"safetensors: {', '.join(weights[:3])}")


def _signature(asked: Signers, subject: Subject) -> Finding:
    """Whether enough keys signed it; a signature whose key was revoked is worse than none."""
    rule, asked_of = "integrity signature", [each for each in subject.signatures if _is_asked(each, asked)]
    good = [each for each in asked_of if not each.unfit]
    if len(good) >= asked.count:
        return Finding(rule, Outcome.PASS, f"signed by {'; '.join(str(each) for each in good)}")
    whose = f"the keys {', '.join(asked.keys)}" if asked.keys else "keys that are trusted for it"
    said = f"{len(good)} of {count(asked.count, 'signature')} by {whose}"
    broken = [each.unfit for each in asked_of if each.unfit]
    others = [f"{each.key} is not one of them" for each in subject.signatures if not _is_asked(each, asked)]
    fix = f"adapters sign {subject.reference} --key FILE; adapters key ls says whose count"
    return Finding(rule, Outcome.FAIL if broken else Outcome.PENDING, "; ".join([said, *broken, *others]), fix)


def _is_asked(each: Signed, asked: Signers) -> bool:
    return not asked.keys or each.key.name in asked.keys


def _scan(asked: Scanners, subject: Subject) -> Finding:
    """What was found fails, whoever found it; what was not looked at waits."""
    rule, last = "integrity scan", newest(subject.scans)
    if dirty := [each for each in last.values() if each.found]:
        fix = f"remove that, and push the result; or have it looked at again: {_again(dirty[0].scanner, subject)}"
        return Finding(rule, Outcome.FAIL, "; ".join(map(_told, dirty)), fix)
    missing = {name: why for name in asked.by if (why := _missing(last.get(name), name, asked, subject.at))}
    if missing:
        fix = _again(next(iter(missing)), subject)
        return Finding(rule, Outcome.PENDING, "; ".join(missing.values()), fix)
    return Finding(rule, Outcome.PASS, f"clean: {'; '.join(str(each) for each in last.values())}")


def _missing(found: Scan | None, name: str, asked: Scanners, now: str) -> str:
    if found is None:
        return f"{name} never scanned it"
    if asked.max_age is not None and found.is_old(asked.max_age, now):
        return f"{name} scanned it on {found.at[:10]}, more than {span(asked.max_age)} ago"
    return ""


def _again(scanner: str, subject: Subject) -> str:
    return f"adapters scan {subject.reference}" + ("" if scanner == OWN else " --report FILE.sarif")


def _told(scan: Scan) -> str:
    first: Notice = scan.found[0]
    more = f", and {count(len(scan.found) - 1, 'thing')} more" if len(scan.found) > 1 else ""
    return f"{scan} found: {first}{more}"
