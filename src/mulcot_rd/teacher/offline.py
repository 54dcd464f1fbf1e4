"""The rules of :mod:`mulcot_rd.demo` as teacher, for ``provider=offline``."""

from mulcot_rd import reasoning as response_format
from mulcot_rd.demo.annotator import explain_post
from mulcot_rd.teacher.provider import Answer, Request

MODEL_NAME = "offline-rules"


class OfflineTeacher:
    """A :class:`~mulcot_rd.teacher.provider.Provider` that answers requests about posts by rules alone."""

    name = "offline"

    async def answer(self, request: Request) -> Answer:
        """Write the reasoning of one post; raises ``ImageError`` if its image is missing or broken."""
        reasoning = explain_post(request.post, request.told_label)
        return Answer(text=response_format.write(reasoning), model=MODEL_NAME)

    async def drain(self) -> None:
        """Nothing is on its way."""

    async def close(self) -> None:
        """Nothing is held open."""
