"""What Qwen2.5-VL and Qwen3-VL share: tokens, chat template, image processor, positions in three dimensions."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from mulcot_rd.files import write_json
from mulcot_rd.models.family import ChatFormat, Family

_PAD, _START, _END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_VISION_START, _VISION_END = "<|vision_start|>", "<|vision_end|>"
_IMAGE, _VIDEO = "<|image_pad|>", "<|video_pad|>"
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    f"{{% if part['type'] == 'image' %}}{_VISION_START}{_IMAGE}{_VISION_END}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class ImageOnlyProcessor(ProcessorMixin):
    """A family's processor without its video part, which would need torchvision.

    Stands before the stock class among a processor's bases. The processor keeps the stock class's name, so that
    saved folders load with that class elsewhere.
    """

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None, **kwargs: Any
    ) -> None:
        kwargs.pop("video_processor", None)
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **kwargs)


class QwenVL(Family):
    """A Qwen vision-language family: patches merged two by two, rotary positions in time, height and width.

    Attributes:
        processor_class: Its processor, without the video part that needs torchvision.
        video_processor: The stock class of that part.
        patch_size: Side of an image patch in pixels.
    """

    processor_class: ClassVar[type[ImageOnlyProcessor]]
    video_processor: ClassVar[str]
    patch_size: ClassVar[int]
    chat = ChatFormat(
        pad=_PAD,
        end=_END,
        special=(_PAD, _START, _END, _VISION_START, _VISION_END, _IMAGE, _VIDEO),
        template=_TEMPLATE,
    )
    image_token = _IMAGE

    def build_tiny_processor(self, tokenizer: PreTrainedTokenizerBase) -> ProcessorMixin:
        """The family's processor with patches of its size."""
        images = Qwen2VLImageProcessorPil(patch_size=self.patch_size, merge_size=2, temporal_patch_size=2)
        return self.processor_class(images, tokenizer, chat_template=self.chat.template)

    def load_processor(self, location: str, revision: str | None = None) -> ProcessorMixin:
        """The family's processor with the image processor that needs no torchvision."""
        tokenizer = AutoTokenizer.from_pretrained(location, revision=revision)
        images = AutoImageProcessor.from_pretrained(location, revision=revision, backend="pil")
        # Some checkpoints keep the template with the processor, some with the tokenizer.
        processor, _ = self.processor_class.get_processor_dict(location, revision=revision)
        return self.processor_class(
            images, tokenizer, chat_template=processor.get("chat_template", tokenizer.chat_template)
        )

    def export_processor(self, processor: ProcessorMixin, image_size: int, folder: Path) -> None:
        """Fix the image processor's size, and name the video part that the stock class asks for and nobody uses.

        The image processor rounds the sides of an image to whole merged patches. Its limits lie so that every square,
        whatever its size, gets the side that images had in training.
        """
        images = processor.image_processor
        piece = images.patch_size * images.merge_size
        side = piece * math.isqrt(self.image_tokens(processor, image_size))
        images.size = {"shortest_edge": (side - piece) ** 2 + 1, "longest_edge": (side + piece) ** 2 - 1}
        processor.save_pretrained(folder)
        # Where vLLM and versions of transformers before 5 look for it.
        images.save_pretrained(folder)
        video = {
            "video_processor_type": self.video_processor,
            **{name: getattr(images, name) for name in ("patch_size", "merge_size", "temporal_patch_size")},
        }
        write_json(folder / "video_preprocessor_config.json", video)

    def image_inputs(self, processor: ProcessorMixin, images: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """``pixel_values`` [patches of all images, values a patch] and ``image_grid_thw`` [images, 3]."""
        encoded = processor.image_processor(images=list(images), return_tensors="pt")
        return {name: encoded[name] for name in ("pixel_values", "image_grid_thw")}

    def image_tokens(self, processor: ProcessorMixin, image_size: int) -> int:
        """Patches of the image, merged two by two."""
        blank = np.zeros((image_size, image_size, 3), dtype=np.uint8)
        grid = self.image_inputs(processor, [blank])["image_grid_thw"]
        return int(grid.prod()) // processor.image_processor.merge_size**2

    def image_positions(self, config: PretrainedConfig, image_size: int) -> tuple[int, int]:
        """Patches of the image, its sides rounded to whole pieces, merged two by two."""
        merge = config.vision_config.spatial_merge_size
        side = round(image_size / (config.vision_config.patch_size * merge))
        return side**2, (side * merge) ** 2

    def positions(
        self,
        base: PreTrainedModel,
        input_ids: Tensor,
        valid: Tensor,
        image_positions: Tensor,
        images: dict[str, Tensor],
    ) -> Tensor:
        """Positions [3, B, L] in time, height and width, of rows that hold one image or none, all of one size.

        What the model's own ``get_rope_index`` gives, which goes through the rows token by token.
        """
        text = (valid & ~image_positions).long()
        before = text.cumsum(dim=-1) - text
        if "image_grid_thw" not in images:
            return (before * text).expand(3, -1, -1)
        _, height, width = (images["image_grid_thw"][0] // base.config.vision_config.spatial_merge_size).tolist()
        number = image_positions.long().cumsum(dim=-1)
        # The text behind an image goes on from the image's longer side.
        behind = (number == height * width) & ~image_positions
        plain = (before + behind * max(height, width)) * valid
        piece = (number - 1).clamp(min=0) * image_positions
        return torch.stack([plain, plain + piece // width, plain + piece % width])

    def forward_kwargs(self, image_positions: Tensor, images: dict[str, Tensor]) -> dict[str, object]:
        """Pixels or features, the grid, and which tokens are of the image."""
        if not images:
            return {}
        pixels = {name: tensor for name, tensor in images.items() if name != "image_grid_thw"}
        grid = {"image_grid_thw": images["image_grid_thw"], "mm_token_type_ids": image_positions.int()}
        return {**grid, **super().forward_kwargs(image_positions, pixels)}

    def encode_images(self, base: PreTrainedModel, images: dict[str, Tensor]) -> dict[str, Tensor]:
        """The features and the grid."""
        return {**super().encode_images(base, images), "image_grid_thw": images["image_grid_thw"]}

    def vision_modules(self, base: PreTrainedModel) -> list[nn.Module]:
        """The vision tower with its merger."""
        return [base.model.visual]


def vision_token_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The ids that both families' configurations carry for the tokens around and inside an image."""
    names = {
        "image_token_id": _IMAGE,
        "video_token_id": _VIDEO,
        "vision_start_token_id": _VISION_START,
        "vision_end_token_id": _VISION_END,
    }
    return {field: tokenizer.convert_tokens_to_ids(token) for field, token in names.items()}


def mrope_section(head_dim: int) -> list[int]:
    """Rotary sections for time, height and width: they must add up to half of the head's units."""
    time = head_dim // 8
    rest = head_dim // 2 - time
    return [time, rest // 2, rest - rest // 2]
