"""What the project needs to know of a model family; each family is one module that fills this in."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin
from transformers.modeling_outputs import BaseModelOutputWithPooling

from mulcot_rd.errors import UserError
from mulcot_rd.schema import Record

# What turns text, and images where the family reads any, into inputs: text-only families have a tokenizer alone.
Processor: TypeAlias = ProcessorMixin | PreTrainedTokenizerBase


class TinySize(Record):
    """Dimensions of a small, randomly initialised model of a family's own classes (no paper source: scale "tiny")."""

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
class ChatFormat:
    """The special tokens and the chat template that a tiny model's tokenizer gets, those of the full-size models.

    Attributes:
        pad: Token that fills rows up.
        end: Token that ends a turn, and with it an answer.
        special: All special tokens, these two among them, in the order of their ids.
        template: The chat template; ``None`` for families that have none.
    """

    pad: str
    end: str
    special: tuple[str, ...]
    template: str | None


class Family(ABC):
    """One model family: how its models are built, and how they place and are fed an image.

    Attributes:
        name: How configuration names it.
        config_class: Its configuration class in transformers.
        model_class: Its generation class in transformers.
        chat: Special tokens and template of its tiny tokenizers.
        image_token: Token that stands for a piece of an image; ``None`` where the family reads text alone.
        encoder_decoder: Whether the shared prefix goes into an encoder, and each task is a decoder branch that
            begins with a forced prefix.
        encoder_start: Token that an encoder's text begins with, if any.
        decoder_start: Token that a decoder's text begins with; ``None`` in families without an encoder.
        instructed: Whether its prompts say what to do; a model that never learned to follow instructions reads the
            post alone.
        relative_positions: Whether its decoder knows positions by distance alone.
        longest_text: Tokens that encoder and decoder can each hold, where the model has an embedding for each position.
        trained_whole: Whether the paper trains all its parameters instead of an adapter.
        full_configs: Hub id to the file under ``configs/`` that holds that model's dimensions.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[PretrainedConfig]]
    model_class: ClassVar[type[PreTrainedModel]]
    chat: ClassVar[ChatFormat]
    image_token: ClassVar[str | None] = None
    encoder_decoder: ClassVar[bool] = False
    encoder_start: ClassVar[str | None] = None
    decoder_start: ClassVar[str | None] = None
    instructed: ClassVar[bool] = True
    relative_positions: ClassVar[bool] = False
    longest_text: ClassVar[int | None] = None
    trained_whole: ClassVar[bool] = False
    full_configs: ClassVar[dict[str, str]] = {}

    @abstractmethod
    def tiny_config(self, size: TinySize, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
        """Configuration of a small model with the tokenizer's vocabulary."""

    def build_tiny_model(self, size: TinySize, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        """A small model with random weights drawn from torch's generator."""
        return self.model_class(self.tiny_config(size, tokenizer))

    @abstractmethod
    def build_tiny_processor(self, tokenizer: PreTrainedTokenizerBase) -> Processor:
        """The processor of a tiny model around a tokenizer that was trained for it."""

    def config_from_encoder(self, folder: Path, layers: int) -> PretrainedConfig:
        """Configuration of a model that starts from a pretrained encoder; most families have no such model.

        Args:
            folder: The encoder's checkpoint.
            layers: How many of its layers are kept.

        Raises:
            UserError: If the family has none.
        """
        raise UserError(f"models of the family {self.name} don't start from an encoder: set `encoder` to null")

    def from_encoder(self, folder: Path, layers: int) -> tuple[PreTrainedModel, Processor]:
        """That model and its processor; arguments and errors as for :meth:`config_from_encoder`."""
        self.config_from_encoder(folder, layers)
        raise NotImplementedError(f"the family {self.name} must define from_encoder")

    @abstractmethod
    def load_processor(self, location: str, revision: str | None = None) -> Processor:
        """The processor of a checkpoint; never through ``AutoProcessor``, which needs torchvision for videos."""

    def export_processor(self, processor: Processor, image_size: int, folder: Path) -> None:
        """Write a processor into a merged checkpoint, so that stock classes make the same inputs of the same post.

        Args:
            processor: The processor; it is changed.
            image_size: Side in pixels of the square that images are resized to before it sees them.
            folder: The checkpoint's folder.
        """
        processor.save_pretrained(folder)

    def image_text(self, tokens: int) -> str:
        """What stands in the text for an image that takes ``tokens`` tokens, in place of its one placeholder."""
        return (self.image_token or "") * tokens

    def image_inputs(self, processor: Processor, images: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """What the base model takes for these images (RGB arrays [height, width, 3] of one size), by argument name."""
        return {}

    def image_tokens(self, processor: Processor, image_size: int) -> int:
        """Text-model tokens that an image of ``image_size`` x ``image_size`` pixels takes."""
        return 0

    def image_positions(self, config: PretrainedConfig, image_size: int) -> tuple[int, int]:
        """Positions of the text model and of the vision tower that an image takes, from a model's dimensions alone.

        A family that reads images must say it, for the dry run.

        Args:
            config: The model's configuration.
            image_size: Side of the image in pixels.
        """
        if self.image_token is not None:
            raise NotImplementedError(f"the family {self.name} must define image_positions")
        return 0, 0

    def positions(
        self,
        base: PreTrainedModel,
        input_ids: Tensor,
        valid: Tensor,
        image_positions: Tensor,
        images: dict[str, Tensor],
    ) -> Tensor:
        """Rotary positions of each row read as one text; what is padded away counts for nothing.

        Args:
            base: The family's model.
            input_ids: Token ids [B, L].
            valid: Which positions are not padding, boolean [B, L].
            image_positions: Which positions are pieces of the image, boolean [B, L].
            images: The images as :meth:`image_inputs` or :meth:`encode_images` gives them.

        Returns:
            Positions [B, L], or [3, B, L] for families with positions in time, height and width.
        """
        return (valid.long().cumsum(dim=-1) - 1).clamp(min=0)

    def decoder_states(self, base: PreTrainedModel, **inputs: Any) -> Any:
        """The output of the decoder alone, whose ``last_hidden_state`` goes into the head.

        Args:
            base: The family's model.
            inputs: As the decoder takes them.
        """
        return base.get_decoder()(**inputs)

    def relative_bias(self, base: PreTrainedModel, length: int) -> Tensor | None:
        """What relative positions add to the decoder's attention scores; asked of families whose decoders take none.

        Args:
            base: The family's model.
            length: Positions of a text.

        Returns:
            Bias of each query for each key [heads, length, length]; ``None`` for families with rotary positions.
        """
        return None

    def forward_kwargs(self, image_positions: Tensor, images: dict[str, Tensor]) -> dict[str, object]:
        """All that ``base.model(...)`` and ``generate`` take because of the images, beside the token ids.

        Args:
            image_positions: Which positions are pieces of the image, boolean [B, L].
            images: Pixels, as :meth:`image_inputs` gives them, or vision features, as :meth:`encode_images` does.
        """
        if "image_features" in images:
            return {"mm_encoder_outputs": {"image": self.vision_output(images)}}
        return dict(images)

    def encode_images(self, base: PreTrainedModel, images: dict[str, Tensor]) -> dict[str, Tensor]:
        """The vision tower's output, which stands for the pixels wherever :meth:`forward_kwargs` takes them.

        The first dimension of every tensor counts images, so that rows can be stored and joined; a frozen tower
        needs to see each image once a run only. ``image_features`` are [images, tokens, hidden size]: images have one
        size, so all take as many tokens.
        """
        if self.image_token is None:
            return {}
        return {"image_features": torch.stack(tuple(base.model.get_image_features(**images).pooler_output))}

    def vision_output(self, features: dict[str, Tensor]) -> BaseModelOutputWithPooling:
        """What the base model's own vision tower would have returned for features of :meth:`encode_images`."""
        return BaseModelOutputWithPooling(pooler_output=features["image_features"].unbind())

    def vision_modules(self, base: PreTrainedModel) -> list[nn.Module]:
        """The parts of the model that :meth:`encode_images` runs."""
        return []

    def trains_vision(self, base: PreTrainedModel) -> bool:
        """Whether anything that makes the vision features is trained; if not, they may be computed once."""
        return any(parameter.requires_grad for module in self.vision_modules(base) for parameter in module.parameters())


def tokenizer_of(processor: Processor) -> PreTrainedTokenizerBase:
    """The tokenizer of a processor, which is the processor itself where a family reads text alone."""
    return processor if isinstance(processor, PreTrainedTokenizerBase) else processor.tokenizer


def text_dimensions(size: TinySize, tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    """The part of a tiny text configuration that the vision-language families share.

    Embeddings and head are not tied: the head is wider than the tokenizer, as in the full-size models.
    """
    return {
        "hidden_size": size.hidden_size,
        "intermediate_size": size.intermediate_size,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.key_value_heads,
        "vocab_size": head_columns(size, tokenizer),
        "max_position_embeddings": 8192,
        "initializer_range": size.initializer_range,
        "tie_word_embeddings": False,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }


def head_columns(size: TinySize, tokenizer: PreTrainedTokenizerBase) -> int:
    """Columns of a tiny model's head: the tokenizer's ids, rounded up to a multiple of ``size.head_rows``."""
    return -(-len(tokenizer) // size.head_rows) * size.head_rows
