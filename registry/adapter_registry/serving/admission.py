"""Whether a version may go to servers that look at nothing themselves."""

from __future__ import annotations

from pathlib import Path

from adapter_registry.client import Registry
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.errors import InvalidInput, Unsupported
from adapter_registry.domain.lock import Verdict
from adapter_registry.local.folders import is_folder
from adapter_registry.local.pulled import require
from adapter_registry.serving.running_base import RunningBase


class Admission:
    """What servers of one base and stack are given; a checkpoint folder is read once, until its files change.

    Args:
        registry: knows the locks.
        base: what the servers run: a registered base or a checkpoint folder.
        stack: whose rules say whether a version is served right.
        from_folders: whether they find adapters in folders, and nobody says anything else of them.
    """

    def __init__(self, registry: Registry, *, base: str, stack: str, from_folders: bool = False) -> None:
        self._registry, self._base, self._stack, self._from_folders = registry, base, stack, from_folders
        self._folder = Path(base).expanduser() if is_folder(base) else None
        self._running: RunningBase | None = None

    def check(self, version: Version) -> None:
        """Refuse what does not belong there.

        Raises:
            InvalidInput: there is no such folder, or it is no checkpoint.
            IncompatibleBase: it is locked to another base.
            Unsupported: the stack would not serve it right.
        """
        require(self._verdict(version), version, self._base)
        [report] = self._registry.servable(f"{version.adapter}@{version.digest}", self._stack)
        if not report.verdict.serves:
            raise Unsupported(f"{version.reference} on {report.stack}: {report.verdict}: {'; '.join(report.reasons)}.")
        if self._from_folders and report.load:
            raise Unsupported(
                f"{version.reference} on {report.stack}: each load has to say {report.load}, which nobody does who "
                "finds it in a folder: flatten it, or have it loaded by `adapters deploy` or vLLM's plugins."
            )

    def _verdict(self, version: Version) -> Verdict:
        if self._folder is None:
            return self._registry.verdict(version, self._base)
        if not self._folder.is_dir():
            raise InvalidInput(
                f"{self._base} is no folder: `base` is the checkpoint folder of what the servers run, or a registered "
                "base."
            )
        self._running = self._running or RunningBase(self._folder, self._registry)
        return self._running.verdict(version)
