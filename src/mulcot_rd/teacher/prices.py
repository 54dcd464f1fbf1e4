"""What a request costs: tokens as the server will count them, and their price.

Two counts of a prompt are kept apart. The *expected* one serves plans and limits: characters over a constant that was
measured on the project's own prompts, since the vocabularies of the models behind an API are not at hand offline. The
*most* is a bound for budgets: a tokenizer on bytes gives at most one token a byte.
"""

import json
import math
import unicodedata
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mulcot_rd.schema import Usage

if TYPE_CHECKING:
    from mulcot_rd.teacher.parameters import TeacherParameters
    from mulcot_rd.teacher.provider import Question

Detail = Literal["low", "high"]

# How the client sends every image: as one small picture, at the lowest price.
DETAIL: Detail = "low"

# Measured with o200k_base (gpt-4o, gpt-4o-mini) on 2,400 prompts of Twitter-2015, Twitter-2017 and MVSA-Single: means
# 4.54 to 4.66, nine prompts in ten between 4.40 and 4.73; cl100k_base (gpt-3.5-turbo) is within one percent of that.
CHARACTERS_PER_TOKEN = 4.62
# Of OpenAI's chat format: tokens around each turn, and those that open the answer.
TOKENS_A_TURN = 3
TOKENS_A_REPLY = 3
# Bounds of the same for any chat template: role and marks of a turn, and a system turn that the template adds.
MOST_TOKENS_A_TURN = 16
MOST_TOKENS_A_CONVERSATION = 128
MILLION = 1_000_000


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TiledImages(_Rule):
    """Images in tiles of 512 pixels, as OpenAI counts them for gpt-4o and gpt-4o-mini.

    Source: OpenAI's guide "Images and vision", calculating costs. An image of high detail is scaled down into a square
    of 2,048 pixels, then to a shortest side of 768; each tile begun counts. Low detail costs ``base`` alone.
    """

    rule: Literal["tiles"]
    base: int = Field(ge=0, description="Tokens of an image of low detail, in tokens (gpt-4o 85, gpt-4o-mini 2833).")
    tile: int = Field(ge=0, description="Tokens of each tile of 512 pixels (gpt-4o 170, gpt-4o-mini 5667).")

    def tokens(self, width: int, height: int, detail: Detail) -> int:
        """Prompt tokens of an image of ``width`` x ``height`` pixels."""
        if detail == "low":
            return self.base
        scale = min(Fraction(1), Fraction(2048, max(width, height)))
        scale *= min(Fraction(1), Fraction(768) / (scale * min(width, height)))
        return self.base + self.tile * math.ceil(scale * width / 512) * math.ceil(scale * height / 512)


class PatchedImages(_Rule):
    """Images in square patches: OpenAI's newer models (32 pixels, a multiplier), Qwen2.5-VL (28), Qwen3-VL (32).

    Sources: OpenAI's guide "Images and vision" (gpt-4.1-mini 1.62, gpt-4.1-nano 2.46, at most 1,536 patches; detail has
    no effect on images as small as the ones sent here); the Qwen-VL reports: patches of 14 and 16 pixels, merged two by
    two.
    """

    rule: Literal["patches"]
    patch: int = Field(ge=1, description="Side of the patch that becomes one token, in pixels.")
    multiplier: float = Field(1.0, gt=0, description="Tokens charged a patch.")
    most_patches: int | None = Field(
        None, ge=1, description="An image of more patches is scaled down to fit this many; null is no bound."
    )

    def tokens(self, width: int, height: int, detail: Detail) -> int:
        """Prompt tokens of an image of ``width`` x ``height`` pixels, each patch begun counted whole."""
        del detail
        columns, rows = math.ceil(width / self.patch), math.ceil(height / self.patch)
        if self.most_patches is not None and columns * rows > self.most_patches:
            scale = math.sqrt(self.patch**2 * self.most_patches / (width * height))
            wide, high = width * scale / self.patch, height * scale / self.patch
            shrink = min(math.floor(wide) / wide, math.floor(high) / high)
            # Rounded first: one of the two is a whole number but for the last digit.
            columns, rows = math.ceil(round(wide * shrink, 6)), math.ceil(round(high * shrink, 6))
        return math.ceil(round(columns * rows * self.multiplier, 6))


ImagePrice = Annotated[TiledImages | PatchedImages, Field(discriminator="rule")]


class ModelPrice(BaseModel):
    """One row of the price table ``teacher.prices``.

    Both prices may be null for a model on a server of one's own: then only its way of counting images is known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_usd: float | None = Field(None, ge=0, description="US dollars per million prompt tokens; null is unpriced.")
    output_usd: float | None = Field(None, ge=0, description="US dollars per million answer tokens; null is unpriced.")
    images: ImagePrice | None = Field(
        None, description="How an image counts as prompt tokens; null for a model that takes none."
    )
    batch_discount: float = Field(
        0.5, ge=0, le=1, description="Share of the price that the Batch API takes off (OpenAI: half)."
    )

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.input_usd is None) != (self.output_usd is None):
            raise ValueError("a price needs input_usd and output_usd, or neither of them")
        return self


class Pricing:
    """Tokens and cost of requests to one model, as the client sends them.

    Attributes:
        images: How the model counts an image, or ``None`` where that is unknown or it takes none.
        model: The model's name, or the start of it.
    """

    def __init__(
        self,
        price: ModelPrice | None,
        *,
        image_size: int,
        max_tokens: int,
        batch: bool = False,
        structured: bool = True,
        model: str = "",
    ) -> None:
        """Take a row of the price table.

        Args:
            price: The model's row, or ``None`` for a model that the table lacks.
            image_size: Side in pixels of the square that images are sent as.
            max_tokens: Longest answer in tokens, for questions that don't say.
            batch: Whether requests go through the Batch API.
            structured: Whether the JSON schema of an answer goes along where a question has one.
            model: The model's name; the server's own may be longer (``gpt-4o-2024-08-06``).
        """
        self.model = model
        self.images = price.images if price is not None else None
        self._max_tokens = max_tokens
        self._structured = structured
        self._image_tokens = 0 if self.images is None else self.images.tokens(image_size, image_size, DETAIL)
        self._usd: tuple[float, float] | None = None
        if price is not None and price.input_usd is not None and price.output_usd is not None:
            part = 1 - price.batch_discount if batch else 1.0
            self._usd = (part * price.input_usd / MILLION, part * price.output_usd / MILLION)

    def text_tokens(self, question: "Question") -> int:
        """Prompt tokens to expect of the text alone, without the image and what surrounds the turns."""
        return math.ceil(self._characters(question) / CHARACTERS_PER_TOKEN)

    @property
    def priced(self) -> bool:
        """Whether the model has a price."""
        return self._usd is not None

    def prompt_tokens(self, question: "Question") -> int:
        """Prompt tokens to expect, the image included; see ``CHARACTERS_PER_TOKEN`` for how near that comes."""
        overhead = TOKENS_A_TURN * len(question.messages) + TOKENS_A_REPLY
        return self.text_tokens(question) + overhead + self._image(question)

    def texts(self, question: "Question") -> list[str]:
        """The texts that a server tokenises: the turns, and the schema where one goes along."""
        schema = self._schema(question)
        return [*(message.text for message in question.messages), *([schema] if schema else [])]

    def most_prompt_tokens(self, question: "Question") -> int:
        """A number of prompt tokens that no tokenizer on bytes passes, whatever Unicode form it brings text into."""
        messages = question.messages
        text = sum(_most_bytes(message.text) for message in messages) + _most_bytes(self._schema(question))
        overhead = MOST_TOKENS_A_TURN * len(messages) + MOST_TOKENS_A_CONVERSATION
        return text + overhead + self._image(question)

    def cost_usd(self, usage: Usage) -> float | None:
        """Cost of an answer in US dollars, or ``None`` where the model has no price."""
        return self.usd(usage.prompt_tokens, usage.completion_tokens)

    def usd(self, prompt_tokens: float, answer_tokens: float) -> float | None:
        """Cost of so many tokens in US dollars, or ``None`` where the model has no price."""
        if self._usd is None:
            return None
        return self._usd[0] * prompt_tokens + self._usd[1] * answer_tokens

    def most_usd(self, question: "Question") -> float:
        """The most that one request can cost in US dollars: every byte a token, and the longest answer.

        Raises:
            ValueError: If the model has no price.
        """
        cost = self.usd(self.most_prompt_tokens(question), question.max_tokens or self._max_tokens)
        if cost is None:
            raise ValueError("a model without a price has no bound on its cost: add it to teacher.prices")
        return cost

    def _characters(self, question: "Question") -> int:
        return sum(len(text) for text in self.texts(question))

    def _image(self, question: "Question") -> int:
        return 0 if question.image is None else self._image_tokens

    def _schema(self, question: "Question") -> str:
        """The JSON schema of a structured answer as text, which a server puts before the prompt."""
        return json.dumps(question.schema) if self._structured and question.schema is not None else ""


def pricing_of(parameters: "TeacherParameters") -> Pricing:
    """The pricing of the configured model: its row of ``teacher.prices`` by its exact name."""
    return Pricing(
        parameters.prices.get(parameters.model),
        image_size=parameters.image_size,
        max_tokens=parameters.max_tokens,
        batch=parameters.mode == "batch",
        structured=parameters.structured_output != "off",
        model=parameters.model,
    )


def _most_bytes(text: str) -> int:
    """Bytes of a text in UTF-8, in whichever form is longest: some tokenizers bring text into a normal form first."""
    if text.isascii():
        return len(text)
    forms = (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFKC", text))
    return max(len(form.encode("utf-8", "surrogatepass")) for form in forms)
