"""A script as a user of transformers and PEFT writes it, run with HF_ENDPOINT and HF_TOKEN and nothing else set."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.acceptance.hub.conftest import HubServer

BEGIN = """
import sys, torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM
base_folder, work = sys.argv[1:3]
ids = torch.arange(8)[None]
def base(): return AutoModelForCausalLM.from_pretrained(base_folder)
def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits
"""


def run(hub: HubServer, folder: Path, base_folder: Path, script: str) -> str:
    """What a script prints; BEGIN goes before it."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ADAPTERS_"))},
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.token,
        "HF_HOME": str(folder / "hf"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", BEGIN + textwrap.dedent(script), str(base_folder), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
