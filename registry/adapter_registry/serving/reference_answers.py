"""What transformers and PEFT answer from a checkpoint to the prompt that a fleet is asked: what its servers should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapter_registry.client import Registry
from adapter_registry.domain.errors import InvalidInput, Unsupported
from adapter_registry.serving.fingerprint import TOKENS, Fingerprint, rounded


def computed(base: Path, reference: str, registry: Registry, *, prompt: str) -> tuple[Fingerprint, Fingerprint]:
    """The answers of a base alone, and of a Version on it, in the type that the weights are stored in, on the CPU.

    The weights that answer are held against the Version's lock first, every byte.

    Args:
        base: a checkpoint folder with its tokenizer.
        reference: the Version.
        registry: that has it.
        prompt: what both are asked.

    Raises:
        IncompatibleBase: the folder holds another base than the Version is locked to.
        InvalidInput: the folder is none that transformers generates text from.
        Unsupported: torch, transformers or peft is not installed.
    """
    try:
        import torch  # noqa: F401, PLC0415
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

        from adapter_registry.serving.live_peft import load  # noqa: PLC0415
    except ImportError as error:
        raise Unsupported(
            f"`answers: peft` needs {error.name}, which is not installed: pip install 'adapter-registry[jobs]' where "
            "`adapters deploy` runs, or leave it out of the fleet's document. Nothing was moved."
        ) from error
    try:
        # Code that a checkpoint brings is not run, and nobody is asked whether it may.
        here = {"local_files_only": True, "trust_remote_code": False}
        tokens = AutoTokenizer.from_pretrained(base, **here)(prompt)["input_ids"]
        model = AutoModelForCausalLM.from_pretrained(base, dtype="auto", **here).eval()
    except (ImportError, OSError, ValueError, KeyError, RuntimeError) as error:
        told = str(error).strip().partition("\n")[0][:200]
        raise InvalidInput(
            f"`answers: peft` asks what {base} answers, and transformers makes no model with a tokenizer of it "
            f"({told}). Nothing was moved."
        ) from error
    if not tokens:
        raise InvalidInput("`answers: peft` takes a prompt of at least one token. Nothing was moved.")
    bare = _greedy(model, tokens)
    return bare, _greedy(load(model, reference, registry=registry), tokens)


def _greedy(model: Any, tokens: list[int]) -> Fingerprint:
    """The likeliest token again and again, with the one that came second each time."""
    import torch  # noqa: PLC0415

    ids, found, seconds = list(tokens), list[float](), list[tuple[int, float]]()
    with torch.no_grad():
        for _ in range(TOKENS):
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            values, places = torch.log_softmax(logits.float(), dim=-1).topk(2)
            ids.append(int(places[0]))
            found.append(float(values[0]))
            seconds.append((int(places[1]), float(values[1])))
    return rounded(ids[len(tokens) :], found, seconds)
