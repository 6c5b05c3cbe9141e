"""PEFT, transformers and the Trainer, unchanged, in a process whose hub is this server."""

from pathlib import Path

import peft
import torch
import transformers
from harness import ADAPTER, GIVEN, REPO, V1, api, check, done, fresh, new, python, refused, same
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

IDS = torch.arange(8)[None]
PEFT = tuple(int(part) for part in peft.__version__.split(".")[:2])


def base():
    """The base, which lies on this machine."""
    return AutoModelForCausalLM.from_pretrained(GIVEN["base"])


def logits(model):
    """What a model says."""
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def equal(name, one, other):
    """Note whether two models say the same."""
    check(name, torch.equal(logits(one), logits(other)))


first = PeftModel.from_pretrained(base(), GIVEN["first"])
plain = base()
check("the adapter changes the model", not torch.equal(logits(first), logits(plain)))
for name in ("prod", "v1", "stable", "1.0.0", V1):
    equal(f"PEFT at {name[:8]}", PeftModel.from_pretrained(base(), REPO, revision=name), first)
second = PeftModel.from_pretrained(base(), REPO, revision="v2")
check("PEFT at v2 differs", not torch.equal(logits(second), logits(first)))
equal("PEFT by id with .prod", PeftModel.from_pretrained(base(), f"{REPO}.prod"), first)
equal("PEFT from a warm cache", PeftModel.from_pretrained(base(), REPO, revision="prod"), first)
same("PEFT's config at a stage", PeftConfig.from_pretrained(REPO, revision="prod").r, 4)
both = PeftModel.from_pretrained(base(), REPO, revision="prod", adapter_name="one")
both.load_adapter(REPO, adapter_name="two", revision="v2")
check("PEFT with two of them", set(both.peft_config) == {"one", "two"})
refused("PEFT of no repository", Exception, lambda: PeftModel.from_pretrained(base(), "team/none"))
refused("PEFT of no revision", Exception, lambda: PeftModel.from_pretrained(base(), REPO, revision="none"))

loaded = base()
loaded.load_adapter(REPO, adapter_kwargs={"revision": "prod"})
equal("transformers at a stage", loaded, first)
loaded = base()
loaded.load_adapter(f"{REPO}.prod")
equal("transformers by id with .prod", loaded, first)

config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], init_lora_weights=False)
model = get_peft_model(base(), config)
model.peft_config["default"].base_model_name_or_path = "org/llama"
repo = new("peft")
model.push_to_hub(repo)
equal("PEFT pushes, and loads it again", PeftModel.from_pretrained(base(), repo), model)
same("PEFT's push is a version", [t.name for t in api.list_repo_refs(repo).tags], ["v1"])
model.push_to_hub(repo)
same("PEFT pushes the same again", len(api.list_repo_commits(repo)), 1)
model.push_to_hub(repo, commit_message="on a branch", revision="wip")
check("PEFT pushes to a branch", "wip" in [b.name for b in api.list_repo_refs(repo).branches])
with torch.no_grad():
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.mul_(1.5)
model.push_to_hub(repo, commit_message="more")
titles = [c.title for c in api.list_repo_commits(repo)]
same("PEFT pushes other weights", (titles[0], len(titles)), ("more", 2))
equal("PEFT's first version stays loadable", PeftModel.from_pretrained(base(), repo, revision="v2"), model)
if PEFT >= (0, 20):
    folder = Path(fresh()) / "auto"
    model.peft_config["default"].base_model_name_or_path = GIVEN["base"]
    model.save_pretrained(folder)
    equal("AutoPeft", AutoPeftModelForCausalLM.from_pretrained(str(folder)), model)
loader = (
    "import os; from peft import PeftModel; from transformers import AutoModelForCausalLM as A;"
    "b = A.from_pretrained(os.environ['B']);"
    "m = PeftModel.from_pretrained(b, os.environ['R'], revision='prod'); print('loaded')"
)
check("offline", python(loader, B=GIVEN["base"], R=REPO, HF_HUB_OFFLINE="1").endswith("loaded"))
there = {"HF_HOME": fresh(), "HF_ENDPOINT": f"{GIVEN['url']}/~prod", "B": GIVEN["base"], "R": REPO}
check("channel", python(loader.replace(", revision='prod'", ""), **there).endswith("loaded"))

run = new("trainer")
model = get_peft_model(base(), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]))
model.peft_config["default"].base_model_name_or_path = "org/llama"
rows = [{"input_ids": torch.arange(8), "labels": torch.arange(8)}] * 8
arguments = TrainingArguments(
    str(Path(fresh()) / "run"),
    push_to_hub=True,
    hub_model_id=run,
    max_steps=2,
    save_steps=1,
    report_to=[],
    per_device_train_batch_size=1,
    use_cpu=True,
    learning_rate=0.1,
    hub_strategy="every_save",
)
trainer = Trainer(model=model, args=arguments, train_dataset=rows)
trainer.train()
trainer.push_to_hub("the end")
files = api.list_repo_files(run)
check("the Trainer pushes", {"adapter_config.json", "adapter_model.safetensors"} <= set(files))
check("the Trainer's pickles stay out", "training_args.bin" not in files)
check("the Trainer's card came along", "README.md" in files)
equal("the Trainer's model loads", PeftModel.from_pretrained(base(), run), trainer.model)
check("the Trainer's saves are versions", len([t for t in api.list_repo_refs(run).tags if t.name.startswith("v")]) >= 1)
check("nothing else was touched", ADAPTER.exists() and transformers.__version__)
done()
