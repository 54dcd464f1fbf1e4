"""Qwen3-VL: 16-pixel patches merged two by two, vision features also added to the first decoder layers (DeepStack)."""

import transformers
from transformers import PreTrainedTokenizerBase, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from mulcot_rd.models.family import (
    Family,
    ImageOnlyProcessor,
    TinySize,
    mrope_section,
    text_dimensions,
    vision_token_ids,
)


class Qwen3VLProcessor(ImageOnlyProcessor, transformers.Qwen3VLProcessor):
    """The family's processor for images and text."""


def tiny_config(size: TinySize, tokenizer: PreTrainedTokenizerBase) -> Qwen3VLConfig:
    """Configuration of a small Qwen3-VL with the tokenizer's vocabulary."""
    return Qwen3VLConfig(
        text_config={
            **text_dimensions(size, tokenizer),
            "head_dim": size.head_dim,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": mrope_section(size.head_dim),
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": size.vision_layers,
            "hidden_size": size.vision_hidden_size,
            "intermediate_size": 2 * size.vision_hidden_size,
            "num_heads": size.vision_heads,
            "out_hidden_size": size.hidden_size,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [0],
        },
        tie_word_embeddings=False,
        **vision_token_ids(tokenizer),
    )


FAMILY = Family(
    name="qwen3_vl",
    config_class=Qwen3VLConfig,
    model_class=Qwen3VLForConditionalGeneration,
    processor_class=Qwen3VLProcessor,
    patch_size=16,
    tiny_config=tiny_config,
    full_configs={
        "Qwen/Qwen3-VL-8B-Instruct": "qwen3_vl_8b.json",
        "Qwen/Qwen3-VL-2B-Instruct": "qwen3_vl_2b.json",
    },
)
