"""The client's calls about jobs: submit, watch, cancel, do again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_registry.calls.asking import Asking
from adapter_registry.checkpoints.adapter_files import FolderFile
from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import Digest, hex_of
from adapter_registry.domain.errors import DigestMismatch, InvalidInput, NotFound, Unsupported
from adapter_registry.domain.evidence.suite import Suite
from adapter_registry.domain.job import Job, LogLine, State
from adapter_registry.domain.recipe import Recipe
from adapter_registry.local.folders import file_digest
from adapter_registry.services import running, suites
from adapter_registry.services import submit as submitting
from adapter_registry.transport.keeping import Brings

if TYPE_CHECKING:
    from adapter_registry.local.suite_files import SuiteFiles

POLL_SECONDS = 0.5
BLOCK = 1 << 20


class JobCalls(Asking):
    """Jobs of the embedded registry or a server."""

    def submit(self, recipe: Recipe, *, queue: str = "cpu", priority: int = 0) -> Job:
        """Queue a piece of work; a worker does it. What cannot come to anything is refused now."""
        return self._ask(submitting.submit, recipe=recipe, queue=queue, priority=priority)

    def check_job(self, recipe: Recipe) -> Recipe:
        """The recipe as it would be queued; what would be refused is refused, and nothing is queued."""
        return self._ask(submitting.check, recipe=recipe)

    def jobs(
        self,
        *,
        state: State | None = None,
        kind: str | None = None,
        queue: str | None = None,
        by: str | None = None,
        limit: int = submitting.PAGE,
    ) -> tuple[Job, ...]:
        """The newest jobs that you may see; with `kind`, `queue` or `by`, those of the newest 1,000."""
        return self._ask(submitting.jobs, state=state, kind=kind, queue=queue, by=by, before=None, limit=limit).items

    def job(self, id: str) -> Job:
        """One job, as it stands now."""
        return self._ask(submitting.show, job=id)

    def job_log(self, id: str, *, after: int = 0) -> tuple[LogLine, ...]:
        """What a job said after line `after`."""
        lines: list[LogLine] = []
        while page := self._ask(
            submitting.log, job=id, after=lines[-1].number if lines else after, limit=submitting.PAGE
        ):
            lines += page
        return tuple(lines)

    def cancel_job(self, id: str) -> Job:
        """Cancel a job; a running one ends within a second or two."""
        return self._ask(submitting.cancel, job=id)

    def retry_job(self, id: str) -> Job:
        """Queue a failed or cancelled job again."""
        return self._ask(submitting.retry, job=id)

    def start_worker(self, queue: str) -> str:
        """Have a submitted job done where no worker waits for it: on the embedded store. Says where it is done."""
        if self._settings.url:
            return f"for a worker of {self._settings.url}"
        if self._settings.database_url:
            return f"for a worker of {self._settings.store} (`adapters worker --queue {queue}`)"
        from adapter_registry.background import workers  # noqa: PLC0415  importing a database is slow

        workers.start_for(self._settings, queue)
        return f"in a worker of its own on this machine (log: {self._settings.workers / 'log'})"

    def watch_job(self, id: str) -> Iterator[Job]:
        """The job each time something about it changes, the last time when it has ended."""
        before = None
        while True:
            job = self.job(id)
            if job != before:
                yield job
            if job.state.ended:
                return
            before = job
            time.sleep(POLL_SECONDS)

    def keep_file(self, path: Path, *, adapter: str) -> Digest:
        """Send a file that a recipe names, into the namespace of the adapter that the result belongs to.

        Raises:
            InvalidInput: it cannot be read.
        """
        try:
            digest, size = file_digest(path), path.stat().st_size
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read ({error.strerror}).") from error
        file = File(path.name, size, digest)
        with self._bringing(adapter, None) as bringing:
            bringing.send([FolderFile(path.name, size, path)], lambda some: [file for _ in some])
        return file.digest

    def keep_suite(self, found: SuiteFiles, *, adapter: str) -> Suite:
        """Store a suite with the files it is measured with; what is its newest version already changes nothing.

        Args:
            found: the suite, and where its files are.
            adapter: into whose namespace the files are sent.
        """
        if found.paths and not self._is_newest(found.suite):
            for path in sorted(set(found.paths.values())):
                self.keep_file(path, adapter=adapter)
        return self._ask(suites.set_suite, suite=found.suite, adapter=adapter)

    def _is_newest(self, suite: Suite) -> bool:
        with suppress(NotFound):
            return bool(self._ask(suites.suite, name=suite.name).digest == suite.digest)
        return False

    def bring_file(self, digest: Digest, target: Path) -> None:
        """Write a file that a recipe names to `target`, verified; for who works where the store is.

        Raises:
            DigestMismatch: the store's bytes are damaged; nothing was left.
            Unsupported: a server has it: only its workers read such files.
        """
        if self._settings.url:
            raise Unsupported(
                f"the files of a recipe or a suite are read by workers of {self._settings.url} alone: "
                "have one do it (--submit), or name files that are here."
            )
        hasher, size = hashlib.sha256(), 0
        with self._ask(running.kept, digest=digest) as source, target.open("wb") as sink:
            while block := source.read(BLOCK):
                hasher.update(block)
                size += sink.write(block)
        if hasher.hexdigest() != hex_of(digest):
            target.unlink()
            raise DigestMismatch(target.name, declared=digest, received=hasher.hexdigest(), size=size)

    def _bringing(self, adapter: str, progress: Callable[[int], None] | None) -> Brings:
        raise NotImplementedError
