"""Small checkpoints of the full-size families' own classes, built without any download.

Layout and loading are the same as for real weights: configuration, safetensors, tokenizer, chat template and
image processor in one folder, read back by the classes of :mod:`mulcot_rd.models.backbone`. The weights are
random. Numbers from such models say that the method runs and learns, nothing about the paper's models.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from mulcot_rd.models.family import ChatFormat, Family, TinySize

# How Qwen splits text before byte-pair merges: contractions, words with one leading sign, single digits,
# runs of other signs, line breaks, blanks.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(texts: Iterable[str], vocabulary_size: int, chat: ChatFormat) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a family's special tokens and chat template, trained on ``texts``.

    Any text can be encoded; the same texts in the same order give the same tokenizer.

    Args:
        texts: What to learn merges from: training posts, prompts and reasonings.
        vocabulary_size: Upper bound of the number of token ids, special tokens included.
        chat: The family's special tokens and chat template.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(chat.special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return chat_tokenizer(tokenizer, chat)


def chat_tokenizer(tokenizer: Tokenizer, chat: ChatFormat) -> PreTrainedTokenizerFast:
    """A tokenizer that has a family's special tokens already, with their roles and the chat template."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=chat.pad,
        eos_token=chat.end,
        extra_special_tokens=[token for token in chat.special if token not in (chat.pad, chat.end)],
        chat_template=chat.template,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_tiny_checkpoint(
    folder: Path, family: Family, size: TinySize, tokenizer: PreTrainedTokenizerFast, seed: int
) -> None:
    """Write a randomly initialised checkpoint of ``family`` into ``folder``; the same seed gives the same bytes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = family.build_tiny_model(size, tokenizer)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    family.build_tiny_processor(tokenizer).save_pretrained(folder)
    note = {"scale": "tiny", "weights": "random", "seed": seed, "family": family.name, "size": size.model_dump()}
    (folder / "tiny_model.json").write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
