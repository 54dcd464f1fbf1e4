"""Qwen3-VL: 16-pixel patches merged two by two, vision features also added to the first decoder layers (DeepStack)."""

from typing import ClassVar

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from mulcot_rd.models.families.qwen_vl import ImageOnlyProcessor, QwenVL, mrope_section, vision_token_ids
from mulcot_rd.models.family import TinySize, text_dimensions


class Qwen3VLProcessor(ImageOnlyProcessor, transformers.Qwen3VLProcessor):
    """The family's processor for images and text."""


class Qwen3VL(QwenVL):
    """The family of architectures 1 and 3."""

    name = "qwen3_vl"
    config_class = Qwen3VLConfig
    model_class = Qwen3VLForConditionalGeneration
    processor_class = Qwen3VLProcessor
    video_processor = "Qwen3VLVideoProcessor"
    patch_size = 16
    full_configs: ClassVar = {
        "Qwen/Qwen3-VL-8B-Instruct": "qwen3_vl_8b.json",
        "Qwen/Qwen3-VL-2B-Instruct": "qwen3_vl_2b.json",
    }

    def tiny_config(self, size: TinySize, tokenizer: PreTrainedTokenizerBase) -> Qwen3VLConfig:
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
                "patch_size": self.patch_size,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
                "num_position_embeddings": 256,
                "deepstack_visual_indexes": [0],
            },
            tie_word_embeddings=False,
            **vision_token_ids(tokenizer),
        )

    def encode_images(self, base: PreTrainedModel, images: dict[str, Tensor]) -> dict[str, Tensor]:
        """Beside the features, ``deepstack_<n>`` [images, tokens, hidden size] for the n-th decoder layer."""
        output = base.model.get_image_features(images["pixel_values"], images["image_grid_thw"], return_dict=True)
        deepstack = {f"deepstack_{n}": torch.stack(layer) for n, layer in enumerate(output.deepstack_features)}
        return {
            "image_features": torch.stack(output.pooler_output),
            **deepstack,
            "image_grid_thw": images["image_grid_thw"],
        }

    def vision_output(self, features: dict[str, Tensor]) -> BaseModelOutputWithDeepstackFeatures:
        """The merged patches of each image, and those of the DeepStack layers."""
        layers = sum(name.startswith("deepstack_") for name in features)
        return BaseModelOutputWithDeepstackFeatures(
            pooler_output=features["image_features"].unbind(),
            deepstack_features=[features[f"deepstack_{n}"].unbind() for n in range(layers)],
        )


FAMILY = Qwen3VL()
