"""What a request costs: the tokens that a server will count, and their price.

The list prices are in ``prices.json`` beside this module (https://platform.openai.com/docs/pricing); ``teacher.prices``
adds to them. A prompt has two counts. The *expected* one is for estimates: characters over a constant, since the
vocabularies of the models behind an API are not at hand. The *most* is for budgets: a tokenizer on bytes gives at most
one token a byte.
"""

import json
import math
import unicodedata
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from mulcot_rd.schema import Record

if TYPE_CHECKING:
    from mulcot_rd.teacher.parameters import TeacherParameters
    from mulcot_rd.teacher.questions import Question

# Measured with o200k_base (gpt-4o, gpt-4o-mini) on 2,400 prompts of Twitter-2015, Twitter-2017 and MVSA-Single: means
# 4.54 to 4.66, nine prompts in ten between 4.40 and 4.73; cl100k_base (gpt-3.5-turbo) is within one percent of that.
CHARACTERS_PER_TOKEN = 4.62
# Of OpenAI's chat format: tokens around each turn, and those that open the answer.
TOKENS_A_TURN = 3
TOKENS_A_REPLY = 3
# Bounds of the same for any chat template: role and marks of a turn, and a system turn that the template adds.
MOST_TOKENS_A_TURN = 16
MOST_TOKENS_A_CONVERSATION = 128


class TiledImages(Record):
    """An image counts the same at any size, as gpt-4o and gpt-4o-mini count low detail.

    Source: OpenAI's guide "Images and vision", calculating costs.
    """

    rule: Literal["tiles"]
    base: int = Field(ge=0, description="Tokens of an image of low detail (gpt-4o 85, gpt-4o-mini 2833).")


class PatchedImages(Record):
    """Images in square patches: OpenAI's newer models (32 pixels, a multiplier), Qwen2.5-VL (28), Qwen3-VL (32).

    Sources: OpenAI's guide "Images and vision" (gpt-4.1-mini 1.62, gpt-4.1-nano 2.46, at most 1,536 patches); the
    Qwen-VL reports: patches of 14 and 16 pixels, merged two by two.
    """

    rule: Literal["patches"]
    patch: int = Field(ge=1, description="Side of the patch that becomes one token, in pixels.")
    multiplier: float = Field(1.0, gt=0, description="Tokens charged a patch.")
    most_patches: int | None = Field(
        None, ge=1, description="An image of more patches is scaled down to fit this many; null is no bound."
    )

    def tokens(self, side: int) -> int:
        """Prompt tokens of a square image of ``side`` pixels; each patch begun counts whole."""
        patches = math.ceil(side / self.patch) ** 2
        if self.most_patches is not None and patches > self.most_patches:
            patches = math.isqrt(self.most_patches) ** 2
        return math.ceil(round(patches * self.multiplier, 6))


class ModelPrice(Record):
    """The price of one model: a row of ``prices.json`` or ``teacher.prices``.

    Both prices may be null for a model on a server of one's own: then only its way of counting images is known.
    """

    input_usd: float | None = Field(None, ge=0, description="US dollars per million prompt tokens; null is unpriced.")
    output_usd: float | None = Field(None, ge=0, description="US dollars per million answer tokens; null is unpriced.")
    images: Annotated[TiledImages | PatchedImages, Field(discriminator="rule")] | None = Field(
        None, description="How an image counts as prompt tokens; null for a model that takes none."
    )
    batch_discount: float = Field(
        0.5, ge=0, le=1, description="Share of the price that the Batch API takes off (OpenAI: half)."
    )
    date: str | None = Field(None, description="When the price was looked up; a dry run shows it.")

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.input_usd is None) != (self.output_usd is None):
            raise ValueError("a price needs input_usd and output_usd, or neither of them")
        return self


@cache
def list_prices() -> dict[str, ModelPrice]:
    """The rows of ``prices.json``, by model name."""
    content = (files("mulcot_rd.teacher") / "prices.json").read_bytes()
    return TypeAdapter(dict[str, ModelPrice]).validate_json(content)


class Pricing:
    """Tokens and cost of requests to the configured model, as the client sends them."""

    def __init__(self, parameters: "TeacherParameters") -> None:
        """Take price and limits from the parameters."""
        self.price = parameters.price
        self.priced = self.price.input_usd is not None
        self.parameters = parameters

    def prompt_tokens(self, question: "Question") -> int:
        """Prompt tokens to expect, the image included; see ``CHARACTERS_PER_TOKEN`` for how near that comes."""
        characters = sum(len(text) for text in self._texts(question))
        overhead = TOKENS_A_TURN * len(question.messages) + TOKENS_A_REPLY
        return math.ceil(characters / CHARACTERS_PER_TOKEN) + overhead + self._image(question)

    def most_prompt_tokens(self, question: "Question") -> int:
        """A number of prompt tokens that no tokenizer on bytes passes, whatever Unicode form it brings text into."""
        most_bytes = sum(_most_bytes(text) for text in self._texts(question))
        overhead = MOST_TOKENS_A_TURN * len(question.messages) + MOST_TOKENS_A_CONVERSATION
        return most_bytes + overhead + self._image(question)

    def usd(self, prompt_tokens: float, answer_tokens: float) -> float | None:
        """Cost of so many tokens in US dollars, or ``None`` where the model has no price."""
        if self.price.input_usd is None or self.price.output_usd is None:
            return None
        part = 1 - self.price.batch_discount if self.parameters.mode == "batch" else 1.0
        return part * (self.price.input_usd * prompt_tokens + self.price.output_usd * answer_tokens) / 1e6

    def most_usd(self, question: "Question") -> float:
        """The most that one request can cost in US dollars: every byte a token, and the longest answer; 0 unpriced."""
        longest = question.max_tokens or self.parameters.max_tokens
        return self.usd(self.most_prompt_tokens(question), longest) or 0.0

    def _texts(self, question: "Question") -> list[str]:
        """The texts that a server tokenises: the turns, and the JSON schema where one goes along."""
        texts = [message.text for message in question.messages]
        if self.parameters.structured_output != "off" and question.schema is not None:
            texts.append(json.dumps(question.schema))
        return texts

    def _image(self, question: "Question") -> int:
        images = self.price.images
        if question.image is None or images is None:
            return 0
        return images.base if isinstance(images, TiledImages) else images.tokens(self.parameters.image_size)


def _most_bytes(text: str) -> int:
    """Bytes of a text in UTF-8, in whichever form is longest: some tokenizers bring text into a normal form first."""
    forms = (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFKC", text))
    return max(len(form.encode("utf-8", "surrogatepass")) for form in forms)
