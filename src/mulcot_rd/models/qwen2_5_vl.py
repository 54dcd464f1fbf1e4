"""Qwen2.5-VL: 14-pixel patches merged two by two, windowed attention in the vision tower."""

from typing import Any

import transformers
from transformers import (
    PreTrainedTokenizerBase,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from mulcot_rd.models.family import Family, TinySize, mrope_section, text_dimensions, vision_token_ids


class Qwen2_5_VLProcessor(transformers.Qwen2_5_VLProcessor):  # noqa: N801
    """The family's processor without its video part, which would need torchvision.

    It keeps the name of the class it replaces, so that saved folders load with the stock class elsewhere.
    """

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None, **kwargs: Any
    ) -> None:
        kwargs.pop("video_processor", None)
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **kwargs)


def tiny_config(size: TinySize, tokenizer: PreTrainedTokenizerBase) -> Qwen2_5_VLConfig:
    """Configuration of a small Qwen2.5-VL with the tokenizer's vocabulary."""
    return Qwen2_5_VLConfig(
        text_config={
            **text_dimensions(size, tokenizer),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": mrope_section(size.head_dim),
            },
        },
        vision_config={
            "depth": size.vision_layers,
            "hidden_size": size.vision_hidden_size,
            "intermediate_size": 2 * size.vision_hidden_size,
            "num_heads": size.vision_heads,
            "out_hidden_size": size.hidden_size,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [size.vision_layers - 1],
        },
        tie_word_embeddings=False,
        **vision_token_ids(tokenizer),
    )


FAMILY = Family(
    name="qwen2_5_vl",
    config_class=Qwen2_5_VLConfig,
    model_class=Qwen2_5_VLForConditionalGeneration,
    processor_class=Qwen2_5_VLProcessor,
    patch_size=14,
    tiny_config=tiny_config,
    full_configs={
        "Qwen/Qwen2.5-VL-7B-Instruct": "qwen2_5_vl_7b.json",
        "Qwen/Qwen2.5-VL-3B-Instruct": "qwen2_5_vl_3b.json",
    },
)
