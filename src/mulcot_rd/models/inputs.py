"""From posts to model inputs: the one way in for training, soft labels, generation and evaluation.

The two prompts of a post share their whole opening (chat header, image, task description, post) and differ
only in the response format at the end. Opening and ending are therefore tokenised apart, so that the shared
token ids are the same in both by construction.
"""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from transformers import ProcessorMixin

from mulcot_rd.images import load_image
from mulcot_rd.models.family import IMAGE_PAD
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
    """Turns posts into token ids and pixels for one processor and one image size.

    Every image is resized to ``image_size`` x ``image_size`` pixels before the family's image processor sees it,
    so each takes the same number of tokens (100 for Qwen2.5-VL at the paper's 280 pixels).
    """

    def __init__(self, processor: ProcessorMixin, image_size: int) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.image_size = image_size
        self._images: OrderedDict[str, np.ndarray] = OrderedDict()

    @cached_property
    def image_grid(self) -> tuple[int, int, int]:
        """Patches of one image: time, height, width."""
        blank = np.zeros((self.image_size, self.image_size, 3), dtype=np.uint8)
        grid = self.processor.image_processor(images=[blank], return_tensors="pt")["image_grid_thw"]
        time, height, width = grid[0].tolist()
        return time, height, width

    @cached_property
    def image_tokens(self) -> int:
        """Text-model tokens that one image takes."""
        time, height, width = self.image_grid
        return time * height * width // self.processor.image_processor.merge_size**2

    @property
    def image_token_id(self) -> int:
        """The id that stands for a piece of the image."""
        return self.tokenizer.convert_tokens_to_ids(IMAGE_PAD)

    def prompt(self, post: Post, task: Task) -> Prompt:
        """The user's turn for one task, up to where the assistant's answer begins."""
        content = [{"type": "image"}, {"type": "text", "text": trained_prompt(_without_special(post), task)}]
        rendered = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        split = rendered.rindex(fill(f"format_{task}"))
        opening = rendered[:split].replace(IMAGE_PAD, IMAGE_PAD * self.image_tokens, 1)
        return Prompt(self._ids(opening), self._ids(rendered[split:]))

    def target(self, text: str) -> list[int]:
        """Token ids of an answer, ended by the token that ends a turn; special tokens quoted in it are only text."""
        return [*self._ids(text.replace("<|", "< |")), self.tokenizer.eos_token_id]

    def pixels(self, images: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches of the images at these paths.

        Returns:
            ``pixel_values`` [patches of all images, values a patch] in float32, and ``image_grid_thw``
            [images, 3].

        Raises:
            ImageError: If an image is missing or broken.
        """
        arrays = [self._image(path) for path in images]
        encoded = self.processor.image_processor(images=arrays, return_tensors="pt")
        return encoded["pixel_values"], encoded["image_grid_thw"]

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
