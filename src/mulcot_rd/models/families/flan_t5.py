"""Flan-T5: an encoder reads the shared prefix, the decoder writes each answer (architecture 5, paper Appendix G).

Text only: a caption stands in place of the image. Each answer form is a decoder branch that begins with a forced
prefix, so that the encoder runs once for both tasks, in training and in generation.
"""

import string
from pathlib import Path
from typing import ClassVar

import transformers
from tokenizers import AddedToken, decoders, pre_tokenizers
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast, T5Config

from mulcot_rd.models.family import ChatFormat, Family, TinySize, head_columns

_PAD, _END = "<pad>", "</s>"
_WRITTEN = (*string.punctuation, "\n")


class T5ForConditionalGeneration(transformers.T5ForConditionalGeneration):
    """T5 with an output head of its own, as Flan-T5 has it.

    The stock class ties the head to the embeddings whatever the configuration says, and leaves it alone only where a
    checkpoint brings both. The name is kept, so that saved folders load with the stock class elsewhere.
    """

    _tied_weights_keys: ClassVar = {
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
    }


class FlanT5(Family):
    """The family of architecture 5."""

    name = "flan_t5"
    config_class = T5Config
    model_class = T5ForConditionalGeneration
    chat = ChatFormat(pad=_PAD, end=_END, special=(_PAD, _END), template=None)
    encoder_decoder = True
    decoder_start = _PAD
    relative_positions = True
    trained_whole = True
    full_configs: ClassVar = {"google/flan-t5-large": "flan_t5_large.json", "google/flan-t5-base": "flan_t5_base.json"}

    def tiny_config(self, size: TinySize, tokenizer: PreTrainedTokenizerBase) -> T5Config:
        """Configuration of a small Flan-T5 with the tokenizer's vocabulary; ``size.layers`` in each of both halves."""
        return T5Config(
            vocab_size=head_columns(size, tokenizer),
            d_model=size.hidden_size,
            d_kv=size.head_dim,
            d_ff=size.intermediate_size,
            num_layers=size.layers,
            num_heads=size.heads,
            dropout_rate=0.0,
            # T5 draws every matrix by its own width, embeddings with deviation one times this factor.
            initializer_factor=1.0,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )

    def build_tiny_model(self, size: TinySize, tokenizer: PreTrainedTokenizerBase) -> T5ForConditionalGeneration:
        """A random model whose head gives logits of about one; T5's own random head is made for long pretraining."""
        model = super().build_tiny_model(size, tokenizer)
        model.lm_head.weight.data.mul_(size.hidden_size**-0.5)
        return model

    def relative_bias(self, base: PreTrainedModel, length: int) -> Tensor:
        """The decoder's learned bias, which its first layer holds for all."""
        return base.decoder.block[0].layer[0].SelfAttention.compute_bias(length, length)[0]

    def build_tiny_processor(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
        """The tokenizer itself."""
        return tokenizer

    def load_processor(self, location: str, revision: str | None = None) -> PreTrainedTokenizerBase:
        """The checkpoint's tokenizer, able to write every sign of the response format."""
        return with_every_sign(AutoTokenizer.from_pretrained(location, revision=revision))

    def export_processor(self, processor: PreTrainedTokenizerBase, image_size: int, folder: Path) -> None:
        """The tokenizer as a general one: T5's own class would build its handling of blanks anew."""
        special = processor.special_tokens_map
        PreTrainedTokenizerFast(tokenizer_object=processor.backend_tokenizer, **special).save_pretrained(folder)


def with_every_sign(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    r"""Give a tokenizer the signs that it can't write, each as a token of its own.

    Flan-T5's SentencePiece vocabulary takes line breaks for blanks and has no backslash, brace or tilde, so the
    escapes of a quoted section would be lost. Its models have 28 more rows than its tokenizer has ids: the missing
    signs take a few of them, and full-parameter training teaches what they mean. A tokenizer that can write them all
    (a byte-level one) is left as it is.
    """
    missing = [sign for sign in _WRITTEN if _round_trip(tokenizer, f"a{sign}b") != f"a{sign}b"]
    if missing:
        backend = tokenizer.backend_tokenizer
        # A blank stands before the first word of a text, not before each piece behind an added sign.
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        backend.decoder = decoders.Metaspace(prepend_scheme="first")
        tokenizer.add_tokens([AddedToken(sign, normalized=False, special=False) for sign in missing])
    return tokenizer


def _round_trip(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


FAMILY = FlanT5()
