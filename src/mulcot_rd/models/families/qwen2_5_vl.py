"""Qwen2.5-VL: 14-pixel patches merged two by two, windowed attention in the vision tower."""

from typing import ClassVar

import transformers
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from mulcot_rd.models.families.qwen_vl import ImageOnlyProcessor, QwenVL, mrope_section, vision_token_ids
from mulcot_rd.models.family import TinySize, text_dimensions


class Qwen2_5_VLProcessor(ImageOnlyProcessor, transformers.Qwen2_5_VLProcessor):  # noqa: N801
    """The family's processor for images and text."""


class Qwen25VL(QwenVL):
    """The family of architectures 2 and 4."""

    name = "qwen2_5_vl"
    config_class = Qwen2_5_VLConfig
    model_class = Qwen2_5_VLForConditionalGeneration
    processor_class = Qwen2_5_VLProcessor
    video_processor = "Qwen2VLVideoProcessor"
    patch_size = 14
    full_configs: ClassVar = {
        "Qwen/Qwen2.5-VL-72B-Instruct": "qwen2_5_vl_72b.json",
        "Qwen/Qwen2.5-VL-7B-Instruct": "qwen2_5_vl_7b.json",
        "Qwen/Qwen2.5-VL-3B-Instruct": "qwen2_5_vl_3b.json",
    }

    def tiny_config(self, size: TinySize, tokenizer: PreTrainedTokenizerBase) -> Qwen2_5_VLConfig:
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
                "patch_size": self.patch_size,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
                "window_size": 112,
                "fullatt_block_indexes": [size.vision_layers - 1],
            },
            tie_word_embeddings=False,
            **vision_token_ids(tokenizer),
        )


FAMILY = Qwen25VL()
