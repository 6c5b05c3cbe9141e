"""The child process that runs PEFT: merges by it, and computes logits to compare; the parent never imports torch.

Run as `python -I -B torch_child.py` with one JSON question on standard input; it answers with one JSON line. The files
it reads are ones that intake has examined; it limits itself and cuts its network before it imports what reads them.
"""

import json
import os
import sys
import warnings
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
warnings.simplefilter("ignore")


def model_in(folder: str, dtype: Any) -> Any:
    """The checkpoint in a folder, as the class that its config names."""
    import transformers  # noqa: PLC0415  slow

    config = transformers.AutoConfig.from_pretrained(folder)
    names = config.architectures or []
    cls = getattr(transformers, names[0], None) if names else None
    return (cls or transformers.AutoModel).from_pretrained(folder, dtype=dtype).eval()


def adapted(base: str, adapter: str, dtype: Any) -> Any:
    """Base and adapter, as PEFT loads them."""
    from peft import PeftModel  # noqa: PLC0415  slow

    return PeftModel.from_pretrained(model_in(base, dtype), adapter).eval()


def merge(question: dict[str, Any]) -> dict[str, Any]:
    """Merge by PEFT and save."""
    adapted(question["base"], question["adapter"], "auto").merge_and_unload().save_pretrained(question["out"])
    return {}


def logits(question: dict[str, Any]) -> dict[str, Any]:
    """Logits for some prompts of equal length, in float32, saved as an array."""
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    found = (
        adapted(question["base"], question["adapter"], torch.float32)
        if question["adapter"]
        else model_in(question["base"], torch.float32)
    )
    with torch.no_grad():
        np.save(question["out"], found(input_ids=torch.tensor(question["prompts"])).logits.numpy())
    return {}


def main() -> None:
    """Answer the question."""
    question = json.loads(sys.stdin.read())
    sys.path[:] = question["path"]
    from adapter_registry.checkpoints import confined  # noqa: PLC0415  after the path is set

    if question["limits"] is not None:
        confined.limit(**question["limits"])
    network = confined.cut_network()
    confined.end_with(question["parent"])
    answer = {"merge": merge, "logits": logits}[question["do"]](question)
    print(json.dumps({**answer, "network": network}))


if __name__ == "__main__":
    main()
