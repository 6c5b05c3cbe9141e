"""What intake would find in a plain LoRA, for tests that have no files."""

from adapter_registry.domain.adapter import Description

LORA = Description(
    peft_type="LORA",
    variant=(),
    task_type="CAUSAL_LM",
    rank=8,
    ranks={"8": 48},
    alpha=16.0,
    scaling={"2": 48},
    target_modules=("q_proj", "v_proj"),
    matched={"q_proj": 24, "v_proj": 24},
    modules=48,
    candidates=48,
    saved_modules=(),
    dtype="F32",
    parameters=460_800,
    nonzero=True,
    vocab_resized=False,
    checked="full",
)
