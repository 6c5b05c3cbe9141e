"""Two servers of one stack, and a document that names them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapter_registry.client import Registry
from adapter_registry.serving.deploying import Deploying
from adapter_registry.serving.fleet_file import read_fleet
from adapter_registry.serving.spelling import plain
from tests.unit.serving.fake_servers import FakeSglang, FakeVllm, running

STACKS = {"vllm": FakeVllm, "sglang": FakeSglang}


@dataclass
class Fleet:
    """The servers, and what is deployed to them."""

    one: FakeVllm | FakeSglang
    two: FakeVllm | FakeSglang
    registry: Registry
    file: Path
    root: Path

    def deploying(self):
        return Deploying(read_fleet(self.file.read_text(), "fleet.yaml"), self.registry, clock=lambda: 1.0)

    def deploy(self, reference, **options):
        lines = self.deploying().deploy(reference, "sql", **options)
        return [line.outcome for line in lines]

    def status(self):
        return [line.outcome for line in self.deploying().status()]

    def reconcile(self):
        return [line.outcome for line in self.deploying().reconcile()]

    def paths(self):
        loaded = [each.loaded.get("sql") for each in (self.one, self.two)]
        return [path and plain(path) for path in loaded]

    def path(self, reference):
        return str(self.root / ".store" / self.registry.resolve(reference).digest.replace(":", "-"))


@contextmanager
def fleet_of(stack: str, registry: Registry, base: Path, folder: Path, more: str = "") -> Iterator[Fleet]:
    """A fleet of two, whose key is `secret`; `more` is added to its document."""
    with ExitStack() as servers:
        one, two = (servers.enter_context(running(STACKS[stack](key="secret"))) for _ in range(2))
        (folder / "key").write_text("secret\n")
        (folder / "fleet.yaml").write_text(
            f"stack: {stack}\nroot: {folder}/root\nbase: {base}\nkey_file: {folder}/key\n"
            f"replicas: [{one.url}, {two.url}]\n{more}"
        )
        yield Fleet(one, two, registry, folder / "fleet.yaml", folder / "root")
