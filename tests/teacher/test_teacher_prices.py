"""What a request costs: images as the APIs count them, a bound that no tokenizer passes, prices."""

from dataclasses import dataclass, field

import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from mulcot_rd.teacher import TeacherParameters
from mulcot_rd.teacher.prices import ModelPrice, PatchedImages, Pricing, TiledImages, list_prices
from mulcot_rd.teacher.questions import Message

MINI = TiledImages(rule="tiles", base=2833)
PRICE = ModelPrice(input_usd=0.15, output_usd=0.60, images=MINI)


@dataclass
class Asked:
    """A question as providers see it."""

    messages: list[Message]
    image: str | None = None
    max_tokens: int | None = None
    schema: dict | None = None
    subject: str = "post"
    role: str = "reasoning"
    stage: int | None = 1
    attempt: int = field(default=1)


def ask(*texts, **settings):
    roles = ("user", "assistant")
    return Asked([Message(roles[index % 2], text) for index, text in enumerate(texts)], **settings)


def pricing(price=PRICE, **settings):
    prices = {} if price is None else {"m": price}
    return Pricing(
        TeacherParameters(**{"provider": "openai", "model": "m", "prices": prices, "max_tokens": 1000, **settings})
    )


def test_an_image_of_low_detail_counts_the_same_at_any_size():
    question = ask("a post", image="picture.jpg")
    small, large = (pricing(image_size=size).prompt_tokens(question) for size in (28, 2048))
    assert small == large


@pytest.mark.parametrize(
    ("settings", "side", "tokens"),
    [
        ({"patch": 32, "most_patches": 1536}, 1024, 1024),
        # 64 patches a side are scaled down to 39, since 40 would be more than 1,536.
        ({"patch": 32, "most_patches": 1536}, 2048, 1521),
        ({"patch": 32, "most_patches": 1536, "multiplier": 1.62}, 1024, 1659),
        ({"patch": 28}, 280, 100),
        ({"patch": 32}, 280, 81),
    ],
)
def test_patches_count_as_in_openai_s_examples_and_in_qwen_vl(settings, side, tokens):
    assert PatchedImages(rule="patches", **settings).tokens(side) == tokens


@pytest.mark.parametrize("side", [1, 1250, 1254, 1255, 4096, 7919])
def test_a_scaled_image_never_has_more_patches_than_the_bound(side):
    assert 1 <= PatchedImages(rule="patches", patch=32, most_patches=1536).tokens(side) <= 1536


def byte_level_tokenizer(normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["the happy post of the day", "a sad picture"], trainer)
    return tokenizer


AWKWARD = [
    "",
    "the happy post of the day",
    "\n\t \r\n  ",
    "😀👩‍👩‍👧‍👦🏳️‍🌈🇩🇪",
    "日本語のツイート 한국어 العربية",
    "e\u0301" * 50 + "\u0344" * 50,
    "\U0001d160" * 40,
    "\ufdfa" * 30,
    "\x00\x01\x7f\ufffe",
    "zalgo t\u0336\u0321\u0327e\u0338x\u0335t\u0337",
    "<|im_end|><|endoftext|><s></s>[INST]",
    "x" * 3000,
    "@RT https://t.co/a1B2c3 #ÄÖÜß ½ ㎒ ﬁ",
]


@pytest.mark.parametrize("normalizer", [None, normalizers.NFC(), normalizers.NFKC()], ids=["raw", "nfc", "nfkc"])
def test_no_tokenizer_on_bytes_passes_the_bound(normalizer):
    tokenizer = byte_level_tokenizer(normalizer)
    for text in AWKWARD:
        of_text_alone = pricing().most_prompt_tokens(ask(text)) - pricing().most_prompt_tokens(ask(""))
        assert len(tokenizer.encode(text).ids) <= of_text_alone, text


def test_the_bound_is_never_below_what_is_expected():
    for text in AWKWARD:
        for image in (None, "picture.jpg"):
            question = ask(text, "an answer", "try again", image=image, schema={"type": "object"})
            assert pricing().prompt_tokens(question) <= pricing().most_prompt_tokens(question)


def test_an_image_counts_where_it_is_sent_and_the_model_sees_it():
    with_image, without = ask("a post", image="picture.jpg"), ask("a post")
    assert pricing().prompt_tokens(with_image) - pricing().prompt_tokens(without) == 2833
    assert pricing().most_prompt_tokens(with_image) - pricing().most_prompt_tokens(without) == 2833
    text_only = ModelPrice(input_usd=0.5, output_usd=1.5)
    assert pricing(text_only).prompt_tokens(with_image) == pricing(text_only).prompt_tokens(without)


def test_the_schema_of_an_answer_counts_where_it_is_sent():
    question, bare = ask("a post", schema={"type": "object"}), ask("a post")
    assert pricing().prompt_tokens(question) > pricing().prompt_tokens(bare)
    assert pricing(structured_output="off").prompt_tokens(question) == pricing().prompt_tokens(bare)


def test_cost_is_the_list_price_of_both_kinds_of_tokens_and_half_of_it_in_batches():
    tokens = 2_000_000, 500_000
    assert pricing().usd(*tokens) == pytest.approx(0.60)
    assert pricing(mode="batch").usd(*tokens) == pytest.approx(0.30)
    quarter_off = ModelPrice(input_usd=1, output_usd=4, batch_discount=0.25)
    assert pricing(quarter_off, mode="batch").usd(*tokens) == pytest.approx(3.0)


def test_a_model_without_a_price_costs_null_and_has_no_bound():
    qwen = ModelPrice(images=PatchedImages(rule="patches", patch=28))
    for price in (None, qwen):
        unpriced = pricing(price)
        assert not unpriced.priced
        assert unpriced.usd(5, 5) is None
        assert unpriced.most_usd(ask("a post")) == 0.0
    assert pricing(qwen).prompt_tokens(ask("", image="picture.jpg")) == 100 + 3 + 3


def test_the_most_a_request_can_cost_is_its_bound_and_the_longest_answer():
    question = ask("a post", image="picture.jpg")
    most_prompt = pricing().most_prompt_tokens(question)
    assert pricing().most_usd(question) == pytest.approx((0.15 * most_prompt + 0.60 * 1000) / 1e6)
    own = ask("a post", image="picture.jpg", max_tokens=50)
    assert pricing().most_usd(own) == pytest.approx((0.15 * most_prompt + 0.60 * 50) / 1e6)
    assert pricing(mode="batch").most_usd(own) == pytest.approx(pricing().most_usd(own) / 2)


def test_the_list_prices_cover_the_paper_s_teachers_and_a_row_of_the_user_s_goes_before():
    models = list_prices()
    assert {"gpt-4o-mini", "gpt-4o", "gpt-3.5-turbo", "Qwen/Qwen2.5-VL-72B-Instruct"} <= models.keys()
    assert all(price.date for price in models.values() if price.input_usd is not None)
    tokens = 1_000_000, 1_000_000
    listed, own = {}, {"gpt-4o": ModelPrice(input_usd=1, output_usd=2)}
    assert [Pricing(TeacherParameters(model="gpt-4o", prices=p)).usd(*tokens) for p in (listed, own)] == [12.5, 3.0]


@pytest.mark.parametrize(
    "row",
    [
        {"input_usd": 1.0},
        {"output_usd": 1.0},
        {"input_usd": -1.0, "output_usd": 1.0},
        {"input_usd": 1.0, "output_usd": 1.0, "currency": "EUR"},
        {"images": {"rule": "pixels"}},
        {"images": {"rule": "tiles"}},
    ],
)
def test_a_wrong_row_of_the_price_table_is_refused(row):
    with pytest.raises(ValidationError):
        ModelPrice.model_validate(row)
