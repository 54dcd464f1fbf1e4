"""The rules of :mod:`mulcot_rd.demo` as teacher, for ``provider=offline``."""

from mulcot_rd import reasoning as response_format
from mulcot_rd.extras import extra
from mulcot_rd.teacher.questions import Answer, Request

MODEL_NAME = "offline-rules"


def answer_by_rules(request: Request) -> Answer:
    """The reasoning of one post; raises ``ImageError`` if its image is missing or broken."""
    # Imported here: only this teacher needs a lexicon of sentiments.
    with extra("teacher"):
        from mulcot_rd.demo.annotator import explain_post  # noqa: PLC0415
    return Answer(text=response_format.write(explain_post(request.post, request.told_label)), model=MODEL_NAME)
