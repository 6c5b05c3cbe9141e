"""One name served from one version on every replica: staged first, moved one at a time, tested, put back on failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from adapter_registry.client import Registry
from adapter_registry.domain.errors import Conflict, InvalidInput, StoreUnavailable
from adapter_registry.serving.admission import Admission
from adapter_registry.serving.digest_folders import DEPLOYED as STATE
from adapter_registry.serving.digest_folders import alone, exported, store, write_whole
from adapter_registry.serving.fingerprint import Fingerprint, difference
from adapter_registry.serving.fleet_file import Fleet
from adapter_registry.serving.replicas import STACKS, Replica, ReplicaRefused

Answers = dict[str, Fingerprint]


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
    """

    names: dict[str, Deployed] = field(default_factory=dict)
    answers: dict[str, Fingerprint] = field(default_factory=dict)
    last: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Line:
    """What came of a name on one replica.

    Attributes:
        replica: its address.
        name: that requests use.
        outcome: moved, there, loaded again, restored, refused, untouched; or drifted, missing, silent.
        serves: the path it serves the name from now; empty for none.
        why: of anything but moved and there.
    """

    replica: str
    name: str
    outcome: str
    serves: str = ""
    why: str = ""

    @property
    def good(self) -> bool:
        """Whether it serves what was deployed."""
        return self.outcome in ("moved", "there", "loaded again")


class Deploying:
    """Deploys to one fleet."""

    def __init__(self, fleet: Fleet, registry: Registry, *, clock: Callable[[], float]) -> None:
        self._fleet, self.registry, self._clock = fleet, registry, clock
        self._admission = Admission(registry, base=fleet.base, stack=fleet.stack)
        key = _key(fleet)
        self._replicas: list[Replica] = [STACKS[fleet.stack](url, key) for url in fleet.replicas]

    def deploy(self, reference: str, name: str, *, anew: bool = False) -> tuple[Line, ...]:
        """Have every replica serve `name` from what `reference` means now; all of them, or as before.

        Args:
            reference: what to serve.
            name: that requests use.
            anew: take what is answered now for right, whatever was answered before.

        Raises:
            IncompatibleBase: the version is for another base than the fleet's.
            Unsupported: the stack would not serve it right.
            Conflict: another process deploys here, or a replica serves something that was not deployed from here.
            StoreUnavailable: a replica does not answer; nothing was moved.
        """
        with _held(self._fleet.root) as record:
            version = self.registry.resolve(reference)
            self._admission.check(version)
            pulled = self.registry.pull(f"{version.adapter}@{version.digest}")
            folder = store(self._fleet.root, exported(pulled, model=None), pulled.folder)
            path = self._fleet.path_of(folder)
            wanted = Deployed(version.reference, version.digest, version.base, path, self._clock())
            before = self._expected(name, wanted, record)
            answers = {} if anew else dict(record.answers)
            known = record.names.get(name)
            back = known.path if known else None
            lines = self._move_all(name, wanted, before=before, back=back, answers=answers)
            if all(line.good for line in lines):
                # Not before: the first replica may be the one that is wrong.
                record.names[name] = wanted
                record.answers |= answers
            _note(record, lines)
            return lines

    def status(self) -> tuple[Line, ...]:
        """Each name on each replica, held against what was deployed; changes nothing."""
        record = _read(self._fleet.root)
        return tuple(_drift(each, name, wanted) for each in self._replicas for name, wanted in record.names.items())

    def reconcile(self) -> tuple[Line, ...]:
        """Load again what replicas forgot; what was loaded by others is told, and left alone."""
        with _held(self._fleet.root) as record:
            lines = tuple(
                self._again(each, name, wanted, record)
                for each in self._replicas
                for name, wanted in record.names.items()
            )
            _note(record, lines)
            return lines

    def _expected(self, name: str, wanted: Deployed, record: Record) -> dict[str, str | None]:
        """What each replica serves the name from: nothing, what was deployed, or `wanted` already; else refuse."""
        known = record.names.get(name)
        allowed = {None, wanted.path, known.path if known else None}
        found = {each.url: _path(each, name) for each in self._replicas}
        for url, path in found.items():
            if path not in allowed:
                raise Conflict(
                    f"{url} serves {name} from {path}, which was not deployed from {self._fleet.root}; nothing was "
                    f"moved. Unload {name} there, or deploy under another name."
                )
        return found

    def _move_all(
        self, name: str, wanted: Deployed, *, before: Mapping[str, str | None], back: str | None, answers: Answers
    ) -> tuple[Line, ...]:
        """Move one after the other; at the first that does not take it, put back those that moved.

        Args:
            name: that requests use.
            wanted: what it is to be.
            before: replica -> the path it serves the name from.
            back: where a replica goes back to that has `wanted` already, from a deployment that was cut off.
            answers: what has been answered so far; added to.
        """
        lines: list[Line] = []
        for replica in self._replicas:
            held = before[replica.url]
            try:
                self._move(replica, name, wanted, held)
                self._test(replica, name, wanted, answers)
            except (ReplicaRefused, StoreUnavailable) as error:
                failure = str(error)
                break
            lines.append(Line(replica.url, name, "there" if held == wanted.path else "moved", wanted.path))
        else:
            return tuple(lines)
        failed = self._replicas[len(lines)]
        told = f"{failed.url} did not take it"
        tried, rest = self._replicas[: len(lines) + 1], self._replicas[len(lines) + 1 :]
        goals = {each.url: back if before[each.url] == wanted.path else before[each.url] for each in tried}
        reasons = {each.url: failure if each is failed else told for each in tried}
        restored = [
            self._put_back(each, name, wanted=wanted, back=goals[each.url], why=reasons[each.url]) for each in tried
        ]
        return (*restored, *(Line(each.url, name, "untouched", before[each.url] or "", told) for each in rest))

    def _move(self, replica: Replica, name: str, wanted: Deployed, before: str | None) -> None:
        now = _path(replica, name)
        if now != before:
            raise ReplicaRefused(f"{replica.url} served {name} from {now} all at once, and not from {before}")
        if now == wanted.path:
            return
        replica.load(name, wanted.path, instead_of=before)
        if (served := _path(replica, name)) != wanted.path:
            raise ReplicaRefused(f"{replica.url} took {name} and serves it from {served}, not from {wanted.path}")

    def _test(self, replica: Replica, name: str, wanted: Deployed, answers: Answers) -> None:
        """Hold what it answers against what was answered first; raises ReplicaRefused.

        The base alone is asked too: another base shows, and so does an adapter that was loaded and changes nothing.
        """
        bare, adapted = replica.answer(None, self._fleet.prompt), replica.answer(name, self._fleet.prompt)
        if bare == adapted:
            raise ReplicaRefused(f"{replica.url} answers with {name} as its base does alone: the adapter has no effect")
        for digest, what, found in ((wanted.base, "its base", bare), (wanted.digest, name, adapted)):
            expected = answers.setdefault(f"{digest} {self._fleet.prompt}", found)
            if off := difference(expected, found, tolerance=self._fleet.tolerance):
                raise ReplicaRefused(f"{replica.url}, asked the test prompt of {what}: {off}")

    def _put_back(self, replica: Replica, name: str, *, wanted: Deployed, back: str | None, why: str) -> Line:
        """Serve the name from `back` again, unless somebody else had it serve something else meanwhile."""
        try:
            now = _path(replica, name)
            if now not in (back, wanted.path, None):
                return Line(replica.url, name, "refused", now or "", why)
            if now != back and back is None:
                replica.unload(name)
            elif now != back and back is not None:
                replica.load(name, back, instead_of=now)
            return Line(replica.url, name, "restored", back or "", why)
        except (ReplicaRefused, StoreUnavailable) as error:
            return Line(replica.url, name, "refused", "", f"{why}; and it could not be put back: {error}")

    def _again(self, replica: Replica, name: str, wanted: Deployed, record: Record) -> Line:
        line = _drift(replica, name, wanted)
        if line.outcome != "missing":
            return line
        try:
            self._move(replica, name, wanted, None)
            self._test(replica, name, wanted, record.answers)
        except (ReplicaRefused, StoreUnavailable) as error:
            return self._put_back(replica, name, wanted=wanted, back=None, why=str(error))
        return Line(replica.url, name, "loaded again", wanted.path)


@contextmanager
def _held(root: Path) -> Iterator[Record]:
    """The record of a root for one process, written whatever happens to the replicas."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with alone(root, STATE):
            record = _read(root)
            try:
                yield record
            finally:
                write_whole(root / STATE, msgspec.json.format(msgspec.json.encode(record)))
    except OSError as error:
        raise StoreUnavailable(f"{root} cannot be written ({error.strerror}).") from error


def _read(root: Path) -> Record:
    path = root / STATE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return Record()
    except msgspec.DecodeError as error:
        raise InvalidInput(
            f"{path} is not what `adapters deploy` wrote ({error}): put it back, or choose another root."
        ) from error


def _note(record: Record, lines: Sequence[Line]) -> None:
    for line in lines:
        text = f"{line.outcome}: {line.why}" if line.why else line.outcome
        record.last.setdefault(line.replica, {})[line.name] = text


def _key(fleet: Fleet) -> str | None:
    try:
        return None if fleet.key_file is None else fleet.key_file.read_text().strip()
    except OSError as error:
        raise InvalidInput(f"key_file {fleet.key_file} cannot be read ({error.strerror}).") from error


def _path(replica: Replica, name: str) -> str | None:
    """Where a replica serves a name from; raises StoreUnavailable when it does not say."""
    return next((each.root for each in replica.served() if each.name == name), None)


def _drift(replica: Replica, name: str, wanted: Deployed) -> Line:
    try:
        found = _path(replica, name)
    except StoreUnavailable as error:
        return Line(replica.url, name, "silent", "", error.text)
    if found == wanted.path:
        return Line(replica.url, name, "there", found)
    if found is None:
        return Line(replica.url, name, "missing", "", f"{wanted.version} was deployed")
    return Line(replica.url, name, "drifted", found, f"{wanted.version} was deployed, at {wanted.path}")
