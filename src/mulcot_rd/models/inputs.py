"""From posts to model inputs: the one way in for training, soft labels, generation and evaluation.

The two prompts of a post share their whole opening (chat header, image, task description, post) and differ
only in the response format at the end. Opening and ending are therefore tokenised apart, so that the shared
token ids are the same in both by construction.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mulcot_rd.images import load_image
from mulcot_rd.models.family import Family, Processor, tokenizer_of
from mulcot_rd.prompts import Task, fill, trained_prompt
from mulcot_rd.schema import Post

_CACHED_IMAGES = 4096


@dataclass(frozen=True)
class Prompt:
    """Token ids of a prompt: ``opening`` is shared by all tasks of the post, ``ending`` is the task's own."""

    opening: list[int]
    ending: list[int]

    @property
    def ids(self) -> list[int]:
        """The whole prompt."""
        return self.opening + self.ending


class InputEncoder:
    """Turns posts into token ids and images for one family's processor and one image size.

    Every image is resized to ``image_size`` x ``image_size`` pixels before the family's image processor sees it,
    so each takes the same number of tokens (100 for Qwen2.5-VL at the paper's 280 pixels).
    """

    def __init__(self, family: Family, processor: Processor, image_size: int) -> None:
        self.family = family
        self.processor = processor
        self.tokenizer = tokenizer_of(processor)
        self.image_size = image_size
        self._images: OrderedDict[str, np.ndarray] = OrderedDict()

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

    def prompt(self, post: Post, task: Task) -> Prompt:
        """The user's turn for one task, up to where the assistant's answer begins."""
        content = [{"type": "image"}, {"type": "text", "text": trained_prompt(_without_special(post), task)}]
        rendered = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        split = rendered.rindex(fill(f"format_{task}"))
        opening = rendered[:split].replace(self.family.image_token, self.family.image_text(self.image_tokens), 1)
        return Prompt(self._ids(opening), self._ids(rendered[split:]))

    def target(self, text: str, task: Task) -> list[int]:
        """Token ids of an answer, ended by the token that ends a turn; special tokens quoted in it are only text."""
        return [*self._ids(text.replace("<|", "< |")), self.tokenizer.eos_token_id]

    def answer(self, ids: Sequence[int], task: Task) -> str:
        """The text of an answer from the token ids that a model wrote behind the prompt of ``task``."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def images(self, paths: Sequence[str]) -> dict[str, Tensor]:
        """What the family's model takes for the images at these paths, by argument name; nothing if it reads no images.

        Raises:
            ImageError: If an image is missing or broken.
        """
        if self.family.image_token is None:
            return {}
        return self.family.image_inputs(self.processor, [self._image(path) for path in paths])

    def _image(self, path: str) -> np.ndarray:
        if path in self._images:
            self._images.move_to_end(path)
            return self._images[path]
        array = np.asarray(load_image(path, self.image_size))
        self._images[path] = array
        if len(self._images) > _CACHED_IMAGES:
            self._images.popitem(last=False)
        return array

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def _without_special(post: Post) -> Post:
    """The post with the brackets of anything that looks like a special token taken apart.

    A post that contains ``<|im_end|>`` or ``<|image_pad|>`` would otherwise end its own turn or ask for an image.
    """
    if "<|" not in post.text and (post.aspect is None or "<|" not in post.aspect):
        return post
    aspect = None if post.aspect is None else post.aspect.replace("<|", "< |")
    return post.model_copy(update={"text": post.text.replace("<|", "< |"), "aspect": aspect})
