"""BERT as encoder and as decoder (Rothe et al., 2020), for machines without a GPU (architecture 7, not in the paper).

Encoder and decoder start from the weights of one pretrained encoder; the decoder's cross-attention and what stands
before its output head are new. So it is a pretrained reader, and a decoder that learns to write here. Text only: a
caption stands in place of the image (Appendix G). Its word pieces have no capitals, and neither has what it writes.
"""

from pathlib import Path
from typing import Any

import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    EncoderDecoderConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from mulcot_rd.models.family import ChatFormat, Family, TinySize, head_columns
from mulcot_rd.models.tiny import chat_tokenizer
from mulcot_rd.reasoning import QUOTED_KEYS

_PAD, _START, _END, _UNKNOWN, _MASK = "[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"
# Where word pieces are joined again, a sign clings to what stands before it, behind it, or on both sides.
_CLOSING, _OPENING, _INNER = ".,!?;:)]}%…”’»", "([{@#$“‘«", "-_/\\&'\""


class EncoderDecoderModel(transformers.EncoderDecoderModel):
    """The stock class with an encoder that has no pooling layer, which nothing here reads.

    The name is kept, so that saved folders load with the stock class elsewhere.
    """

    def __init__(
        self,
        config: EncoderDecoderConfig | None = None,
        encoder: PreTrainedModel | None = None,
        decoder: PreTrainedModel | None = None,
    ) -> None:
        if encoder is None and config is not None:
            encoder = BertModel(config.encoder, add_pooling_layer=False)
        super().__init__(config, encoder, decoder)

    @property
    def lm_head(self) -> nn.Linear:
        """The output head."""
        return self.decoder.get_output_embeddings()


class Bert2Bert(Family):
    """The family of architecture 7."""

    name = "bert2bert"
    config_class = EncoderDecoderConfig
    model_class = EncoderDecoderModel
    chat = ChatFormat(pad=_PAD, end=_END, special=(_PAD, _START, _END, _UNKNOWN, _MASK), template=None)
    encoder_decoder = True
    encoder_start = _START
    decoder_start = _START
    instructed = False
    trained_whole = True
    longest_text = 512

    def tiny_config(self, size: TinySize, tokenizer: PreTrainedTokenizerBase) -> EncoderDecoderConfig:
        """Configuration of a small model with the tokenizer's vocabulary; ``size.layers`` in each of both halves."""
        own = BertConfig(
            vocab_size=head_columns(size, tokenizer),
            hidden_size=size.hidden_size,
            intermediate_size=size.intermediate_size,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=size.initializer_range,
            max_position_embeddings=self.longest_text,
        )
        return _both_halves(own, tokenizer)

    def build_tiny_processor(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
        """The tokenizer itself."""
        return tokenizer

    def load_processor(self, location: str, revision: str | None = None) -> PreTrainedTokenizerBase:
        """The checkpoint's tokenizer."""
        return PreTrainedTokenizerFast.from_pretrained(location, revision=revision)

    def config_from_encoder(self, folder: Path, layers: int) -> EncoderDecoderConfig:
        """Configuration of a model whose halves both start from a BERT checkpoint.

        Args:
            folder: The checkpoint.
            layers: How many of its layers each half keeps, evenly spread from the first on.
        """
        return self._start(folder, layers)[0]

    def from_encoder(self, folder: Path, layers: int) -> tuple[EncoderDecoderModel, PreTrainedTokenizerBase]:
        """That model and its tokenizer; what is new is drawn from torch's generator."""
        config, tokenizer = self._start(folder, layers)
        start = BertModel.from_pretrained(folder, use_safetensors=True)
        start.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        stack = start.encoder.layer
        start.encoder.layer = nn.ModuleList(stack[number * len(stack) // layers] for number in range(layers))
        start.pooler = None
        model = self.model_class(config)
        model.encoder.load_state_dict(start.state_dict())
        model.decoder.bert.load_state_dict(start.state_dict(), strict=False)
        return model, tokenizer

    def _start(self, folder: Path, layers: int) -> tuple[EncoderDecoderConfig, PreTrainedTokenizerBase]:
        tokenizer = _writing_tokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")))
        own = BertConfig.from_pretrained(folder)
        own.vocab_size, own.num_hidden_layers = len(tokenizer), layers
        return _both_halves(own, tokenizer), tokenizer

    def decoder_states(self, base: PreTrainedModel, **inputs: Any) -> Any:
        """The decoder's output with the transformation that BERT has before its head."""
        output = base.decoder.bert(**inputs)
        output.last_hidden_state = base.decoder.cls.predictions.transform(output.last_hidden_state)
        return output


def _both_halves(own: BertConfig, tokenizer: PreTrainedTokenizerBase) -> EncoderDecoderConfig:
    tokens = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.convert_tokens_to_ids(_START),
    }
    reader = BertConfig.from_dict({**own.to_dict(), **tokens})
    writer = BertConfig.from_dict({**reader.to_dict(), "is_decoder": True, "add_cross_attention": True})
    return EncoderDecoderConfig(encoder=reader.to_dict(), decoder=writer.to_dict(), **tokens)


def _writing_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """BERT's tokenizer, able to write text with its spaces where they were, and lines.

    Word pieces do not say whether a space stood between a word and a sign. So signs that can stand on either side of a
    word become signs of BERT's vocabulary that cling to one side; decoding turns them back. The response format's
    keys and the line break become tokens.
    """
    replace, attach = normalizers.Replace, decoders.Replace
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.post_processor = None
    tokenizer.normalizer = normalizers.Sequence(
        [
            # A quote inside of a quoted section is escaped.
            replace(Regex(r'(?<![^\s(\[{“‘])\\"(?=\S)'), "«"),
            replace(Regex(r'(?<=\S)\\"(?!\w)'), "»"),
            replace(Regex(r'(?<![^\s(\[{“‘])"(?=\S)'), "“"),
            replace(Regex(r'(?<=\S)"(?!\w)'), "”"),
            replace(Regex(r"(?<![^\s(\[{“‘])'(?=\S)"), "‘"),
            replace(Regex(r"(?<=\S)'(?!\w)"), "’"),
            replace(Regex(r"(?<=\s)-(?=\s)"), "−"),
            replace(Regex(r"#(?=\s)"), "♯"),
            tokenizer.normalizer,
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            *(attach(f" {sign}", sign) for sign in _CLOSING + _INNER + "\n"),
            *(attach(f"{sign} ", sign) for sign in _OPENING + _INNER + "\n"),
            *(attach(curled, sign) for curled, sign in zip("“”‘’♯−", "\"\"''#-", strict=True)),
            *(attach(curled, '\\"') for curled in "«»"),
        ]
    )
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in (*QUOTED_KEYS, "\n")])
    return chat_tokenizer(tokenizer, Bert2Bert.chat)


FAMILY = Bert2Bert()
