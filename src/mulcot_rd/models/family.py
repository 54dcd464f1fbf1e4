"""What the project needs to know of a model family; each family is one module that fills this in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin


class TinySize(BaseModel):
    """Dimensions of a small, randomly initialised model of a family's own classes (no paper source: scale "tiny")."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden_size: int = Field(
        ge=16, description="Width of the text model, in units; heads of head_dim units must fill it"
    )
    intermediate_size: int = Field(ge=16, description="Width of the gated MLP, in units")
    layers: int = Field(ge=1, description="Decoder layers")
    heads: int = Field(ge=1, description="Attention heads")
    key_value_heads: int = Field(ge=1, description="Key and value heads (grouped-query attention)")
    vision_hidden_size: int = Field(ge=16, description="Width of the vision tower, in units")
    vision_layers: int = Field(ge=1, description="Blocks of the vision tower")
    vision_heads: int = Field(ge=1, description="Attention heads of the vision tower")
    initializer_range: float = Field(
        gt=0,
        description="Standard deviation of the random weights of the text model; at a small width the full-size "
        "models' 0.02 leaves the attention too weak to learn copying, about hidden_size ** -0.5 does not",
    )
    head_rows: int = Field(
        ge=1,
        description="The output head is padded to a multiple of this many columns, as the full-size heads are",
    )

    @property
    def head_dim(self) -> int:
        """Units of one attention head."""
        return self.hidden_size // self.heads


@dataclass(frozen=True)
class Family:
    """One model family.

    Attributes:
        name: How configuration names it.
        config_class: Its configuration class in transformers.
        model_class: Its generation class in transformers.
        processor_class: Its processor, without the video part that needs torchvision.
        patch_size: Side of an image patch in pixels.
        tiny_config: Builds the configuration of a small model for a tokenizer, from its dimensions.
        full_configs: Hub id to the file under ``configs/`` that holds that model's dimensions.
    """

    name: str
    config_class: type[PretrainedConfig]
    model_class: type[PreTrainedModel]
    processor_class: type[ProcessorMixin]
    patch_size: int
    tiny_config: Callable[[TinySize, PreTrainedTokenizerBase], PretrainedConfig]
    full_configs: dict[str, str]


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


# Special tokens of both Qwen families, as their tokenizers name them.
PAD, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
SPECIAL_TOKENS = (PAD, IM_START, IM_END, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD)


def vision_token_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The ids that both families' configurations carry for the tokens around and inside an image."""
    names = {
        "image_token_id": IMAGE_PAD,
        "video_token_id": VIDEO_PAD,
        "vision_start_token_id": VISION_START,
        "vision_end_token_id": VISION_END,
    }
    return {field: tokenizer.convert_tokens_to_ids(token) for field, token in names.items()}


def text_dimensions(size: TinySize, tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    """The part of a tiny text configuration that both families share.

    Embeddings and head are not tied: the head is wider than the tokenizer, as in the full-size models.
    """
    columns = -(-len(tokenizer) // size.head_rows) * size.head_rows
    return {
        "hidden_size": size.hidden_size,
        "intermediate_size": size.intermediate_size,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.key_value_heads,
        "vocab_size": columns,
        "max_position_embeddings": 8192,
        "initializer_range": size.initializer_range,
        "tie_word_embeddings": False,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }


def mrope_section(head_dim: int) -> list[int]:
    """Rotary sections for time, height and width: they must add up to half of the head's units."""
    time = head_dim // 8
    rest = head_dim // 2 - time
    return [time, rest // 2, rest - rest // 2]
