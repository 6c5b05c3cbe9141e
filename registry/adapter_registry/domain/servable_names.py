"""Adapters that were trained on the language model alone of a model that sees or hears, and are named as that."""

from __future__ import annotations

import re
from collections.abc import Iterable

VLLM_TEXT_LEFT_BEFORE = frozenset(
    [
        "AudioFlamingo3ForConditionalGeneration",
        "Blip2ForConditionalGeneration",
        "CohereCompassForConditionalGeneration",
        "ColPaliForRetrieval",
        "ColQwen3",
        "ColQwen3_5",
        "Cosmos3ForConditionalGeneration",
        "Eagle2_5_VLForConditionalGeneration",
        "Exaone4_5_ForConditionalGeneration",
        "GLM4VForCausalLM",
        "Gemma3ForConditionalGeneration",
        "Glm4vForConditionalGeneration",
        "Glm4vMoeForConditionalGeneration",
        "GlmAsrForConditionalGeneration",
        "GlmOcrForConditionalGeneration",
        "Granite4VisionForConditionalGeneration",
        "GraniteSpeechForConditionalGeneration",
        "GraniteSpeechPlusForConditionalGeneration",
        "H2OVLChatModel",
        "Idefics3ForConditionalGeneration",
        "InternS1ForConditionalGeneration",
        "InternS1ProForConditionalGeneration",
        "InternS2MobiusForConditionalGeneration",
        "InternS2PreviewForConditionalGeneration",
        "InternVLChatModel",
        "InternVLForConditionalGeneration",
        "Lfm2VlForConditionalGeneration",
        "LightOnOCRForConditionalGeneration",
        "Llama4ForConditionalGeneration",
        "LlamaNemotronVLForSequenceClassification",
        "LlamaNemotronVLModel",
        "Llama_Nemotron_Nano_VL",
        "LlavaForConditionalGeneration",
        "LlavaNextForConditionalGeneration",
        "LlavaNextVideoForConditionalGeneration",
        "MiniCPMV",
        "MiniCPMV4_6ForConditionalGeneration",
        "MiniCPMV4_7ForConditionalGeneration",
        "MossAudioModel",
        "NVLM_D",
        "NemotronH_Nano_Omni_Reasoning_V3",
        "NemotronH_Nano_VL_V2",
        "NemotronH_Omni_Reasoning_V3",
        "NemotronH_Super_Omni_Reasoning_V3",
        "OpsColQwen3Model",
        "PaliGemmaForConditionalGeneration",
        "PixtralForConditionalGeneration",
        "QianfanOCRForConditionalGeneration",
        "Qwen2_5OmniForConditionalGeneration",
        "Qwen2_5OmniModel",
        "Qwen3ASRForConditionalGeneration",
        "Qwen3ASRForcedAlignerForTokenClassification",
        "Qwen3ASRRealtimeGeneration",
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLMoeForConditionalGeneration",
        "Qwen3VLNemotronEmbedModel",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
        "SmolVLMForConditionalGeneration",
        "UltravoxModel",
        "VoxtralForConditionalGeneration",
        "VoxtralRealtimeGeneration",
    ]
)
"""Architectures of which vLLM 0.32 has the language model under another name than it has alone, and looks for adapted
modules under that only: it serves the base. 0.33 looks for both. `tests/unit/serving/test_vllm_wheel.py` holds them.
"""

_TEXT = re.compile(r"model\.layers\.\d+\.")


def as_text(modules: Iterable[str], base: Iterable[str]) -> bool:
    """Whether modules are named as those of a language model alone, and the base has it under another name.

    Args:
        modules: paths of the adapted ones.
        base: names of the base's tensors; none where they are not known.
    """
    there = tuple(base)
    return bool(there) and any(map(_TEXT.match, modules)) and not any(map(_TEXT.match, there))
