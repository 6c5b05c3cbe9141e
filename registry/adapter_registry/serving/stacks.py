"""What each stack is asked over HTTP; the releases whose source says so are vLLM 0.33 and SGLang 0.5.23.

llama.cpp's server was run (`benchmarks/serving_llamacpp.py`).
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

from adapter_registry.domain.errors import StoreUnavailable
from adapter_registry.serving.fingerprint import TOKENS, Fingerprint, rounded
from adapter_registry.serving.replicas import EVERY, Http, ReplicaRefused, ReplicaSilent, Served, told_by
from adapter_registry.serving.spelling import anew, plain

_UNREADABLE = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)
_GREEDY = {"temperature": 0, "ignore_eos": True}
MOST_LOADS = 1 << 20
"""Ways to write a path, of which each load draws one: nobody here remembers what a server was asked before."""
_UNFINISHED = "incomplete unload"
"""What SGLang says of a name while some of its processes have it and others do not: it has to be unloaded again."""


class Vllm(Http):
    """vLLM, started with `VLLM_ALLOW_RUNTIME_LORA_UPDATING=1`; a refused load in place leaves the old one serving."""

    def served(self) -> tuple[Served, ...]:
        """What it serves; raises StoreUnavailable."""
        return tuple(replace(each, root=plain(each.root)) for each in super().served())

    def load(self, name: str, path: str, *, instead_of: str | None, stacked: bool = False) -> None:
        """Serve `name` from `path`, which replaces `instead_of`; `stacked`: it is an adapter of stacks of experts."""
        written = anew(path, 1 + secrets.randbelow(MOST_LOADS))
        body: dict[str, Any] = {"lora_name": name, "lora_path": written, "load_inplace": instead_of is not None}
        if stacked:
            body["is_3d_lora_weight"] = True
        self.manage("/v1/load_lora_adapter", body)

    def unload(self, name: str) -> None:
        """Serve `name` no more."""
        self.manage("/v1/unload_lora_adapter", {"lora_name": name})

    def answer(self, name: str | None, prompt: str) -> Fingerprint:
        """What an adapter, or the base alone, answers."""
        asked = {"model": name or self.base(), "prompt": prompt, "max_tokens": TOKENS, **_GREEDY}
        found = self.read("/v1/completions", {**asked, "logprobs": 1, "return_tokens_as_token_ids": True})
        try:
            about = found["choices"][0]["logprobs"]
            return rounded([int(each.rpartition(":")[2]) for each in about["tokens"]], about["token_logprobs"])
        except _UNREADABLE as error:
            raise _unreadable(self.url, "/v1/completions") from error


class Sglang(Http):
    """SGLang replaces nothing in place: a name is unloaded, which waits for running requests, and loaded again."""

    def load(self, name: str, path: str, *, instead_of: str | None, stacked: bool = False) -> None:  # noqa: ARG002  it takes none
        """Serve `name` from `path`, which replaces `instead_of`."""
        if instead_of is not None:
            self.unload(name)
        try:
            self._load(name, path)
        except ReplicaRefused as refused:
            if _UNFINISHED not in str(refused):
                raise
            self.unload(name)
            self._load(name, path)

    def _load(self, name: str, path: str) -> None:
        self.manage("/load_lora_adapter", {"lora_name": name, "lora_path": path})

    def unload(self, name: str) -> None:
        """Serve `name` no more."""
        self.manage("/unload_lora_adapter", {"lora_name": name})

    def answer(self, name: str | None, prompt: str) -> Fingerprint:
        """What an adapter, or the base alone, answers."""
        greedy = {**_GREEDY, "max_new_tokens": TOKENS}
        body = {"text": prompt, "sampling_params": greedy, "return_logprob": True}
        found = self.read("/generate", {**body, "lora_path": name} if name else body)
        try:
            rows = found["meta_info"]["output_token_logprobs"]
            return rounded([int(row[1]) for row in rows], [row[0] for row in rows])
        except _UNREADABLE as error:
            raise _unreadable(self.url, "/generate") from error


class LlamaCpp(Http):
    """llama.cpp's server, which has what it was started with and is told how much of each to add.

    What it adds, every request gets: one adapter at a time, whatever its name. It is started with `--lora-scaled
    FILE:0`: with `--lora` it adds all of them at once, and so it does with `--lora-init-without-apply` (seen running).
    """

    def served(self) -> tuple[Served, ...]:
        """What it adds now; raises StoreUnavailable."""
        added = [each["path"] for each in self._known() if each["scale"]]
        return (Served(EVERY, " + ".join(added)),) if added else ()

    def started_with(self) -> tuple[Served, ...]:
        """What it may add at any moment, by its path; raises StoreUnavailable."""
        return tuple(Served(each["path"], each["path"]) for each in self._known())

    def load(self, name: str, path: str, *, instead_of: str | None, stacked: bool = False) -> None:  # noqa: ARG002  it has one name
        """Add `path` alone."""
        self.manage("/lora-adapters", [{"id": self._id(path), "scale": 1.0}])

    def unload(self, name: str) -> None:  # noqa: ARG002  it has one name
        """Add nothing."""
        self.manage("/lora-adapters", [])

    def answer(self, name: str | None, prompt: str) -> Fingerprint:
        """What an adapter, or the base alone, answers."""
        greedy = {**_GREEDY, "prompt": prompt, "n_predict": TOKENS, "n_probs": 1, "cache_prompt": False}
        found = self.read("/completion", greedy if name else {**greedy, "lora": self._none()})
        try:
            rows = found["completion_probabilities"]
            return rounded([int(row["id"]) for row in rows], [row["logprob"] for row in rows])
        except _UNREADABLE as error:
            raise _unreadable(self.url, "/completion") from error

    def _known(self) -> list[dict[str, Any]]:
        found = told_by(self.url, "/lora-adapters", key=self._keys.user)
        try:
            return [{"id": int(each["id"]), "path": str(each["path"]), "scale": float(each["scale"])} for each in found]
        except _UNREADABLE as error:
            raise StoreUnavailable(f"{self.url}/lora-adapters lists no adapters.") from error

    def _id(self, path: str) -> int:
        for each in self._asked():
            if each["path"] == path:
                return int(each["id"])
        raise ReplicaRefused(
            f"{self.url} was started without {path}, and loads nothing later: start it again with --lora-scaled "
            f"{path}:0 beside what it has"
        )

    def _none(self) -> list[dict[str, Any]]:
        """Every adapter, added not at all: a request that says nothing of one gets what the server adds of it."""
        return [{"id": each["id"], "scale": 0.0} for each in self._asked()]

    def _asked(self) -> list[dict[str, Any]]:
        try:
            return self._known()
        except StoreUnavailable as error:
            raise ReplicaSilent(error.text) from error


STACKS: dict[str, type[Vllm] | type[Sglang] | type[LlamaCpp]] = {
    "vllm": Vllm,
    "sglang": Sglang,
    "llama.cpp": LlamaCpp,
}


def _unreadable(url: str, route: str) -> ReplicaRefused:
    return ReplicaRefused(f"{url}{route} answered without tokens and their probabilities")
