"""Flan-T5 with a tokenizer like the real one's: SentencePiece pieces, blanks folded, signs missing."""

import string

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, T5Config, T5Tokenizer

from mulcot_rd.models import family_named
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.prompts import encoder_prompt
from mulcot_rd.reasoning import ANSWER_PREFIXES, parse, write, write_label
from mulcot_rd.training.soft_labels import tokenizer_fingerprint

FAMILY = family_named("flan_t5")
# What the vocabulary of the published tokenizer has no piece for.
MISSING = set("\n\\^`{}~<")


@pytest.fixture(scope="module")
def checkpoint(posts, reasonings, tmp_path_factory):
    """A folder with a tokenizer of T5's own class, trained on text without the signs that T5's lacks."""
    texts = [encoder_prompt(post, captioned=True) for post in posts] + [write(r.reasoning) for r in reasonings]
    texts = ["".join(" " if sign in MISSING else sign for sign in text) for text in texts]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    alphabet = [sign for sign in string.printable.strip() if sign not in MISSING]
    trainer = trainers.UnigramTrainer(
        vocab_size=800,
        initial_alphabet=alphabet,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    scores = [(piece, -float(rank)) for piece, rank in vocabulary]
    own = T5Tokenizer(vocab=scores)
    own.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace("\n", " "), normalizers.Replace("\t", " ")]
    )
    folder = tmp_path_factory.mktemp("t5")
    own.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(checkpoint):
    return InputEncoder(FAMILY, FAMILY.load_processor(str(checkpoint)), 56)


def test_the_stock_tokenizer_loses_lines_and_escapes(checkpoint):
    """Or the tests below would show nothing."""
    stock = T5Tokenizer.from_pretrained(checkpoint)
    text = 'a "b\\"\n{c}'
    assert stock.decode(stock(text, add_special_tokens=False)["input_ids"], skip_special_tokens=True) != text


def test_missing_signs_become_tokens_and_few_of_them(checkpoint, encoder):
    stock = T5Tokenizer.from_pretrained(checkpoint)
    added = set(encoder.tokenizer.get_vocab()) - set(stock.get_vocab())
    assert added == MISSING
    # The published models have 32,128 rows for 32,100 ids.
    assert len(encoder.tokenizer) - len(stock) <= 28


@pytest.mark.parametrize(
    "said",
    [
        "Plain words.",
        'It says "great", twice "great".',
        "A backslash \\ and a brace {so} and ~ `x` <b> ^.",
        "Two lines,\nthe second.",
        'Quoted: "Prediction": "positive" ends here.',
    ],
)
def test_a_reasoning_survives_the_tokenizer(encoder, reasonings, said):
    reasoning = reasonings[0].reasoning.model_copy(update={"text_analysis": said, "final_conclusion": said})
    ids = encoder.target(write(reasoning), "reasoning")
    assert encoder.tokenizer.unk_token_id not in ids
    assert encoder.answer(ids, "reasoning") == write(reasoning)
    assert parse(encoder.answer(ids, "reasoning")) == reasoning


def test_a_label_survives_the_tokenizer(encoder, reasonings):
    for record in reasonings:
        ids = encoder.target(write_label(record.label), "label")
        assert encoder.answer(ids, "label") == write_label(record.label)


def test_plain_words_keep_the_ids_that_the_model_was_pretrained_with(checkpoint, encoder):
    stock = T5Tokenizer.from_pretrained(checkpoint)
    text = "The text speaks of Maple Lake. It says more, and the picture is tan all over."
    assert encoder.tokenizer(text)["input_ids"] == stock(text)["input_ids"]


def test_saved_with_a_model_it_is_the_same_tokenizer(encoder, posts, tmp_path):
    encoder.processor.save_pretrained(tmp_path)
    again = InputEncoder(FAMILY, FAMILY.load_processor(str(tmp_path)), 56)
    assert tokenizer_fingerprint(again.tokenizer) == tokenizer_fingerprint(encoder.tokenizer)
    for task in ANSWER_PREFIXES:
        assert again.prompt(posts[0], task) == encoder.prompt(posts[0], task)


def test_in_a_merged_checkpoint_the_stock_tokenizer_is_the_same(encoder, reasonings, tmp_path):
    FAMILY.export_processor(encoder.processor, 56, tmp_path)
    T5Config().save_pretrained(tmp_path)
    stock = AutoTokenizer.from_pretrained(tmp_path)
    text = write(reasonings[0].reasoning) + '\nIt says "great", not \\ {so} ~ `x` <b> ^.'
    ids = encoder.tokenizer(text)["input_ids"]
    assert stock(text)["input_ids"] == ids
    assert stock.decode(ids, skip_special_tokens=True) == text
    assert (stock.eos_token_id, stock.pad_token_id) == (encoder.tokenizer.eos_token_id, encoder.tokenizer.pad_token_id)


def test_the_encoder_reads_both_forms_and_the_decoder_begins_with_one(encoder, posts):
    label, reasoning = (encoder.prompt(posts[0], task) for task in ("label", "reasoning"))
    assert label.prefix == reasoning.prefix
    read = encoder.tokenizer.decode(label.prefix, skip_special_tokens=True)
    assert read == encoder_prompt(posts[0], captioned=True)
    assert label.prefix[-1] == encoder.tokenizer.eos_token_id
    for prompt, task in ((label, "label"), (reasoning, "reasoning")):
        assert prompt.suffix[0] == encoder.tokenizer.pad_token_id
        assert encoder.tokenizer.decode(prompt.suffix, skip_special_tokens=True) == ANSWER_PREFIXES[task]


def test_sections_are_read_where_line_breaks_became_blanks(reasonings):
    for record in reasonings:
        text = write(record.reasoning)
        assert parse(text.replace("\n", " ")) == record.reasoning
        assert parse(text.replace("\n", "")) == record.reasoning
