"""Hold a folder of files against a signature of them, without a registry."""

from __future__ import annotations

import hashlib
from pathlib import Path

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import InvalidInput, SignatureRefused
from adapter_registry.domain.integrity.signing import Envelope, Stated, key_id, stated, verifies
from adapter_registry.local.pulled import LOCK_FILE

TOLD = 5


def verify_folder(folder: Path, envelope: Envelope, public: str) -> Stated:
    """What an envelope says of the files in a folder, if the key signed it and the folder holds them and no others.

    Args:
        folder: that a version was pulled into.
        envelope: with a signature of the key.
        public: the key in PEM.

    Raises:
        SignatureRefused: the key did not sign it, or files are missing, changed or were not signed.
        InvalidInput: there is no such folder, or the envelope is about no version.
    """
    content = envelope.content
    if not any(verifies(content, each.sig, public) for each in envelope.signatures):
        raise SignatureRefused(f"no signature in the envelope is of the key {key_id(public)}.")
    said = stated(content)
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is no folder.")
    problems = [why for path, digest in said.files.items() if (why := _wrong(folder, path, digest))]
    there = {str(each.relative_to(folder)) for each in folder.rglob("*") if not each.is_dir() or each.is_symlink()}
    problems += [f"{path} was not signed" for path in sorted(there - said.files.keys() - {LOCK_FILE})]
    if problems:
        more = f"; and {len(problems) - TOLD} more" if len(problems) > TOLD else ""
        raise SignatureRefused(f"{folder} is not {said.adapter} {said.version}: {'; '.join(problems[:TOLD])}{more}.")
    return said


def _wrong(folder: Path, path: str, digest: Digest) -> str:
    place = folder / path
    if not place.resolve().is_relative_to(folder.resolve()) or place.is_symlink() or not place.is_file():
        return f"{path} is missing"
    with place.open("rb") as stream:
        found = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
    return "" if found == digest else f"{path} is {found}, and {digest} was signed"
