"""Load what was pulled with plain PEFT and with `adapter_registry.load`, and hold both against the trained model.

`python -m demo.load FOLDER PROBE`: FOLDER is a pulled adapter, PROBE the trained model's logits on a fixed text.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

from demo.console import say
from demo.places import DemoError, base_folder
from demo.train import logits

PROMPT = 'The "try" statement specifies exception handlers'


def main(folder: Path, probe: Path) -> None:
    """Both ways of loading give the trained model's logits, bit for bit; then a few words of each model."""
    warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for an attribute that has a new name
    import numpy as np
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    import adapter_registry

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(base_folder())
    trained = np.load(probe)

    def base() -> Any:
        return AutoModelForCausalLM.from_pretrained(base_folder(), dtype=torch.float32).eval()

    bare = base()
    say(f"base alone:    {_words(bare, tokenizer)}")
    plain = PeftModel.from_pretrained(bare, folder).eval()
    _same(logits(plain, tokenizer), trained, "PeftModel.from_pretrained(base, pulled folder)")
    say(f"with the pull: {_words(plain, tokenizer)}")
    live = adapter_registry.load(base(), "demo/scribe@prod")
    _same(logits(live, tokenizer), trained, 'adapter_registry.load(model, "demo/scribe@prod")')


def _same(found: Any, expected: Any, how: str) -> None:
    largest = float(abs(found - expected).max())
    if largest != 0:
        raise DemoError(f"{how}: logits differ from the trained model's by up to {largest:g}")
    say(f"{how}: {found.size:,} logits equal the trained model's, largest difference 0", "green")


def _words(model: Any, tokenizer: Any) -> str:
    tokens = tokenizer(PROMPT, return_tensors="pt")
    written = model.generate(**tokens, max_new_tokens=24, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    return " ".join(tokenizer.decode(written[0], skip_special_tokens=True).split())


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except DemoError as error:
        say(str(error), "red")
        sys.exit(1)
