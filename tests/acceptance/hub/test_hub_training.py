"""PEFT, transformers and the Trainer, unchanged, in a process whose hub is this server."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

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


def run(hub, folder, base_folder, script, *, token=""):
    """Run a script as a user would, with HF_ENDPOINT and HF_TOKEN and nothing else."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ADAPTERS_"))},
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": token or hub.token,
        "HF_HOME": str(folder / "hf"),
        "OMP_NUM_THREADS": "1",
    }
    code = BEGIN + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", code, str(base_folder), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_peft_loads_by_stage(hub, tmp_path, llama_folder, lora_folder):
    script = f"""
    remote = logits(PeftModel.from_pretrained(base(), "team/sql-lora", revision="prod"))
    assert torch.equal(remote, logits(PeftModel.from_pretrained(base(), {str(lora_folder)!r})))
    assert not torch.equal(remote, logits(PeftModel.from_pretrained(base(), "team/sql-lora", revision="v2")))
    print("same")
    """
    assert "same" in run(hub, tmp_path, llama_folder, script)


def test_transformers_loads_an_adapter_by_stage(hub, tmp_path, llama_folder, lora_folder):
    script = f"""
    model = base()
    model.load_adapter("team/sql-lora", adapter_kwargs={{"revision": "prod"}})
    assert torch.equal(logits(model), logits(PeftModel.from_pretrained(base(), {str(lora_folder)!r})))
    print("same")
    """
    assert "same" in run(hub, tmp_path, llama_folder, script)


def test_peft_pushes(hub, tmp_path, llama_folder):
    script = """
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], init_lora_weights=False)
    model = get_peft_model(base(), config)
    model.peft_config["default"].base_model_name_or_path = "org/llama"
    model.push_to_hub("team/by-peft")
    assert torch.equal(logits(model), logits(PeftModel.from_pretrained(base(), "team/by-peft")))
    print("same")
    """
    assert "same" in run(hub, tmp_path, llama_folder, script)
    assert hub.registry.resolve("team/by-peft@v1").description.rank == 2


def test_the_trainer_pushes_every_save(hub, tmp_path, llama_folder):
    pytest.importorskip("accelerate")
    script = """
    from transformers import Trainer, TrainingArguments
    model = get_peft_model(base(), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]))
    model.peft_config["default"].base_model_name_or_path = "org/llama"
    rows = [{"input_ids": torch.arange(8), "labels": torch.arange(8)}] * 8
    arguments = TrainingArguments(
        work + "/run", push_to_hub=True, hub_model_id="team/by-trainer", max_steps=2, save_steps=1, report_to=[],
        per_device_train_batch_size=1, use_cpu=True, learning_rate=0.1, hub_strategy="every_save",
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.train()
    trainer.push_to_hub("the end")
    print("trained")
    """
    assert "trained" in run(hub, tmp_path, llama_folder, script)
    newest = hub.registry.versions("team/by-trainer")[0]
    assert newest.base_name == "org/llama"
    assert "training_args.bin" not in [file.path for file in newest.files]
