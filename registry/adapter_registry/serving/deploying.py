"""One name served from one version on every replica: staged first, moved one at a time, tested, put back on failure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from adapter_registry.client import Registry
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.deployment import SERVING
from adapter_registry.domain.errors import Conflict, InvalidInput, InvalidReference, StoreUnavailable
from adapter_registry.serving.admission import Admission
from adapter_registry.serving.deploy_record import Deployed, Record, held, read, write
from adapter_registry.serving.digest_folders import STORE, exported, store
from adapter_registry.serving.fingerprint import Fingerprint, difference
from adapter_registry.serving.fleet_file import Fleet
from adapter_registry.serving.gguf import FILE, converted
from adapter_registry.serving.reference_answers import computed
from adapter_registry.serving.replicas import EVERY, Keys, Replica, ReplicaRefused, ReplicaSilent, Served
from adapter_registry.serving.stacked import is_stacked
from adapter_registry.serving.stacks import STACKS
from adapter_registry.serving.sync_file import ALIAS, is_alias

Answers = dict[str, Fingerprint]


@dataclass(frozen=True, slots=True)
class Line:
    """What came of a name on one replica.

    Attributes:
        replica: its address.
        name: that requests use.
        outcome: moved, there, loaded again, restored, refused, untouched; or drifted, missing, silent.
        serves: the path it serves the name from now; empty for none.
        why: of anything but moved and there.
        version: that it was to serve.
        passing: whether it may well work a moment later: a replica did not answer.
    """

    replica: str
    name: str
    outcome: str
    serves: str = ""
    why: str = ""
    version: str = ""
    passing: bool = False

    @property
    def good(self) -> bool:
        """Whether it serves what was deployed."""
        return self.outcome in SERVING


class Deploying:
    """Deploys to one fleet."""

    def __init__(self, fleet: Fleet, registry: Registry, *, clock: Callable[[], float]) -> None:
        self._fleet, self.registry, self._clock = fleet, registry, clock
        self._admission = Admission(registry, base=fleet.base, stack=fleet.stack)
        keys = Keys(_key(fleet.key_file), _key(fleet.admin_key_file))
        self._replicas: list[Replica] = [STACKS[fleet.stack](url, keys) for url in fleet.replicas]

    def deploy(self, reference: str, name: str, *, anew: bool = False) -> tuple[Line, ...]:
        """Have every replica serve `name` from what `reference` means now; all of them, or as before.

        Args:
            reference: what to serve.
            name: that requests use.
            anew: take what is answered now for right, whatever was answered before.

        Raises:
            InvalidReference: a name that some stacks would read as something else.
            IncompatibleBase: the version is for another base than the fleet's.
            Unsupported: the stack would not serve it right.
            Conflict: another process deploys here, or a replica serves something that was not deployed from here.
            StoreUnavailable: a replica does not answer; nothing was moved.
        """
        if not is_alias(name):
            raise InvalidReference(f"{name!r} is not {ALIAS}: say another with --to.")
        with held(self._fleet.root) as record:
            version = self.registry.resolve(reference)
            self._admission.check(version)
            path = self._fleet.path_of(self._staged(version))
            wanted = Deployed(version.reference, version.digest, version.base, path, self._clock())
            before = self._expected(name, wanted, record)
            answers = {} if anew else dict(record.answers)
            self._compute(wanted, answers)
            goals = _goals(before, record, name, wanted)
            # Written down before anything moves: whoever is cut off in between leaves what the next one knows.
            record.strays[name] = sorted({*record.strays.get(name, ()), wanted.path})
            write(self._fleet.root, record)
            lines = self._move_all(name, wanted, before=before, goals=goals, answers=answers)
            if all(line.good for line in lines):
                # Not before: the first replica may be the one that is wrong.
                record.names[name] = wanted
                record.answers |= answers
            _forget_strays(record, name, lines)
            _note(record, lines)
            return lines

    def deployed(self) -> dict[str, Deployed]:
        """What every replica is to serve, by name."""
        return read(self._fleet.root).names

    def status(self) -> tuple[Line, ...]:
        """Each name on each replica, held against what was deployed; changes nothing."""
        record = read(self._fleet.root)
        unfinished = record.strays.keys() - record.names.keys()
        return (
            *(_drift(each, name, wanted) for each in self._replicas for name, wanted in record.names.items()),
            *(_unfinished(each, name) for each in self._replicas for name in sorted(unfinished)),
        )

    def reconcile(self) -> tuple[Line, ...]:
        """Load again what replicas forgot or a deployment left half done; what others loaded is told and left alone."""
        with held(self._fleet.root) as record:
            lines = tuple(
                self._again(each, name, wanted, record)
                for each in self._replicas
                for name, wanted in record.names.items()
            )
            for name in record.names:
                _forget_strays(record, name, [line for line in lines if line.name == name])
            _note(record, lines)
            return lines

    def _staged(self, version: Version) -> Path:
        """What the replicas load, below the root: the folder of the version, or the file that it is in GGUF."""
        pulled = self.registry.pull(f"{version.adapter}@{version.digest}")
        if self._fleet.stack != "llama.cpp":
            return store(self._fleet.root, exported(pulled, model=None), pulled.folder)
        converter = self.registry.settings.serving.gguf_converter
        with TemporaryDirectory() as scratch:
            made = converted(pulled, Path(scratch), base=self._fleet.base, converter=converter)
            return store(self._fleet.root, made, Path(scratch)) / FILE

    def _expected(self, name: str, wanted: Deployed, record: Record) -> dict[str, str | None]:
        """What each replica serves the name from: nothing, or what came from here; else refuse."""
        known = record.names.get(name)
        allowed = {None, wanted.path, known.path if known else None, *record.strays.get(name, ())}
        try:
            found = {each.url: _path(each, name) for each in self._replicas}
        except StoreUnavailable as error:
            text = f"{error.text} Nothing was moved: mend that, or take it out of the fleet's replicas."
            raise StoreUnavailable(text) from error
        for url, path in found.items():
            if path not in allowed:
                raise Conflict(
                    f"{url} serves {name} from {path}, which was not deployed from {self._fleet.root}; nothing was "
                    f"moved. Have it serve nothing under {name}, or deploy under another name."
                )
        return found

    def _move_all(
        self,
        name: str,
        wanted: Deployed,
        *,
        before: Mapping[str, str | None],
        goals: Mapping[str, str | None],
        answers: Answers,
    ) -> tuple[Line, ...]:
        """Move one after the other; at the first that does not take it, or lost it since, put back those that moved.

        Args:
            name: that requests use.
            wanted: what it is to be.
            before: replica -> the path it serves the name from.
            goals: replica -> the path it goes back to.
            answers: what has been answered so far; added to.
        """
        tried: list[Replica] = []
        try:
            for failed in self._replicas:
                tried.append(failed)
                self._move(failed, name, wanted, before[failed.url])
                self._test(failed, name, wanted, answers)
            for failed in self._replicas:
                _require(failed, name, wanted.path)
        except (ReplicaRefused, StoreUnavailable) as error:
            failure, passing = str(error), isinstance(error, (ReplicaSilent, StoreUnavailable))
        else:
            there = {each.url for each in self._replicas if before[each.url] == wanted.path}
            return tuple(
                Line(each.url, name, "there" if each.url in there else "moved", wanted.path, version=wanted.version)
                for each in self._replicas
            )
        told = f"{failed.url} did not take it"
        restored = [
            self._put_back(each, name, wanted=wanted, back=goals[each.url], why=failure if each is failed else told)
            for each in tried
        ]
        untouched = [
            Line(each.url, name, "untouched", before[each.url] or "", told, version=wanted.version)
            for each in self._replicas[len(tried) :]
        ]
        return tuple(replace(line, passing=passing) for line in (*restored, *untouched))

    def _move(self, replica: Replica, name: str, wanted: Deployed, before: str | None) -> None:
        served = replica.served()
        now = _root(served, name)
        if now != before:
            raise ReplicaRefused(_all_at_once(replica, name, now, before))
        if now == wanted.path:
            return
        self._load(replica, name, wanted.path, instead_of=before)
        after = replica.served()
        if (now := _root(after, name)) != wanted.path:
            raise ReplicaRefused(
                f"{replica.url} took {name} and serves it from {now or 'nothing'}, not from {wanted.path}"
            )
        # SGLang makes room for more names than its --max-loaded-loras without a word.
        if lost := {each.name for each in served} - {each.name for each in after}:
            gone = ", ".join(sorted(lost))
            raise ReplicaRefused(f"{replica.url} took {name} and dropped {gone} for it: it is to hold more at a time")

    def _load(self, replica: Replica, name: str, path: str, *, instead_of: str | None) -> None:
        stacked = is_stacked(self._fleet.root / STORE / PurePosixPath(path).name)
        replica.load(name, path, instead_of=instead_of, stacked=stacked)

    def _test(self, replica: Replica, name: str, wanted: Deployed, answers: Answers) -> None:
        """Hold what it answers against what was answered first; raises ReplicaRefused.

        The base alone is asked too: another base shows, and so does an adapter that was loaded and changes nothing.
        """
        bare, adapted = replica.answer(None, self._fleet.prompt), replica.answer(name, self._fleet.prompt)
        if bare == adapted:
            raise ReplicaRefused(f"{replica.url} answers with {name} as its base does alone: the adapter has no effect")
        for digest, what, found in ((wanted.base, "its base", bare), (wanted.digest, name, adapted)):
            expected = answers.setdefault(self._asked(digest), found)
            if off := difference(expected, found, tolerance=self._fleet.tolerated):
                raise ReplicaRefused(f"{replica.url}, asked the test prompt of {what}: {off}")

    def _asked(self, digest: str) -> str:
        """Under what an answer is kept; those that were computed are no first answers of servers."""
        return f"{'peft ' if self._fleet.answers == 'peft' else ''}{digest} {self._fleet.prompt}"

    def _compute(self, wanted: Deployed, answers: Answers) -> None:
        """Have what PEFT answers among the answers, where the fleet is held against that."""
        base, version = self._asked(wanted.base), self._asked(wanted.digest)
        if self._fleet.answers == "peft" and not {base, version} <= answers.keys():
            found = computed(
                Path(self._fleet.base).expanduser(), wanted.version, self.registry, prompt=self._fleet.prompt
            )
            answers[base], answers[version] = found

    def _put_back(self, replica: Replica, name: str, *, wanted: Deployed, back: str | None, why: str) -> Line:
        """Serve the name from `back` again, unless somebody else had it serve something else meanwhile."""
        try:
            now = _path(replica, name)
            if now not in (back, wanted.path, None):
                return Line(replica.url, name, "refused", now or "", why, wanted.version)
            if now != back and back is None:
                replica.unload(name)
            elif now != back and back is not None:
                self._load(replica, name, back, instead_of=now)
            if (now := _path(replica, name)) != back:
                raise ReplicaRefused(f"it serves {name} from {now or 'nothing'} all the same")
            return Line(replica.url, name, "restored", back or "", why, wanted.version)
        except (ReplicaRefused, StoreUnavailable) as error:
            why = f"{why}; and it could not be put back: {error}"
            return Line(replica.url, name, "refused", "", why, wanted.version)

    def _again(self, replica: Replica, name: str, wanted: Deployed, record: Record) -> Line:
        line = _drift(replica, name, wanted)
        before = line.serves or None
        left = line.outcome == "drifted" and before in record.strays.get(name, ())
        if line.outcome != "missing" and not left:
            return line
        try:
            self._compute(wanted, record.answers)
            self._move(replica, name, wanted, before)
            self._test(replica, name, wanted, record.answers)
        except (ReplicaRefused, StoreUnavailable) as error:
            return self._put_back(replica, name, wanted=wanted, back=before, why=str(error))
        return Line(replica.url, name, "loaded again", wanted.path, version=wanted.version)


def _goals(before: Mapping[str, str | None], record: Record, name: str, wanted: Deployed) -> dict[str, str | None]:
    """Where each replica goes back to: what was deployed, be it that it forgot that or was left with something else."""
    known, left = record.names.get(name), {None, wanted.path, *record.strays.get(name, ())}
    return {url: (known.path if known else None) if path in left else path for url, path in before.items()}


def _forget_strays(record: Record, name: str, lines: Sequence[Line]) -> None:
    """Keep of the paths that deployments may have left those that a replica may serve from still."""
    known, left = record.names.get(name), set(record.strays.pop(name, ()))
    if all(line.good or line.outcome in ("restored", "untouched") for line in lines):
        left &= {line.serves for line in lines}
    if left := left - {known.path if known else ""}:
        record.strays[name] = sorted(left)


def _require(replica: Replica, name: str, path: str) -> None:
    if (now := _path(replica, name)) != path:
        raise ReplicaRefused(_all_at_once(replica, name, now, path))


def _all_at_once(replica: Replica, name: str, now: str | None, before: str | None) -> str:
    return f"{replica.url} served {name} from {now or 'nothing'} all at once, and not from {before or 'nothing'}"


def _note(record: Record, lines: Sequence[Line]) -> None:
    for line in lines:
        text = f"{line.outcome}: {line.why}" if line.why else line.outcome
        record.last.setdefault(line.replica, {})[line.name] = text


def _key(file: Path | None) -> str | None:
    try:
        key = None if file is None else file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the key in {file} cannot be read: {getattr(error, 'strerror', 'not ASCII')}.") from error
    if key is not None and not key.isprintable():
        raise InvalidInput(f"the key in {file} is more than one line.")
    return key


def _path(replica: Replica, name: str) -> str | None:
    """Where a replica serves a name from; raises StoreUnavailable when it does not say."""
    return _root(replica.served(), name)


def _root(served: Iterable[Served], name: str) -> str | None:
    return next((each.root for each in served if each.name in (name, EVERY)), None)


def _unfinished(replica: Replica, name: str) -> Line:
    """A name on a replica, of which no deployment came to its end."""
    try:
        found = _path(replica, name)
    except StoreUnavailable as error:
        return Line(replica.url, name, "silent", "", error.text)
    return Line(replica.url, name, "drifted", found or "", "its first deployment was cut off: deploy it again")


def _drift(replica: Replica, name: str, wanted: Deployed) -> Line:
    try:
        found = _path(replica, name)
    except StoreUnavailable as error:
        return Line(replica.url, name, "silent", "", error.text, wanted.version)
    if found == wanted.path:
        return Line(replica.url, name, "there", found, version=wanted.version)
    if found is None:
        return Line(replica.url, name, "missing", "", f"{wanted.version} was deployed", wanted.version)
    why = f"{wanted.version} was deployed, at {wanted.path}"
    return Line(replica.url, name, "drifted", found, why, wanted.version)
