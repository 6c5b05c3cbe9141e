"""MLflow's half of `benchmarks.mlflow_registry`: run by the interpreter of MLflow's own environment, on nothing else.

One request per line on standard input, `["operation", argument, ...]`; one answer per line, `[seconds, what it gave]`.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

PAGE = 1000


class Peer:
    """The operations, by MLflow's own client over HTTP."""

    def __init__(self, url: str) -> None:
        mlflow.set_tracking_uri(url)
        self._client = MlflowClient(tracking_uri=url, registry_uri=url)
        self._experiment = self._client.create_experiment("bench")

    def name(self, name: str) -> None:
        self._client.create_registered_model(name)

    def register(self, name: str, folder: str) -> str:
        """A run, the files as its artifacts by way of the server, and a version of them."""
        run = self._client.create_run(self._experiment).info.run_id
        self._client.log_artifacts(run, folder, "adapter")
        source = f"{self._client.get_run(run).info.artifact_uri}/adapter"
        return str(self._client.create_model_version(name, source, run).version)

    def fill(self, name: str, versions: int) -> None:
        """Versions that all name the same files."""
        run = self._client.create_run(self._experiment).info
        for _ in range(versions):
            self._client.create_model_version(name, f"{run.artifact_uri}/adapter", run.run_id)

    def alias(self, name: str, alias: str, version: str) -> None:
        self._client.set_registered_model_alias(name, alias, version)

    def resolve(self, name: str, alias: str) -> str:
        return str(self._client.get_model_version_by_alias(name, alias).version)

    def list(self, name: str) -> int:
        found, token = 0, None
        while True:
            page = self._client.search_model_versions(f"name = '{name}'", max_results=PAGE, page_token=token)
            found, token = found + len(page), page.token
            if not token:
                return found

    def download(self, name: str, alias: str, out: str) -> list[str]:
        mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{name}@{alias}", dst_path=out)
        return sorted(path.name for path in Path(out).rglob("*") if path.is_file())


def answer(work: Callable[..., Any], arguments: list[Any]) -> list[Any]:
    started = time.perf_counter()
    given = work(*arguments)
    return [time.perf_counter() - started, given]


def main() -> None:
    # What MLflow prints must not get between the answers.
    out, sys.stdout = sys.stdout, sys.stderr
    peer = Peer(sys.argv[1])
    for line in sys.stdin:
        operation, *arguments = json.loads(line)
        if operation == "download":
            shutil.rmtree(arguments[2], ignore_errors=True)
            Path(arguments[2]).mkdir()
        print(json.dumps(answer(getattr(peer, operation), arguments)), file=out, flush=True)


if __name__ == "__main__":
    main()
