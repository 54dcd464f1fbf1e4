"""From posts to model inputs: the one way in for training, soft labels, generation and evaluation.

The two prompts of a post share their whole prefix (chat header, image, task description, post) and differ
only in the response format at the end. Prefix and suffix are therefore tokenised apart, so that the shared
token ids are the same in both by construction. In encoder-decoder families the prefix, with both response formats,
is what the encoder reads, and the suffix is what the decoder's answer is made to begin with.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from mulcot_rd.errors import UserError
from mulcot_rd.images import load_image
from mulcot_rd.models.family import Family, Processor, tokenizer_of
from mulcot_rd.prompts import (
    WHOLE_POST,
    Send,
    Task,
    encoder_prompt,
    response_format,
    teacher_prompt,
    trained_prompt,
    trained_prompts_fingerprint,
)
from mulcot_rd.reasoning import ANSWER_PREFIXES, THOUGHTS_BEGIN
from mulcot_rd.schema import InputView, PostContent

_CACHED_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Prompt:
    """Token ids of a prompt: ``prefix`` is shared by all tasks of the post, ``suffix`` is the task's own."""

    prefix: list[int]
    suffix: list[int]

    @property
    def ids(self) -> list[int]:
        """The whole prompt."""
        return self.prefix + self.suffix


class InputEncoder:
    """Turns posts into token ids and images for one family's processor and one image size.

    Every image is resized to ``image_size`` x ``image_size`` pixels before the family's image processor sees it,
    so each takes the same number of tokens (100 for Qwen2.5-VL at the paper's 280 pixels).
    """

    def __init__(self, family: Family, processor: Processor, image_size: int, view: InputView = WHOLE_POST) -> None:
        self.family = family
        self.processor = processor
        self.tokenizer = tokenizer_of(processor)
        self.image_size = image_size
        self.view = view
        self._images: OrderedDict[str, np.ndarray] = OrderedDict()

    @property
    def settings(self) -> dict[str, Any]:
        """What must be the same in training, soft labels and evaluation: image size, the input view, the prompts."""
        return input_settings(self.image_size, self.view)

    def differs_in(self, kept: Mapping[str, Any] | None) -> list[str]:
        """In which of its settings it differs from those kept beside something; from ``None`` in nothing."""
        return [] if kept is None else [name for name, value in self.settings.items() if kept[name] != value]

    @property
    def sees_images(self) -> bool:
        """Whether the model gets images: not in text-only families, nor where the input view leaves them out."""
        return self.family.image_token is not None and self.view.image

    @property
    def reads(self) -> tuple[str, ...]:
        """What a post must have for this model, beside its aspect: what it had in training."""
        captioned = self.family.image_token is None and self.view.image
        given = {"text": self.view.text, "image": self.sees_images, "caption": captioned}
        return tuple(name for name, read in given.items() if read)

    @cached_property
    def image_tokens(self) -> int:
        """Text-model tokens that one image takes; none in text-only families."""
        return self.family.image_tokens(self.processor, self.image_size)

    @cached_property
    def image_token_id(self) -> int | None:
        """The id that stands for a piece of the image; ``None`` in text-only families."""
        token = self.family.image_token
        return None if token is None else self.tokenizer.convert_tokens_to_ids(token)

    def image_positions(self, input_ids: Tensor) -> Tensor:
        """Which of these token ids are pieces of an image, boolean."""
        if self.image_token_id is None:
            return torch.zeros_like(input_ids, dtype=torch.bool)
        return input_ids == self.image_token_id

    def prompt(self, post: PostContent, task: Task) -> Prompt:
        """The user's turn for one task, up to where the assistant's answer begins.

        Raises:
            UserError: If the family reads text alone and the post has no caption, or the post is too long for it.
        """
        text = self.turn(post, task)
        if self.family.encoder_decoder:
            start = [] if self.family.encoder_start is None else self._token(self.family.encoder_start)
            prefix = [*start, *self._ids(text), self.tokenizer.eos_token_id]
            self._check_length(prefix, f"post {post.id}")
            return Prompt(prefix, self._decoder_prefix(task))
        content = [*([{"type": "image"}] if self.sees_images else []), {"type": "text", "text": text}]
        rendered = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        if self.view.prompts == "prediction":
            split = rendered.rindex(text) + len(text)
        else:
            split = rendered.rindex(response_format(task))
        prefix = rendered[:split]
        if self.sees_images:
            prefix = prefix.replace(self.family.image_token, self.family.image_text(self.image_tokens), 1)
        return Prompt(self._ids(prefix), self._ids(rendered[split:]))

    def turn(self, post: PostContent, task: Task) -> str:
        """The text of the user's turn, in which nothing of the post looks like a special token."""
        return prompt_text(self.family, self._without_special(post), task, self.view)

    def target(self, text: str, task: Task) -> list[int]:
        """Token ids of an answer, ended by the token that ends a turn; special tokens quoted in it are only text.

        In encoder-decoder families the forced prefix of the answer is part of the prompt, not of the target.

        Raises:
            UserError: If the answer is too long for the family.
        """
        plain = self._plain(text)
        if self.family.encoder_decoder:
            plain = plain.removeprefix(ANSWER_PREFIXES[task])
        ids = [*self._ids(plain), self.tokenizer.eos_token_id]
        self._check_length([*self._decoder_prefix(task), *ids] if self.family.encoder_decoder else ids, f"{text!r:.80}")
        return ids

    def answer(self, ids: Sequence[int], task: Task) -> str:
        """The text of an answer from the token ids that a model wrote behind the prompt of ``task``."""
        if self.family.encoder_decoder:
            ids = [*self._decoder_prefix(task), *ids]
        text = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return f"{THOUGHTS_BEGIN}{text}" if self._begins_thoughts else text

    @cached_property
    def _begins_thoughts(self) -> bool:
        """Whether the chat template begins the answer's thoughts itself, as those of thinking models do.

        A model that is trained here answers in the format at once, whatever its template says.
        """
        if self.family.encoder_decoder or self.view.prompts == "trained":
            return False
        turn = [{"role": "user", "content": [{"type": "text", "text": ""}]}]
        rendered = self.processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        return rendered.rstrip().endswith(THOUGHTS_BEGIN)

    def images(self, paths: Sequence[str | None]) -> dict[str, Tensor]:
        """What the family's model takes for the images at these paths, by argument name; nothing if it sees none.

        Raises:
            ImageError: If an image is missing or broken.
        """
        if not self.sees_images:
            return {}
        return self.family.image_inputs(self.processor, [self._image(cast(str, path)) for path in paths])

    def _image(self, path: str) -> np.ndarray:
        if path in self._images:
            self._images.move_to_end(path)
            return self._images[path]
        array = np.asarray(load_image(path, self.image_size))
        self._images[path] = array
        if len(self._images) * array.nbytes > _CACHED_BYTES:
            self._images.popitem(last=False)
        return array

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _decoder_prefix(self, task: Task) -> list[int]:
        return [*self._token(cast(str, self.family.decoder_start)), *self._ids(ANSWER_PREFIXES[task])]

    def _check_length(self, ids: Sequence[int], what: str) -> None:
        most = self.family.longest_text
        if most is not None and len(ids) > most:
            raise UserError(
                f"{what} takes {len(ids)} tokens, and models of the family {self.family.name} hold {most}: shorten it, "
                "leave it out, or use another architecture"
            )

    def _token(self, token: str) -> list[int]:
        return [self.tokenizer.convert_tokens_to_ids(token)]

    @cached_property
    def _special(self) -> re.Pattern[str]:
        tokens = {token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)))

    def _plain(self, text: str) -> str:
        """The text with anything that looks like a special token taken apart by a blank behind its first sign."""
        return self._special.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text.replace("<|", "< |"))

    def _without_special(self, post: PostContent) -> PostContent:
        """The post as text alone.

        A post that contains ``<|im_end|>`` or ``<image>`` would otherwise end its own turn or ask for an image.
        """
        fields = {"text": post.text, "aspect": post.aspect, "caption": post.caption}
        return post.model_copy(
            update={name: None if value is None else self._plain(value) for name, value in fields.items()}
        )


def input_settings(image_size: int, view: InputView) -> dict[str, Any]:
    """What must be the same in training, soft labels and evaluation: image size, the input view, the prompts."""
    return {"image_size": image_size, "input_view": view.model_dump(), "prompts": trained_prompts_fingerprint()}


def prompt_text(family: Family, post: PostContent, task: Task, view: InputView = WHOLE_POST) -> str:
    """The prompt as the family's models read it, before the chat template: with a caption where they see no image."""
    captioned = family.image_token is None
    if view.prompts == "prediction":
        send: Send = "text" if not view.image else "caption" if captioned else "image"
        return teacher_prompt(post, None, send)
    if family.encoder_decoder:
        return encoder_prompt(post, captioned=captioned, view=view, instructed=family.instructed)
    return trained_prompt(post, task, captioned=captioned, view=view)
