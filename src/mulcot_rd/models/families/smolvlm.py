"""SmolVLM: Idefics3 classes, a SigLIP tower at one fixed size, its patches shuffled into few tokens (architecture 6).

An image is shown whole, without being split into tiles. Like in every family it is first resized to the configured
square; the family's image processor then brings it to the one size that the tower's position embeddings are made for
(512 pixels in the full-size models: 64 tokens).
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from mulcot_rd.models.family import ChatFormat, Family, TinySize, text_dimensions

_PAD, _START, _END = "<|im_end|>", "<|im_start|>", "<end_of_utterance>"
_AROUND, _IMAGE, _WHOLE = "<fake_token_around_image>", "<image>", "<global-img>"
_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    f"{{% elif part['type'] == 'image' %}}{_IMAGE}{{% endif %}}{{% endfor %}}{_END}\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
# The tower of the tiny models: (128 / 16 / 2) squared, 16 tokens an image.
_TINY_IMAGE_SIZE, _TINY_SHUFFLE, _PATCH_SIZE = 128, 2, 16


class SmolVLM(Family):
    """The family of architecture 6."""

    name = "smolvlm"
    config_class = Idefics3Config
    model_class = Idefics3ForConditionalGeneration
    chat = ChatFormat(
        pad=_PAD, end=_END, special=("<|endoftext|>", _START, _PAD, _AROUND, _IMAGE, _END, _WHOLE), template=_TEMPLATE
    )
    image_token = _IMAGE
    full_configs: ClassVar = {
        "HuggingFaceTB/SmolVLM-500M-Instruct": "smolvlm_500m.json",
        "HuggingFaceTB/SmolVLM-256M-Instruct": "smolvlm_256m.json",
    }

    def tiny_config(self, size: TinySize, tokenizer: PreTrainedTokenizerBase) -> Idefics3Config:
        """Configuration of a small SmolVLM with the tokenizer's vocabulary."""
        return Idefics3Config(
            text_config={"model_type": "llama", "head_dim": size.head_dim, **text_dimensions(size, tokenizer)},
            vision_config={
                "hidden_size": size.vision_hidden_size,
                "intermediate_size": 2 * size.vision_hidden_size,
                "num_hidden_layers": size.vision_layers,
                "num_attention_heads": size.vision_heads,
                "image_size": _TINY_IMAGE_SIZE,
                "patch_size": _PATCH_SIZE,
            },
            scale_factor=_TINY_SHUFFLE,
            tie_word_embeddings=False,
            image_token_id=tokenizer.convert_tokens_to_ids(_IMAGE),
        )

    def build_tiny_processor(self, tokenizer: PreTrainedTokenizerBase) -> Idefics3Processor:
        """The family's processor at the tiny tower's size."""
        edge = {"longest_edge": _TINY_IMAGE_SIZE}
        images = Idefics3ImageProcessorPil(size=edge, max_image_size=edge)
        tokens = (_TINY_IMAGE_SIZE // _PATCH_SIZE // _TINY_SHUFFLE) ** 2
        return Idefics3Processor(
            _whole_images(images), tokenizer, image_seq_len=tokens, chat_template=self.chat.template
        )

    def load_processor(self, location: str, revision: str | None = None) -> Idefics3Processor:
        """The family's processor with the image processor that needs no torchvision."""
        tokenizer = AutoTokenizer.from_pretrained(location, revision=revision)
        # The chat template ends every turn by this token, whatever the tokenizer's file calls its end.
        tokenizer.eos_token = _END
        images = AutoImageProcessor.from_pretrained(location, revision=revision, backend="pil")
        processor, _ = Idefics3Processor.get_processor_dict(location, revision=revision)
        return Idefics3Processor(
            _whole_images(images),
            tokenizer,
            image_seq_len=processor["image_seq_len"],
            chat_template=processor.get("chat_template", tokenizer.chat_template),
        )

    def image_text(self, tokens: int) -> str:
        """The image's tokens between the two that frame it, announced as a whole image."""
        return f"{_AROUND}{_WHOLE}{_IMAGE * tokens}{_AROUND}"

    def image_inputs(self, processor: Idefics3Processor, images: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """``pixel_values`` [rows, 1, 3, height, width], an image a row; squares of one size need no mask."""
        encoded = processor.image_processor(images=[[image] for image in images], return_tensors="pt")
        return {"pixel_values": encoded["pixel_values"]}

    def image_tokens(self, processor: Idefics3Processor, image_size: int) -> int:
        """As many whatever ``image_size``: the tower has one size."""
        return processor.image_seq_len

    def image_positions(self, config: PretrainedConfig, image_size: int) -> tuple[int, int]:
        """As many whatever ``image_size``: the tower has one size."""
        patches = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
        return patches // config.scale_factor**2, patches

    def vision_modules(self, base: PreTrainedModel) -> list[nn.Module]:
        """The SigLIP tower and the connector that brings its patches to the text model's width."""
        return [base.model.vision_model, base.model.connector]


def _whole_images(images: Idefics3ImageProcessorPil) -> Idefics3ImageProcessorPil:
    """Straight from the configured square to the tower's size: no tiles, and no blow-up to their size before."""
    images.do_image_splitting = False
    images.do_resize = False
    return images


FAMILY = SmolVLM()
