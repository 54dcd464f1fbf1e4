"""The rules of :mod:`mulcot_rd.demo` as teacher and captioner, for ``provider=offline``."""

import time

from mulcot_rd import reasoning as response_format
from mulcot_rd.demo.annotator import explain_post
from mulcot_rd.demo.image_caption import describe_image
from mulcot_rd.teacher.provider import Answer, Question, Request

MODEL_NAME = "offline-rules"


class OfflineTeacher:
    """A :class:`~mulcot_rd.teacher.provider.Provider` that answers requests about posts by rules alone."""

    name = "offline"

    async def answer(self, request: Request) -> Answer:
        """Write the reasoning of one post.

        Raises:
            ImageError: If the post's image is missing or broken.
        """
        reasoning = explain_post(request.post, request.told_label)
        return Answer(text=response_format.write(reasoning), model=MODEL_NAME)

    async def drain(self) -> None:
        """Nothing is on its way."""

    async def close(self) -> None:
        """Nothing is held open."""


class OfflineCaptioner:
    """A :class:`~mulcot_rd.teacher.provider.Provider` of captions that are measured, not understood."""

    name = "offline"

    async def answer(self, question: Question) -> Answer:
        """Describe the question's image.

        Raises:
            ImageError: If the image is missing or broken.
        """
        assert question.image is not None
        started = time.perf_counter()
        text = describe_image(question.image)
        return Answer(text=text, model=MODEL_NAME, latency_s=time.perf_counter() - started)

    async def drain(self) -> None:
        """Nothing is on its way."""

    async def close(self) -> None:
        """Nothing is held open."""
