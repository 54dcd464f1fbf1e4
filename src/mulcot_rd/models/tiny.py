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
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from mulcot_rd.models.family import IM_END, IMAGE_PAD, PAD, SPECIAL_TOKENS, VISION_END, VISION_START, Family, TinySize

# How Qwen splits text before byte-pair merges: contractions, words with one leading sign, single digits,
# runs of other signs, line breaks, blanks.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    f"{{% if part['type'] == 'image' %}}{VISION_START}{IMAGE_PAD}{VISION_END}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with Qwen's special tokens and chat template, trained on ``texts``.

    Any text can be encoded; the same texts in the same order give the same tokenizer.

    Args:
        texts: What to learn merges from: training posts, prompts and reasonings.
        vocabulary_size: Upper bound of the number of token ids, special tokens included.
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
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=IM_END,
        extra_special_tokens=[token for token in SPECIAL_TOKENS if token not in (PAD, IM_END)],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_tiny_checkpoint(
    folder: Path, family: Family, size: TinySize, tokenizer: PreTrainedTokenizerFast, seed: int
) -> None:
    """Write a randomly initialised checkpoint of ``family`` into ``folder``; the same seed gives the same bytes."""
    image_processor = Qwen2VLImageProcessorPil(patch_size=family.patch_size, merge_size=2, temporal_patch_size=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = family.model_class(family.tiny_config(size, tokenizer))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    family.processor_class(image_processor, tokenizer, chat_template=CHAT_TEMPLATE).save_pretrained(folder)
    note = {"scale": "tiny", "weights": "random", "seed": seed, "family": family.name, "size": size.model_dump()}
    (folder / "tiny_model.json").write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
