"""Names that PEFT releases from 0.2 to 0.21 used: methods, and fields of adapter_config.json."""

from __future__ import annotations

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

MODELLED = frozenset({"LORA", "IA3", "PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING"})
"""Methods whose every tensor is checked; the others are checked by names and shapes only."""

PROMPT_TYPES = frozenset({"PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE"})
"""Methods that save a prompt instead of changes to modules."""

PEFT_TYPES = MODELLED | frozenset(
    """
    ADALORA ADAMSS ADAPTION_PROMPT BEFT BOFT BONE C3A CARTRIDGE CPT DEFT DELORA FOURIERFT FROD GLORA GRALORA HIRA
    HRA LILY LN_TUNING LOHA LOKR MISS OFT OSF PEANUT POLY PSOFT PVERA RANDLORA ROAD SHADOW SHIRA SUPERTUNING
    TINYLORA TRAINABLE_TOKENS UNILORA VBLORA VERA WAVEFT XLORA
    """.split()  # noqa: SIM905  a paragraph of names reads better than a column of strings
)
"""Every method that could be saved."""

KNOWN_FIELDS = frozenset(
    """
    alora_invocation_tokens alpha_pattern arrow_config auto_mapping base_model_name_or_path bias corda_config
    enable_lora encoder_dropout encoder_hidden_size encoder_num_layers encoder_reparameterization_type
    ensure_weight_tying eva_config exclude_modules fan_in_fan_out feedforward_modules inference_mode
    init_ia3_weights init_lora_weights init_weights kasa_config layer_replication layers_pattern layers_to_transform
    loftq_config lora_alpha lora_bias lora_dropout lora_ga_config megatron_config megatron_core merge_weights
    modalities modules_to_save monteclora_config num_attention_heads num_layers num_ranks num_tasks
    num_transformer_submodules num_virtual_tokens peft_type peft_version prefix_projection prompt_tuning_init
    prompt_tuning_init_state_dict_path prompt_tuning_init_task prompt_tuning_init_text qalora_group_size r
    rank_pattern revision runtime_config target_modules target_parameters task_type token_dim tokenizer_kwargs
    tokenizer_name_or_path trainable_token_indices unsloth_fixed use_bdlora use_dora use_qalora use_rslora
    velora_config
    """.split()  # noqa: SIM905
)
"""Fields of the modelled methods' configs."""
