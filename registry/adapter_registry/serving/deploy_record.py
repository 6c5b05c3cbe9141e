"""What was deployed from a root, and how models answered; kept beside the bytes, for one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.serving.digest_folders import DEPLOYED as STATE
from adapter_registry.serving.digest_folders import alone, unwritable, write_whole
from adapter_registry.serving.fingerprint import Fingerprint


@dataclass(frozen=True, slots=True)
class Deployed:
    """What a name is on every replica.

    Attributes:
        version: `team/sql-lora@v7`.
        digest: of that version; the last part of `path`.
        base: digest of the base it is locked to.
        path: that the servers load it from.
        at: seconds since the epoch.
    """

    version: str
    digest: str
    base: str
    path: str
    at: float


@dataclass(slots=True)
class Record:
    """What was deployed, and how models answered; kept beside the bytes.

    Attributes:
        names: name -> what it is.
        answers: digest of a version, or of a base for the base alone -> what was answered when it was first seen.
        last: replica -> name -> what came of it last.
        told: name -> what the registry was told last, shortened to its digest.
        strays: name -> paths that a deployment from here may have left on a replica: it was cut off, or could not put
            one back.
    """

    names: dict[str, Deployed] = field(default_factory=dict)
    answers: dict[str, Fingerprint] = field(default_factory=dict)
    last: dict[str, dict[str, str]] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    strays: dict[str, list[str]] = field(default_factory=dict)


@contextmanager
def held(root: Path) -> Iterator[Record]:
    """The record of a root for one process, written whatever happens to the replicas."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with alone(root, STATE):
            record = read(root)
            try:
                yield record
            finally:
                write(root, record)
    except OSError as error:
        raise unwritable(root, error) from error


def write(root: Path, record: Record) -> None:
    """Keep a record, durably; by whoever holds the root."""
    write_whole(root / STATE, msgspec.json.format(msgspec.json.encode(record)))


def read(root: Path) -> Record:
    """The record of a root; an empty one where nothing was deployed from it."""
    path = root / STATE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return Record()
    except msgspec.DecodeError as error:
        raise InvalidInput(
            f"{path} is not what `adapters deploy` wrote ({error}): put it back, or choose another root."
        ) from error
