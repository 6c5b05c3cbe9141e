"""Servers that serve adapters over HTTP: asked what they serve, made to load, and asked a prompt."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any, Protocol

import httpx2

from adapter_registry.domain.errors import StoreUnavailable
from adapter_registry.serving.fingerprint import TOKENS, Fingerprint, rounded

SECONDS = 10.0
"""How long a server may take to say what it serves."""
LOAD_SECONDS = 300.0
"""How long it may take to load, unload or answer a prompt; SGLang waits for running requests."""


class ReplicaRefused(Exception):
    """A server did not do what it was asked; the text says which, what, and its answer."""


@dataclass(frozen=True, slots=True)
class Served:
    """One model of a server's `/v1/models`.

    Attributes:
        name: that requests use.
        root: the path or name it was loaded from; empty where the server does not say.
        parent: the model that an adapter is of; empty for a base.
    """

    name: str
    root: str
    parent: str = ""


def served_by(url: str, *, key: str | None = None) -> tuple[Served, ...]:
    """What the server at `url` serves now.

    Raises:
        StoreUnavailable: it does not say.
    """
    try:
        answer = httpx2.get(f"{url}/v1/models", headers=_headers(key), timeout=SECONDS, verify=_trusted())
        answer.raise_for_status()
        models = answer.json()["data"]
        return tuple(
            Served(str(each["id"]), str(each.get("root") or ""), str(each.get("parent") or "")) for each in models
        )
    except httpx2.HTTPStatusError as error:
        raise StoreUnavailable(
            f"{url} does not say what it serves: it answered {error.response.status_code}."
        ) from error
    except (httpx2.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreUnavailable(f"{url} does not say what it serves ({type(error).__name__}).") from error


def names_in(served: Iterable[Served]) -> frozenset[str]:
    """Every name, and every part of every path, that models are served under: what may not be removed."""
    parts: set[str] = set()
    for each in served:
        parts.update((each.name, *PurePosixPath(each.name).parts, *PurePosixPath(each.root).parts))
        parts.add(each.name.rpartition(":")[2])
    return frozenset(parts)


class Replica(Protocol):
    """One server; every method but `served` raises ReplicaRefused."""

    url: str

    def served(self) -> tuple[Served, ...]:
        """What it serves; raises StoreUnavailable."""

    def load(self, name: str, path: str, *, instead_of: str | None) -> None:
        """Serve `name` from `path`, which replaces `instead_of`."""

    def unload(self, name: str) -> None:
        """Serve `name` no more."""

    def answer(self, name: str | None, prompt: str) -> Fingerprint:
        """What an adapter, or the base alone, answers."""


class _Http:
    def __init__(self, url: str, key: str | None) -> None:
        self.url, self._key = url, key

    def served(self) -> tuple[Served, ...]:
        """What it serves; raises StoreUnavailable."""
        return served_by(self.url, key=self._key)

    def _post(self, route: str, body: dict[str, Any]) -> httpx2.Response:
        try:
            answer = httpx2.post(
                f"{self.url}{route}",
                json=body,
                headers=_headers(self._key),
                timeout=LOAD_SECONDS,
                verify=_trusted(),
            )
        except httpx2.HTTPError as error:
            raise ReplicaRefused(f"{self.url}{route} does not answer ({type(error).__name__})") from error
        if not answer.is_success:
            raise ReplicaRefused(f"{self.url}{route} answered {answer.status_code}: {answer.text[:300]}")
        return answer

    def _read(self, route: str, body: dict[str, Any]) -> Any:
        try:
            return self._post(route, body).json()
        except ValueError as error:
            raise ReplicaRefused(f"{self.url}{route} answered something other than JSON") from error

    def _base(self) -> str:
        try:
            return next(each.name for each in self.served() if not each.parent)
        except (StoreUnavailable, StopIteration) as error:
            raise ReplicaRefused(f"{self.url}/v1/models names no base model") from error


class Vllm(_Http):
    """vLLM, started with `VLLM_ALLOW_RUNTIME_LORA_UPDATING=1`; a refused load in place leaves the old one serving."""

    def load(self, name: str, path: str, *, instead_of: str | None) -> None:
        """Serve `name` from `path`, which replaces `instead_of`."""
        self._post(
            "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path, "load_inplace": instead_of is not None}
        )

    def unload(self, name: str) -> None:
        """Serve `name` no more."""
        self._post("/v1/unload_lora_adapter", {"lora_name": name})

    def answer(self, name: str | None, prompt: str) -> Fingerprint:
        """What an adapter, or the base alone, answers."""
        asked = {"model": name or self._base(), "prompt": prompt, "max_tokens": TOKENS, "temperature": 0}
        route = "/v1/completions"
        found = self._read(route, {**asked, "logprobs": 1, "return_tokens_as_token_ids": True})
        try:
            about = found["choices"][0]["logprobs"]
            return rounded([int(each.rpartition(":")[2]) for each in about["tokens"]], about["token_logprobs"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ReplicaRefused(f"{self.url}{route} answered without tokens and their probabilities") from error


class Sglang(_Http):
    """SGLang replaces nothing in place: a name is unloaded, which waits for running requests, and loaded again."""

    def load(self, name: str, path: str, *, instead_of: str | None) -> None:
        """Serve `name` from `path`, which replaces `instead_of`."""
        if instead_of is not None:
            self.unload(name)
        self._post("/load_lora_adapter", {"lora_name": name, "lora_path": path})

    def unload(self, name: str) -> None:
        """Serve `name` no more."""
        self._post("/unload_lora_adapter", {"lora_name": name})

    def answer(self, name: str | None, prompt: str) -> Fingerprint:
        """What an adapter, or the base alone, answers."""
        greedy = {"temperature": 0, "max_new_tokens": TOKENS}
        body = {"text": prompt, "sampling_params": greedy, "return_logprob": True}
        found = self._read("/generate", {**body, "lora_path": name} if name else body)
        try:
            rows = found["meta_info"]["output_token_logprobs"]
            return rounded([int(row[1]) for row in rows], [float(row[0]) for row in rows])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ReplicaRefused(f"{self.url}/generate answered without tokens and their probabilities") from error


STACKS: dict[str, type[Vllm] | type[Sglang]] = {"vllm": Vllm, "sglang": Sglang}


def _headers(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


@cache
def _trusted() -> ssl.SSLContext:
    """Read once: it takes longer than a server takes to answer."""
    return httpx2.create_ssl_context()
