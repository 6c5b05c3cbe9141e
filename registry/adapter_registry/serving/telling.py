"""What came of deployments, told to the registry: once, and again only when it is another thing."""

from __future__ import annotations

from collections.abc import Sequence

from adapter_registry.client import Registry
from adapter_registry.domain.deployment import LONGEST_TEXT, Replica
from adapter_registry.domain.digest import of_json
from adapter_registry.serving.deploy_record import held
from adapter_registry.serving.deploying import Line
from adapter_registry.serving.fleet_file import Fleet


def tell(registry: Registry, fleet: Fleet, name: str, lines: Sequence[Line], *, follows: str) -> None:
    """Tell the registry what came of a name on each replica, unless that is what it was told last.

    Args:
        registry: that the version is of.
        fleet: that it was deployed to.
        name: that requests use.
        lines: what came of it; the line of no replica says why nothing was moved.
        follows: the reference that the name is kept at, or the version.

    Raises:
        RegistryError: it does not answer, or the token may not tell it; it is told the next time.
    """
    replicas = tuple(
        Replica(line.replica, line.outcome, line.serves[:LONGEST_TEXT], line.why[:LONGEST_TEXT])
        for line in lines
        if line.replica
    )
    because = next((line.why[:LONGEST_TEXT] for line in lines if not line.replica), "")
    # That a replica moved is no more news once it is there.
    gist = of_json([lines[0].version, because, [[each.url, each.good, each.serves, each.why] for each in replicas]])
    with held(fleet.root) as record:
        if record.told.get(name) == gist:
            return
        registry.report_deployment(
            lines[0].version,
            fleet=fleet.name or fleet.root.absolute().name,
            name=name,
            follows=follows,
            replicas=replicas,
            because=because,
        )
        record.told[name] = gist
